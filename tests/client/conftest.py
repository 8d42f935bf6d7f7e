"""For the tests of the client on the fake server."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest

import signet_client.backoff
from tests.client.fake import FakeServer

# matrix-nio imports it for what no test does: writing files of exported keys and of a trust database.
sys.modules["atomicwrites"] = ModuleType("atomicwrites")
sys.modules["atomicwrites"].atomic_write = None  # type: ignore[attr-defined]


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signet_client.backoff, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(signet_client.backoff, "BACKOFF_MAX_S", 0.05)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer.open() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "device.db"
