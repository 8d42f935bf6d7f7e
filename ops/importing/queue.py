"""The importer's way into the writer: commands in chunks, each answered before the next one begins."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from commands.handlers import Command
from commands.replies import Refused, Reply
from domain.errors import KeyringUnavailable
from ops.errors import OpsError
from ops.writing import WriteSide

_AGAIN: Final = "What was imported stays: when this is mended, run the same command again, and it goes on from there."


class Queued(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    command: Command
    occurred_at: int
    """Microseconds since 1970 UTC."""
    where: str
    """How an error names what it came from."""
    seq: int | None = None
    """The one that it must get, since links name it; None: it gets none in the channel."""


class Queue:
    """Nobody else writes the streams of what is submitted here."""

    def __init__(self, side: WriteSide) -> None:
        self._side = side
        self._turn = object()
        self._left = 0
        self._failure: tuple[Queued, str] | None = None

    async def submit(self, chunk: Sequence[Queued]) -> None:
        """Returns when all of it is on disk, in this order within each stream. Raises OpsError where a part of it was
        refused: nobody can tell the order of the rest then, so the import ends."""
        if not chunk:
            return
        await self._save_keys()
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = len(chunk)
        for queued in chunk:
            self._side.writer.submit(
                queued.command, turn=self._turn, reply=partial(self._answered, queued, answered),
                occurred_at=queued.occurred_at,
            )  # fmt: skip
        await asyncio.wait((answered, self._side.running), return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            self._side.running.result()
        if self._failure is not None:
            queued, reason = self._failure
            raise OpsError(f"the import ends at {queued.where}: {reason}. {_AGAIN}")

    async def _save_keys(self) -> None:
        """Before the writer would: it refuses alone what a missing key has sealed, and takes what comes after it."""
        try:
            await self._side.keyring.save()
        except KeyringUnavailable as error:
            raise OpsError(f"{error}. {_AGAIN}") from error

    def _answered(self, queued: Queued, answered: asyncio.Future[None], reply: Reply) -> None:
        if isinstance(reply, Refused):
            self._fail(queued, f"the writer has refused the command {type(queued.command).__name__}: {reply.code}")
        elif queued.seq not in (None, reply.seq):
            self._fail(queued, f"it got the seq {reply.seq} instead of {queued.seq}: somebody else writes the channel")
        self._left -= 1
        if not self._left and not answered.done():
            answered.set_result(None)

    def _fail(self, queued: Queued, reason: str) -> None:
        if self._failure is None:
            self._failure = (queued, reason)
