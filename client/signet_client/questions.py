"""What a device has to ask the server, since what came does not say it: what a conversation is, and what in it is
undelivered."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Final

from signet_client import wire
from signet_client.api import Api
from signet_client.errors import SignetError
from signet_client.live import Live
from signet_client.receiving import conversation_of
from signet_client.store import Store

UNDELIVERED_SPREAD_S: Final = 1.0
"""Within how long clients ask what is undelivered, after they were told to."""
_LATER_MAX: Final = 1_000
"""How many items are looked through for a change; so many don't come while one request is answered."""

_LOG: Final = logging.getLogger("signet_client")


class Questions:
    """Asks one after the other, in tasks of its own that run while there is something to ask."""

    def __init__(self, store: Store, account: str, live: Live, api: Callable[[], Api]) -> None:
        self._store = store
        self._account = account
        self._live = live
        self._received = live.received
        self._api = api
        self._learning: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    def look(self) -> None:
        """To be called when something has come."""
        if self._received.unknown and self._learning is None:
            self._learning = asyncio.create_task(self._learn())
        if self._received.unsure and self._reading is None:
            self._reading = asyncio.create_task(self._read_undelivered())

    async def close(self) -> None:
        await end(self._learning)
        await end(self._reading)

    async def about(self, conversation: str) -> wire.Overview:
        """Asks the server what a conversation is and who is in it. Raises as Api's requests do."""
        while True:
            shown = await self._api().conversation(conversation)
            later = self._store.items(conversation, after=shown.overview.head, limit=_LATER_MAX)
            if not any(isinstance(item, wire.Change) for item in later):
                break
            # A change has overtaken the answer, which knows nothing of it.
        self._live.know(conversation_of(shown.overview))
        if shown.members is not None and self._account not in self._store.members(conversation):
            # Else the log says it, which a list of the server's is not to add anybody to.
            self._store.put_members(conversation, shown.members)
        return shown.overview

    async def _learn(self) -> None:
        """Asks what the conversations are into which somebody has taken the account."""
        try:
            while self._received.unknown:
                conversation = next(iter(self._received.unknown))
                try:
                    await self.about(conversation)
                except SignetError as error:
                    _LOG.warning("can't ask about the conversation %s: %s", conversation, error)
                    # The next welcome says it.
                    self._received.unknown.discard(conversation)
        finally:
            self._learning = None

    async def _read_undelivered(self) -> None:
        """Asks what is undelivered where the server could not name all of it."""
        try:
            while self._received.unsure:
                # In a large group many are told at once to ask.
                await asyncio.sleep(random.uniform(0, UNDELIVERED_SPREAD_S))
                for conversation, changes in list(self._received.unsure.items()):
                    await self._read_undelivered_of(conversation, changes)
        finally:
            self._reading = None

    async def _read_undelivered_of(self, conversation: str, changes: list[wire.Receipt]) -> None:
        try:
            seqs = await self._api().undelivered(conversation)
        except SignetError as error:
            _LOG.warning("can't ask what is undelivered in the conversation %s: %s", conversation, error)
            # The next welcome says it.
            self._received.unsure.pop(conversation, None)
        else:
            self._received.know_undelivered(conversation, seqs, changes)
            self._live.flush()


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancels a task, if there is one, and waits for its end; whoever waited for what it did was told of errors."""
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, SignetError):
            await task
