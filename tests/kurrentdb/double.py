"""Starts doubles of KurrentDB, tells them what to do wrong, kills them and starts them again.

    with Node(tmp_path) as node:
        node.start()
        hang = node.inject(Hang(), call="append", at="stored")
        ...
        await asyncio.to_thread(hang.until_hit)
        node.kill()
        node.start()

All that waits here blocks; it gives up after `PATIENCE_S`.
"""

import atexit
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final, Self

import msgspec

from tests.kurrentdb.control import Answer, Clear, Command, Inject, UntilAsked, UntilHit, UntilOpen
from tests.kurrentdb.faults import Action, CallKind, Fault
from tests.kurrentdb.node import HOST, Serving

PATIENCE_S: Final = 30
_ROOT: Final = Path(__file__).resolve().parents[2]


@cache
def kurrentdb_url() -> str:
    """A real node where SIGNET_TEST_KURRENTDB names one, else a double that all tests of this process share."""
    return os.environ.get("SIGNET_TEST_KURRENTDB") or empty_kurrentdb_url()


def empty_kurrentdb_url() -> str:
    """A double of its own, for whoever reads all of its log: the shared one holds what other tests have written."""
    folder = Path(mkdtemp(prefix="signet-kurrentdb-"))
    node = Node(folder)
    node.start()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(node.close)
    return node.uri


class Injected:
    """A fault that is set."""

    def __init__(self, node: "Node", number: int) -> None:
        self._node = node
        self._number = number

    def until_hit(self, times: int = 1) -> None:
        """Returns once it has hit so often."""
        self._node.tell(UntilHit(self._number, times))


class Node:
    """A double as a process of its own, with its port and folder for all its lives. It ends with this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # As long as it is bound here nobody else gets the port; gRPC, which shares ports, does.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port.bind((HOST, 0))
        self.port: int = self._port.getsockname()[1]
        self.uri = f"kdb://{HOST}:{self.port}?Tls=false"
        self._process: subprocess.Popen[bytes] | None = None
        self._control_port = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not started"
        return self._process.pid

    def start(self, faults: Sequence[Fault] = ()) -> None:
        """Returns once it serves. The faults are there from its first moment."""
        assert self._process is None, "it is started"
        command = (sys.executable, "-m", "tests.kurrentdb.node", "--db", self._folder, "--port", str(self.port))
        self._process = subprocess.Popen(
            (*command, "--ends-with-stdin", "--faults", msgspec.json.encode(faults).decode()),
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        is_there, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        assert is_there, "the double does not serve"
        line = self._process.stdout.readline()
        assert line, f"the double ended with {self._process.wait()} before it served"
        self._control_port = msgspec.json.decode(line, type=Serving).control_port

    def kill(self) -> None:
        """By SIGKILL; returns when it is dead."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """By SIGTERM; returns when it has ended."""
        self._end(signal.SIGTERM)

    def until_dead(self) -> None:
        """Returns once a Kill has hit."""
        self._end(None)

    def pause(self) -> None:
        """It stands still until `resume`, and its connections stay open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kills it where it runs, and gives back its port."""
        if self._process is not None:
            self.kill()
        self._port.close()

    def inject(self, do: Action, **where: Any) -> Injected:
        """`where`: the fields of Fault."""
        return Injected(self, self.tell(Inject(Fault(do=do, **where))).number)

    def clear(self) -> None:
        """No fault is set any more, and what hangs goes on."""
        self.tell(Clear())

    def asked(self, kind: CallKind) -> int:
        """How many such requests have come since the start."""
        return self.tell(UntilAsked(kind, 0)).asked.get(kind, 0)

    def until_asked(self, kind: CallKind, times: int) -> None:
        """Returns once so many such requests have come since the start."""
        self.tell(UntilAsked(kind, times))

    def until_open(self, kind: CallKind, calls: int) -> None:
        """Returns once exactly so many such calls are open."""
        self.tell(UntilOpen(kind, calls))

    def tell(self, command: Command) -> Answer:
        """Of any thread."""
        with socket.create_connection((HOST, self._control_port), PATIENCE_S) as connection:
            connection.sendall(msgspec.json.encode(command) + b"\n")
            with connection.makefile("rb") as lines:
                answer = lines.readline()
        assert answer, "the double has ended"
        return msgspec.json.decode(answer, type=Answer)

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None, "it is not started"
        self._process.send_signal(which)

    def _end(self, by: signal.Signals | None) -> None:
        assert self._process is not None, "it is not started"
        if by is not None:
            self._process.send_signal(by)
        self._process.wait(PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None
