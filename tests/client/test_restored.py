"""A server that was restored from a backup: what it has lost is kept apart, nothing is hidden or shown twice (I4)."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from signet_client import Client, Found, HistoryLost, Message, Received, schema, wire
from signet_client.events import Event
from signet_client.records import Batch, Marks
from signet_client.store import Store
from tests.client.fake import OTHER, TALK, FakeServer, header
from tests.client.scene import device, soon, texts

pytestmark = pytest.mark.usefixtures("short_waits")

ELSEWHERE = "44444444-4444-4444-8444-444444444444"


@pytest.fixture
def told() -> list[Event]:
    return []


async def begin(server: FakeServer, client: Client, told: list[Event]) -> None:
    """It holds two messages that are kept and two that are not, the last one its own; and a conversation that began
    after the backup."""
    client.listen(told.append)
    await soon(client.caught_up())
    await soon(client.send(TALK, "mine"))
    await soon(client.held(TALK, 4))


def fill(server: FakeServer) -> None:
    server.epoch = "first"
    for text in ("one", "two", "three"):
        server.message(text)
    server.message("elsewhere", c=ELSEWHERE)


async def test_what_is_lost_is_kept_apart_and_its_own_is_sent_again(
    server: FakeServer, path: Path, told: list[Event]
) -> None:
    fill(server)
    async with device(server, path) as client:
        await begin(server, client, told)
        own = client.messages(TALK)[-1]
        client.read(TALK, 4)
        server.restore(epoch="second", kept={TALK: 2})
        await server.until(lambda: len(server.sends()) == 2)
        await soon(client.held(TALK, 3))
        assert texts(client) == ["one", "two", "mine"]
        again = header(server.sends()[1].header)
        assert (again.id, again.after, again.digest) == (own.id, 2, header(server.sends()[0].header).digest)
        assert [item.text for item in client.lost(TALK) if isinstance(item, Message)] == ["three"]
        assert [item.seq for item in client.lost(ELSEWHERE)] == [1]
        assert client.marks(TALK).read == 2
        lost = {event.conversation: (event.kept, event.items) for event in told if isinstance(event, HistoryLost)}
        assert lost == {TALK: (2, 2), ELSEWHERE: (0, 1)}
        assert [(event.item.id, event.seq_before, event.item.seq) for event in told if isinstance(event, Found)] == [
            (own.id, 4, 3)
        ]
        received = [event.item.id for event in told if isinstance(event, Received) and isinstance(event.item, Message)]
        assert len(received) == len(set(received)), "none is shown as new twice"


async def test_what_others_send_again_is_the_same_message(server: FakeServer, path: Path, told: list[Event]) -> None:
    fill(server)
    async with device(server, path) as client:
        await begin(server, client, told)
        three = server.logs[TALK][2]
        server.restore(epoch="second", kept={TALK: 2})
        await server.until(lambda: len(server.sends()) == 2)
        await soon(client.held(TALK, 3))
        other = server.message("new", sender=OTHER)
        assert isinstance(three, type(other))
        server.logs[TALK].append(type(other)(
            c=TALK, seq=5, at=9, ordinal=5, own=0, header=three.header, body=three.body,
        ))  # fmt: skip
        await server.push(*server.logs[TALK][3:])
        await soon(client.held(TALK, 5))
        assert texts(client) == ["one", "two", "mine", "new", "three"]
        assert client.lost(TALK) == []
        assert [event.item.text for event in told if isinstance(event, Found)] == ["mine", "three"]


async def test_it_is_known_after_a_restart_and_done_once(server: FakeServer, path: Path, told: list[Event]) -> None:
    """The device was off while the server was restored, and others wrote meanwhile: its cursor lies within the log."""
    fill(server)
    async with device(server, path) as client:
        await begin(server, client, told)
    server.restore(epoch="second", kept={TALK: 2})
    for text in ("a", "b", "c"):
        server.message(text)
    async with Client.open(path, durable=False) as client:
        await soon(client.caught_up())
        await soon(client.held(TALK, 6))
        assert texts(client) == ["one", "two", "a", "b", "c", "mine"], "nothing is hidden behind the cursor"
    assert [hello.epoch for hello in server.hellos()] == ["", "first"]
    async with Client.open(path, durable=False) as client:
        await soon(client.caught_up())
        assert texts(client) == ["one", "two", "a", "b", "c", "mine"]
        assert [item.text for item in client.lost(TALK) if isinstance(item, Message)] == ["three"]
    assert server.hellos()[-1].epoch == "second"


async def test_what_waits_in_the_outbox_goes_out_with_a_header_that_fits(server: FakeServer, path: Path) -> None:
    fill(server)
    async with device(server, path) as client:
        await soon(client.caught_up())
        server.answer = [lambda *_: []]  # the answer never comes
        waiting = client.post(TALK, "waits")
        await server.until(lambda: len(server.sends()) == 1)
        server.restore(epoch="second", kept={TALK: 1})
        sent = await soon(waiting)
        assert sent.seq == 2
        assert [header(each.header).after for each in server.sends()] == [3, 1]


async def test_a_server_without_a_loss_takes_nothing_away(server: FakeServer, path: Path, told: list[Event]) -> None:
    fill(server)
    async with device(server, path) as client:
        await begin(server, client, told)
        server.restore(epoch="second", kept={TALK: 4, ELSEWHERE: 1})
        await server.until(lambda: len(server.hellos()) == 2)
        await soon(client.caught_up())
        assert texts(client) == ["one", "two", "three", "mine"]
        assert not [event for event in told if isinstance(event, HistoryLost)]


async def test_marks_that_were_ahead_of_the_messages_go_back_too(server: FakeServer, path: Path) -> None:
    """The device knew of ticks and of what was read elsewhere, and was cut off before the pages came."""
    fill(server)
    async with device(server, path) as client:
        await soon(client.held(TALK, 3))
    store = Store(path, durable=False)
    store.commit(Batch(marks={TALK: Marks(cursor=1, read=3, tick_delivered=3, tick_read=3, undelivered={3})}))
    store.close()
    server.restore(epoch="second", kept={TALK: 2})
    server.message("new")
    async with Client.open(path, durable=False) as client:
        await soon(client.held(TALK, 3))
        await soon(client.caught_up())
        marks = client.marks(TALK)
        assert (marks.read, marks.tick_delivered, marks.tick_read, marks.undelivered) == (2, 2, 2, set())
        assert [frame.upto for frame in server.frames if isinstance(frame, wire.Read) and frame.c == TALK] in ([], [2])


def test_a_store_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"{schema.FIRST}; PRAGMA user_version = 1")
    store = Store(path, durable=False)
    assert (store.epoch(), store.lost(TALK)) == ("", [])
    store.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
