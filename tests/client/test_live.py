"""The client's connection: hello, resume, cuts, servers that are away, silent, newer or broken."""

import asyncio
import random
from pathlib import Path
from uuid import UUID

import pytest

import signet_client.backoff
import signet_client.client
import signet_client.connection
import signet_client.link
import signet_client.live
from signet_client import (
    Client,
    Connected,
    Disconnected,
    Lost,
    Received,
    wire,
)
from signet_client.events import Event
from signet_client.login import HELLO_BYTES
from tests.client.fake import ME, OTHER, TALK, FakeServer
from tests.client.scene import device, seqs, soon, texts

pytestmark = pytest.mark.usefixtures("short_waits")


async def test_resumes_page_by_page_then_live(server: FakeServer, path: Path) -> None:
    """I3, I5: everything once and in order, and acknowledged."""
    for number in range(8):
        server.message(f"m{number}")
    heard: list[Event] = []
    async with device(server, path) as client:
        client.listen(heard.append)
        await soon(client.caught_up())
        await server.push(server.message("live"))
        await soon(client.held(TALK, 9))
        assert texts(client) == [*(f"m{number}" for number in range(8)), "live"]
        assert seqs(heard) == list(range(1, 10))
        await server.until(lambda: server.delivered.get(TALK) == 9)
    assert [type(event) for event in heard if not isinstance(event, Received)] == [Connected]


async def test_hello_names_what_is_held(server: FakeServer, path: Path) -> None:
    """I4: after a restart it asks only for what it lacks."""
    server.message("before")
    async with device(server, path) as client:
        await soon(client.caught_up())
    server.message("meanwhile")
    async with Client.open(path) as client:
        await soon(client.caught_up())
        assert texts(client) == ["before", "meanwhile"]
    assert [hello.cursors for hello in server.hellos()] == [{}, {TALK: 1}]


async def test_a_hello_names_the_most_recent_and_the_rest_is_fetched(server: FakeServer, path: Path) -> None:
    """I4, I10: however many conversations a device holds, its hello fits into a frame; of those that it doesn't name
    it gets what it lacks, and asks for nothing where nothing happened."""
    talks = [str(UUID(int=number)) for number in range(8)]
    server.frame_bytes_max = HELLO_BYTES + 3 * len(f'"{talks[0]}":1,')
    for number, talk in enumerate(talks):
        for _ in range(number + 1):
            server.message("old", c=talk)
    async with device(server, path) as client:
        await soon(client.caught_up())
    for talk in (talks[0], talks[7]):
        for _ in range(4):
            server.message("new", c=talk)
    server.message("in a new conversation", c=TALK)
    async with Client.open(path) as client:
        await soon(client.caught_up())
        assert [message.text for message in client.messages(talks[0])] == ["old", *["new"] * 4]
        assert {c: client.marks(c).cursor for c in server.logs} == {c: len(log) for c, log in server.logs.items()}
    hello = server.hellos()[1]
    assert hello.partial
    assert hello.cursors == {talks[7]: 8, talks[6]: 7, talks[5]: 6}
    assert {fetch.c for fetch in server.fetches()} == {talks[0], TALK}


async def test_resync_finds_also_what_it_did_not_know_of(server: FakeServer, path: Path) -> None:
    """I4: dropped pushes may have been of a new conversation, or ticks."""
    async with device(server, path) as client:
        await soon(client.caught_up())
        server.message("dropped")
        server.message("dropped too", c=OTHER)
        server.ticks = wire.Ticks(delivered=1)
        await server.push(wire.Resync())
        await soon(client.held(TALK, 1))
        await soon(client.held(OTHER, 1))
        assert client.marks(TALK).tick_delivered == 1


@pytest.mark.parametrize("seed", range(3))
async def test_cut_at_every_frame(server: FakeServer, path: Path, seed: int) -> None:
    """I1 to I4: cut after any number of frames, everything arrives once and in order, and everything is sent once."""
    server.cut_after = list(range(12))
    rng = random.Random(seed)
    heard: list[Event] = []
    async with device(server, path) as client:
        client.listen(heard.append)
        answers = []
        for number in range(10):
            server.message(f"theirs{number}")
            answers.append(client.post(TALK, f"mine{number}"))
            if rng.random() < 0.5:
                left = len(server.cut_after)
                await server.until(lambda: len(server.cut_after) < max(left, 1))  # noqa: B023
        await soon(asyncio.gather(*answers))
        await soon(client.held(TALK, 20))
        assert seqs(heard) == list(range(1, 21))
        assert [text for text in texts(client) if text and "mine" in text] == [f"mine{n}" for n in range(10)]
        assert not client.outbox()
    assert len(server.logs[TALK]) == 20


@pytest.mark.parametrize("number", [4500, 4502, 4503])
async def test_closed_for_good_is_told_to_everybody(server: FakeServer, path: Path, number: int) -> None:
    server.close_with = number
    async with device(server, path) as client:
        heard = client.events()
        waiting = client.post(TALK, "never")
        with pytest.raises(Disconnected) as closed:
            await soon(client.caught_up())
        assert closed.value.number == number
        with pytest.raises(Disconnected):
            await soon(waiting)
        with pytest.raises(Disconnected):
            client.post(TALK, "never")
        assert await soon(anext(heard)) == Lost(number=number, text="not this one", final=True)
    assert len(server.hellos()) == 1


async def test_waits_for_a_server_that_comes_later(server: FakeServer, path: Path) -> None:
    port = server.port
    await server.stop()
    async with device_at(f"http://127.0.0.1:{port}", path) as client:
        heard = client.events()
        answer = client.post(TALK, "patience")
        assert isinstance(await soon(anext(heard)), Lost)
        await server.listen(port)
        assert (await soon(answer)).seq == 1


def device_at(url: str, path: Path) -> Client:
    return Client.prepare(url, ME, path, device="phone", durable=False)


async def test_half_dead_connection_is_found(server: FakeServer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I4: a peer that is gone without a word is noticed by the pings."""
    monkeypatch.setattr(signet_client.connection, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(signet_client.connection, "PONG_TIMEOUT_S", 0.1)
    server.silent = True
    async with device(server, path) as client:
        heard = client.events()
        assert isinstance(await soon(anext(heard)), Connected)
        assert await soon(anext(heard)) == Lost(number=1006, text="the server has gone silent", final=False)
        server.silent = False
        assert isinstance(await soon(anext(heard)), Connected)


async def test_frames_of_a_newer_server_are_passed_over(server: FakeServer, path: Path) -> None:
    async with device(server, path) as client:
        await soon(client.caught_up())
        await server.send_text('{"t":"presence","who":"anna"}')
        await server.push(server.message("still here"))
        await soon(client.held(TALK, 1))
        assert len(server.hellos()) == 1


async def test_a_broken_frame_costs_the_connection(server: FakeServer, path: Path) -> None:
    """I4: what can't be read may have been a message."""
    async with device(server, path) as client:
        await soon(client.caught_up())
        server.message("can't be read the first time")
        await server.send_text('{"t":"message","c":7}')
        await soon(client.held(TALK, 1))
        assert len(server.hellos()) == 2


async def test_events_end_with_the_client(server: FakeServer, path: Path) -> None:
    async with device(server, path) as client:
        heard = client.events()
        await soon(client.caught_up())
        await server.push(server.message("one"))
        await soon(client.held(TALK, 1))
        left = client.events()
        left.close()
    assert [type(event) async for event in heard] == [Connected, Received]
    assert [event async for event in left] == []


async def test_a_failing_listener_harms_nobody(
    server: FakeServer, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: Event) -> None:
        raise ValueError("oops")

    async with device(server, path) as client:
        client.listen(fail)
        await soon(client.caught_up())
        assert (await soon(client.send(TALK, "fine"))).seq == 1
    assert "a listener failed" in caplog.text
