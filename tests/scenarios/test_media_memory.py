"""A large file goes from one client to another byte for byte, and nobody's memory grows with it."""

import asyncio
import hashlib
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from ops.engine import engine
from tests.corpus import ROOT
from tests.scenarios.courier import memory
from tests.scenarios.stage import WAIT_S, register

FILE_BYTES: Final = 200 * 2**20
GROWTH_MAX: Final = 100 * 2**20
PIECE: Final = 2**20


@pytest.mark.slow
async def test_memory_stays_flat_with_200_mib(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    digest = _make(folder / "0")
    async with engine(tmp_path / "data", {"log_level": "error"}) as served:
        anna, ben = await register(served.url, "anna", tmp_path), await register(served.url, "ben", tmp_path)
        async with anna:
            talk = await anna.start_direct(ben.account)
            await anna.held(talk, 1)
        await ben.close()
        before = memory(served.process.pid, "VmRSS")
        await _run("courier", str(anna._store.path), talk, str(folder), "0")
        await _run("fetcher", str(ben._store.path), talk, "2", str(tmp_path))
        grown = memory(served.process.pid) - before
        print(f"the engine has grown by {grown / 2**20:.0f} MiB")
        assert grown <= GROWTH_MAX
    assert _digest(tmp_path / "2") == digest


def _make(path: Path) -> bytes:
    with path.open("wb") as file:
        for _ in range(FILE_BYTES // PIECE):
            file.write(os.urandom(PIECE))
    return _digest(path)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


async def _run(program: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", f"tests.scenarios.{program}", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 0
    [grown] = [int(line.split()[1]) for line in said.decode().splitlines() if line.startswith("grown")]
    print(f"the {program} has grown by {grown / 2**20:.0f} MiB")
    assert grown <= GROWTH_MAX
