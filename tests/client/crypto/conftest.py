"""Devices that know nothing of each other yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.crypto.devices import ANNA, BEN, CLEO, Device


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
