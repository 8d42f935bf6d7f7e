"""Gives test_behaviour.py a double of its own, for which it asks by environment variables when it is imported.

Elsewhere they are as they were: other tests may ask whether there is a real node.
"""

import gc
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.kurrentdb.double import Node
from tests.kurrentdb.node import HOST

BEHAVIOUR: Final = Path(__file__).with_name("test_behaviour.py")
_RESTART: Final = "import socket, sys; sys.exit(socket.create_connection(({host!r}, {port})).recv(1) != b'.')"


class Double:
    """A node whose address is known before it is started, and the shell command that restarts it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="signet-kurrentdb-"))
        self.node = Node(self._folder)
        self._restarts = socket.create_server((HOST, 0))
        program = _RESTART.format(host=HOST, port=self._restarts.getsockname()[1])
        self.environment = {
            "SIGNET_TEST_KURRENTDB": self.node.uri,
            "SIGNET_TEST_KURRENTDB_RESTART": f'{sys.executable} -c "{program}"',
        }
        self._is_ending = False
        self._thread = threading.Thread(target=self._serve_restarts)

    def start(self) -> None:
        self.node.start()
        self._thread.start()

    def _serve_restarts(self) -> None:
        """For each connection one, and a dot when it is done."""
        while True:
            connection, _ = self._restarts.accept()
            with connection:
                if self._is_ending:
                    return
                self.node.kill()
                self.node.start()
                connection.sendall(b".")

    def close(self) -> None:
        if self._thread.is_alive():
            self._is_ending = True
            socket.create_connection(self._restarts.getsockname()).close()
            self._thread.join()
        self._restarts.close()
        self.node.close()
        shutil.rmtree(self._folder)


_DOUBLE: Final = pytest.StashKey[Double]()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    if not isinstance(collector, pytest.Module) or collector.path != BEHAVIOUR:
        return (yield)
    double = Double()
    collector.config.stash[_DOUBLE] = double
    collector.config.add_cleanup(double.close)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in double.environment.items():
            patch.setenv(name, value)
        return (yield)


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.path == BEHAVIOUR:
        item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))  # its proxies are left open


@pytest.fixture(scope="module", autouse=True)
def serving_double(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.path == BEHAVIOUR:
        request.config.stash[_DOUBLE].start()
    yield
    gc.collect()
