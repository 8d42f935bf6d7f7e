"""The object store as the edge uses it: opened when it is first needed, and asked for one object at a time."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final
from weakref import WeakValueDictionary

from domain.ids import MediaId
from gateways.media.objects import ObjectStore, ObjectsUnavailable, Settled
from gateways.refusal import Refusal

SETTLES_MAX: Final = 2
"""How many objects are moved and read through at a time: each keeps a disk and most of a core busy."""
SETTLE_WAITS_MAX: Final = 64
"""How many more may wait for that; then the server has too much to do."""

OpenStore = Callable[[], AbstractAsyncContextManager[ObjectStore]]
"""Opens it. Raises ObjectsUnavailable with what to do."""


class ObjectAccess:
    def __init__(self, open_store: OpenStore, room: Callable[[], int | None]) -> None:
        """`room`: how many bytes the store has room for; None where nobody knows."""
        self._open_store = open_store
        self._room = room
        self._opened: ObjectStore | None = None
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._settling = asyncio.Semaphore(SETTLES_MAX)
        self._settles = 0
        self._locks: WeakValueDictionary[MediaId, asyncio.Lock] = WeakValueDictionary()

    async def store(self) -> ObjectStore:
        """Raises ObjectsUnavailable: the next call tries again."""
        async with self._opening:
            if self._opened is None:
                self._opened = await self._stack.enter_async_context(self._open_store())
            return self._opened

    def check_room(self, size: int) -> None:
        """Whether so many bytes more can be taken. Raises Refusal."""
        room = self._room()
        if room is not None and room < size:
            raise Refusal("storage_full")

    async def settle(self, media: MediaId, size: int) -> Settled | None:
        """Takes what was uploaded in for good, and says what it is; None: nothing was. Said again it does nothing more.
        Raises ObjectsUnavailable and Refusal(`busy`)."""
        if self._settles >= SETTLES_MAX + SETTLE_WAITS_MAX:
            raise Refusal("busy")
        self._settles += 1
        try:
            async with self._settling:
                return await (await self.store()).settle(media, size)
        finally:
            self._settles -= 1

    def lock(self, media: MediaId) -> asyncio.Lock:
        """Held from looking at what the log says of an object until it is changed accordingly, and the log says it."""
        return self._locks.setdefault(media, asyncio.Lock())

    async def close(self) -> None:
        await self._stack.aclose()


def away(error: ObjectsUnavailable) -> Refusal:
    return Refusal("unavailable", f"the object store: {error}")
