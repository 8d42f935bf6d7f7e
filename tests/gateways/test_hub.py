"""Who hears a push, and that it is encoded once."""

from typing import Any, cast
from uuid import uuid4

import pytest

from commands.keyring import MemoryKeyring
from commands.sealing import Sealer
from domain.codec import Event
from domain.conversation import MessageSent
from domain.entry import Entry, Sealed
from domain.ids import AccountId, ConversationId, DeviceId, conversation_stream
from domain.keys import OneTimeKeyClaimed
from gateways.hub import Hub
from gateways.protocol import encode
from projections.delivery import (
    DeviceListPush,
    DeviceRevokedPush,
    EventPush,
    KeyClaimedPush,
    MarkPush,
    Push,
    Subscriber,
    TickPush,
)
from signet_client import wire
from signet_client.codes import Disconnect

ROOM = ConversationId(str(uuid4()))
ANN, BOB, CEM = AccountId("ann"), AccountId("bob"), AccountId("cem")
SEALER = Sealer(MemoryKeyring(), lambda: 0)


class Pushes:
    """The part of delivery that the hub knows."""

    def subscribe(self, callback: Subscriber) -> None:
        self.give = callback


class Listener:
    def __init__(self, account: AccountId, device: str = "laptop") -> None:
        self.account = account
        self.device = DeviceId(device)
        self.heard: list[tuple[ConversationId, int, bytes]] = []
        self.closed: list[str] = []
        self.mails = 0

    def push(self, conversation: ConversationId, seq: int, data: bytes) -> None:
        self.heard.append((conversation, seq, data))

    def mail(self) -> None:
        self.mails += 1

    def close(self, disconnect: Disconnect) -> None:
        self.closed.append(disconnect.code)


class FailingListener(Listener):
    def push(self, conversation: ConversationId, seq: int, data: bytes) -> None:
        raise ConnectionResetError


@pytest.fixture
def pushes() -> Pushes:
    return Pushes()


@pytest.fixture
def hub(pushes: Pushes) -> Hub:
    return Hub(cast(Any, pushes), SEALER)


def attached(hub: Hub, *listeners: Listener) -> tuple[Listener, ...]:
    for listener in listeners:
        hub.attach(listener)
    return listeners


def message(seq: int = 2, *, to: tuple[AccountId, ...], body: Sealed | None = None) -> EventPush:
    sent = MessageSent(
        by=ANN, device=DeviceId("laptop"), header="{}", digest="", ordinal=1, own=1, receipts=-1, account=0,
        body=body or SEALER.seal(ANN, "hello"),
    )  # fmt: skip
    event = Event(
        position=9, stream=conversation_stream(ROOM), version=seq - 1, entry=Entry(v=1, id="", cmd="", at=5, e=sent)
    )
    return EventPush(event=event, conversation=ROOM, to=to, origin=(ANN, DeviceId("laptop")))


def test_a_message_goes_to_all_devices_but_the_one_that_sent_it(hub: Hub, pushes: Pushes) -> None:
    sender, phone, bob, cem = attached(hub, Listener(ANN), Listener(ANN, "phone"), Listener(BOB), Listener(CEM))
    pushes.give([message(to=(ANN, BOB))])
    assert sender.heard == cem.heard == []
    [(room, seq, data)] = phone.heard
    assert (room, seq) == (ROOM, 2)
    shown = wire.Message(c=ROOM, seq=2, at=5, ordinal=1, own=1, header="{}", body="hello")
    assert data == encode(shown)
    assert bob.heard[0][2] is data


def test_nothing_is_unsealed_for_nobody(hub: Hub, pushes: Pushes, caplog: pytest.LogCaptureFixture) -> None:
    damaged = Sealed(key=SEALER.seal(ANN, "").key, box=b"damaged")
    [cem] = attached(hub, Listener(CEM))
    pushes.give([message(to=(ANN, BOB), body=damaged)])
    assert caplog.text == ""
    assert cem.heard == []


def test_ticks_go_to_the_author_and_marks_to_the_readers_other_devices(hub: Hub, pushes: Pushes) -> None:
    laptop, phone, bob = attached(hub, Listener(ANN), Listener(ANN, "phone"), Listener(BOB))
    ticks = TickPush(
        conversation=ROOM, account=ANN, delivered=3, read=2, undelivered=[1], repaired=[2], more=True
    )  # fmt: skip
    mark = MarkPush(conversation=ROOM, account=ANN, read=4, origin=(ANN, DeviceId("laptop")))
    pushes.give([ticks, mark])
    shown = encode(wire.Receipt(c=ROOM, delivered=3, read=2, undelivered=[1], repaired=[2], more=True))
    assert laptop.heard == [(ROOM, 0, shown)]
    assert phone.heard == [(ROOM, 0, shown), (ROOM, 0, encode(wire.Mark(c=ROOM, read=4)))]
    assert bob.heard == []


def test_a_device_is_attached_once_and_its_older_connection_closed(hub: Hub, pushes: Pushes) -> None:
    older, phone, newer = attached(hub, Listener(BOB), Listener(BOB, "phone"), Listener(BOB))
    assert (older.closed, phone.closed, newer.closed) == (["replaced"], [], [])
    hub.detach(older)
    pushes.give([message(to=(BOB,))])
    assert (len(older.heard), len(phone.heard), len(newer.heard)) == (0, 1, 1)
    for listener in (phone, newer, newer):
        hub.detach(listener)
    pushes.give([message(to=(BOB,))])
    assert (len(phone.heard), len(newer.heard)) == (1, 1)


def test_a_revoked_device_is_closed(hub: Hub, pushes: Pushes) -> None:
    laptop, phone = attached(hub, Listener(BOB), Listener(BOB, "phone"))
    revoked: list[Push] = [
        DeviceRevokedPush(account=BOB, device=DeviceId("phone")),
        DeviceRevokedPush(account=CEM, device=DeviceId("laptop")),
    ]
    pushes.give(revoked)
    assert (laptop.closed, phone.closed) == ([], ["revoked"])


def test_a_claim_is_told_to_the_device_whose_key_it_was(hub: Hub, pushes: Pushes) -> None:
    """I12"""
    laptop, phone, bob = attached(hub, Listener(ANN), Listener(ANN, "phone"), Listener(BOB))
    to_nobody = [KeyClaimedPush(account=CEM, claimed=claim(left=1))]
    for left, more, used in ((1, {"fallback_unused": True}, False), (0, {}, True), (0, {"fallback": True}, True)):
        pushes.give([KeyClaimedPush(account=ANN, claimed=claim(left=left, **more))])
        assert phone.heard.pop() == ("", 0, encode(wire.KeyCounts(left=left, fallback_used=used)))
    assert laptop.heard == bob.heard == []
    pushes.give(to_nobody)


def claim(*, left: int, **more: bool) -> OneTimeKeyClaimed:
    return OneTimeKeyClaimed(
        device=DeviceId("phone"), id="A", key="{}", by=BOB, by_device=DeviceId("laptop"), left=left, **more
    )


def test_of_other_devices_those_hear_who_are_named(hub: Hub, pushes: Pushes) -> None:
    laptop, phone, bob, cem = attached(hub, Listener(ANN), Listener(ANN, "phone"), Listener(BOB), Listener(CEM))
    pushes.give([DeviceListPush(account=BOB)])  # whom it concerns, gateways/devicelists.py finds out
    frame = wire.DeviceLists(accounts=[BOB])
    hub.tell({ANN, BOB, AccountId("nobody")}, frame)
    assert laptop.heard == phone.heard == bob.heard == [("", 0, encode(frame))]
    assert cem.heard == []


def test_of_mail_its_device_hears(hub: Hub) -> None:
    """I12"""
    laptop, phone, bob = attached(hub, Listener(ANN), Listener(ANN, "phone"), Listener(BOB))
    for address in ((ANN, DeviceId("phone")), (ANN, DeviceId("fridge")), (CEM, DeviceId("laptop"))):
        hub.hear_mail(address)
    assert (laptop.mails, phone.mails, bob.mails) == (0, 1, 0)


def test_who_misses_a_push_that_fails_connects_again_and_the_next_one_goes_on(
    hub: Hub, pushes: Pushes, caplog: pytest.LogCaptureFixture
) -> None:
    """I4: where nothing comes after it, nobody would know what is missing."""
    bob, cem = attached(hub, Listener(BOB), Listener(CEM))
    broken = EventPush(event=cast(Any, None), conversation=ROOM, to=(BOB,), origin=None)
    pushes.give([broken, message(to=(CEM,))])
    assert (bob.closed, cem.closed) == (["failed"], [])
    assert [seq for _, seq, _ in cem.heard] == [2]
    assert "a push failed" in caplog.text


def test_a_connection_that_fails_at_a_push_does_not_silence_the_others(
    hub: Hub, pushes: Pushes, caplog: pytest.LogCaptureFixture
) -> None:
    """I4, I11"""
    listeners = attached(hub, Listener(BOB), FailingListener(BOB, "phone"), Listener(CEM))
    ticks = TickPush(conversation=ROOM, account=BOB, delivered=3, read=2, undelivered=[], repaired=[], more=False)
    mark = MarkPush(conversation=ROOM, account=BOB, read=4, origin=(BOB, DeviceId("tablet")))
    pushes.give([message(to=(BOB, CEM)), ticks, mark])
    assert [len(each.heard) for each in listeners] == [3, 0, 1]
    assert [each.closed for each in listeners] == [[], ["failed"] * 3, []]
    assert "a push could not be given" in caplog.text
