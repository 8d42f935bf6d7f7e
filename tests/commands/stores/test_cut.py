"""A connection to a store that breaks after any number of bytes, on either way: before the request is there, while it
is read, before it is stored, after that, and in the middle of the answer."""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
import uvloop

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


WAIT_S: Final = 10
SOON_S: Final = 0.1
"""Enough for what was sent over loopback to be there."""


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


async def test_a_reset_that_comes_together_with_a_part_of_the_answer_is_noticed_at_once() -> None:
    """libuv tells of a reset once, and watches the socket no longer; the rest was awaited until the deadline."""
    url = shared(18).url(shared(18).new_database())
    port, loop = urlsplit(url).port, asyncio.get_running_loop()
    assert port is not None

    async with Wires.to(port) as wires:

        async def stop(after: int) -> None:
            wires.stop(Way.DOWN, after=after, resets=True)

        cut = partial(asyncio.run_coroutine_threadsafe, loop=loop)
        through = f"{url.replace(f':{port}', f':{wires.port}')}?deadline_ms=60000"
        await asyncio.to_thread(uvloop.run, lose_answers(through, lambda after: cut(stop(after)).result()))


async def lose_answers(url: str, cut: Callable[[int], None]) -> None:
    log = open_log(url)
    try:
        for after in range(5, 150, 12):
            await must_append(log, new_append(new_stream()))
            cut(after)
            appending = asyncio.create_task(log.append([new_append(new_stream())]))
            await asyncio.sleep(0)  # It is sent.
            time.sleep(SOON_S)  # noqa: ASYNC251 - so that the loop meets both at once
            [outcome] = await asyncio.wait_for(appending, WAIT_S)
            assert isinstance(outcome, Unknown), after
    finally:
        await log.close()
