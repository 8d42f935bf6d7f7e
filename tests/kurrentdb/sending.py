"""The answer stream of one read or subscription."""

from collections.abc import Iterable
from typing import Any

from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from tests.kurrentdb.faults import Call, Faults
from tests.kurrentdb.points import reach

_CAUGHT_UP = streams_pb2.ReadResp(caught_up=streams_pb2.ReadResp.CaughtUp()).SerializeToString()
"""24.6 tells no position and no time."""


class Sending:
    def __init__(self, call: Call, faults: Faults) -> None:
        self._call = call
        self._faults = faults
        self._sent = 0
        self._context: Any = call.context

    async def begin(self) -> None:
        """No event has been sent yet."""
        await reach(self._faults, "sent", self._call, self._sent)

    async def events(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            await self._context.write(message)
            self._sent += 1
            if self._faults.are_set:
                await reach(self._faults, "sent", self._call, self._sent)

    async def confirmation(self, subscription_id: str) -> None:
        confirmation = streams_pb2.ReadResp.SubscriptionConfirmation(subscription_id=subscription_id)
        await self._write(streams_pb2.ReadResp(confirmation=confirmation))
        await self.begin()

    async def checkpoint(self, position: int) -> None:
        checkpoint = streams_pb2.ReadResp.Checkpoint(commit_position=position, prepare_position=position)
        await self._write(streams_pb2.ReadResp(checkpoint=checkpoint))

    async def caught_up(self) -> None:
        await self._context.write(_CAUGHT_UP)

    async def not_found(self, stream: str) -> None:
        identifier = shared_pb2.StreamIdentifier(stream_name=stream.encode())
        not_found = streams_pb2.ReadResp.StreamNotFound(stream_identifier=identifier)
        await self._write(streams_pb2.ReadResp(stream_not_found=not_found))

    async def _write(self, answer: streams_pb2.ReadResp) -> None:
        await self._context.write(answer.SerializeToString())
