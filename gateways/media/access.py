"""The object store as the edge uses it: opened when it is first needed, and asked for one object at a time."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final
from weakref import WeakValueDictionary

from domain.ids import MediaId
from gateways.media.objects import ObjectStore, ObjectsUnavailable
from gateways.media.queues import Queues
from gateways.media.room import Room
from gateways.refusal import Refusal

OPEN_MAX_S: Final = 10.0
"""How long whoever needs the store waits for its opening, which goes on."""
AGAIN_S: Final = 3.0
"""How long a failure to open it is told without another try."""

OpenStore = Callable[[], AbstractAsyncContextManager[ObjectStore]]
"""Opens it. Raises ObjectsUnavailable with what to do."""

_log = logging.getLogger("signet.media")


class ObjectAccess:
    def __init__(self, open_store: OpenStore, room: Room) -> None:
        self._open_store = open_store
        self.room = room
        self.queues = Queues()
        self._opening: asyncio.Task[ObjectStore] | None = None
        self._opened_at = 0.0
        self._stack = AsyncExitStack()
        self._locks: WeakValueDictionary[MediaId, asyncio.Lock] = WeakValueDictionary()

    async def store(self) -> ObjectStore:
        """Raises ObjectsUnavailable: a later call tries again."""
        if self._opening is None or self._is_to_be_tried_again(self._opening):
            self._opened_at = asyncio.get_running_loop().time()
            self._opening = asyncio.create_task(self._open())
        await asyncio.wait([self._opening], timeout=OPEN_MAX_S)
        if not self._opening.done():
            raise ObjectsUnavailable(f"the object store has not answered for {OPEN_MAX_S:g} s")
        return self._opening.result()

    def lock(self, media: MediaId) -> asyncio.Lock:
        """Held from looking at what the log says of an object until it is changed accordingly, and the log says it."""
        return self._locks.setdefault(media, asyncio.Lock())

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        await self._stack.aclose()

    def _is_to_be_tried_again(self, opening: "asyncio.Task[ObjectStore]") -> bool:
        failed = opening.done() and (opening.cancelled() or opening.exception() is not None)
        return failed and asyncio.get_running_loop().time() - self._opened_at > AGAIN_S

    async def _open(self) -> ObjectStore:
        """One try for all who wait."""
        try:
            return await self._stack.enter_async_context(self._open_store())
        except ObjectsUnavailable as error:
            _log.warning("media can't be stored or fetched: %s", error)
            raise


def away(error: ObjectsUnavailable) -> Refusal:
    """What clients are told: what to do about it is for the operator, and stands in the log."""
    _log.info("media: %s", error)
    return Refusal("unavailable", "the object store is away")
