"""For the tests of the client on the fake server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import signet_client.backoff
from tests.client.fake import FakeServer


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
