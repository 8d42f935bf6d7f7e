"""Catching up: pages up to the heads, then live, and no hole in between (I4)."""

import random
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateways import history, resume
from gateways.resume import HeldPushes
from projections.runner import Runner
from signet_client import wire
from tests.gateways.engine import Engine, Person, command
from tests.gateways.live import MemoryDevice, hello, live_engine


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with live_engine() as engine:
        yield engine


class Room:
    """A group of Ann, who is live, and Bob, who comes and goes."""

    def __init__(self, engine: Engine, ann: MemoryDevice, bob: Person, room: str) -> None:
        self.engine = engine
        self.ann = ann
        self.bob = bob
        self.id = room

    async def say(self, *texts: str) -> int:
        """The last seq."""
        return [(await self.ann.sent(self.id, text)).seq for text in texts][-1]

    def device(self) -> MemoryDevice:
        return MemoryDevice(self.engine, self.bob)


@pytest.fixture
async def room(engine: Engine) -> Room:
    ann, bob = await engine.person("Ann"), await engine.person("Bob")
    room = await ann.start_group(bob)
    return Room(engine, await MemoryDevice(engine, ann).live(), bob, room)


def seqs(frames: list[wire.ServerFrame], conversation: str) -> list[int]:
    """Of everything in the conversation that came, in order."""
    items: list[wire.Item] = []
    for frame in frames:
        if isinstance(frame, wire.Page):
            items += frame.items
        elif isinstance(frame, wire.Message | wire.Change):
            items.append(frame)
    return [item.seq for item in items if item.c == conversation]


@pytest.mark.parametrize(
    ("cursor", "expected"), [(None, [1, 2, 3]), (-5, [1, 2, 3]), (0, [1, 2, 3]), (2, [3]), (3, []), (10**30, [])]
)
async def test_a_device_gets_what_its_cursor_lacks(room: Room, cursor: int | None, expected: list[int]) -> None:
    """I4, I10: what has changed, and no more."""
    await room.say("one", "two")
    cursors = {} if cursor is None else {room.id: cursor}
    device = await room.device().live({**cursors, "general": 3})
    assert seqs(device.take(), room.id) == expected


async def test_the_most_recent_conversation_comes_first(room: Room) -> None:
    """I10"""
    newer = await room.ann.person.start_group(room.bob, title="Newer")
    await room.ann.sent(newer, "in the newer one")
    await room.say("in the older one")
    device = room.device()
    welcome = await device.log_in()
    await device.next(wire.Live)
    assert [shown.c for shown in welcome.conversations] == [room.id, newer]
    assert [page.c for page in device.take() if isinstance(page, wire.Page)] == [room.id, newer]


async def test_of_what_a_partial_hello_does_not_name_there_are_heads_alone(room: Room) -> None:
    """I4, I10: the device fetches what it lacks of those; pushes beyond the heads come as ever."""
    other = await room.ann.person.start_group(room.bob, title="Other")
    await room.ann.sent(other, "in the other one")
    await room.say("one")
    device = room.device()
    device.connection.start()
    said = hello(room.bob, await device.next(wire.Challenge), {room.id: 1})
    device.say(msgspec.structs.replace(said, partial=True))
    welcome = await device.next(wire.Welcome)
    await device.next(wire.Live)
    assert {shown.c: shown.head for shown in welcome.conversations} == {room.id: 2, other: 2}
    assert [page.c for page in device.take() if isinstance(page, wire.Page)] == [room.id]
    device.say(wire.Fetch(id="f", c=other, after=0))
    assert [item.seq for item in (await device.next(wire.Page)).items] == [1, 2]
    await room.ann.sent(other, "pushed")
    assert (await device.next(wire.Message)).seq == 3


async def test_a_long_absence_comes_in_pages_at_the_pace_of_the_socket(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "PAGE_ITEMS", 3)
    await room.say(*"abcdefgh")
    device = room.device()
    device.open_gate.clear()
    await device.log_in()
    await device.at_gate.wait()
    assert [page.upto for page in device.take() if isinstance(page, wire.Page)] == [3]
    device.open_gate.set()
    await device.next(wire.Live)
    assert [page.upto for page in device.take() if isinstance(page, wire.Page)] == [6, 9]


async def test_what_happens_meanwhile_comes_after_the_pages_once(room: Room) -> None:
    """I4: an event is in the pages or among the held pushes, never in neither, and never shown twice."""
    await room.say("before")
    device = room.device()
    device.open_gate.clear()
    await device.log_in()
    await device.at_gate.wait()
    await room.say("meanwhile", "and more")
    assert seqs(device.frames, room.id) == [1, 2]
    device.open_gate.set()
    await room.say("after")
    await device.round_trip()
    frames = device.take()
    assert seqs(frames, room.id) == [1, 2, 3, 4, 5]
    assert [type(frame).__name__ for frame in frames] == ["KeyCounts", "Page", "Live", *["Message"] * 3]


async def test_a_device_may_send_before_it_is_live(room: Room) -> None:
    device = room.device()
    device.open_gate.clear()
    await device.log_in()
    await device.at_gate.wait()
    assert (await device.sent(room.id, "early")).seq == 2
    device.open_gate.set()
    await device.next(wire.Live)


async def test_when_too_much_is_held_there_is_another_round(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """I4, I11: what is held is bounded, and nothing is lost at the bound."""
    monkeypatch.setattr(resume, "HELD_BYTES_MAX", 2_000)
    device = room.device()
    device.open_gate.clear()
    await device.log_in()
    await device.at_gate.wait()
    last = await room.say(*[f"{number}" for number in range(20)])
    fresh = await room.ann.person.start_group(room.bob, title="Fresh")
    device.open_gate.set()
    second = await device.next(wire.Welcome)
    assert {shown.c: shown.head for shown in second.conversations} == {room.id: last, fresh: 1}
    await device.next(wire.Live)
    frames = device.take()
    assert seqs(frames, room.id) == list(range(1, last + 1))
    assert seqs(frames, fresh) == [1]


async def test_a_removal_meanwhile_shows_nothing_that_came_after_it(room: Room) -> None:
    """I8: the pages end where the welcome's view ended, though the history has gone on."""
    await room.say("before")
    device = room.device()
    device.open_gate.clear()
    newest = await room.ann.person.start_group(room.bob, title="Shown first")
    await device.log_in()
    await device.at_gate.wait()
    await room.ann.person.do("DELETE", f"/conversations/{room.id}/members/{room.bob.account}", **command())
    await room.say("not for Bob")
    device.open_gate.set()
    await device.next(wire.Live)
    await device.round_trip()
    frames = device.take()
    assert seqs(frames, newest) == [1]
    assert seqs(frames, room.id) == [1, 2, 3]


async def test_a_device_that_goes_while_it_resumes_leaves_nothing_behind(room: Room) -> None:
    device = room.device()
    device.open_gate.clear()
    await device.log_in()
    await device.at_gate.wait()
    device.connection.end()
    await room.say("to nobody")
    again = await room.device().live()
    assert not device.closed.done()
    assert seqs(again.take(), room.id) == [1, 2]


@pytest.mark.parametrize("seed", range(8))
async def test_however_it_falls_together_there_is_no_hole(
    room: Room, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I4: connects, cuts and messages at random; the cursor is what the device has stored."""
    monkeypatch.setattr(resume, "HELD_BYTES_MAX", 1_500)
    monkeypatch.setattr(resume, "PAGE_ITEMS", 4)
    chance = random.Random(seed)
    stored: list[int] = []
    for _ in range(6):
        device = room.device()
        (device.open_gate.clear if chance.random() < 0.7 else device.open_gate.set)()
        await device.log_in({room.id: len(stored)})
        await room.say(*["x"] * chance.randint(1, 8))
        device.open_gate.set()
        await room.say(*["y"] * chance.randint(1, 4))
        if chance.random() < 0.5:
            await device.next(wire.Live)
        device.connection.end()
        stored += seqs(device.take(), room.id)
        assert stored == list(range(1, len(stored) + 1))
    device = await room.device().live({room.id: len(stored)})
    last = await room.say("last")
    await device.round_trip()
    stored += seqs(device.take(), room.id)
    assert stored == list(range(1, last + 1))


async def test_a_read_model_that_does_not_come_is_no_reason_to_hang(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateways.services.CATCH_UP_MAX_S", 0.05)
    runner = room.engine.services.runners["inbox"]
    monkeypatch.setattr(Runner, "position", -1)
    monkeypatch.setattr(runner, "_wake", lambda: None)
    device = room.device()
    device.connection.start()
    device.say(hello(room.bob, await device.next(wire.Challenge)))
    assert await device.disconnected() == 1013


def test_what_is_held_is_bounded() -> None:
    held = HeldPushes()
    conversation = "c"
    for seq in (1, 2, 0, 3):
        held.add(conversation, seq, b"%d" % seq)  # type: ignore[arg-type]
    assert list(held.beyond({conversation: 2})) == [b"0", b"3"]  # type: ignore[dict-item]
    assert list(held.beyond({})) == [b"1", b"2", b"0", b"3"]
    held.add(conversation, 4, bytes(resume.HELD_BYTES_MAX))  # type: ignore[arg-type]
    held.add(conversation, 5, b"")  # type: ignore[arg-type]
    assert held.overflowed
    assert list(held.beyond({})) == []


def test_a_page_of_a_resume_is_within_what_history_gives() -> None:
    assert resume.PAGE_ITEMS <= history.PAGE_ITEMS_MAX
