"""The read models' database is away for a while: reads are refused `unavailable`, everything else goes on (I11)."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from projections import feed as feed_module
from signet_client import wire
from signet_client.codes import DISCONNECTS
from tests.gateways.engine import Engine
from tests.gateways.live import WAIT_S, MemoryDevice, hello, id_of, live_engine, send
from tests.postgres import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server.start(18)
    yield server
    server.stop()


@pytest.fixture
async def engine(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    monkeypatch.setattr(feed_module, "_RETRY_MAX_S", 0.1)
    async with live_engine(readmodels=server.url(server.new_database())) as engine:
        yield engine


async def test_what_needs_the_read_models_is_refused_until_they_are_back(engine: Engine, server: Server) -> None:
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    talk, other = await ann.start_group(ben), await ann.start_group(ben)
    assert await ann.send(talk, "hello") == 2
    device = await MemoryDevice(engine, ben).live()
    server.kill()

    for path in ("/conversations", f"/conversations/{talk}", f"/conversations/{talk}/events", "/devices"):
        response = await ann.ask("GET", path)
        assert (response.status_code, response.json()["code"], response.json()["retry"]) == (503, "unavailable", True)
    device.say(wire.Fetch(id="f", c=talk, after=0))
    answer = await device.next(wire.Refused)
    assert (answer.id, answer.code, answer.retry) == ("f", "unavailable", True)
    device.say(wire.Ack(c=other, upto=1))
    answer = await device.next(wire.Refused)
    assert (answer.c, answer.code, answer.retry) == (other, "unavailable", True)
    newcomer = MemoryDevice(engine, ann)
    newcomer.connection.start()
    newcomer.say(hello(ann, await newcomer.next(wire.Challenge)))
    assert await newcomer.disconnected() == DISCONNECTS["unavailable"].number

    said = send(ben, talk, "is anybody there?")
    device.say(said)
    assert (await device.next(wire.Accepted)).id == id_of(said)

    server.restart()
    await until_back(engine)
    assert [item["seq"] for item in (await ann.history(talk))["items"]] == [1, 2, 3]
    device.say(wire.Fetch(id="g", c=talk, after=2))
    page = await device.next(wire.Page)
    while page.id != "g":
        page = await device.next(wire.Page)
    assert [item.seq for item in page.items if isinstance(item, wire.Message)] == [3]
    await MemoryDevice(engine, ann).live()


async def until_back(engine: Engine) -> None:
    """The runners have a delay of their own."""
    async with asyncio.timeout(WAIT_S):
        for runner in engine.services.runners.values():
            while runner.stopped is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await runner.wait(engine.services.feed.head)
