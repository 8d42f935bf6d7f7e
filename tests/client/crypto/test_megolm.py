"""I8, I12: who is gone reads nothing more, who comes later reads from there on, and no key is used for two messages."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from vodozemac import MegolmMessage

from signet_client import wire
from signet_client.crypto.content import encrypted_of
from signet_client.crypto.megolm import AGE_MAX_S, MESSAGES_MAX
from signet_client.messages import encode_body
from signet_client.records import Conversation, Outgoing
from tests.client.crypto.devices import ANNA, BEN, CLEO, Device, Line, introduced, listed, message, prepare, take
from tests.client.fake import TALK


def session(item: wire.Message) -> str:
    encrypted = encrypted_of(item.body)
    assert encrypted is not None
    return encrypted.session_id


def place(body: str | None) -> tuple[str, int]:
    """The session of a message, and its position in it: what must never be used twice."""
    encrypted = encrypted_of(body)
    assert encrypted is not None
    return encrypted.session_id, MegolmMessage.from_base64(encrypted.ciphertext).message_index()


@pytest.fixture
def three(anna: Device, ben: Device, cleo: Device) -> tuple[Device, Device, Device]:
    """They know each other, and Anna may write."""
    introduced(anna, ben, cleo)
    prepare(anna, [anna, ben, cleo])
    return anna, ben, cleo


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("signet_client.crypto.megolm.time", SimpleNamespace(time=clock.time))
    return clock


# Rotation


def test_members_read_and_others_do_not(anna: Device, ben: Device, cleo: Device) -> None:
    introduced(anna, ben, cleo)
    prepare(anna, [anna, ben])
    item = message(anna, "Hello", 1)
    assert [device.read(item) for device in (anna, ben, cleo)] == ["Hello", "Hello", "(no_key)"]


def test_a_session_ends_after_so_many_messages(three: tuple[Device, Device, Device]) -> None:
    anna, ben, _ = three
    items = []
    for number in range(MESSAGES_MAX):
        assert anna.machine.is_ready(TALK)
        items.append(message(anna, f"m{number}", number + 1))
    assert not anna.machine.is_ready(TALK)
    assert not anna.machine.settle(TALK, [ANNA, BEN, CLEO]), "the key of another one is to be shared first"
    prepare(anna, three)
    items.append(message(anna, "another", MESSAGES_MAX + 1))
    assert len({session(item) for item in items[:-1]}) == 1
    assert session(items[-1]) != session(items[0])
    assert [ben.read(item) for item in items] == [*(f"m{number}" for number in range(MESSAGES_MAX)), "another"]


def test_messages_count_over_a_restart(three: tuple[Device, Device, Device]) -> None:
    anna = three[0]
    for number in range(MESSAGES_MAX):
        message(anna, f"m{number}", number + 1)
        if number % 30 == 0:
            anna.restart()
            introduced(*three)
            prepare(anna, three)
    assert not anna.machine.is_ready(TALK)


@pytest.mark.parametrize("restarting", [False, True])
def test_a_session_ends_when_a_member_is_gone(three: tuple[Device, Device, Device], restarting: bool) -> None:
    """I8: who was removed can't read what is said then, even if the server hands it out."""
    anna, ben, cleo = three
    before = message(anna, "before", 1)
    anna.machine.unsettle(TALK)
    if restarting:
        anna.restart()
        introduced(*three)
    assert not anna.machine.is_ready(TALK)
    prepare(anna, three, members=[ANNA, BEN])
    after = message(anna, "after", 2)
    assert [ben.read(before), ben.read(after)] == ["before", "after"]
    assert [cleo.read(before), cleo.read(after)] == ["before", "(no_key)"]


def test_a_session_ends_when_a_device_is_gone(three: tuple[Device, Device, Device], tmp_path: Path) -> None:
    """I8, I12: a revoked device is as good as a member that left."""
    anna, ben, cleo = three
    laptop = Device(tmp_path, BEN, "laptop", linked_by=ben)
    take(anna, listed([ben, laptop], version=2))
    anna.machine.unsettle_all()
    prepare(anna, [*three, laptop])
    take(laptop, listed([anna]))
    before = message(anna, "before", 1)
    assert laptop.read(before) == "before"
    take(anna, listed([ben], gone=[laptop], version=3))
    anna.machine.unsettle_all()
    prepare(anna, three)
    after = message(anna, "after", 2)
    assert session(before) != session(after)
    assert [device.read(after) for device in (ben, cleo, laptop)] == ["after", "after", "(no_key)"]


def test_a_device_that_comes_later_reads_from_there_on(three: tuple[Device, Device, Device], tmp_path: Path) -> None:
    """I8: the session goes on, and its key is given as it is then."""
    anna, ben, _ = three
    before = [message(anna, f"before {number}", number) for number in range(1, 4)]
    laptop = Device(tmp_path, BEN, "laptop", linked_by=ben)
    take(laptop, listed([anna]))
    take(anna, listed([ben, laptop], version=2))
    anna.machine.unsettle_all()
    prepare(anna, [*three, laptop])
    after = message(anna, "after", 4)
    assert session(after) == session(before[0])
    assert [laptop.read(item) for item in (*before, after)] == ["(no_key)"] * 3 + ["after"]


def test_a_member_that_comes_later_reads_from_there_on(anna: Device, ben: Device, cleo: Device) -> None:
    introduced(anna, ben, cleo)
    prepare(anna, [anna, ben])
    before = message(anna, "before", 1)
    anna.machine.unsettle(TALK)
    prepare(anna, [anna, ben, cleo])
    after = message(anna, "after", 2)
    assert [cleo.read(before), cleo.read(after)] == ["(no_key)", "after"]
    assert session(before) == session(after)


def test_a_member_that_comes_again_reads_nothing_of_its_absence(three: tuple[Device, Device, Device]) -> None:
    """I8: with whatever key it has of before and after."""
    anna, _, cleo = three
    items = [message(anna, "with", 1)]
    anna.machine.unsettle(TALK)
    prepare(anna, three, members=[ANNA, BEN])
    items.append(message(anna, "without", 2))
    anna.machine.unsettle(TALK)
    prepare(anna, three)
    items.append(message(anna, "again", 3))
    assert [cleo.read(item) for item in items] == ["with", "(no_key)", "again"]


def test_conversations_have_sessions_of_their_own(three: tuple[Device, Device, Device]) -> None:
    anna, ben, cleo = three
    other = str(uuid4())
    prepare(anna, three, members=[ANNA, BEN], c=other)
    here, there = message(anna, "here", 1), message(anna, "there", 1, c=other)
    assert session(here) != session(there)
    assert [ben.read(here), ben.read(there)] == ["here", "there"]
    assert [cleo.read(here), cleo.read(there)] == ["here", "(no_key)"]


def test_nothing_is_ready_while_a_list_or_mail_is_on_its_way(three: tuple[Device, Device, Device]) -> None:
    """Whoever is to read the message must have been given its key, on this connection's knowledge."""
    anna = three[0]
    members = [ANNA, BEN, CLEO]
    anna.machine.doubt(BEN)
    anna.machine.unsettle_all()
    assert not anna.machine.settle(TALK, members), "Ben may have another device"
    take(anna, listed([three[1]]))
    assert anna.machine.settle(TALK, members)
    anna.machine.post({three[1].peer: {}})
    assert not anna.machine.settle(TALK, members), "mail is on its way"
    assert not anna.machine.settle(TALK, []), "nobody knows who is in it"
    anna.machine.lose_connection()
    assert not anna.machine.is_ready(TALK)
    assert not anna.machine.settle(TALK, members)


# Positions


@pytest.mark.parametrize("committed", [False, True])
def test_a_position_is_used_on_only_if_it_was_not_stored(three: tuple[Device, Device, Device], committed: bool) -> None:
    """What was not committed never left, so its position is free; what was committed is passed over."""
    anna = three[0]
    first = place(anna.machine.encrypt(TALK, kind="text", text="one", reply_to=None))
    if committed:
        anna.settle()
    anna.restart()
    second = place(anna.machine.encrypt(TALK, kind="text", text="two", reply_to=None))
    assert second == (first[0], first[1] + committed)


async def test_no_position_is_used_twice_wherever_the_device_crashes(
    three: tuple[Device, Device, Device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is copied as it is on disk before and after each write, commit and frame; wherever it goes on from, it
    uses no position that had left by then."""
    anna = three[0]
    line = Line(anna, monkeypatch)
    live = line.live
    crashes: list[tuple[Path, set[tuple[str, int]]]] = []

    def look() -> None:
        left = {place(frame.body) for frame in line.left if isinstance(frame, wire.Send)}
        folder = tmp_path / f"crash{len(crashes)}"
        anna.copy(folder)
        crashes.append((folder, left))

    def looking(method: Callable[..., None]) -> Callable[..., None]:
        def looked(*arguments: object) -> None:
            look()
            method(*arguments)
            look()

        return looked

    line.welcome()
    line.look = look
    for name in ("write", "settle", "commit"):
        monkeypatch.setattr(anna.store, name, looking(getattr(anna.store, name)))
    for number in range(3):
        id_ = str(uuid4())
        clear = encode_body(f"m{number}", kind="text", reply_to=None)
        answer = live.post(
            Outgoing(id=id_, conversation=TALK, header="", body="", signature="", clear=clear),
        )
        line.take(wire.Accepted(id=id_, c=TALK, seq=number + 1, at=1))
        assert answer.result().seq == number + 1
    monkeypatch.undo()

    assert len(crashes) > 30
    assert len(crashes[-1][1]) == 3
    for folder, left in crashes:
        after = anna.at(folder)
        again = [message for message in after.store.outbox() if message.header]
        used = place(after.machine.encrypt(TALK, kind="text", text="?", reply_to=None))
        after.store.close()
        assert used not in left, "it has left before"
        assert used not in {place(message.body) for message in again}, "what waits in the outbox goes out as it is"
        assert left <= {(used[0], position) for position in range(used[1])}
    assert live.conversation_of(TALK) == Conversation(
        conversation=TALK, kind="group", protection="end_to_end", title=None, peer=None
    )


def test_a_session_ends_after_so_long(clock: Clock, three: tuple[Device, Device, Device]) -> None:
    """Also on a connection that has stood all the time, on which nobody came or went."""
    anna, ben, _ = three
    first = message(anna, "first", 1)
    clock.now += AGE_MAX_S
    assert anna.machine.is_ready(TALK)
    second = message(anna, "second", 2)
    clock.now += 1
    assert not anna.machine.is_ready(TALK)
    prepare(anna, three)
    third = message(anna, "third", 3)
    assert session(first) == session(second) != session(third)
    assert [ben.read(item) for item in (first, second, third)] == ["first", "second", "third"]
