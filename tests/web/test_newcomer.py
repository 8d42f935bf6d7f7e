"""Somebody new: from a fresh clone, without Node, to the first encrypted message in the other window."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from ops.child import stop_process
from ops.locks import ROOT
from tests.web.browsers import Person, chromium

STOP_MAX_S: Final = 30


def without_node() -> dict[str, str]:
    """The environment of who has no Node, and no settings of Signet's."""
    folders = [each for each in os.environ["PATH"].split(os.pathsep) if shutil.which("node", path=each) is None]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIGNET_", "VIRTUAL_ENV"))}
    return kept | {"PATH": os.pathsep.join(folders)}


@asynccontextmanager
async def first_start(home: Path, data: Path) -> AsyncIterator[str]:
    """`./signet up` as it stands in the README, but for the port; its URL."""
    python: str = getattr(sys, "_base_executable", sys.executable)
    process = await asyncio.create_subprocess_exec(
        python, str(home / "signet"), "up", "--data", str(data), "--port", "0", "--json",
        cwd=home, env=without_node(), stdin=subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())["url"]
    finally:
        await stop_process(process, STOP_MAX_S)


@pytest.mark.slow
async def test_from_a_fresh_clone_to_the_first_encrypted_message_in_the_other_window(
    record_property: Callable[[str, object], None],
) -> None:
    with TemporaryDirectory(prefix="signet-newcomer-") as folder:
        home, data = Path(folder) / "signet", Path(folder) / "data"
        began = time.monotonic()
        cloning = await asyncio.create_subprocess_exec("git", "clone", "--quiet", str(ROOT), str(home))
        assert await cloning.wait() == 0
        async with chromium() as browser, first_start(home, data) as url:
            up = time.monotonic()
            anna, ben = [await Person.new(browser, url, name) for name in ("Anna", "Ben")]
            await anna.start_direct(await ben.account())
            await anna.say("Hello Ben")
            await ben.open("Anna")
            await ben.has("Hello Ben")
            there = time.monotonic()
            await anna.ticks_at("Hello Ben", "read")
            took = f"{there - began:.0f} s, {up - began:.0f} of them until the engine served"
            print(f"from the clone to the first encrypted message in the other window: {took}")
            record_property("first_message_s", round(there - began, 1))
            assert (home / ".node").is_dir()
            assert anna.unexpected == ben.unexpected == []
        assert not any(b"Hello Ben" in path.read_bytes() for path in data.rglob("*") if path.is_file())
