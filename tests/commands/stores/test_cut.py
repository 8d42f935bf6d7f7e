"""A connection to a store that breaks after any number of bytes, on either way: before the request is there, while it
is read, before it is stored, after that, and in the middle of the answer."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from commands.stores import open_log
from domain.log import Appended, Conflict, EventLog, Unavailable, Unknown
from tests.commands.stores.appends import (
    append_until_known,
    datas,
    must_append,
    new_append,
    new_stream,
    read_until_answered,
)
from tests.commands.stores.wires import Way, Wires
from tests.kurrentdb.double import Node
from tests.postgres import shared


def postgres(version: int) -> Callable[[Path], Iterator[str]]:
    def url(_: Path) -> Iterator[str]:
        yield shared(version).url(shared(version).new_database())

    return url


def kurrentdb(folder: Path) -> Iterator[str]:
    with Node(folder / "node") as node:
        node.start()
        yield node.uri


SERVERS = {"postgres-18": postgres(18), "postgres-16": postgres(16), "kurrentdb": kurrentdb}
STEPS = {"postgres-18": 11, "postgres-16": 37, "kurrentdb": 23}
"""How many bytes more each time; a cut costs ten times as much where HTTP/2 has to be set up again."""


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(server: str, tmp_path: Path) -> Iterator[str]:
    yield from SERVERS[server](tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("way", Way, ids=lambda way: way.name.lower())
async def test_a_connection_that_breaks_anywhere_stores_once_or_not_at_all(server: str, url: str, way: Way) -> None:
    """I2: the same append again says how it ended; what is surely not stored is not there."""
    port = urlsplit(url).port
    assert port is not None
    async with Wires.to(port) as wires:
        # In a thread: it may block, and the proxy is in this loop.
        log = await asyncio.to_thread(open_log, url.replace(f":{port}", f":{wires.port}"))
        try:
            after = 0
            while await is_cut(log, wires, way, after):
                after += STEPS[server]
            assert after > 200
        finally:
            await log.close()


async def is_cut(log: EventLog, wires: Wires, way: Way, after: int) -> bool:
    """Appends while the connection breaks after so many bytes; whether they were enough to do without it."""
    await must_append(log, new_append(new_stream()))
    batch = [new_append(new_stream(), events=2), new_append(new_stream())]
    wires.stop(way, after=after, resets=True)
    outcomes = await log.append(batch)
    for append, outcome in zip(batch, outcomes, strict=True):
        match outcome:
            case Appended():  # Its answer may have come before the cut.
                assert outcome.version == len(append.events) - 1
            case Unavailable():
                assert await read_until_answered(log, append.stream) == []
            case _:
                assert isinstance(outcome, Unknown)
        known = await append_until_known(log, append)
        assert (known.current if isinstance(known, Conflict) else known.version) == len(append.events) - 1
        assert datas(await read_until_answered(log, append.stream)) == datas(append.events)
    return wires.stopped.is_set()
