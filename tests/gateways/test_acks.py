"""How statements of devices are gathered."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, cast
from uuid import uuid4

import pytest

from commands.writer import Accepted, Refused, Reply
from domain.ids import AccountId, ConversationId, DeviceId
from domain.receipts import EXCEPTIONS_MAX, AdvanceReceipts, Receipt
from gateways.acks import RECEIPTS_MAX, Acks
from gateways.refusal import Refusal
from signet_client import wire
from signet_client.payloads import to_base64

ROOM, OTHER = ConversationId(str(uuid4())), ConversationId(str(uuid4()))
SIGNED = to_base64(bytes(64))


class Peer:
    def __init__(self, account: str, device: str = "laptop") -> None:
        self.account = AccountId(account)
        self.device = DeviceId(device)
        self.refused: list[tuple[str, str]] = []
        self.window = 64

    def answered(self) -> None:
        self.window += 1

    def refuse(self, refusal: Refusal, *, conversation: str) -> None:
        self.refused.append((refusal.code, conversation))


class RecordingWriter:
    """Takes commands down, and answers all of them alike."""

    def __init__(self, answer: Reply) -> None:
        self.commands: list[AdvanceReceipts] = []
        self.turns: list[Hashable] = []
        self._answer = answer
        self._answered = asyncio.Event()

    def submit(self, command: AdvanceReceipts, *, turn: Hashable, reply: Callable[[Reply], None]) -> None:
        self.commands.append(command)
        self.turns.append(turn)
        loop = asyncio.get_running_loop()
        loop.call_soon(reply, self._answer)
        loop.call_soon(self._answered.set)

    async def got(self, count: int) -> list[AdvanceReceipts]:
        """All commands, once there are so many; the first ones are answered."""
        async with asyncio.timeout(10):
            while len(self.commands) < count:
                self._answered.clear()
                await self._answered.wait()
        return self.commands


def acks(answer: Reply | None = None) -> tuple[Acks, RecordingWriter]:
    writer = RecordingWriter(answer or Accepted(seq=1, at=1, position=1))
    return Acks(cast(Any, writer), gather_s=0.001), writer


def receipt(peer: Peer, **marks: Any) -> Receipt:
    return Receipt(account=peer.account, device=peer.device, **marks)


async def test_the_watermarks_of_a_device_become_one_receipt() -> None:
    """I6: however many messages are acknowledged, a device costs one receipt."""
    gathering, writer = acks()
    ann, bob = Peer("ann"), Peer("bob")
    for seq in (1, 3, 2):
        gathering.ack(ann, wire.Ack(c=ROOM, upto=seq))
    gathering.read(ann, wire.Read(c=ROOM, upto=2))
    gathering.ack(ann, wire.Ack(c=ROOM, upto=1, read=3))
    gathering.read(bob, wire.Read(c=ROOM, upto=4))
    [command] = await writer.got(1)
    assert command.conversation == ROOM
    assert command.receipts == [receipt(ann, delivered=3, read=3), receipt(bob, read=4)]


async def test_each_conversation_and_each_device_has_its_own() -> None:
    gathering, writer = acks()
    laptop, phone = Peer("ann"), Peer("ann", "phone")
    gathering.ack(laptop, wire.Ack(c=ROOM, upto=1))
    gathering.ack(phone, wire.Ack(c=ROOM, upto=2))
    gathering.ack(laptop, wire.Ack(c=OTHER, upto=3))
    commands = await writer.got(2)
    assert {command.conversation: command.receipts for command in commands} == {
        ROOM: [receipt(laptop, delivered=1), receipt(phone, delivered=2)],
        OTHER: [receipt(laptop, delivered=3)],
    }
    gathering.ack(laptop, wire.Ack(c=ROOM, upto=5))
    assert len(await writer.got(3)) == 3
    assert len({command.id for command in writer.commands}) == 3


async def test_signatures_and_exceptions_stay_with_their_statement() -> None:
    gathering, writer = acks()
    ann = Peer("ann")
    gathering.ack(ann, wire.Ack(c=ROOM, upto=4, undecryptable=[2], repaired=[1]))
    gathering.ack(ann, wire.Ack(c=ROOM, upto=5, signature=SIGNED))
    gathering.read(ann, wire.Read(c=ROOM, upto=5, signature=SIGNED))
    gathering.ack(ann, wire.Ack(c=ROOM, upto=6))
    [command] = await writer.got(1)
    assert command.receipts == [
        receipt(ann, delivered=4, undecryptable=[2], repaired=[1]),
        receipt(ann, delivered=5, signature=SIGNED),
        receipt(ann, read=5, signature=SIGNED),
        receipt(ann, delivered=6),
    ]


async def test_a_signed_statement_gives_way_to_a_later_one_that_says_as_much() -> None:
    """I6: a device that signs after each message costs one receipt, too."""
    gathering, writer = acks()
    ann, bob = Peer("ann"), Peer("bob")
    for seq in (1, 3):
        gathering.ack(ann, wire.Ack(c=ROOM, upto=seq, signature=SIGNED))
    gathering.ack(bob, wire.Ack(c=ROOM, upto=2, signature=SIGNED))
    gathering.ack(ann, wire.Ack(c=ROOM, upto=4, read=4, undecryptable=[4], signature=SIGNED))
    assert (ann.window, bob.window) == (63, 63)
    [command] = await writer.got(1)
    assert command.receipts == [
        receipt(ann, delivered=4, read=4, undecryptable=[4], signature=SIGNED),
        receipt(bob, delivered=2, signature=SIGNED),
    ]
    assert (ann.window, bob.window) == (64, 64)


async def test_one_that_says_less_or_names_something_stays() -> None:
    """I5: what it names would be lost."""
    gathering, writer = acks()
    ann = Peer("ann")
    stated = [
        wire.Ack(c=ROOM, upto=4, read=2, signature=SIGNED),
        wire.Ack(c=ROOM, upto=5, read=1, signature=SIGNED),
        wire.Ack(c=ROOM, upto=4, read=3, signature=SIGNED),
        wire.Ack(c=ROOM, upto=6, read=6, undecryptable=[6], signature=SIGNED),
        wire.Ack(c=ROOM, upto=7, read=7, repaired=[6], signature=SIGNED),
        wire.Ack(c=ROOM, upto=8, read=8),
        wire.Ack(c=ROOM, upto=8, read=8, signature=SIGNED),
    ]
    for frame in stated:
        gathering.ack(ann, frame)
    [command] = await writer.got(1)
    # The sixth is none that is signed; it is merged with the watermarks, which come last. The third gives way to the
    # fourth, which says more.
    assert command.receipts == [
        receipt(ann, delivered=4, read=2, signature=SIGNED),
        receipt(ann, delivered=5, read=1, signature=SIGNED),
        receipt(ann, delivered=6, read=6, undecryptable=[6], signature=SIGNED),
        receipt(ann, delivered=7, read=7, repaired=[6], signature=SIGNED),
        receipt(ann, delivered=8, read=8, signature=SIGNED),
        receipt(ann, delivered=8, read=8),
    ]
    assert ann.window == 64


async def test_each_connection_of_a_device_has_its_own_room_back() -> None:
    """I11: one that has connected anew states the same at once."""
    gathering, writer = acks()
    before, now = Peer("ann"), Peer("ann")
    for peer in (before, now):
        gathering.ack(peer, wire.Ack(c=ROOM, upto=1, signature=SIGNED))
    assert (before.window, now.window) == (63, 63)
    await writer.got(1)
    assert (before.window, now.window) == (64, 64)


async def test_one_command_is_bounded() -> None:
    gathering, writer = acks()
    for number in range(RECEIPTS_MAX + 1):
        gathering.ack(Peer(f"{number}"), wire.Ack(c=ROOM, upto=1))
    assert [len(command.receipts) for command in await writer.got(2)] == [RECEIPTS_MAX, 1]


async def test_one_command_names_a_bounded_number_of_messages() -> None:
    """I11"""
    gathering, writer = acks()
    many = list(range(1, EXCEPTIONS_MAX + 1))
    for number in range(9):
        gathering.ack(Peer(f"{number}"), wire.Ack(c=ROOM, upto=EXCEPTIONS_MAX, undecryptable=many, repaired=many))
    commands = await writer.got(3)
    assert [len(command.receipts) for command in commands] == [4, 4, 1]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (wire.Ack(c="general", upto=1), "bad_frame"),
        (wire.Ack(c=ROOM, upto=-1), "bad_frame"),
        (wire.Ack(c=ROOM, upto=10**30), "bad_frame"),
        (wire.Ack(c=ROOM, upto=1, read=-1), "bad_frame"),
        (wire.Ack(c=ROOM, upto=1, read=10**30), "bad_frame"),
        (wire.Ack(c=ROOM, upto=1, signature="x"), "bad_signature"),
        (wire.Ack(c=ROOM, upto=1, undecryptable=[1] * (EXCEPTIONS_MAX + 1)), "too_large"),
        (wire.Ack(c=ROOM, upto=1, repaired=[1] * (EXCEPTIONS_MAX + 1)), "too_large"),
    ],
)
async def test_a_statement_that_can_not_be_is_refused(frame: wire.Ack, code: str) -> None:
    with pytest.raises(Refusal) as refusal:
        acks()[0].ack(Peer("ann"), frame)
    assert refusal.value.code == code


async def test_who_stated_something_hears_that_the_server_failed() -> None:
    gathering, writer = acks(Refused(code="busy"))
    ann, bob = Peer("ann"), Peer("bob")
    gathering.ack(ann, wire.Ack(c=ROOM, upto=1))
    gathering.read(bob, wire.Read(c=ROOM, upto=1))
    await writer.got(1)
    assert ann.refused == bob.refused == [("busy", ROOM)]


@pytest.mark.parametrize("answer", [Refused(code="no_such_conversation"), Accepted(seq=0, at=0, position=0)])
async def test_a_stranger_is_not_told_which_conversations_exist(answer: Reply) -> None:
    """I12: silence, whether there is such a conversation or not."""
    gathering, writer = acks(answer)
    stranger = Peer("eve")
    gathering.ack(stranger, wire.Ack(c=ROOM, upto=1))
    await writer.got(1)
    assert stranger.refused == []


async def test_who_states_something_everywhere_takes_its_own_turns_only() -> None:
    """I11: others' receipts don't wait behind those of one who floods many conversations, alone or with another."""
    gathering, writer = acks()
    eve, mallory, bob = Peer("eve"), Peer("mallory"), Peer("bob")
    rooms = [str(uuid4()) for _ in range(10)]
    for room in rooms:
        gathering.ack(eve, wire.Ack(c=room, upto=1))
        gathering.ack(mallory, wire.Ack(c=room, upto=1))
    gathering.ack(bob, wire.Ack(c=rooms[-1], upto=1))
    await writer.got(10)
    assert writer.turns[-1] is bob
    assert {writer.turns.count(peer) for peer in (eve, mallory)} <= {4, 5}


async def test_each_command_that_carries_a_statement_takes_room_until_it_is_answered() -> None:
    """I11"""
    gathering, writer = acks(Refused(code="busy"))
    ann = Peer("ann")
    for seq in (1, 2, 3):
        gathering.ack(ann, wire.Ack(c=ROOM, upto=seq))
    gathering.ack(ann, wire.Ack(c=OTHER, upto=1))
    gathering.ack(ann, wire.Ack(c=OTHER, upto=1, signature=SIGNED))
    assert ann.window == 64 - 3
    await writer.got(2)
    assert ann.window == 64
