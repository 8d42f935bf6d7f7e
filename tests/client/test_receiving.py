"""What a client hears on a socket that loses and repeats: all once, in order, stored before it is acknowledged."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

import signet_client.backoff
import signet_client.connection
import signet_client.link
import signet_client.live
import signet_client.questions
from signet_client import (
    Client,
    ReadMarkMoved,
    Retracted,
    StoreFailed,
    TickMoved,
    wire,
)
from signet_client.events import Event
from tests.client.fake import ME, OTHER, TALK, FakeServer
from tests.client.scene import device, seqs, soon, texts

pytestmark = pytest.mark.usefixtures("short_waits")


async def test_one_ack_for_a_conversation_and_batch(server: FakeServer, path: Path) -> None:
    server.page_items = 100
    for number in range(50):
        server.message(f"m{number}")
    async with device(server, path) as client:
        await soon(client.caught_up())
        await server.until(lambda: bool(server.acks()))
        assert server.acks() == [(TALK, 50)]


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
    monkeypatch.setattr(signet_client.questions, "UNDELIVERED_SPREAD_S", 3_600)
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


async def test_a_body_that_nobody_can_read_is_a_message_without_text(server: FakeServer, path: Path) -> None:
    """I11: what one sender says stops no client of the others, today or when it starts again."""
    deep = "[" * 20_000 + "]" * 20_000
    for body in ("", "{", '{"text":7}', f'{{"kind":"text","text":"deep","salt":"","new":{deep}}}'):
        server.logs[TALK][-1:] = [msgspec.structs.replace(server.message("?"), body=body)]
    server.message("after")
    async with device(server, path) as client:
        await soon(client.caught_up())
        assert texts(client) == [None, None, None, None, "after"]


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


NEW = "44444444-4444-4444-8444-444444444444"


async def test_a_new_conversation_is_known_by_its_start(server: FakeServer, path: Path) -> None:
    async with device(server, path) as client:
        await soon(client.caught_up())
        await server.push(
            server.change(
                c=NEW, what="started", kind="direct", protection="none", accounts=[ME, OTHER], roles=["member"] * 2
            )
        )
        await soon(client.held(NEW, 1))
        conversation = client.conversation(NEW)
        assert conversation is not None
        assert (conversation.kind, conversation.peer) == ("direct", OTHER)
        await server.push(server.change(c=NEW, what="title", title="Ours"))
        await soon(client.held(NEW, 2))
    again = {each.conversation: each for each in Client.open(path).conversations()}[NEW]
    assert again.title == "Ours"


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
