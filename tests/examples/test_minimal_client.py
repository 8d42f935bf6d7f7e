"""The client that was written from docs/protocol.md, with a real engine: who follows that page gets what it says."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from examples.minimal_client import Client
from signet_client.codes import DISCONNECTS
from tests.proxy import Proxy
from tests.scenarios.stage import WAIT_S, Place

TEXTS = [f"message {number}" for number in range(30)]


async def until(client: Client, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            client.news.clear()
            await client.news.wait()


def texts(client: Client, c: str) -> list[str]:
    items = [item for item in client.messages(c) if item["t"] == "message"]
    return [json.loads(item["body"])["text"] for item in items if "body" in item]


@asynccontextmanager
async def running(client: Client) -> AsyncIterator[asyncio.Task[int]]:
    task = asyncio.create_task(client.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def registered(url: str, folder: Path, name: str) -> Client:
    client = Client(url, folder / f"{name}.json")
    await client.register(name)
    return client


async def test_two_talk_and_get_their_ticks(tmp_path: Path) -> None:
    place = Place(tmp_path / "data", in_memory=True)
    async with place.engine():
        anna, ben = await registered(place.url, tmp_path, "anna"), await registered(place.url, tmp_path, "ben")
        c = await anna.start(ben.state["account"])
        async with running(anna), running(ben):
            await anna.send(c, "Sunday at nine? ☕")
            await until(ben, lambda: texts(ben, c) == ["Sunday at nine? ☕"])
            await ben.send(c, "Fine")
            for client in (anna, ben):
                await until(client, lambda client=client: texts(client, c) == ["Sunday at nine? ☕", "Fine"])  # type: ignore[misc]
            last = max(item["seq"] for item in ben.messages(c))
            await until(ben, lambda: ben.ticks[c]["delivered"] >= last)


async def test_one_that_was_cut_has_no_hole(tmp_path: Path) -> None:
    """I1, I2, I4: also what it sent itself while it was away is there once."""
    place = Place(tmp_path / "data", in_memory=True)
    async with place.engine(), Proxy.to(place.port) as proxy:
        anna, ben = await registered(place.url, tmp_path, "anna"), await registered(proxy.url, tmp_path, "ben")
        c = await anna.start(ben.state["account"])
        async with running(anna), running(ben):
            for number, text in enumerate(TEXTS):
                await anna.send(c, text)
                if number % 7 == 3:
                    proxy.cut()
                    await ben.send(c, f"from Ben {number}")
            for client in (anna, ben):
                await until(client, lambda client=client: len(texts(client, c)) == len(TEXTS) + 4)  # type: ignore[misc]
        assert texts(ben, c) == texts(anna, c)
        assert sorted(texts(ben, c)) == sorted([*TEXTS, *(f"from Ben {number}" for number in (3, 10, 17, 24))])


async def test_one_that_was_killed_goes_on_from_its_file(tmp_path: Path) -> None:
    """I4. What it had not sent yet goes out when it is back."""
    place = Place(tmp_path / "data", in_memory=True)
    async with place.engine():
        anna, ben = await registered(place.url, tmp_path, "anna"), await registered(place.url, tmp_path, "ben")
        c = await anna.start(ben.state["account"])
        async with running(anna):
            async with running(ben):
                await anna.send(c, "one")
                await until(ben, lambda: texts(ben, c) == ["one"])
            await ben.send(c, "while offline")
            for text in TEXTS:
                await anna.send(c, text)
            await until(anna, lambda: len(texts(anna, c)) == len(TEXTS) + 1)
            again = Client(place.url, ben.file)
            async with running(again):
                await until(again, lambda: texts(again, c) == ["one", *TEXTS, "while offline"])
                await until(anna, lambda: texts(anna, c) == texts(again, c))
                assert not again.state["outbox"]


async def test_a_second_process_of_one_device_ends_the_first(tmp_path: Path) -> None:
    place = Place(tmp_path / "data", in_memory=True)
    async with place.engine():
        anna, ben = await registered(place.url, tmp_path, "anna"), await registered(place.url, tmp_path, "ben")
        c = await anna.start(ben.state["account"])
        async with running(anna) as first:
            await until(anna, lambda: c in anna.ticks)
            async with running(Client(place.url, anna.file)):
                async with asyncio.timeout(WAIT_S):
                    assert await first == DISCONNECTS["replaced"].number
