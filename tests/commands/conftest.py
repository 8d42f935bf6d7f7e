"""The logs that the write side is tested on, each new and empty."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import commands.writer
from commands.stores import open_log
from commands.stores.memory import Medium, MemoryLog
from domain.log import EventLog
from tests.commands.helpers import Desk, Watched, writing

Opener = Callable[[], EventLog]


@pytest.fixture(params=["memory", "sqlite"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same store again and again."""
    medium = Medium()
    return lambda: MemoryLog(medium) if request.param == "memory" else open_log(f"sqlite://{tmp_path}/log.db")


@pytest.fixture
async def log(opener: Opener) -> AsyncIterator[Watched]:
    log = opener()
    yield Watched(log)
    await log.close()


@pytest.fixture
async def desk(log: Watched) -> AsyncIterator[Desk]:
    async with writing(log) as desk:
        yield desk


@pytest.fixture
def medium() -> Medium:
    """For tests that make the store fail."""
    return Medium()


@pytest.fixture
async def frail(medium: Medium, quick_retries: None) -> AsyncIterator[Desk]:
    """A desk on a store that can be made to fail."""
    async with writing(Watched(MemoryLog(medium))) as desk:
        yield desk


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Appends are tried again at once, as often as ever."""
    monkeypatch.setattr(commands.writer, "PAUSE_FIRST_S", 0.0001)
    monkeypatch.setattr(commands.writer, "PAUSE_LAST_S", 0.001)
