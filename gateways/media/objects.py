"""What the engine asks of an object store.

Clients upload to `PREFIX/incoming/<media id>`, by an address that the engine signs. Once that is said to be done, the
engine lets the store copy it to `PREFIX/objects/<its first two digits>/<media id>`, for which nobody ever gets an
address to write, and reads that through: what was settled never changes, whatever is uploaded later to the address that
is still valid.

A copy comes whole or not at all, and stands before the upload is deleted. So whatever is killed at whatever point, the
same `settle` ends well when it is called again; what nobody calls again lies in `incoming()`, or in `objects()` without
the log knowing of it. One case is left: where the connection to a store breaks while it copies, and it copies on, and
is slower at that than the next `settle`, the object is once more replaced by what was uploaded at that time.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import msgspec

from domain.ids import is_uuid
from gateways.media.place import Place
from gateways.media.s3 import Bucket, Listed, ObjectsUnavailable
from gateways.media.threads import DaemonThreads
from signet_client.payloads import to_base64

__all__ = ["Address", "ObjectStore", "ObjectsUnavailable", "Settled"]

SIZE_MAX: Final = 5 << 30
"""More no S3 takes in one PUT, nor copies at once."""
ADDRESS_LIFE_S: Final = 900
"""Within it an upload or a download must begin; it may then last longer."""
THREADS: Final = 4
CLOSE_MAX_S: Final = 5.0
"""So many copies, readings and questions at a time; others wait."""

_INCOMING: Final = "incoming"
OBJECTS: Final = "objects"

T = TypeVar("T")


def folder_of(media: str) -> str:
    """Where its object lies: one of 256 folders, by the first two digits, which are random. Of a folder with 100,000
    files rclone lists a page in a second."""
    assert is_uuid(media)
    return f"{OBJECTS}/{media[:2]}"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """With which whoever has it may do one thing, without being anybody."""

    url: str
    method: str
    headers: dict[str, str]
    """That must be sent with it as they are."""
    expires_in_s: int


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    size: int
    digest: str
    """SHA-256, unpadded base64; empty where the size is not the expected one: then it was not read."""


class ObjectStore:
    """All but the addresses may raise ObjectsUnavailable. Media ids are uuids."""

    def __init__(
        self,
        place: Place,
        *,
        make_durable: Callable[[str], None] | None = None,
        address_life_s: int = ADDRESS_LIFE_S,
    ) -> None:
        """`make_durable` is called with a key, in a thread, before what was stored there is called settled."""
        self.place = place
        self._make_durable = make_durable
        self._address_life_s = address_life_s
        # Its own threads: in asyncio's the log is written.
        self._threads = DaemonThreads(THREADS, "signet-media")
        self._made: Bucket | None = None
        self._closing = False
        self._busy: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._working: set[asyncio.Task[object]] = set()

    async def open(self, place: Place | None = None, *, make: bool = True) -> None:
        """Looks whether the bucket is there, and makes it where it is missing and that is allowed, but not without
        `make`. May be called again, after ObjectsUnavailable, or with another `place` since the store is reached
        otherwise now."""
        if place is not None:
            self.place = place
        left, self._made = self._made, await self._call(lambda: Bucket(self.place))
        if left is not None:
            left.close()
        await self._call(lambda: self._bucket().check(make=make))

    async def close(self) -> None:
        """Waits a moment for what runs, whose reading through ends at the next piece. What hangs is left alone: it may
        be killed at any point."""
        self._closing = True
        if self._working:
            await asyncio.wait(self._working, timeout=CLOSE_MAX_S)
        for each in self._working:
            each.cancel()
        self._threads.close()
        if self._made is not None:
            self._made.close()
            self._made = None

    def upload_address(self, media: str, size: int) -> Address:
        """For exactly `size` bytes. 0.15 ms of CPU; raises ObjectsUnavailable only where `open` did, too."""
        assert 0 <= size <= SIZE_MAX
        key = self._upload_key(media)
        url = self._bucket().address("put_object", key, life_s=self._address_life_s, ContentLength=size)
        return Address(url=url, method="PUT", headers={"Content-Length": str(size)}, expires_in_s=self._address_life_s)

    def download_address(self, media: str) -> Address:
        """Of what was settled; also by ranges. As `upload_address`."""
        url = self._bucket().address("get_object", self._object_key(media), life_s=self._address_life_s)
        return Address(url=url, method="GET", headers={}, expires_in_s=self._address_life_s)

    async def settle(self, media: str, size: int) -> Settled | None:
        """Moves what was uploaded to where it never changes, and says what it is; None where nothing was uploaded. What
        is not as expected is the caller's to refuse, and then to `discard`."""
        return await self._alone(media, lambda: self._settle(media, size))

    async def discard(self, media: str) -> None:
        """Deletes what was uploaded and what was settled, also where there is nothing."""
        await self._alone(media, lambda: self._discard(media))

    async def drop_upload(self, media: str) -> None:
        """Deletes what was uploaded and not settled; what was settled stays."""
        await self._alone(media, lambda: self._bucket().delete(self._upload_key(media)))

    async def head(self, media: str) -> int | None:
        """The size of what was settled; None where there is no such object."""
        return await self._call(lambda: self._bucket().size(self._object_key(media)))

    async def digest(self, media: str) -> str | None:
        """SHA-256 of what was settled, unpadded base64: reads all of it. None where there is no such object."""
        read = await self._call(lambda: self._read_through(self._object_key(media)))
        return read.digest if read is not None else None

    async def incoming(self) -> AsyncIterator[tuple[str, int]]:
        """Media ids of what was uploaded and not settled, and when that was, in microseconds since 1970."""
        async for each in self._list(_INCOMING):
            yield each.name, each.modified_us

    async def objects(self) -> AsyncIterator[tuple[str, int]]:
        """Media ids and sizes of what was settled, or was about to be."""
        for number in range(256):
            async for each in self._list(f"{OBJECTS}/{number:02x}"):
                yield each.name, each.size

    def _settle(self, media: str, size: int) -> Settled | None:
        source, target = self._upload_key(media), self._object_key(media)
        bucket = self._bucket()
        # 1. What an earlier call has copied is not copied over: it may be settled, and the upload may be another now.
        found = bucket.size(target)
        if found is None:
            found = bucket.size(source)
            # 2. Copied whole or not at all. Also tried where nothing was found: HEAD says the same of a missing bucket.
            if found in {None, size} and not bucket.copy(source, target):
                return None
        if found not in {None, size}:
            return Settled(size=found, digest="")
        # 3. Also where it was copied before: the earlier call may not have come that far.
        self._keep(target)
        # 4. What counts is what lies there now, not what the store, or the uploader, said of it.
        settled = self._read_through(target)
        # 5. Last: until here the same call can begin anew.
        bucket.delete(source)
        return settled

    def _discard(self, media: str) -> None:
        for key in (self._upload_key(media), self._object_key(media)):
            self._bucket().delete(key)

    def _keep(self, key: str) -> None:
        if self._make_durable is None:
            return
        try:
            self._make_durable(key)
        except OSError as error:
            raise ObjectsUnavailable(
                f"{key} can't be brought to the disk: {error}. Look at disk and rights."
            ) from error

    def _read_through(self, key: str) -> Settled | None:
        pieces = self._bucket().pieces(key)
        if pieces is None:
            return None
        size, digest = 0, hashlib.sha256()
        with closing(pieces):
            for piece in pieces:
                self._check_open()
                size += len(piece)
                digest.update(piece)
        return Settled(size=size, digest=to_base64(digest.digest()))

    async def _list(self, folder: str) -> AsyncIterator[Listed]:
        """What others have put there under other names is left out."""
        after: str | None = None
        while True:
            token = after
            listed, after = await self._call(lambda: self._bucket().page(self._folder(folder), token))  # noqa: B023
            for each in listed:
                if is_uuid(each.name):
                    yield each
            if after is None:
                return

    async def _alone(self, media: str, work: Callable[[], T]) -> T:
        """One thing at a time for each media id, and to its end, also where whoever waits for it goes away: what is
        copied twice at a time may change after it was read."""
        task = asyncio.create_task(self._in_turn(media, work))
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return await asyncio.shield(task)

    async def _in_turn(self, media: str, work: Callable[[], T]) -> T:
        lock = self._busy.setdefault(media, asyncio.Lock())
        async with lock:
            return await self._call(work)

    async def _call(self, work: Callable[[], T]) -> T:
        self._check_open()
        return await self._threads.call(work)

    def _bucket(self) -> Bucket:
        if self._made is None:
            raise ObjectsUnavailable(f"the object store {self.place.shown} was not opened yet")
        return self._made

    def _check_open(self) -> None:
        if self._closing:
            raise ObjectsUnavailable("the engine stops: ask again when it is back")

    def _upload_key(self, media: str) -> str:
        assert is_uuid(media)
        return self._folder(_INCOMING) + media

    def _object_key(self, media: str) -> str:
        return self._folder(folder_of(media)) + media

    def _folder(self, name: str) -> str:
        return f"{self.place.prefix}/{name}/" if self.place.prefix else f"{name}/"
