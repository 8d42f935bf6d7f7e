"""`signet bench media`: a file from one client to another, beside the plain speed of the same S3 server.

The engine runs in a process of its own with the S3 server that it starts, and both clients in this one. Each run has
four steps of the same size: a plain PUT, an upload, a plain GET, a download; in every second run upload and download
come first. The plain ones go to addresses that the engine has signed, by the HTTP client that ours is built on, from a
file and to a file, and do nothing else.
"""

import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import msgspec

from ops.bench.memory import Memory
from ops.engine import EngineProcess, engine, family
from ops.errors import OpsError
from ops.progress import progress_bar
from signet_client import Client, Message
from signet_client.media.attachment import Attachment
from signet_client.media.sealing import sealed_size
from signet_client.media.transfer import Address
from signet_client.payloads import to_base64
from signet_client.records import UploadFile

MIB: Final = 64
PIECE_BYTES: Final = 1 << 20

_FIGURES: Final = (
    "upload_mb_s", "download_mb_s", "raw_upload_mb_s", "raw_download_mb_s", "upload_ratio", "download_ratio",
    "client_upload_cpu_s_per_gb", "client_download_cpu_s_per_gb", "engine_upload_cpu_s_per_gb",
    "engine_download_cpu_s_per_gb",
)  # fmt: skip


class MediaMeasured(msgspec.Struct, frozen=True, kw_only=True):
    """One run. A megabyte is 10⁶ bytes, a gigabyte 10⁹."""

    upload_mb_s: float
    """From `Client.post_file` until the message is on disk at the server: sealed, uploaded, taken in, sent."""
    download_mb_s: float
    """`Client.download`: fetched, opened, compared, on disk."""
    raw_upload_mb_s: float
    raw_download_mb_s: float
    upload_ratio: float
    download_ratio: float
    """Of the plain speed."""
    client_upload_cpu_s_per_gb: float
    client_download_cpu_s_per_gb: float
    engine_upload_cpu_s_per_gb: float
    engine_download_cpu_s_per_gb: float
    """With its S3 server, which has done the same work for the plain ones."""


class _Step(msgspec.Struct, frozen=True, kw_only=True):
    seconds: float
    client_cpu_s: float
    engine_cpu_s: float


async def measure_media(runs: int, mib: int) -> dict[str, Any]:
    """The medians, their spread, every run, and how much memory grew from before the first file to the most it was.
    Raises OpsError."""
    measured: list[MediaMeasured] = []
    with tempfile.TemporaryDirectory(prefix="signet-bench-") as folder, progress_bar("runs") as bar:
        task = bar.add_task("media", total=runs)
        async with _stage(Path(folder)) as stage:
            client, server = Memory(os.getpid()), Memory(stage.engine.process.pid)
            await stage.run(1 << 20)
            for number in range(runs):
                measured.append(await stage.run(mib << 20, plain_first=number % 2 == 0))
                bar.advance(task)
            grown = {
                "client_grown_mb": client.grown_mb(),
                "engine_grown_mb": server.grown_mb(),
                "s3_peak_mb": max((Memory(pid).peak_mb() for pid in family(stage.engine.process.pid)[1:]), default=0),
            }
    return {
        **{figure: statistics.median(getattr(run, figure) for run in measured) for figure in _FIGURES},
        **grown,
        "spread": {
            figure: [min(getattr(run, figure) for run in measured), max(getattr(run, figure) for run in measured)]
            for figure in _FIGURES
        },
        "mib": mib,
        "runs": measured,
    }


@asynccontextmanager
async def _stage(folder: Path) -> AsyncIterator["_Stage"]:
    async with engine(folder / "data", {"log_level": "warning"}) as running:
        anna = await Client.register(running.url, "Anna", folder / "anna.db")
        ben = await Client.register(running.url, "Ben", folder / "ben.db")
        async with anna, ben, httpx.AsyncClient(trust_env=False, timeout=60) as http:
            talk = await anna.start_direct(ben.account)
            await anna.send(talk, "there will be files")
            yield _Stage(folder, running, anna, ben, http, talk)


class _Stage:
    """An engine, somebody who sends and somebody who gets."""

    def __init__(
        self, folder: Path, running: EngineProcess, anna: Client, ben: Client, http: httpx.AsyncClient, talk: str
    ) -> None:
        self._folder = folder
        self.engine = running
        self._anna = anna
        self._ben = ben
        self._http = http
        self._talk = talk

    async def run(self, size: int, *, plain_first: bool = True) -> MediaMeasured:
        """All four steps, with a new file of random bytes."""
        source, target = self._folder / "source", self._folder / "target"
        _fill(source, size)
        address = await self._upload_address(size)
        put, up = await self._both(lambda: self._put(address, source), lambda: self._upload(source), plain_first)
        message, shown = await self._received()
        found = (await self._ben._api.media(shown.file.media, conversation=self._talk)).download
        get, down = await self._both(
            lambda: self._get(found, target), lambda: self._ben.download(message, target), plain_first
        )
        if target.stat().st_size not in (size, sealed_size(size)):
            raise OpsError(f"no figures from a run that is not whole: {target.stat().st_size} of {size} bytes came")
        return _measured(size, put=put, up=up, get=get, down=down)

    async def _both(
        self, plain: Callable[[], Awaitable[None]], whole: Callable[[], Awaitable[None]], plain_first: bool
    ) -> tuple["_Step", "_Step"]:
        """The plain one, and the other."""
        if plain_first:
            return await self._timed(plain), await self._timed(whole)
        later = await self._timed(whole)
        return await self._timed(plain), later

    async def _timed(self, step: Callable[[], Awaitable[None]]) -> "_Step":
        began, client_cpu, engine_cpu = time.perf_counter(), time.process_time(), self.engine.cpu_s()
        await step()
        return _Step(
            seconds=time.perf_counter() - began,
            client_cpu_s=time.process_time() - client_cpu,
            engine_cpu_s=self.engine.cpu_s() - engine_cpu,
        )

    async def _upload(self, source: Path) -> None:
        await self._anna.send_file(self._talk, source)

    async def _received(self) -> tuple[Message, Attachment]:
        """What the last message shows."""
        await self._ben.held(self._talk, self._anna.marks(self._talk).cursor)
        (message,) = self._ben.latest(self._talk, limit=1)
        assert isinstance(message, Message)
        assert message.attachment is not None
        return message, message.attachment

    async def _upload_address(self, size: int) -> Address:
        """For a file that nobody will name."""
        digest = to_base64(os.urandom(32))
        file = UploadFile(command=str(uuid4()), media="", kind="file", size=size, digest=digest)
        reserved = await self._anna._api.reserve_media(file)
        assert reserved.upload is not None
        return reserved.upload

    async def _put(self, address: Address, source: Path) -> None:
        answer = await self._http.request(address.method, address.url, headers=address.headers, content=_pieces(source))
        answer.raise_for_status()

    async def _get(self, address: Address, target: Path) -> None:
        async with self._http.stream(address.method, address.url, headers=address.headers) as answer:
            answer.raise_for_status()
            with target.open("wb") as file:
                async for piece in answer.aiter_raw():
                    file.write(piece)


def _measured(size: int, *, put: _Step, up: _Step, get: _Step, down: _Step) -> MediaMeasured:
    return MediaMeasured(
        upload_mb_s=round(size / 1e6 / up.seconds, 1),
        download_mb_s=round(size / 1e6 / down.seconds, 1),
        raw_upload_mb_s=round(size / 1e6 / put.seconds, 1),
        raw_download_mb_s=round(size / 1e6 / get.seconds, 1),
        upload_ratio=round(put.seconds / up.seconds, 3),
        download_ratio=round(get.seconds / down.seconds, 3),
        client_upload_cpu_s_per_gb=round(up.client_cpu_s / size * 1e9, 2),
        client_download_cpu_s_per_gb=round(down.client_cpu_s / size * 1e9, 2),
        engine_upload_cpu_s_per_gb=round(up.engine_cpu_s / size * 1e9, 2),
        engine_download_cpu_s_per_gb=round(down.engine_cpu_s / size * 1e9, 2),
    )


def _fill(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for begin in range(0, size, PIECE_BYTES):
            file.write(os.urandom(min(PIECE_BYTES, size - begin)))


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
