"""The service event_store.client.streams.Streams."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from kurrentdbclient.protos.v1 import streams_pb2

from tests.kurrentdb import replies
from tests.kurrentdb.faults import ALL, Call, CallKind, Faults
from tests.kurrentdb.log import Done, Log, Outcome
from tests.kurrentdb.points import Refused, abort_refused, forever, reach
from tests.kurrentdb.reading import read_all, read_stream
from tests.kurrentdb.records import Proposed
from tests.kurrentdb.rules import Deleted, WrongVersion
from tests.kurrentdb.sending import Sending
from tests.kurrentdb.subscribing import subscribe_to_all, subscribe_to_stream

NAME: Final = "event_store.client.streams.Streams"
_READS: Final = {
    ("stream", "count"): read_stream,
    ("all", "count"): read_all,
    ("stream", "subscription"): subscribe_to_stream,
    ("all", "subscription"): subscribe_to_all,
}


class Streams:
    def __init__(self, log: Log, faults: Faults) -> None:
        self._log = log
        self._faults = faults

    def handler(self) -> grpc.GenericRpcHandler:
        def methods(make: Any, request: Any, response: Any, method: Any) -> Any:
            return make(method, request.FromString, response and response.SerializeToString)

        pb = streams_pb2
        return grpc.method_handlers_generic_handler(
            NAME,
            {
                # Events are kept as the bytes that a read answers with.
                "Read": methods(grpc.unary_stream_rpc_method_handler, pb.ReadReq, None, self.read),
                "Append": methods(grpc.stream_unary_rpc_method_handler, pb.AppendReq, pb.AppendResp, self.append),
                "BatchAppend": methods(
                    grpc.stream_stream_rpc_method_handler, pb.BatchAppendReq, pb.BatchAppendResp, self.batch_append
                ),
                "Delete": methods(grpc.unary_unary_rpc_method_handler, pb.DeleteReq, pb.DeleteResp, self.delete),
                "Tombstone": methods(
                    grpc.unary_unary_rpc_method_handler, pb.TombstoneReq, pb.TombstoneResp, self.tombstone
                ),
            },
        )

    async def read(self, request: Any, context: Any) -> None:
        options = request.options
        of, count = options.WhichOneof("stream_option"), options.WhichOneof("count_option")
        stream = options.stream.stream_identifier.stream_name.decode() if of == "stream" else ALL
        call = Call("read" if count == "count" else "subscribe", stream, context)
        with self._faults.opened(call.kind):
            await reach(self._faults, "asked", call)
            await _READS[of, count](self._log, options, Sending(call, self._faults), context)

    async def append(self, requests: AsyncIterator[Any], context: Any) -> Any:
        options: Any = None
        events = list[Proposed]()
        async for request in requests:
            if request.WhichOneof("content") == "options":
                options = request.options
            else:
                events.append(replies.proposed(request.proposed_message))
        if options is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no options")
        stream = options.stream_identifier.stream_name.decode()
        expected = replies.expected_version(options, "expected_stream_revision")
        with self._faults.opened("append"):
            if replies.is_too_large(events):
                await replies.abort_too_large(context)
            try:
                outcome = await self._append(Call("append", stream, context), expected, events)
            except Refused as refused:
                await abort_refused(context, refused.error)
                raise
        return await replies.append_reply(context, stream, expected, outcome)

    async def batch_append(self, requests: AsyncIterator[Any], context: Any) -> None:
        """Answers each append as soon as it is on disk. A node does not end the call when its client has no more to
        ask, and neither does this."""
        parts: dict[str, list[Any]] = {}
        one_by_one = asyncio.Lock()
        with self._faults.opened("append"):
            try:
                async with asyncio.TaskGroup() as answers:
                    async for request in requests:
                        id = request.correlation_id.SerializeToString()
                        parts.setdefault(id, []).append(request)
                        if request.is_final:
                            answers.create_task(self._answer(parts.pop(id), context, one_by_one))
                    await forever()
            except* grpc.aio.AbortError:
                pass  # the call's status is sent

    async def _answer(self, requests: list[Any], context: Any, one_by_one: asyncio.Lock) -> None:
        options = requests[0].options
        stream = options.stream_identifier.stream_name.decode()
        expected = replies.expected_version(options, "expected_stream_position")
        events = [replies.proposed(message) for request in requests for message in request.proposed_messages]
        if replies.is_too_large(events):
            reply = replies.batch_too_large()
        else:
            try:
                outcome = await self._append(Call("append", stream, context), expected, events)
                reply = replies.batch_reply(stream, expected, outcome)
            except Refused as refused:
                reply = replies.batch_refusal(refused.error)
        reply.correlation_id.CopyFrom(requests[0].correlation_id)
        reply.stream_identifier.CopyFrom(options.stream_identifier)
        async with one_by_one:
            await context.write(reply)

    async def _append(self, call: Call, expected: int, events: list[Proposed]) -> Outcome:
        await reach(self._faults, "asked", call)
        outcome = await self._log.append(call.stream, expected, events)
        await reach(self._faults, "stored", call)
        return outcome

    async def delete(self, request: Any, context: Any) -> Any:
        position = await self._end_stream("delete", request.options, context)
        answer = streams_pb2.DeleteResp.Position(commit_position=position, prepare_position=position)
        return streams_pb2.DeleteResp(position=answer)

    async def tombstone(self, request: Any, context: Any) -> Any:
        position = await self._end_stream("tombstone", request.options, context)
        answer = streams_pb2.TombstoneResp.Position(commit_position=position, prepare_position=position)
        return streams_pb2.TombstoneResp(position=answer)

    async def _end_stream(self, kind: CallKind, options: Any, context: Any) -> int:
        stream = options.stream_identifier.stream_name.decode()
        expected = replies.expected_version(options, "expected_stream_revision")
        call = Call(kind, stream, context)
        with self._faults.opened(kind):
            await reach(self._faults, "asked", call)
            outcome = await (self._log.delete if kind == "delete" else self._log.tombstone)(stream, expected)
            await reach(self._faults, "stored", call)
        match outcome:
            case Done(position=position):
                return position
            case WrongVersion(actual=actual):
                await replies.abort_wrong_version(context, stream, expected, actual)
            case Deleted():
                await replies.abort_deleted(context, stream)
        raise AssertionError("aborted")
