"""A download that is opened while it comes: whatever breaks, what is there in the end is the whole file or nothing."""

import asyncio
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from signet_client.api import MediaShown
from signet_client.errors import Unreachable
from signet_client.media import download as module
from signet_client.media import sealing
from signet_client.media.attachment import Sealed
from signet_client.media.download import GATHER_BYTES, download
from signet_client.media.sealing import Tampered
from signet_client.media.transfer import Address
from signet_client.payloads import to_base64

PLAIN = os.urandom(3 * GATHER_BYTES + 12_345)
PIECE_BYTES = 50_001


class Lines:
    """In the place of `Transfers`: connections that break, one after the other, after so many bytes."""

    def __init__(self, content: bytes, *breaks: int) -> None:
        self._content = content
        self._breaks = list(breaks)
        self.starts: list[int] = []
        self.hangs = asyncio.Event()
        """Where it is to hang instead, it is set when it does."""

    async def download(self, address: Address, *, start: int) -> AsyncIterator[bytes]:
        self.starts.append(start)
        end = self._breaks.pop(0) if self._breaks else len(self._content)
        for begin in range(start, end, PIECE_BYTES):
            yield self._content[begin : min(begin + PIECE_BYTES, end)]
        if end < len(self._content):
            if not self._breaks:
                self.hangs.set()
                await asyncio.Event().wait()
            raise Unreachable("the line broke")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "backoff", lambda failures: 0)


def seal(plain: bytes) -> tuple[Sealed, bytes]:
    media, key, target = uuid4(), sealing.new_key(), io.BytesIO()
    digest = sealing.seal([plain], target, key=key, media=media, size=len(plain))
    sealed = Sealed(media=str(media), key=to_base64(key), digest=to_base64(digest), size=len(plain))
    return sealed, target.getvalue()


async def fetch(sealed: Sealed, lines: Lines, target: Path) -> list[int]:
    """How far it was, as it told."""
    told: list[int] = []

    async def ask(media: str) -> MediaShown:
        address = Address(method="GET", url="http://127.0.0.1:9/", headers={}, expires_in_s=9)
        size = sealing.sealed_size(sealed.size)
        return MediaShown(media=media, size=size, digest=sealed.digest, download=address)

    transfers: Any = lines
    await download(sealed, target, ask=ask, transfers=transfers, moved=lambda done, total: told.append(done))
    return told


@pytest.mark.parametrize("size", [0, 1, GATHER_BYTES, len(PLAIN)])
async def test_what_comes_is_what_was_sealed(tmp_path: Path, size: int) -> None:
    sealed, content = seal(PLAIN[:size])
    told = await fetch(sealed, Lines(content), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == PLAIN[:size]
    assert told == sorted(told)
    assert told[-1] == len(content)


async def test_a_break_costs_nothing_of_what_has_come(tmp_path: Path) -> None:
    sealed, content = seal(PLAIN)
    breaks = (7, GATHER_BYTES + 99_999, GATHER_BYTES + 99_999, 3 * GATHER_BYTES, len(content))
    lines = Lines(content, *breaks)
    await fetch(sealed, lines, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == PLAIN
    assert lines.starts == [0, *breaks[:-1]]


@pytest.mark.parametrize("at", [5, GATHER_BYTES + 5, -1])
async def test_what_was_changed_leaves_nothing(tmp_path: Path, at: int) -> None:
    sealed, content = seal(PLAIN)
    changed = bytearray(content)
    changed[at] ^= 1
    with pytest.raises(Tampered):
        await fetch(sealed, Lines(bytes(changed)), tmp_path / "file")
    assert os.listdir(tmp_path) == []


async def test_whoever_goes_away_leaves_nothing(tmp_path: Path) -> None:
    sealed, content = seal(PLAIN)
    lines = Lines(content, 2 * GATHER_BYTES + 1)
    fetching = asyncio.create_task(fetch(sealed, lines, tmp_path / "file"))
    await lines.hangs.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert os.listdir(tmp_path) == []
