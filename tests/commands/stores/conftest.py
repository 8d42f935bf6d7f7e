"""The stores that the contract suite runs on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from commands.stores import open_log
from commands.stores.memory import Medium, MemoryLog
from domain.log import EventLog
from tests.kurrentdb.double import kurrentdb_url
from tests.postgres import VERSIONS, shared


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """Holds events, and outlives the logs that are opened on it."""

    open: Callable[[], EventLog]
    url: str | None = None
    """By which other processes open it, where they can."""
    fresh: bool = True
    """It is empty at first."""


def memory(_: Path) -> Store:
    medium = Medium()
    return Store(open=lambda: MemoryLog(medium))


def sqlite(folder: Path) -> Store:
    url = f"sqlite://{folder}/log.db"
    return Store(open=lambda: open_log(url), url=url)


def postgres(version: int) -> Callable[[Path], Store]:
    def store(_: Path) -> Store:
        server = shared(version)
        url = server.url(server.new_database())
        return Store(open=lambda: open_log(url), url=url)

    return store


def kurrentdb(_: Path) -> Store:
    url = kurrentdb_url()
    return Store(open=lambda: open_log(url), url=url, fresh=False)


STORES: dict[str, Callable[[Path], Store]] = {
    "memory": memory,
    "sqlite": sqlite,
    **{f"postgres-{version}": postgres(version) for version in VERSIONS},
    "kurrentdb": kurrentdb,
}
SHARED_STORES = [name for name in STORES if name != "memory"]


@pytest.fixture(autouse=True)
async def no_debug_mode_on_kurrentdb(request: pytest.FixtureRequest) -> None:
    """Each message of gRPC is a future or two, and the stacks that are kept for them would cost most of the time."""
    if "kurrentdb" in request.node.nodeid:
        asyncio.get_running_loop().set_debug(False)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return STORES[request.param](tmp_path)


@pytest.fixture(params=SHARED_STORES)
def shared_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """One that other processes can open."""
    return STORES[request.param](tmp_path)


@pytest.fixture
async def log(store: Store) -> AsyncIterator[EventLog]:
    log = store.open()
    yield log
    await log.close()
