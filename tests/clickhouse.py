"""ClickHouse servers on 127.0.0.1, from the wheel `chdb-core`, and fresh databases on them or on one that is there.

The wheel's engine is all of clickhouse-local, and that serves ClickHouse's own HTTP interface once it has been told
`SYSTEM START LISTEN HTTP`. What is missing of a server: SQL can't make users, the native protocol isn't served, and
there is no system.query_log.
"""

import atexit
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Final
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

from ops.child import free_port

ENGINE: Final = "engine"
"""The user who may do everything."""
READER: Final = "reader"
"""May read, and change no setting (`readonly = 1`)."""
PASSWORD: Final = "correct horse"
"""Of both."""

NAMED: Final = os.environ.get("SIGNET_TEST_CLICKHOUSE")
"""A server to test on instead: `http[s]://user:password@host:port`."""

owns_server: Final = pytest.mark.skipif(NAMED is not None, reason="the server of SIGNET_TEST_CLICKHOUSE isn't killed")
"""For tests that kill or freeze one, or ask `READER`: what somebody lends us is not killed, and has no such user."""

START_TIMEOUT_S: Final = 60
STATEMENT_TIMEOUT_S: Final = 60

_READY: Final = "Listening for http://"

_PROGRAM: Final = """
import os, sys, threading
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec

# It would take data from a pipe for a table of its own. The pipe is closed when whoever started this is gone.
held = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
threading.Thread(target=lambda: (os.read(held, 1), os._exit(0)), daemon=True).start()

# Not as a package: that would start another engine, and load pandas.
loader = ExtensionFileLoader("chdb._chdb", sys.argv[1])
engine = module_from_spec(ModuleSpec("chdb._chdb", loader, origin=sys.argv[1]))
loader.exec_module(engine)

# It listens for as long as its queries take.
result = engine.query(
    "SYSTEM START LISTEN HTTP; SELECT sleep(3) FROM numbers(1000000000000) SETTINGS max_block_size = 1 FORMAT Null",
    "TabSeparated",  # for all who don't name a format
)
sys.exit(result.error_message())
"""
"""Expects the path of the engine, and the configuration in its working directory."""

_CONFIG: Final = """<clickhouse>
    <listen_host>127.0.0.1</listen_host>
    <http_port>{port}</http_port>
    <path>{folder}/data</path>
    <users_config>users.xml</users_config>
    <log-level>information</log-level>
    <logger><console>1</console></logger>
</clickhouse>
"""

# The program itself is `default`, and can't be given a password; it may do what it must, and no more. The settings are
# those that clickhouse-local has otherwise than a server.
_USERS: Final = f"""<clickhouse>
    <profiles>
        <default>
            <implicit_select>0</implicit_select>
            <allow_introspection_functions>0</allow_introspection_functions>
            <storage_file_read_method>pread</storage_file_read_method>
        </default>
        <reader>
            <profile>default</profile>
            <readonly>1</readonly>
        </reader>
    </profiles>
    <quotas><default/></quotas>
    <users>
        <default>
            <no_password/>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants><query>GRANT SYSTEM LISTEN ON *.*</query></grants>
        </default>
        <{ENGINE}>
            <password>{PASSWORD}</password>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
        </{ENGINE}>
        <{READER}>
            <password>{PASSWORD}</password>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>reader</profile>
            <quota>default</quota>
        </{READER}>
    </users>
</clickhouse>
"""


class Server:
    """A server with a folder of its own under /tmp, until `stop` or the end of this process."""

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="signet-clickhouse-", dir="/tmp"))
        self.port = free_port()
        (self.folder / "config.xml").write_text(_CONFIG.format(port=self.port, folder=self.folder))
        (self.folder / "users.xml").write_text(_USERS)
        self._process: subprocess.Popen[str]
        self._reader: threading.Thread

    @classmethod
    def start(cls) -> "Server":
        server = cls()
        atexit.register(server.stop)
        server.restart()
        return server

    @property
    def pid(self) -> int:
        return self._process.pid

    def url(self, database: str = "default", *, user: str = ENGINE, password: str = PASSWORD) -> str:
        return f"http://{user}:{quote(password)}@127.0.0.1:{self.port}/{database}"

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def restart(self) -> None:
        """On the same port and folder, after `kill` or for the first time; returns when it answers."""
        lines: deque[str] = deque(maxlen=50)
        started: Future[bool] = Future()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, _engine()],
            cwd=self.folder,
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=_read_on, args=(self._process, lines, started), daemon=True)
        self._reader.start()
        if not started.result(START_TIMEOUT_S):
            raise RuntimeError("ClickHouse did not start:\n" + "".join(lines))

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def freeze(self) -> None:
        """Connections stay open, and nobody answers, until `thaw` or `kill`."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """For good: its data are removed."""
        atexit.unregister(self.stop)
        self.kill()
        shutil.rmtree(self.folder)


@cache
def shared() -> Server:
    """One for all tests of this process that don't break it; it ends with the process."""
    return Server.start()


@contextmanager
def new_database(server: Server | None = None) -> Iterator[str]:
    """The URL of an empty one, dropped in the end: on `server`, else on the one that SIGNET_TEST_CLICKHOUSE names, else
    on the shared one."""
    base = NAMED if server is None and NAMED is not None else (server or shared()).url()
    name = f"signet_{uuid4().hex}"
    execute(base, f"CREATE DATABASE {name}")
    try:
        yield urlsplit(base)._replace(path=f"/{name}").geturl()
    finally:
        execute(base, f"DROP DATABASE {name} SYNC")


def execute(url: str, statement: str) -> str:
    """What the server answers, in TabSeparated unless the statement says otherwise. Raises RuntimeError with what it
    says where it refuses, OSError where it can't be reached."""
    parts = urlsplit(url)
    headers = {
        "X-ClickHouse-User": unquote(parts.username or "default"),
        "X-ClickHouse-Key": unquote(parts.password or ""),
        "X-ClickHouse-Database": parts.path.strip("/") or "default",
    }
    port = parts.port or (8443 if parts.scheme == "https" else 8123)
    address = f"{parts.scheme}://{parts.hostname}:{port}/"
    try:
        with urlopen(Request(address, statement.encode(), headers), timeout=STATEMENT_TIMEOUT_S) as response:
            answer: bytes = response.read()
    except HTTPError as error:
        with error:
            raise RuntimeError(error.read().decode()) from None
    return answer.decode()


def _read_on(process: subprocess.Popen[str], lines: deque[str], started: Future[bool]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if _READY in line and not started.done():
            started.set_result(True)
    if not started.done():
        started.set_result(False)


def _engine() -> Path:
    spec = importlib.util.find_spec("chdb")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)), "_chdb.abi3.so")
