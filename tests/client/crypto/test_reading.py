"""I5: delivered means readable: what is late holds the acknowledgement back, what is overdue is named and asked for,
and what can be read after all is said to be repaired."""

from collections.abc import Callable

import msgspec
import pytest
from vodozemac import InboundGroupSession

from signet_client import matrix, payloads, wire
from signet_client.crypto import content
from signet_client.crypto.content import encrypted_of
from signet_client.crypto.vault import Inbound
from signet_client.events import Decrypted, Event, Forged, NotDecrypted
from signet_client.gathered import Gathered
from signet_client.reading import NAMED_MAX, Reading
from signet_client.records import Batch
from tests.client.crypto.devices import (
    ANNA,
    BEN,
    LATE_S,
    Device,
    carry,
    introduced,
    listed,
    message,
    prepare,
    pushed,
    take,
)
from tests.client.fake import TALK

ELSEWHERE = "77777777-7777-4777-8777-777777777777"

pytestmark = pytest.mark.usefixtures("short_waits")


class Reader:
    """A device that reads, without a live path: what a flush would store is stored, what it would send is looked at."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.wanted: list[tuple[str, str, str]] = []
        self.open()

    def open(self) -> None:
        self.gathered = Gathered()
        self.reading = Reading(self.device.machine, self.device.store, self.gathered)
        self.reading.want_key = lambda *wanted: self.wanted.append(wanted)
        self.cursor = 0

    def restart(self) -> None:
        cursor = self.cursor
        self.device.restart()
        self.open()
        self.cursor = cursor

    def take(self, *items: wire.Item) -> None:
        """Items as they come in one flush."""
        for item in items:
            if isinstance(item, wire.Message):
                self.reading.take(item, "end_to_end")
            self.gathered.batch.items.append(item)
            self.cursor = item.seq
        self.flush()

    def flush(self) -> None:
        self.device.machine.save_identity()
        batch, self.gathered.batch = self.gathered.batch, Batch()
        self.device.store.commit(batch)

    def acks(self, *, read: int = 0) -> list[wire.Ack]:
        """What it states; each statement is signed over just what it says."""
        acks = list(self.reading.acks(TALK, self.cursor, read))
        self.gathered.acks.clear()
        self.device.settle()
        for ack in acks:
            payload = payloads.receipt_payload(
                conversation=ack.c, account=self.device.account, device=self.device.name, delivered=ack.upto,
                read=ack.read, undecryptable=ack.undecryptable, repaired=ack.repaired,
            )  # fmt: skip
            assert ack.signature is not None
            assert matrix.verify(self.device.identity.key, payload, ack.signature)
        return acks

    def said(self, *, read: int = 0) -> list[tuple[int, list[int], list[int]]]:
        return [(ack.upto, ack.undecryptable, ack.repaired) for ack in self.acks(read=read)]

    def happened(self) -> list[Event]:
        happened, self.gathered.events = self.gathered.events, []
        return happened

    def overdue(self) -> None:
        self.reading.take_overdue()
        self.flush()

    def repair(self, *items: wire.Message) -> None:
        """The keys of these have come."""
        self.reading.retry_sessions({(TALK, session(item)) for item in items})
        self.flush()

    def look_over(self, delivered: int) -> bool:
        """After a welcome; whether something is to be said that was said before."""
        self.reading.look_over(TALK, delivered)
        self.flush()
        return TALK in self.gathered.acks

    def reason(self, seq: int) -> str | None:
        return self.device.store.held(TALK, after=seq - 1, limit=1)[0].reason

    def clear(self, seq: int) -> str | None:
        return self.device.store.held(TALK, after=seq - 1, limit=1)[0].clear


def session(item: wire.Message) -> str:
    encrypted = encrypted_of(item.body)
    assert encrypted is not None
    return encrypted.session_id


class Sender:
    """Anna, whose keys reach Ben when the test gives them."""

    def __init__(self, anna: Device, ben: Device) -> None:
        self.anna = anna
        self.ben = ben
        self.keys: dict[str, Inbound] = {}
        introduced(anna, ben)
        prepare(anna, [anna, ben])

    def say(self, seq: int, text: str = "Hello") -> wire.Message:
        """A message whose key Ben has."""
        return message(self.anna, text, seq)

    def hidden(self, seq: int, text: str = "Hello", *, of: str = TALK) -> wire.Message:
        """A message of a session of its own, whose key Ben has not got. `of`: the conversation that it names inside."""
        outbound = self.anna.machine.megolm.begin(TALK)
        key = InboundGroupSession(outbound.session.session_key)
        self.keys[key.session_id] = Inbound(key, ANNA, "phone", self.anna.identity.key)
        event = content.encode_event(of, kind="text", text=text, reply_to=None)
        encrypted = self.anna.machine.megolm.encrypt(TALK, event)
        curve25519 = self.anna.identity.curve25519
        body = content.encode_encrypted(encrypted[1], encrypted[0], sender_key=curve25519, device="phone")
        item = pushed(self.anna, body, seq)
        self.anna.machine.unsettle(TALK)
        return item

    def give(self, *items: wire.Message) -> None:
        for item in items:
            self.ben.vault.put_inbound(TALK, self.keys[session(item)])

    def share(self) -> None:
        """Ben has the key of what is said from now on."""
        prepare(self.anna, [self.anna, self.ben])


@pytest.fixture
def reader(ben: Device, grace: Callable[[float], None]) -> Reader:
    return Reader(ben)


@pytest.fixture
def sender(anna: Device, reader: Reader) -> Sender:
    return Sender(anna, reader.device)


# Nothing is wrong


async def test_what_can_be_read_is_acknowledged(sender: Sender, reader: Reader) -> None:
    reader.take(sender.say(1, "one"), sender.say(2, "two"))
    assert reader.acks(read=1) == [
        wire.Ack(c=TALK, upto=2, read=1, signature=reader.acks(read=1)[0].signature)
    ]  # fmt: skip
    assert "two" in (reader.clear(2) or "")
    assert not reader.reading.is_late(TALK)
    assert reader.reading.next_overdue() is None
    assert not reader.happened()
    assert not reader.wanted


# What is late


async def test_what_is_late_holds_back_the_acknowledgement(sender: Sender, reader: Reader) -> None:
    """I5: what came before it is acknowledged, and what came after it waits. Its key is asked for at once."""
    first, hidden = sender.say(1), sender.hidden(2)
    sender.share()
    reader.take(first, hidden, sender.say(3))
    assert reader.said(read=3) == [(1, [], [])]
    assert reader.reading.is_late(TALK)
    assert not reader.reading.is_late("elsewhere")
    assert reader.wanted == [(TALK, session(hidden), ANNA)]
    assert reader.reason(2) == "no_key"
    assert not reader.happened()
    reader.overdue()
    assert reader.said() == [(1, [], [])], "it is not overdue yet"


async def test_a_late_key_that_comes_lets_the_acknowledgement_on(sender: Sender, reader: Reader) -> None:
    """I5: nobody ever hears that it was late."""
    hidden = sender.hidden(1, "late")
    sender.share()
    reader.take(hidden, sender.say(2))
    assert reader.said() == [(0, [], [])]
    sender.give(hidden)
    reader.repair(hidden)
    assert reader.said() == [(2, [], [])]
    assert reader.reading.next_overdue() is None
    [event] = reader.happened()
    assert isinstance(event, Decrypted)
    assert (event.item.seq, event.item.text) == (1, "late")
    assert "late" in (reader.clear(1) or "")
    assert reader.reason(1) is None
    assert not reader.device.vault.undecrypted(TALK)


async def test_what_is_overdue_is_named(sender: Sender, reader: Reader, grace: Callable[[float], None]) -> None:
    """I5: the author is told which, once, and the application, too."""
    grace(0)
    first, hidden = sender.say(1), sender.hidden(2)
    reader.take(first, hidden)
    assert reader.reading.next_overdue() is not None
    reader.overdue()
    assert TALK in reader.gathered.acks
    assert reader.said() == [(2, [2], [])]
    assert reader.said() == [(2, [], [])], "it is said once"
    [event] = reader.happened()
    assert isinstance(event, NotDecrypted)
    assert (event.item.seq, event.item.undecryptable, event.item.text) == (2, "no_key", None)
    assert not reader.reading.is_late(TALK)


async def test_of_several_only_those_that_are_overdue_are_named(
    sender: Sender, reader: Reader, grace: Callable[[float], None]
) -> None:
    grace(0)
    first = sender.hidden(1)
    reader.take(first)
    grace(LATE_S)
    second, third = sender.hidden(2), sender.hidden(3)
    reader.take(second, third)
    reader.overdue()
    assert reader.said() == [(1, [1], [])]
    sender.give(third)
    reader.repair(third)
    assert reader.said() == [(1, [], [])], "the second one still may come"
    sender.give(second)
    reader.repair(second)
    assert reader.said() == [(3, [], [])]


async def test_what_comes_when_it_was_named_is_said_to_be_repaired(
    sender: Sender, reader: Reader, grace: Callable[[float], None]
) -> None:
    """I5: once; and it is shown."""
    grace(0)
    hidden = sender.hidden(1, "at last")
    reader.take(hidden)
    reader.overdue()
    assert reader.said() == [(1, [1], [])]
    reader.happened()
    sender.give(hidden)
    reader.repair(hidden)
    assert TALK in reader.gathered.acks
    assert reader.said(read=1) == [(1, [], [1])]
    assert reader.said() == [(1, [], [])]
    assert [event.item.text for event in reader.happened() if isinstance(event, Decrypted)] == ["at last"]
    assert reader.reason(1) is None


async def test_the_key_of_one_session_repairs_just_its_messages(
    sender: Sender, reader: Reader, grace: Callable[[float], None]
) -> None:
    grace(0)
    ones = [sender.hidden(1), message(sender.anna, "Hello", 2)]
    other = sender.hidden(3)
    reader.take(*ones, other)
    reader.overdue()
    assert reader.said() == [(3, [1, 2, 3], [])]
    sender.give(*ones[:1], other)
    reader.repair(ones[0])
    assert reader.said() == [(3, [], [1, 2])]
    assert reader.reason(3) == "no_key"


async def test_what_waits_survives_a_restart(sender: Sender, reader: Reader, grace: Callable[[float], None]) -> None:
    """I5: what was late then is overdue; it is named, asked for after the welcome, and repaired when its key comes."""
    hidden = sender.hidden(1)
    reader.take(hidden)
    assert reader.said() == [(0, [], [])]
    reader.restart()
    reader.wanted.clear()
    reader.look_over(0)
    assert reader.wanted == [(TALK, session(hidden), ANNA)]
    assert reader.said() == [(1, [1], [])]
    reader.restart()
    sender.give(hidden)
    reader.repair(hidden)
    assert reader.said() == [(1, [], [1])]


# What is not believed


async def test_what_is_forged_is_named_and_told_at_once(sender: Sender, reader: Reader) -> None:
    """I5, I12: nobody waits for it, and no key is asked for."""
    item = msgspec.structs.replace(sender.say(1), signature=None)
    reader.take(item, sender.say(2))
    assert reader.said() == [(2, [1], [])]
    [event] = reader.happened()
    assert isinstance(event, Forged)
    assert (event.what, event.account, event.device, event.seq) == ("message", ANNA, "phone", 1)
    assert event.text == "its device has not signed this message, here, with this header"
    assert not reader.wanted
    assert not reader.reading.is_late(TALK)
    reader.overdue()
    reader.look_over(0)
    assert not reader.wanted
    assert reader.said() == [(2, [1], [])]


async def test_a_key_may_show_that_a_message_is_forged(
    sender: Sender, reader: Reader, grace: Callable[[float], None]
) -> None:
    """I12: it was named as one whose key is missing, and is named as what it is; it is never shown."""
    grace(0)
    item = sender.hidden(1, of=ELSEWHERE)
    reader.take(item)
    reader.overdue()
    assert reader.said() == [(1, [1], [])]
    reader.happened()
    sender.give(item)
    reader.repair(item)
    [event] = reader.happened()
    assert isinstance(event, Forged)
    assert reader.reason(1) == "wrong_conversation"
    assert reader.clear(1) is None
    assert reader.said() == [(1, [], [])], "the server knows that it can't be read"
    reader.repair(item)
    assert reader.happened() == []


async def test_a_device_that_is_vouched_for_later_is_read_then(
    sender: Sender, reader: Reader, anna: Device, ben: Device
) -> None:
    """I5: nobody knows it yet, so its messages are late."""
    laptop = Device(anna.path.parent, ANNA, "laptop", linked_by=anna)
    take(laptop, listed([ben]))
    prepare(laptop, [ben])
    reader.take(message(laptop, "from the laptop", 1))
    assert reader.reason(1) == "unknown_device"
    assert ben.machine.doubtful == {ANNA}
    assert not reader.wanted
    assert reader.said() == [(0, [], [])]
    take(ben, listed([anna, laptop], version=2))
    reader.reading.retry_devices()
    reader.flush()
    assert reader.said() == [(1, [], [])]
    [event] = reader.happened()
    assert isinstance(event, Decrypted)
    assert event.item.text == "from the laptop"


async def test_a_device_whose_key_comes_before_it_is_known_is_read_when_it_is_vouched_for(
    sender: Sender, reader: Reader, anna: Device, ben: Device
) -> None:
    """I5: nobody knows the device, whether its key is there or not."""
    laptop = Device(anna.path.parent, ANNA, "laptop", linked_by=anna)
    take(laptop, listed([ben]))
    laptop.machine.begin([ben.peer], {ben.user: {"phone": ben.claimed()}})
    laptop.machine.share(TALK, [BEN])
    laptop.settle()
    item = message(laptop, "from the laptop", 1)
    reader.take(item)
    assert reader.reason(1) == "unknown_device"
    assert carry(laptop, [ben]) == [(TALK, session(item))]
    reader.repair(item)
    assert reader.reason(1) == "unknown_device"
    assert reader.said() == [(0, [], [])]
    take(ben, listed([anna, laptop], version=2))
    reader.reading.retry_devices()
    reader.flush()
    assert reader.said() == [(1, [], [])]
    assert reader.reason(1) is None


# More than a frame may name


@pytest.mark.parametrize("count", [NAMED_MAX - 1, NAMED_MAX, NAMED_MAX + 1, 2 * NAMED_MAX, 2 * NAMED_MAX + 10])
async def test_many_are_named_in_steps(
    sender: Sender, reader: Reader, grace: Callable[[float], None], count: int
) -> None:
    """I5: oldest first, each step up to the last one that it names: what is not named counts as read. So no mark passes
    over one that is not named yet, and none is named twice. They are repaired in steps, too."""
    grace(0)
    hidden = [sender.hidden(1)]
    for number in range(1, count):
        hidden.append(message(sender.anna, "Hello", 1 + 2 * number))
    fillers = {2 * number: pushed(sender.anna, "?", 2 * number) for number in range(1, count)}
    items: dict[int, wire.Item] = {item.seq: item for item in hidden}
    for seq in fillers:
        items[seq] = wire.Change(c=TALK, seq=seq, at=1, what="title", by=ANNA, id="t")
    reader.take(*(items[seq] for seq in sorted(items)))
    reader.overdue()
    acks = reader.acks(read=reader.cursor)
    seqs = [item.seq for item in hidden]
    assert [seq for ack in acks for seq in ack.undecryptable] == seqs
    assert all(len(ack.undecryptable) <= NAMED_MAX for ack in acks)
    named: set[int] = set()
    for ack in acks:
        named.update(ack.undecryptable)
        assert {seq for seq in seqs if seq <= ack.upto} == named
        assert ack.read <= ack.upto
    assert acks[-1].upto == acks[-1].read == reader.cursor
    sender.give(hidden[0])
    reader.repair(hidden[0])
    acks = reader.acks()
    assert [seq for ack in acks for seq in ack.repaired] == seqs
    assert all(len(ack.repaired) <= NAMED_MAX and ack.upto == reader.cursor for ack in acks)


# What may have been lost with a connection


async def test_what_the_server_has_not_heard_is_named_again(
    sender: Sender, reader: Reader, grace: Callable[[float], None]
) -> None:
    """I5: the welcome says how far it has heard this device; beyond that all is said once more."""
    grace(0)
    hidden = [sender.hidden(seq) for seq in (1, 2, 3)]
    reader.take(*hidden)
    reader.overdue()
    assert reader.said() == [(3, [1, 2, 3], [])]
    reader.look_over(2)
    assert reader.said() == [(3, [3], [])]
    reader.look_over(3)
    assert reader.said() == [(3, [], [])]
    reader.restart()
    reader.look_over(0)
    assert reader.said() == [(3, [1, 2, 3], [])]


async def test_what_was_repaired_is_said_again_until_the_server_has_heard_it(
    sender: Sender, reader: Reader, grace: Callable[[float], None]
) -> None:
    """I5: nothing tells that it has heard of a repair but that it has heard something later; until then it is said
    after each welcome, also over restarts."""
    grace(0)
    hidden = sender.hidden(1)
    sender.share()
    reader.take(hidden)
    reader.overdue()
    assert reader.said() == [(1, [1], [])]
    sender.give(hidden)
    reader.repair(hidden)
    for _ in range(3):
        assert reader.said() == [(1, [], [1])]
        assert reader.said() == [(1, [], [])]
        assert reader.look_over(1)
        assert reader.said() == [(1, [], [1])]
        reader.restart()
        assert reader.look_over(1)
    reader.take(sender.say(2))
    assert reader.said() == [(2, [], [1])]
    assert reader.look_over(1), "that may have been lost"
    assert reader.said() == [(2, [], [1])]
    assert reader.look_over(2), "said with it, and it is not known whether before it or after it"
    reader.take(sender.say(3))
    assert reader.said() == [(3, [], [1])]
    reader.take(sender.say(4))
    assert reader.said() == [(4, [], [])]
    assert not reader.look_over(4), "it has heard what was said later"
    assert not reader.device.vault.undecrypted(TALK)
    assert reader.said() == [(4, [], [])]


async def test_what_was_repaired_without_a_connection_is_said_after_the_welcome(
    sender: Sender, reader: Reader, grace: Callable[[float], None]
) -> None:
    """I5: also where nothing else is to be acknowledged then."""
    grace(0)
    hidden = sender.hidden(1)
    reader.take(hidden)
    reader.overdue()
    assert reader.said() == [(1, [1], [])]
    sender.give(hidden)
    reader.repair(hidden)
    # The live path can't say anything before it is welcome.
    reader.gathered.acks.clear()
    assert reader.look_over(1)
    assert reader.said() == [(1, [], [1])]


async def test_keys_are_asked_for_again_after_a_welcome(
    sender: Sender, reader: Reader, grace: Callable[[float], None]
) -> None:
    """I5: of what is not late, forged, or repaired. How often it is really asked, `Asking` decides."""
    grace(0)
    hidden, repaired = sender.hidden(1), sender.hidden(2)
    forged = msgspec.structs.replace(sender.hidden(3), signature=None)
    sender.give(forged)
    reader.take(hidden, repaired, forged)
    reader.overdue()
    reader.acks()
    sender.give(repaired)
    reader.repair(repaired)
    grace(LATE_S)
    late = sender.hidden(4)
    reader.take(late)
    reader.wanted.clear()
    reader.look_over(3)
    assert reader.wanted == [(TALK, session(hidden), ANNA)]


async def test_what_is_late_is_not_named_over_a_short_loss(sender: Sender, reader: Reader) -> None:
    """The connection breaks and is there again before the key is overdue."""
    hidden = sender.hidden(1)
    reader.take(hidden)
    reader.look_over(0)
    assert reader.said() == [(0, [], [])]
    sender.give(hidden)
    reader.repair(hidden)
    assert reader.said() == [(1, [], [])]
