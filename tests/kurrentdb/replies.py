"""What a node answers to appends and deletions."""

from collections.abc import Sequence
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, empty_pb2
from kurrentdbclient.protos.google.rpc import code_pb2
from kurrentdbclient.protos.v1 import shared_pb2, status_pb2, streams_pb2

from tests.kurrentdb.faults import Error
from tests.kurrentdb.log import Done, Outcome
from tests.kurrentdb.records import BYTES, JSON, Proposed
from tests.kurrentdb.rules import ANY, EXISTS, NO_STREAM, Deleted, WrongVersion

APPEND_BYTES_MAX: Final = 1 << 20
"""Of all data of one append, as 24.6 counts."""

_EMPTY: Final = empty_pb2.Empty()
_STATES: Final = {"no_stream": NO_STREAM, "any": ANY, "stream_exists": EXISTS}
_STATE_NAMES: Final = {state: name for name, state in _STATES.items()}


def expected_version(options: Any, oneof: str) -> int:
    """Of an append or a deletion: a version, NO_STREAM, ANY or EXISTS."""
    name = options.WhichOneof(oneof)
    return _STATES[name] if name in _STATES else int(getattr(options, name))


def proposed(message: Any) -> Proposed:
    said = message.metadata
    content_type = JSON if said.get("content-type") == JSON else BYTES
    return Proposed(_id(message.id), said["type"], content_type, message.custom_metadata, message.data)


def is_too_large(events: Sequence[Proposed]) -> bool:
    return sum(len(event.data) for event in events) > APPEND_BYTES_MAX


def _id(uuid: Any) -> bytes:
    if uuid.WhichOneof("value") == "structured":
        halves = (uuid.structured.most_significant_bits, uuid.structured.least_significant_bits)
        return b"".join(half.to_bytes(8, "big", signed=True) for half in halves)
    return bytes.fromhex(uuid.string.replace("-", ""))


def batch_reply(stream: str, expected: int, outcome: Outcome) -> streams_pb2.BatchAppendResp:
    match outcome:
        case Done(position=position, version=version):
            success = streams_pb2.BatchAppendResp.Success(
                position=shared_pb2.AllStreamPosition(commit_position=position, prepare_position=position)
            )
            if version < 0:
                success.no_stream.CopyFrom(_EMPTY)
            else:
                success.current_revision = version
            return streams_pb2.BatchAppendResp(success=success)
        case WrongVersion(actual=actual):
            return _batch_error("WrongExpectedVersion", code_pb2.ALREADY_EXISTS, _wrong_version(expected, actual))
        case Deleted():
            identifier = shared_pb2.StreamIdentifier(stream_name=stream.encode())
            details = shared_pb2.StreamDeleted(stream_identifier=identifier)
            return _batch_error("StreamDeleted", code_pb2.NOT_FOUND, details)


def _wrong_version(expected: int, actual: int) -> shared_pb2.WrongExpectedVersion:
    details = shared_pb2.WrongExpectedVersion()
    if actual < 0:
        details.current_no_stream.CopyFrom(_EMPTY)
    else:
        details.current_stream_revision = actual
    if expected < 0:
        getattr(details, f"expected_{_STATE_NAMES[expected]}").CopyFrom(_EMPTY)
    else:
        details.expected_stream_position = expected
    return details


def batch_too_large() -> streams_pb2.BatchAppendResp:
    details = shared_pb2.MaximumAppendSizeExceeded(maxAppendSize=APPEND_BYTES_MAX)
    return _batch_error("MaximumAppendSizeExceeded", code_pb2.INVALID_ARGUMENT, details)


def batch_refusal(error: Error) -> streams_pb2.BatchAppendResp:
    match error:
        case "not_ready":
            return _batch_error("Server Is Not Ready", code_pb2.OK, _EMPTY)
        case "too_busy":
            return _batch_error("Server Is Busy", code_pb2.OK, _EMPTY)
        case "timeout":
            return _batch_error("Timeout", code_pb2.DEADLINE_EXCEEDED, shared_pb2.Timeout())
        case "access_denied":
            return _batch_error("AccessDenied", code_pb2.PERMISSION_DENIED, shared_pb2.AccessDenied())
        case "bad_request":
            return _batch_error(
                "BadRequest", code_pb2.INVALID_ARGUMENT, shared_pb2.BadRequest(message="as a test wants")
            )
        case "invalid_transaction":
            return _batch_error("InvalidTransaction", code_pb2.FAILED_PRECONDITION, shared_pb2.InvalidTransaction())
        case "unknown":
            return _batch_error("Unknown", code_pb2.UNKNOWN, shared_pb2.Unknown())


def _batch_error(message: str, code: Any, details: Any) -> streams_pb2.BatchAppendResp:
    packed = any_pb2.Any()
    packed.Pack(details)
    return streams_pb2.BatchAppendResp(error=status_pb2.Status(code=code, message=message, details=packed))


async def append_reply(context: Any, stream: str, expected: int, outcome: Outcome) -> Any:
    """Of the unary Append."""
    match outcome:
        case Done(position=position, version=version):
            success = streams_pb2.AppendResp.Success(
                position=streams_pb2.AppendResp.Position(commit_position=position, prepare_position=position)
            )
            if version < 0:
                success.no_stream.CopyFrom(shared_pb2.Empty())
            else:
                success.current_revision = version
            return streams_pb2.AppendResp(success=success)
        case WrongVersion(actual=actual):
            wrong = streams_pb2.AppendResp.WrongExpectedVersion()
            if actual < 0:
                wrong.current_no_stream.CopyFrom(shared_pb2.Empty())
            else:
                wrong.current_revision = actual
            if expected < 0:
                getattr(wrong, f"expected_{_STATE_NAMES[expected]}").CopyFrom(shared_pb2.Empty())
            else:
                wrong.expected_revision = expected
            return streams_pb2.AppendResp(wrong_expected_version=wrong)
        case Deleted():
            return await abort_deleted(context, stream)


async def abort_deleted(context: Any, stream: str) -> Any:
    trailers = (("exception", "stream-deleted"), ("stream-name", _ascii(stream)))
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"Event stream '{stream}' is deleted.", trailers)


async def abort_wrong_version(context: Any, stream: str, expected: int, actual: int) -> Any:
    """Of a deletion; clients take its text apart."""
    details = (
        f"Delete failed due to WrongExpectedVersion. Stream: {stream}, "
        f"Expected version: {expected}, Actual version: {actual}"
    )
    trailers = (
        ("exception", "wrong-expected-version"),
        ("stream-name", _ascii(stream)),
        ("expected-version", str(expected)),
        ("actual-version", str(actual)),
    )
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, details, trailers)


async def abort_too_large(context: Any) -> Any:
    trailers = (("exception", "maximum-append-size-exceeded"), ("maximum-append-size", str(APPEND_BYTES_MAX)))
    details = f"Maximum Append Size of {APPEND_BYTES_MAX} Exceeded."
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, details, trailers)


def _ascii(stream: str) -> str:
    """Trailers hold no other characters."""
    return stream.encode("ascii", "replace").decode()
