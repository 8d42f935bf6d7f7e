"""Clients that don't wait long, so that many failures fit into a test; and data folders whose log is elsewhere."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import pytest

from signet_client import backoff, connection, link, live
from tests.kurrentdb.double import Node
from tests.postgres import Server, shared


@pytest.fixture(autouse=True)
async def no_debug_mode() -> None:
    """A scenario is many clients at once: the stacks that are kept for each future would cost more than they do."""
    asyncio.get_running_loop().set_debug(False)


class StoreServer(Protocol):
    """One that a test may break."""

    def kill(self) -> None:
        """By SIGKILL, whatever is under way."""
        ...

    def start(self) -> None:
        """Again; returns when it serves."""
        ...


def place_events(data: Path, url: str, *, readmodels: str | None = None) -> Path:
    """Makes a data folder whose events are at the URL, and its read models at theirs."""
    data.mkdir(mode=0o700)
    settings = [f'events = "{url}"', *([f'readmodels = "{readmodels}"'] if readmodels else [])]
    (data / "signet.toml").write_text("\n".join(settings) + "\n")
    return data


def _in_sqlite(folder: Path) -> Iterator[Path]:
    yield folder / "data"


def _in_postgres(folder: Path) -> Iterator[Path]:
    server = shared(18)
    yield place_events(folder / "data", server.url(server.new_database()))


def _in_kurrentdb(folder: Path) -> Iterator[Path]:
    with Node(folder / "node") as node:
        node.start()
        yield place_events(folder / "data", node.uri)


PLACES: Final[dict[str, Callable[[Path], Iterator[Path]]]] = {
    "sqlite": _in_sqlite,
    "postgres": _in_postgres,
    "kurrentdb": _in_kurrentdb,
}


@pytest.fixture(params=PLACES)
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The data folder of an engine, with its log on each store in turn."""
    yield from PLACES[request.param](tmp_path)


class _Postgres:
    def __init__(self, server: Server) -> None:
        self._server = server

    def kill(self) -> None:
        self._server.kill()

    def start(self) -> None:
        self._server.restart()


def _own_postgres(folder: Path) -> Iterator[tuple[Path, StoreServer]]:
    server = Server.start(18)
    try:
        url = server.url(server.new_database())
        yield place_events(folder / "data", url, readmodels=url), _Postgres(server)
    finally:
        server.stop()


def _own_kurrentdb(folder: Path) -> Iterator[tuple[Path, StoreServer]]:
    with Node(folder / "node") as node:
        node.start()
        yield place_events(folder / "data", node.uri), node


@pytest.fixture(params=[_own_postgres, _own_kurrentdb], ids=["postgres", "kurrentdb"])
def breakable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, StoreServer]]:
    """The data folder of an engine, and the server that has its log, and on PostgreSQL its read models too."""
    yield from request.param(tmp_path)


@pytest.fixture
def hasty_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """They soon connect again, and soon say again what has got no answer."""
    monkeypatch.setattr(backoff, "BACKOFF_MAX_S", 0.3)
    monkeypatch.setattr(link, "WATCH_EVERY_S", 3.0)
    monkeypatch.setattr(live, "ANSWER_TIMEOUT_S", 3.0)
    monkeypatch.setattr(live, "MARKS_RETRY_S", 0.3)


@pytest.fixture
def wary_clients(hasty_clients: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For them a silent server is gone after 5 s, too."""
    monkeypatch.setattr(connection, "PING_EVERY_S", 2.0)
    monkeypatch.setattr(connection, "PONG_TIMEOUT_S", 3.0)
