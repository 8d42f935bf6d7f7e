"""Appends to many streams by one call of KurrentDB's BatchAppend, and what its answers mean.

The client library appends to one stream in each call, tries again by itself, and leaves calls open after a refusal,
until a hundred of them stop the process. So the call is made here: every stream states its exact version, every event
has its id, so that the same append again is safe; the call has a deadline and is always cancelled, since the server
never ends one.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from kurrentdbclient.common import handle_rpc_error
from kurrentdbclient.exceptions import KurrentDBClientError, NodeIsNotLeaderError
from kurrentdbclient.protos.v1 import shared_pb2, status_pb2, streams_pb2, streams_pb2_grpc

from commands.stores.kurrentdb_errors import explain
from domain.log import NO_STREAM, Append, Appended, Conflict, NewEvent, Outcome, Unavailable, Unknown

_METADATA: Final = {"content-type": "application/json"}
_NOT_READY: Final = "Server Is Not Ready"


class Broken(Exception):
    """The call did not get all its answers. `outcomes` has those that came, and what is to be thought of the others."""

    def __init__(self, outcomes: list[Outcome], error: KurrentDBClientError) -> None:
        super().__init__(str(error))
        self.outcomes = outcomes
        self.error = error


async def append_batch(
    stub: streams_pb2_grpc.StreamsStub,
    batch: Sequence[Append],
    *,
    deadline_s: float,
    metadata: Sequence[tuple[str, str]],
    credentials: grpc.CallCredentials | None,
) -> list[Outcome]:
    """The outcomes in the batch's order. Raises Broken."""
    # The server answers in its own order, and each stream is named once.
    outcomes: dict[str, Outcome] = {}
    appends = {append.stream: append for append in batch}
    call = stub.BatchAppend(
        _requests(batch, deadline_s), timeout=deadline_s, metadata=metadata, credentials=credentials
    )
    try:
        async for response in call:
            stream = response.stream_identifier.stream_name.decode()
            outcomes[stream] = _outcome(response, appends[stream])
            if len(outcomes) == len(batch):
                break
    except grpc.RpcError as error:
        raise _broken(batch, outcomes, handle_rpc_error(error)) from error
    finally:
        call.cancel()
    if len(outcomes) < len(batch):
        raise _broken(batch, outcomes, KurrentDBClientError("the call ended before its answers"))
    return [outcomes[append.stream] for append in batch]


def _broken(batch: Sequence[Append], outcomes: dict[str, Outcome], error: KurrentDBClientError) -> Broken:
    reason = f"KurrentDB: {explain(error)}"
    # Only the leader writes; a node that says that it is none has written nothing.
    rest = Unavailable(reason=reason) if isinstance(error, NodeIsNotLeaderError) else Unknown(reason=reason)
    return Broken([outcomes.get(append.stream, rest) for append in batch], error)


def _requests(batch: Sequence[Append], deadline_s: float) -> Iterator[streams_pb2.BatchAppendReq]:
    deadline = Duration(seconds=int(deadline_s), nanos=int(deadline_s % 1 * 1e9))
    for append in batch:
        options = streams_pb2.BatchAppendReq.Options(
            stream_identifier=shared_pb2.StreamIdentifier(stream_name=append.stream.encode()), deadline=deadline
        )
        if append.expected == NO_STREAM:
            options.no_stream.CopyFrom(Empty())
        else:
            options.stream_position = append.expected
        yield streams_pb2.BatchAppendReq(
            correlation_id=shared_pb2.UUID(string=append.events[0].id),
            options=options,
            proposed_messages=[_message(event) for event in append.events],
            is_final=True,
        )


def _message(event: NewEvent) -> streams_pb2.BatchAppendReq.ProposedMessage:
    cause = (event.cause or event.id).encode()
    return streams_pb2.BatchAppendReq.ProposedMessage(
        id=shared_pb2.UUID(string=event.id),
        metadata={"type": event.topic, **_METADATA},
        custom_metadata=b'{"$correlationId":"%b","$causationId":"%b"}' % (cause, cause),
        data=event.data,
    )


def _outcome(response: streams_pb2.BatchAppendResp, append: Append) -> Outcome:
    if response.WhichOneof("result") == "success":
        # Of the last event; the others' positions are not told. 0 means that the server doesn't know it.
        last = response.success.position.commit_position or None
        positions = [last] if last is not None and len(append.events) == 1 else None
        return Appended(version=append.expected + len(append.events), positions=positions, last=last)
    return _refused(response.error, append)


def _refused(error: status_pb2.Status, append: Append) -> Outcome:
    details = error.details
    if details.Is(shared_pb2.WrongExpectedVersion.DESCRIPTOR):
        wrong = shared_pb2.WrongExpectedVersion()
        details.Unpack(wrong)
        missing = wrong.WhichOneof("current_stream_revision_option") == "current_no_stream"
        return Conflict(expected=append.expected, current=NO_STREAM if missing else wrong.current_stream_revision)
    reason = f"KurrentDB refuses an append to {append.stream}: {error.message or details.type_url}"
    surely_not_stored = (
        shared_pb2.StreamDeleted, shared_pb2.AccessDenied, shared_pb2.InvalidTransaction,
        shared_pb2.MaximumAppendSizeExceeded, shared_pb2.BadRequest,
    )  # fmt: skip
    if error.message == _NOT_READY or any(details.Is(each.DESCRIPTOR) for each in surely_not_stored):
        return Unavailable(reason=reason)
    return Unknown(reason=reason)
