"""Devices that know nothing of each other yet."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import signet_client.reading
from tests.client.crypto.devices import ANNA, BEN, CLEO, LATE_S, Device


def _device(folder: Path, account: str) -> Iterator[Device]:
    device = Device(folder, account, "phone")
    yield device
    device.store.close()


@pytest.fixture
def anna(tmp_path: Path) -> Iterator[Device]:
    yield from _device(tmp_path, ANNA)


@pytest.fixture
def ben(tmp_path: Path) -> Iterator[Device]:
    yield from _device(tmp_path, BEN)


@pytest.fixture
def cleo(tmp_path: Path) -> Iterator[Device]:
    yield from _device(tmp_path, CLEO)


@pytest.fixture
def grace(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """How long a key may be late; as long as a test takes, until it says otherwise."""

    def set_to(seconds: float) -> None:
        monkeypatch.setattr(signet_client.reading, "KEY_GRACE_S", seconds)

    set_to(LATE_S)
    return set_to
