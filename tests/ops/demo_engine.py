"""An engine with the demo, as the tests of the demo start it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from ops.child import stop_process
from ops.settings import HOME

STOP_MAX_S = 30


class _Link(msgspec.Struct, frozen=True):
    name: str
    url: str


class Announced(msgspec.Struct, frozen=True):
    url: str
    data: str
    links: list[_Link]


class DemoEngine:
    def __init__(self, announced: Announced, process: asyncio.subprocess.Process) -> None:
        self.url = announced.url
        self.process = process
        self._links = {link.name: link.url for link in announced.links}

    def link(self, name: str) -> str:
        return self._links[name]

    def secret(self, name: str) -> str:
        return self.link(name).rpartition("/")[2]


@asynccontextmanager
async def start(data: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`signet up`; what it says on stderr goes to a file beside the data folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGNET_")}
    with data.with_suffix(".stderr").open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "ops.cli", "up", "--data", str(data), "--port", "0", "--json", *arguments,
            cwd=HOME, env=environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
        try:
            yield process
        finally:
            await stop_process(process, STOP_MAX_S)


@asynccontextmanager
async def demo_engine(data: Path) -> AsyncIterator[DemoEngine]:
    async with start(data, "--demo") as process:
        assert process.stdout is not None
        line = await process.stdout.readline()
        yield DemoEngine(msgspec.json.decode(line, type=Announced), process)


def said_on_stderr(data: Path) -> str:
    return data.with_suffix(".stderr").read_text()
