"""A data folder with a history of some thousand events and its read models, made once; each test gets a copy."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from ops.bench.historian import Historian
from ops.engine import engine
from ops.settings import load_settings
from ops.writing import write_side

EVENTS: Final = 12_000
FILL_MAX_S: Final = 60


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("history") / "data"

    async def write() -> None:
        async with write_side(load_settings(data)) as side:
            historian = Historian(side, accounts=60, directs=40, groups=5)
            await historian.write(EVENTS, lambda events: None)

    asyncio.run(write())
    asyncio.run(_fill(data))
    return data


async def _fill(data: Path) -> None:
    """An engine makes the read models."""
    async with engine(data, {"log_level": "warning"}), asyncio.timeout(FILL_MAX_S):
        while not _is_filled(data):  # noqa: ASYNC110  # it is another process
            await asyncio.sleep(0.05)


def _is_filled(data: Path) -> bool:
    listed = answer("rebuild", "--list", "--data", str(data))
    return all(each["position"] is not None and each["position"] >= EVENTS for each in listed)


@pytest.fixture
def data(made_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made_once, tmp_path / "data")


def signet(*arguments: str, module: str = "ops.cli") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", "-m", module, *arguments], capture_output=True, text=True)


def answer(*arguments: str, module: str = "ops.cli", code: int = 0) -> Any:
    """What the verb prints as JSON."""
    run = signet(*arguments, "--json", module=module)
    assert run.returncode == code, run.stderr
    return msgspec.json.decode(run.stdout)
