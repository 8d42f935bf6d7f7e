"""Looks whether the object store has what the log says is stored, beside an engine that stores and deletes meanwhile.

The read model says what is to be looked at, and the log has the last word: an object is missed only if the log says,
after it was looked for, that it is stored, and a stray is one of which the log says nothing, or that it is deleted, and
that is still there then. So what is stored, expires or is deleted meanwhile is no fault, nor is an object that was
copied and whose MediaStored is yet to be recorded: that it was reserved is in the log before it can be uploaded.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from domain.codec import CODEC
from domain.ids import MediaId, is_uuid, media_stream
from domain.log import EventLog
from domain.media import Media, Phase, evolve
from gateways.media.objects import OBJECTS, ObjectsUnavailable, folder_of
from ops.errors import OpsError
from projections.database import Database, Row
from signet_client.payloads import to_base64

NAMED_MAX: Final = 1_000
"""How many faults and strays are named; the others are counted."""
READS_MAX: Final = 2
"""How many objects are read at a time: each keeps a disk and most of a core busy."""
TRIES_MAX: Final = 3
"""How often an object is read when the connection to the store breaks: hours of reading are not to be lost by that."""
PAUSE_S: Final = 1.0
_PAGE: Final = 500
_STREAM_MAX: Final = 100
"""Events of one stream; it has four at most."""
_PIECE_BYTES: Final = 1 << 20

_DUE: Final = """
phase = 'stored' OR phase = 'expired' AND EXISTS (SELECT 1 FROM named WHERE named.media = media.media)
"""
_COUNT: Final = f"SELECT COUNT(*), SUM(size) FROM media WHERE {_DUE}"
_ROWS: Final = f"""
SELECT media, account, kind, size, digest FROM media WHERE media > ? AND ({_DUE}) ORDER BY media LIMIT ?
"""
_NAMED_IN: Final = "SELECT conversation, seq FROM named WHERE media = ? ORDER BY conversation, seq"

T = TypeVar("T")
Wrong = Literal["missing", "wrong_size", "wrong_digest"]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    conversation: str
    seq: int


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """An object that is not as the log says."""

    media: str
    fault: Wrong
    account: str
    """Whose it is."""
    kind: str
    size: int
    """In bytes, as it was reserved."""
    found: int | None
    """The size of what is there; None: nothing is."""
    named: list[Message]
    """The messages that show it."""


class Stray(msgspec.Struct, frozen=True, kw_only=True):
    """An object that the log does not know of, or says is deleted."""

    media: str
    size: int


class Objects(Protocol):
    """What is asked of an object store, as `ObjectStore` has it."""

    async def head(self, media: str) -> int | None: ...

    async def digest(self, media: str) -> str | None: ...

    def objects(self) -> AsyncIterator[tuple[str, int]]: ...


class Folder:
    """The embedded store's objects, as files: a second server on its folder would end the engine's. Raises OpsError."""

    def __init__(self, path: Path) -> None:
        """`path`: of the bucket."""
        self._path = path

    async def head(self, media: str) -> int | None:
        return self._read(lambda: self._file(media).stat().st_size)

    async def digest(self, media: str) -> str | None:
        return await asyncio.to_thread(self._read, lambda: _digest_of(self._file(media)))

    async def objects(self) -> AsyncIterator[tuple[str, int]]:
        for folder in self._names(self._path / OBJECTS):
            for name in self._names(self._path / OBJECTS / folder):
                size = await self.head(name) if is_uuid(name) else None
                if size is not None:
                    yield name, size

    def _file(self, media: str) -> Path:
        return self._path / folder_of(media) / media

    def _names(self, folder: Path) -> list[str]:
        return self._read(lambda: os.listdir(folder)) or []

    def _read(self, read: Callable[[], T]) -> T | None:
        """None where there is no such file, any more."""
        try:
            return read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise OpsError(f"{self._path} can't be read: {error}. Run it as the user of the engine.") from error


class Verifier:
    """One pass. Raises ObjectsUnavailable, StoreError, OpsError and what databases raise."""

    def __init__(
        self, *, rows: Database, log: EventLog, objects: Objects, read: bool, moved: Callable[[int], None]
    ) -> None:
        """`rows`: of the read model `media`. `read`: all bytes are. `moved` hears of the size of each that was looked
        at."""
        self._rows = rows
        self._log = log
        self._objects = objects
        self._read = read
        self._moved = moved
        self._reading = asyncio.Semaphore(READS_MAX)
        self._sizes: dict[str, int] = {}
        """Of what the store has listed and no row has claimed; takes some 200 bytes of memory for each object."""
        self.looked = 0
        self.bytes = 0
        """Of what was looked at, as it was reserved."""
        self.faults: list[Fault] = []
        self.wrong = 0
        self.stray_objects: list[Stray] = []
        self.strays = 0
        self.strays_bytes = 0

    def count(self) -> tuple[int, int]:
        """How many there are to be looked at, and their bytes."""
        [(count, size)] = self._rows.query(_COUNT)
        return count, int(size or 0)

    async def run(self) -> None:
        # 1. Listed first: what is stored after that is looked for by itself.
        async for media, size in self._objects.objects():
            self._sizes[media] = size
        # 2. What should be there.
        for page in self._pages():
            await asyncio.gather(*(self._look(row) for row in page))
        # 3. What is left is a stray, or was reserved, or is about to be deleted.
        for media in sorted(self._sizes):
            await self._look_at_leftover(media)

    def _pages(self) -> Iterator[list[Row]]:
        after = ""
        while rows := self._rows.query(_ROWS, (after, _PAGE)):
            yield rows
            after = rows[-1][0]

    async def _look(self, row: Row) -> None:
        media, account, kind, size, digest = row
        listed = self._sizes.pop(media, None)
        if self._read or listed != size:
            async with self._reading:
                found = await self._objects.head(media)
                wrong = await self._wrong(media, found, size, digest)
            # In this order: what it says now holds of what was found before.
            if wrong is not None and await self._is_due(media):
                found = None if wrong == "missing" else found
                named = self._named_in(media)
                fault = Fault(media=media, fault=wrong, account=account, kind=kind, size=size, found=found, named=named)
                self._tell(fault)
        self.looked += 1
        self.bytes += size
        self._moved(size)

    async def _wrong(self, media: str, found: int | None, size: int, digest: str) -> Wrong | None:
        if found is None:
            return "missing"
        if found != size:
            return "wrong_size"
        if not self._read:
            return None
        read = await self._digest(media)
        if read is None:
            return "missing"
        return None if read == digest else "wrong_digest"

    async def _digest(self, media: str) -> str | None:
        for _ in range(TRIES_MAX - 1):
            try:
                return await self._objects.digest(media)
            except ObjectsUnavailable:
                await asyncio.sleep(PAUSE_S)
        return await self._objects.digest(media)

    def _tell(self, fault: Fault) -> None:
        self.wrong += 1
        if len(self.faults) < NAMED_MAX:
            self.faults.append(fault)

    async def _look_at_leftover(self, media: str) -> None:
        if await self._phase(media) not in ("none", "deleted"):
            return
        size = await self._objects.head(media)
        if size is None:
            return
        self.strays += 1
        self.strays_bytes += size
        if len(self.stray_objects) < NAMED_MAX:
            self.stray_objects.append(Stray(media=media, size=size))

    async def _is_due(self, media: str) -> bool:
        phase = await self._phase(media)
        return phase == "stored" or (phase == "expired" and bool(self._named_in(media)))

    async def _phase(self, media: str) -> Phase:
        """By the log."""
        state = Media()
        for recorded in await self._log.read_stream(media_stream(MediaId(media)), limit=_STREAM_MAX):
            evolve(state, recorded.version, CODEC.decode_entry(recorded.topic, recorded.data))
        return state.phase

    def _named_in(self, media: str) -> list[Message]:
        return [Message(conversation=talk, seq=seq) for talk, seq in self._rows.query(_NAMED_IN, (media,))]


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return to_base64(digest.digest())
