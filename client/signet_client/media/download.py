"""A file on its way in: fetched, opened as it comes, and shown under its name once all of it is what was sealed."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from signet_client.api import MediaShown
from signet_client.backoff import backoff
from signet_client.errors import Refused, SignetError, Unreachable
from signet_client.media.attachment import Sealed
from signet_client.media.sealing import Opener, Tampered, sealed_size
from signet_client.media.transfer import AddressRefused, Transfers

TRIES_MAX: Final = 8
"""How often in a row it is tried without a byte more."""
GATHER_BYTES: Final = 1024 * 1024
"""How much is opened at a time: in a thread, since it takes a millisecond."""

Ask = Callable[[str], Awaitable[MediaShown]]
"""Asks the server for an address."""
Moved = Callable[[int, int], None]
"""Hears of the bytes that have come, and of how many there are."""


class NotSaved(SignetError):
    """The file can't be written where it was to be."""


async def download(sealed: Sealed, target: Path, *, ask: Ask, transfers: Transfers, moved: Moved) -> None:
    """Makes the file `target`, in place of one that may be there. Where it fails nothing is left under its name, or
    beside it. Raises NotSaved, and what `fetch` does."""
    # A name of its own for each: two downloads to one target are two files, and the later one stays.
    draft = target.with_name(f".{target.name[:100]}.{uuid4()}.part")
    try:
        with draft.open("xb") as file:
            await fetch(sealed, file, ask=ask, transfers=transfers, moved=moved)
            await asyncio.to_thread(_settle, file)
        draft.replace(target)
    except (OSError, ValueError) as error:  # the latter: a NUL in its name
        raise NotSaved(f"can't write {target}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


async def fetch(sealed: Sealed, file: BinaryIO, *, ask: Ask, transfers: Transfers, moved: Moved) -> None:
    """Writes what was sealed into `file`: until it returns that may be anything. A break of the connection costs
    nothing of what has come. Raises Tampered, Refused (`no_such_media`), Unreachable, AddressRefused, ObjectLost."""
    opener = Opener(key=sealed.raw_key, media=sealed.uuid, size=sealed.size, digest=sealed.raw_digest)
    failures = 0
    while opener.received < opener.expected:
        before = opener.received
        try:
            shown = await ask(sealed.media)
            _check(shown, sealed)
            await _read(shown, opener, file, transfers, moved)
        except (Unreachable, AddressRefused, Refused) as error:
            failures = 1 if opener.received > before else failures + 1
            if failures == TRIES_MAX or (isinstance(error, Refused) and not error.retry):
                raise
            await asyncio.sleep(backoff(failures))
        else:
            if opener.received == before:
                raise Tampered("the object store has less of it than was sealed")
    opener.finish()


async def _read(shown: MediaShown, opener: Opener, file: BinaryIO, transfers: Transfers, moved: Moved) -> None:
    opening = _Opening(opener, file, moved)
    try:
        async for piece in transfers.download(shown.download, start=opener.received):
            await opening.take(piece)
    except Unreachable:
        # What came before the break counts.
        await opening.finish()
        raise
    finally:
        # Whatever ends it: the file is closed next.
        await opening.rest()
    await opening.finish()


class _Opening:
    """Opens in a thread what has come, while more comes: one megabyte at a time, in order."""

    def __init__(self, opener: Opener, file: BinaryIO, moved: Moved) -> None:
        self._opener = opener
        self._file = file
        self._moved = moved
        self._gathered = bytearray()
        self._busy: asyncio.Future[None] | None = None

    async def take(self, piece: bytes) -> None:
        """Raises Tampered and OSError, also of what was taken before."""
        self._gathered += piece
        if len(self._gathered) >= GATHER_BYTES:
            await self._hand_over()

    async def finish(self) -> None:
        """Returns when all of it is opened. Raises likewise."""
        await self._hand_over()
        await self._opened()

    async def rest(self) -> None:
        """Returns when no thread is busy with it."""
        if self._busy is not None:
            await asyncio.wait([self._busy])

    async def _hand_over(self) -> None:
        await self._opened()
        # Handed over whole: what comes while the thread is busy must not change it.
        full, self._gathered = self._gathered, bytearray()
        self._busy = asyncio.get_running_loop().run_in_executor(None, self._open, full)

    async def _opened(self) -> None:
        if self._busy is not None:
            await self.rest()
            opened, self._busy = self._busy, None
            opened.result()
            self._moved(self._opener.received, self._opener.expected)

    def _open(self, gathered: bytearray) -> None:
        self._file.writelines(self._opener.feed(gathered))


def _check(shown: MediaShown, sealed: Sealed) -> None:
    if shown.digest != sealed.digest or shown.size != sealed_size(sealed.size):
        raise Tampered("the server has another file under this id than the one that was sealed")


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
