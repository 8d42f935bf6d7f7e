"""What no message names goes, after a time of grace.

    nobody has named it for `grace_s`      → MediaExpired: from here on no message may
    `hold_s` later, and still nobody names it → its object is deleted → MediaDeleted

A message that was decided before it heard of the expiry may name it all the same; it is in the read model by the time
of the second look, and the object stays. `hold_s` is as long as addresses hold: nobody is writing or reading then.
Where the read model is not whole, nothing is swept: what it lacks may be the very message.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from commands.ids import new_uuid
from commands.writer import Refused, Writer
from domain.ids import CommandId, MediaId
from domain.media import DeleteMedia, ExpireMedia
from gateways.media.access import ObjectAccess
from gateways.media.objects import ObjectStore, ObjectsUnavailable
from projections.media import Media, MediaRow
from projections.runner import Runner

BATCH: Final = 500
UPLOAD_KEPT_S: Final = 3_600.0
"""How long an upload that could still be completed lies there after its address has expired."""
REST_MIN_S: Final = 0.5
REST_MAX_S: Final = 3_600.0
_S: Final = 1_000_000

_log = logging.getLogger("signet.media")


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    expired: int
    deleted: int
    uploads: int
    """Objects that were uploaded and never taken in."""


class Sweeper:
    def __init__(
        self,
        *,
        writer: Writer,
        runner: Runner,
        model: Callable[[], Media],
        objects: ObjectAccess,
        clock: Callable[[], int],
        grace_s: float,
        hold_s: float,
        not_before: int = 0,
    ) -> None:
        """`runner` and `model`: of the read model `media`. `clock`: microseconds since 1970. `not_before`: nothing
        expires before that time: a restored server has forgotten what names it, and devices bring it again."""
        self._writer = writer
        self._runner = runner
        self._model = model
        self._objects = objects
        self._clock = clock
        self._grace_s = grace_s
        self._hold_s = hold_s
        self._not_before = not_before
        self._rest_s = min(max(min(grace_s, hold_s) / 4, REST_MIN_S), REST_MAX_S)

    async def run(self) -> None:
        """Until cancelled: rests, then sweeps."""
        while True:
            await asyncio.sleep(self._rest_s)
            try:
                swept = await self.sweep()
            except Exception as error:
                # The store, the writer or the read models are away: the next time will do.
                _log.warning("unused media can't be swept now: %s", error)
            else:
                if swept.expired or swept.deleted or swept.uploads:
                    _log.info("swept unused media: %s", msgspec.json.encode(swept).decode())

    async def sweep(self) -> Swept:
        """One pass. Raises ObjectsUnavailable, Unswept and what reading may raise."""
        expired = await self._expire()
        deleted = await self._delete()
        return Swept(expired=expired, deleted=deleted, uploads=await self._drop_uploads())

    async def _expire(self) -> int:
        expired, now = 0, self._clock()
        if now < self._not_before:
            return 0
        before = now - round(self._grace_s * _S)
        for phase in ("reserved", "stored"):
            while unnamed := await (await self._whole()).unnamed(phase, before=before, limit=BATCH):
                for row in unnamed:
                    await self._execute(ExpireMedia(id=CommandId(new_uuid()), media=row.media))
                expired += len(unnamed)
        return expired

    async def _delete(self) -> int:
        deleted = 0
        before = self._clock() - round(self._hold_s * _S)
        while unnamed := await (await self._whole()).unnamed("expired", before=before, limit=BATCH):
            store = await self._objects.store()
            before_these = deleted
            for row in unnamed:
                deleted += await self._delete_one(store, row)
            if deleted == before_these:
                break  # none of them can be deleted now
        return deleted

    async def _delete_one(self, store: ObjectStore, row: MediaRow) -> bool:
        async with self._objects.lock(row.media):
            if not await self._is_still(row):
                return True
            try:
                await store.discard(row.media)
            except ObjectsUnavailable as error:
                _log.warning("the object of %s can't be deleted: %s", row.media, error)
                return False
            await self._execute(DeleteMedia(id=CommandId(new_uuid()), media=row.media))
            return True

    async def _is_still(self, row: MediaRow) -> bool:
        """It was not reserved anew meanwhile, by who needs it after all."""
        return await (await self._whole()).find(row.media) == row

    async def _drop_uploads(self) -> int:
        """What was uploaded and never completed, or once more after it was stored, or after it had expired."""
        model = await self._whole()
        if await model.is_empty():
            return 0  # and nothing starts a store that nobody has used
        dropped = 0
        store = await self._objects.store()
        now = self._clock()
        async for name, uploaded_at in store.incoming():
            media = MediaId(name)
            row = await model.find(media)
            kept_s = UPLOAD_KEPT_S if row is not None and row.phase == "reserved" else 0
            if uploaded_at < now - round((self._hold_s + kept_s) * _S):
                async with self._objects.lock(media):
                    await store.drop_upload(media)
                self._objects.room.release(media)
                dropped += 1
        return dropped

    async def _whole(self) -> Media:
        """The read model, with all that the writer has answered. Raises Unswept."""
        await self._runner.wait(self._writer.position)
        model = self._model()
        if self._runner.parked or model.parking.lacking():
            raise Unswept("events of the read model `media` are parked or were skipped; see signet parked")
        return model

    async def _execute(self, command: ExpireMedia | DeleteMedia) -> None:
        reply = await self._writer.execute(command, turn="sweep")
        if isinstance(reply, Refused):
            raise Unswept(f"the writer refuses: {reply.code}")


class Unswept(Exception):
    """Why nothing is swept now."""
