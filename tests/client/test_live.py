"""The client on a socket that loses, repeats, refuses and is cut."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import pytest
from nacl.signing import VerifyKey

import signet_client.backoff
import signet_client.client
import signet_client.connection
import signet_client.link
import signet_client.live
from signet_client import (
    Client,
    ClientClosed,
    Connected,
    Disconnected,
    Lost,
    ReadMarkMoved,
    Received,
    Refused,
    Retracted,
    SendRefused,
    StoreFailed,
    TickMoved,
    wire,
)
from signet_client.events import Event
from signet_client.login import HELLO_BYTES
from signet_client.payloads import digest_of, from_base64
from tests.client.fake import ME, OTHER, PATIENCE_S, TALK, FakeServer, accept, header, refuse

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signet_client.backoff, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(signet_client.backoff, "BACKOFF_MAX_S", 0.05)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer.open() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "device.db"


def device(server: FakeServer, path: Path) -> Client:
    return Client.prepare(server.url, ME, path, device="phone", durable=False)


async def soon(awaited: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaited, PATIENCE_S)


def texts(client: Client) -> list[str | None]:
    return [message.text for message in client.messages(TALK)]


def seqs(heard: list[Event]) -> list[int]:
    return [event.item.seq for event in heard if isinstance(event, Received)]


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


async def test_one_ack_for_a_conversation_and_batch(server: FakeServer, path: Path) -> None:
    server.page_items = 100
    for number in range(50):
        server.message(f"m{number}")
    async with device(server, path) as client:
        await soon(client.caught_up())
        await server.until(lambda: bool(server.acks()))
        assert server.acks() == [(TALK, 50)]


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


async def test_hole_is_fetched(server: FakeServer, path: Path) -> None:
    """I4: a lost push is noticed by the next one."""
    server.message("one")
    heard: list[Event] = []
    async with device(server, path) as client:
        client.listen(heard.append)
        await soon(client.caught_up())
        for number in range(8):
            server.message(f"lost{number}")
        await server.push(server.message("ten"))
        await soon(client.held(TALK, 10))
        assert seqs(heard) == list(range(1, 11))
        assert server.fetches()[0].after == 1
        await soon(client.caught_up())


async def test_changed_places_need_no_fetch(server: FakeServer, path: Path) -> None:
    """I3: what comes too early waits for what was before it."""
    heard: list[Event] = []
    server.message("one")
    async with device(server, path) as client:
        client.listen(heard.append)
        await soon(client.caught_up())
        two, three = server.message("two"), server.message("three")
        await server.push(three, two)
        await soon(client.held(TALK, 3))
        assert seqs(heard) == [1, 2, 3]
        assert not server.fetches()


async def test_own_message_before_the_push_that_precedes_it(server: FakeServer, path: Path) -> None:
    """I3: `accepted` may be faster than a push with a smaller seq."""
    server.message("one")
    async with device(server, path) as client:
        await soon(client.caught_up())
        two = server.message("two")
        sent = await soon(client.send(TALK, "three"))
        assert sent.seq == 3
        assert len(client.outbox()) == 1, "it is no item yet"
        await server.push(two)
        await soon(client.held(TALK, 3))
        assert texts(client) == ["one", "two", "three"]
        assert not client.outbox()


async def test_repeated_pushes_are_dropped(server: FakeServer, path: Path) -> None:
    """I3: each item is handed out once."""
    heard: list[Event] = []
    async with device(server, path) as client:
        client.listen(heard.append)
        await soon(client.caught_up())
        one, two = server.message("one"), server.message("two")
        await server.push(one, one, two, one, two)
        await server.push(server.message("three"))
        await soon(client.held(TALK, 3))
        assert seqs(heard) == [1, 2, 3]


async def test_what_the_account_may_not_see_is_no_hole(server: FakeServer, path: Path) -> None:
    """I4, I8: a page's `upto` passes over what was sent while one was no member."""
    for number in range(9):
        server.message(f"m{number}")
    server.visible[TALK] = [[1, 2], [7, 0]]
    async with device(server, path) as client:
        await soon(client.caught_up())
        assert [message.seq for message in client.messages(TALK)] == [1, 2, 7, 8, 9]
        server.visible[TALK] = [[1, 2], [7, 9], [12, 0]]
        server.message("unseen")
        server.message("unseen")
        await server.push(server.message("back"))
        await soon(client.held(TALK, 12))
        assert [message.seq for message in client.messages(TALK)] == [1, 2, 7, 8, 9, 12]


async def test_a_fetch_that_brings_nothing_ends(server: FakeServer, path: Path) -> None:
    """I11: a server that contradicts itself is not asked for ever."""
    async with device(server, path) as client:
        await soon(client.caught_up())
        one, two = server.message("one"), server.message("two")
        server.logs[TALK].clear()
        await server.push(two)
        await server.until(lambda: len(server.fetches()) == 1)
        await soon(client.caught_up())
        await server.push(one)
        await soon(client.held(TALK, 1))
        assert len(server.fetches()) == 1


async def test_refused_fetch_is_tried_again(server: FakeServer, path: Path) -> None:
    server.message("one")
    async with device(server, path) as client:
        await soon(client.caught_up())
        server.message("lost")
        server.fetch_refusals.append(wire.Refused(id="", code="busy", text="", retry=True))
        await server.push(server.message("three"))
        await soon(client.held(TALK, 3))
        assert len(server.fetches()) == 2


async def test_a_refused_message_waits_as_long_as_it_is_told(server: FakeServer, path: Path) -> None:
    """I11: and those behind it wait too, so that the order holds."""
    server.answer = [refuse("rate_limited", retry=True, retry_after_ms=300)]
    async with device(server, path) as client:
        await soon(client.caught_up())
        began = asyncio.get_running_loop().time()
        first, second = client.post(TALK, "first"), client.post(TALK, "second")
        assert [(await soon(first)).seq, (await soon(second)).seq] == [1, 2]
        assert asyncio.get_running_loop().time() - began >= 0.3
        assert len(server.sends()) == 3


async def test_refused_marks_are_said_again(server: FakeServer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I6: a store that was away when the device acknowledged costs no tick."""
    monkeypatch.setattr(signet_client.live, "MARKS_RETRY_S", 0.1)
    server.message("one")
    async with device(server, path) as client:
        await soon(client.caught_up())
        client.read(TALK, 1)
        await server.until(lambda: bool(server.of(wire.Read)))
        refused = wire.Refused(id="", code="unavailable", text="", retry=True, c=TALK)
        await server.push(refused, refused)
        await server.until(lambda: len(server.of(wire.Read)) == 2)
        assert server.acks() == [(TALK, 1)] * 2
        assert server.of(wire.Read) == [wire.Read(c=TALK, upto=1)] * 2


async def test_lost_accepted_is_asked_for_again_with_the_same_bytes(server: FakeServer, path: Path) -> None:
    """I1, I2: stored once, whatever became of the answer."""

    def lose(server: FakeServer, sent: wire.Send) -> list[wire.ServerFrame]:
        server.store(sent)
        server.cut()
        return []

    server.answer = [lose]
    async with device(server, path) as client:
        await soon(client.caught_up())
        sent = await soon(client.send(TALK, "once"))
        assert sent.seq == 1
        await soon(client.held(TALK, 1))
        assert texts(client) == ["once"]
        assert not client.outbox()
    assert len({(frame.header, frame.body, frame.signature) for frame in server.sends()}) == 1
    assert len(server.logs[TALK]) == 1


async def test_too_large_is_refused_before_it_is_in_the_outbox(server: FakeServer, path: Path) -> None:
    """I11: it would cost every connection anew. How much is too much, the server has said."""
    server.body_bytes_max = 1_024
    async with device(server, path) as client:
        await soon(client.caught_up())
        with pytest.raises(Refused, match="at most 1024 bytes; this one has 2") as refused:
            client.post(TALK, "×" * 1_000)
        assert (refused.value.code, refused.value.retry) == ("too_large", False)
        assert not client.outbox()
    assert not server.sends()


async def test_too_large_for_a_server_that_was_not_heard_yet(server: FakeServer, path: Path) -> None:
    """I11: what turns out to be too large is told and kept like any refusal, and what was made after it goes out."""
    server.body_bytes_max = 1_024
    async with device(server, path) as client:
        large = [client.post(TALK, "x" * 2_000) for _ in range(2)]
        small = client.post(TALK, "small")
        for answer in large:
            with pytest.raises(Refused, match="too_large"):
                await soon(answer)
        assert (await soon(small)).seq == 1
        assert [message.refused for message in client.outbox()] == ["too_large"] * 2
    assert len(server.sends()) == 1


async def test_outbox_outlives_the_process(server: FakeServer, path: Path) -> None:
    """I1, I2: what was posted goes out at the next opening, with the same bytes and in order."""
    server.answer = [lambda server, sent: []]
    async with device(server, path) as client:
        await soon(client.caught_up())
        answers = [client.post(TALK, text) for text in ("one", "two", "three")]
        await server.until(lambda: len(server.sends()) == 1)
    for answer in answers:
        with pytest.raises(ClientClosed):
            await answer
    async with Client.open(path) as client:
        assert [message.conversation for message in client.outbox()] == [TALK] * 3
        await soon(client.held(TALK, 3))
        assert texts(client) == ["one", "two", "three"]
        assert not client.outbox()
    assert server.sends()[0] == server.sends()[1]


async def test_refusal_for_now_is_retried_and_not_overtaken(server: FakeServer, path: Path) -> None:
    """I2, I3: the same bytes again, and the order of sends is kept."""
    server.answer = [refuse("busy", retry=True), refuse("unavailable", retry=True)]
    async with device(server, path) as client:
        await soon(client.caught_up())
        first, second = client.post(TALK, "first"), client.post(TALK, "second")
        assert ((await soon(first)).seq, (await soon(second)).seq) == (1, 2)
        assert texts(client) == ["first", "second"]
    sends = server.sends()
    assert sends[0] == sends[1] == sends[2]
    assert len(sends) == 4


async def test_refusal_for_good_is_told_and_kept(server: FakeServer, path: Path) -> None:
    server.answer = [refuse("not_a_member", retry=False)]
    heard: list[Event] = []
    async with device(server, path) as client:
        client.listen(heard.append)
        await soon(client.caught_up())
        first, second = client.post(TALK, "first"), client.post(TALK, "second")
        with pytest.raises(Refused) as refused:
            await soon(first)
        assert refused.value.code == "not_a_member"
        assert (await soon(second)).seq == 1
    told = [event for event in heard if isinstance(event, SendRefused)]
    client = Client.open(path)
    kept = client.outbox()
    assert [(message.id, message.refused) for message in kept] == [(told[0].id, "not_a_member")]
    client.discard(told[0].id)
    assert not client.outbox()
    await client.close()
    assert len(server.sends()) == 2


async def test_own_message_that_a_page_brought_is_an_answer(server: FakeServer, path: Path) -> None:
    """I2: the resume shows the message whose `accepted` was lost, and another device's messages need no ack."""

    def lose(server: FakeServer, sent: wire.Send) -> list[wire.ServerFrame]:
        server.store(sent)
        return []

    server.answer = [lose, lambda server, sent: []]
    async with device(server, path) as client:
        await soon(client.caught_up())
        answer = client.post(TALK, "mine")
        await server.until(lambda: len(server.sends()) == 1)
        server.cut()
        assert (await soon(answer)).seq == 1
        await soon(client.caught_up())
        assert texts(client) == ["mine"]


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


async def test_lost_acks_and_reads_are_said_again(server: FakeServer, path: Path) -> None:
    """I5: a sender gets its tick, also where the connection broke after storing."""
    server.message("one")
    async with device(server, path) as client:
        await soon(client.caught_up())
        client.read(TALK, 1)
        await server.until(lambda: server.reads.get(TALK) == 1 and server.delivered.get(TALK) == 1)
        server.reads.clear()
        server.delivered.clear()
        server.cut()
        await server.until(lambda: server.reads.get(TALK) == 1 and server.delivered.get(TALK) == 1)


async def test_reads_gather(server: FakeServer, path: Path) -> None:
    for number in range(3):
        server.message(f"m{number}")
    async with device(server, path) as client:
        await soon(client.caught_up())
        for upto in (1, 2, 3, 99):
            client.read(TALK, upto)
        await server.until(lambda: bool(server.of(wire.Read)))
        assert server.of(wire.Read) == [wire.Read(c=TALK, upto=3)]
    assert Client.open(path).marks(TALK).read == 3


async def test_ticks_only_move_forward(server: FakeServer, path: Path) -> None:
    """I6: ticks heard of in any order."""
    heard: list[Event] = []
    async with device(server, path) as client:
        client.listen(heard.append)
        await soon(client.caught_up())
        for _ in range(3):
            await soon(client.send(TALK, "mine"))
        assert client.ticks_of(TALK, 1) == "sent"
        await server.push(
            wire.Receipt(c=TALK, delivered=3, read=1, undelivered=[2]),
            wire.Receipt(c=TALK, delivered=2, read=1),
            wire.Mark(c=TALK, read=2),
            wire.Mark(c=TALK, read=1),
        )
        events = [event async for event in _until_mark(client, heard)]
        assert [type(event) for event in events] == [TickMoved, ReadMarkMoved]
        assert [client.ticks_of(TALK, seq) for seq in (1, 2, 3)] == ["read", "sent", "delivered"]
    reopened = Client.open(path)
    assert [reopened.ticks_of(TALK, seq) for seq in (1, 2, 3)] == ["read", "sent", "delivered"]


async def _until_mark(client: Client, heard: list[Event]) -> AsyncIterator[Event]:
    await soon(client.until(lambda: client.marks(TALK).read == 2))
    for event in heard:
        if isinstance(event, TickMoved | ReadMarkMoved):
            yield event


async def test_what_is_undelivered_is_told_in_changes_and_else_read(
    server: FakeServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5: what is pushed while the pages are read counts, whether they know of it already or not."""
    monkeypatch.setattr(signet_client.client, "UNDELIVERED_SPREAD_S", 3_600)
    async with device(server, path) as client:
        await soon(client.caught_up())
        live = client._live.received

        def undelivered() -> set[int]:
            return client.marks(TALK).undelivered

        await server.push(wire.Receipt(c=TALK, delivered=9, read=1, undelivered=[2, 3]))
        await soon(client.until(lambda: undelivered() == {2, 3}))
        await server.push(wire.Receipt(c=TALK, delivered=9, read=1, undelivered=[4], repaired=[2]))
        await soon(client.until(lambda: undelivered() == {3, 4}))
        await server.push(wire.Receipt(c=TALK, delivered=9, read=1, more=True))
        await soon(client.until(lambda: TALK in live.unsure))
        begun = live.unsure[TALK]
        await server.push(wire.Receipt(c=TALK, delivered=9, read=1, undelivered=[8], repaired=[5]))
        await soon(client.until(lambda: 8 in undelivered()))
        live.know_undelivered(TALK, [5, 6], begun)
        assert undelivered() == {6, 8}
        await server.push(wire.Receipt(c=TALK, delivered=9, read=1, more=True))
        await soon(client.until(lambda: TALK in live.unsure))
        live.know_undelivered(TALK, [7], begun)
        assert undelivered() == {6, 8}, "it was asked for before the last word"
    assert Client.open(path).marks(TALK).undelivered == {6, 8}


async def test_retraction_blanks_the_body(server: FakeServer, path: Path) -> None:
    server.change(what="started", kind="group", accounts=[ME, OTHER], roles=["member", "owner"], title="Rowing")
    server.message("oops")
    async with device(server, path) as client:
        await soon(client.caught_up())
        await server.push(server.change(what="retracted", target=2))
        await soon(client.held(TALK, 3))
        (message,) = client.messages(TALK)
        assert (message.text, message.retracted) == (None, 3)
        assert b"oops" not in path.with_name("device.db-wal").read_bytes()[-4096:]


async def test_a_page_tells_what_was_retracted_while_the_account_was_away(server: FakeServer, path: Path) -> None:
    """I8: the message was stored long ago, and its retraction is no item."""
    server.change(what="started", kind="group", accounts=[ME, OTHER], roles=["member", "owner"], title="Rowing")
    server.message("oops")
    server.change(what="removed", accounts=[ME])
    server.visible[TALK] = [[1, 3]]
    async with device(server, path) as client:
        await soon(client.held(TALK, 3))
    server.change(what="retracted", target=2)
    server.change(what="added", accounts=[ME], roles=["member"])
    server.visible[TALK] = [[1, 3], [5, 0]]
    server.unseen[TALK] = [[2, 4]]
    heard: list[Event] = []
    async with device(server, path) as client:
        client.listen(heard.append)
        await soon(client.held(TALK, 5))
        (message,) = client.messages(TALK)
        assert (message.text, message.retracted) == (None, 4)
    assert Retracted(conversation=TALK, seq=2) in heard


async def test_a_new_conversation_is_known_by_its_start(server: FakeServer, path: Path) -> None:
    async with device(server, path) as client:
        await soon(client.caught_up())
        await server.push(
            server.change(what="started", kind="direct", protection="none", accounts=[ME, OTHER], roles=["member"] * 2)
        )
        await soon(client.held(TALK, 1))
        conversation = client.conversation(TALK)
        assert conversation is not None
        assert (conversation.kind, conversation.peer) == ("direct", OTHER)
        await server.push(server.change(what="title", title="Ours"))
        await soon(client.held(TALK, 2))
    (again,) = Client.open(path).conversations()
    assert again.title == "Ours"


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


async def test_unanswered_message_makes_a_new_connection(
    server: FakeServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1: a server that forgot to answer is asked again."""
    monkeypatch.setattr(signet_client.link, "WATCH_EVERY_S", 0.2)
    monkeypatch.setattr(signet_client.live, "ANSWER_TIMEOUT_S", 0.1)
    server.answer = [lambda server, sent: []]
    async with device(server, path) as client:
        await soon(client.caught_up())
        assert (await soon(client.send(TALK, "again"))).seq == 1
    assert len(server.sends()) == 2


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


async def test_signed_header_binds_the_body(server: FakeServer, path: Path) -> None:
    async with device(server, path) as client:
        await soon(client.caught_up())
        await soon(client.send(TALK, "signed", reply_to=7, kind="action"))
        (message,) = client.messages(TALK)
        assert (message.kind, message.reply_to, message.text) == ("action", 7, "signed")
        key = VerifyKey(from_base64(client.key))
    (sent,) = server.sends()
    assert sent.signature
    key.verify(sent.header.encode(), from_base64(sent.signature))
    assert header(sent.header).digest == digest_of(sent.body)


async def test_killed_between_store_and_ack(server: FakeServer, path: Path) -> None:
    """I1, I4, I5: nothing is acknowledged that isn't stored, and what comes again is held once."""
    device(server, path)
    for kill_at in (1, 5, 20):
        for number in range(40):
            server.message(f"{kill_at}-{number}")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _VICTIM, str(path), str(kill_at), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await soon(process.communicate())
        assert process.returncode == -9, output
    held = Client.open(path)
    stored = len(held.messages(TALK))
    assert stored == held.marks(TALK).cursor
    assert server.delivered.get(TALK, 0) <= stored
    await held.close()
    async with Client.open(path) as client:
        await soon(client.caught_up())
        assert texts(client) == [f"{kill_at}-{number}" for kill_at in (1, 5, 20) for number in range(40)]
        await server.until(lambda: server.delivered.get(TALK) == 120)


_VICTIM = """
import asyncio, os, signal, sys
from signet_client import Client
from signet_client.store import Store

path, kill_at = sys.argv[1], int(sys.argv[2])
commit = Store.commit
items = 0

def commit_and_die(self, batch):
    global items
    commit(self, batch)
    items += len(batch.items)
    if items >= kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

Store.commit = commit_and_die

async def main():
    async with Client.open(path) as client:
        await client.caught_up()

asyncio.run(main())
"""


async def test_a_store_that_fails_stops_the_client(server: FakeServer, path: Path) -> None:
    """I5: without a store nothing is acknowledged."""
    async with device(server, path) as client:
        await soon(client.caught_up())
        client._store._db.execute("PRAGMA query_only = 1")
        await server.push(server.message("can't be stored"))
        with pytest.raises(StoreFailed):
            await soon(client.held(TALK, 1))
    assert server.acks() == []
    async with Client.open(path) as client:
        await soon(client.held(TALK, 1))


async def test_accept_answers_repeats_alike() -> None:
    """The fake keeps I2 itself, or the tests above would prove nothing."""
    server = FakeServer()
    sent = wire.Send(header=server.message("x", c=OTHER).header, body="x")
    assert accept(server, sent) == accept(server, sent)
