"""What a server, a member or a stranger may try on a device, and what an unlucky moment may do to it."""

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from vodozemac import Account, Curve25519PublicKey, GroupSession

from signet_client import matrix, payloads, wire
from signet_client.crypto import machine as machines
from signet_client.crypto.asking import Asking
from signet_client.crypto.lists import KeysFound
from signet_client.crypto.machine import KeyRequest
from signet_client.gathered import Gathered
from signet_client.reading import Reading
from signet_client.records import Batch, Marks
from tests.client.crypto.devices import (
    ANNA,
    BEN,
    CLEO,
    SERVER,
    Device,
    begin,
    carry,
    introduced,
    letters,
    listed,
    mail,
    message,
    prepare,
    take,
)
from tests.client.fake import TALK

MALLORY = "dddddddd-4444-4444-8444-444444444444"


@pytest.fixture
def mallory(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path, MALLORY, "phone")
    yield device
    device.store.close()


def put(device: Device, *items: wire.Item) -> None:
    device.store.commit(Batch(items=list(items)))


def started(*accounts: str) -> wire.Change:
    roles: list[wire.Role] = ["member" for _ in accounts]
    return wire.Change(
        c=TALK, seq=1, at=1, what="started", by=accounts[0], id=str(uuid4()), accounts=list(accounts), roles=roles,
        kind="group", protection="end_to_end",
    )  # fmt: skip


def session_of(device: Device) -> str:
    outbound = device.vault.outbound(TALK)
    assert outbound is not None
    return outbound.session.session_id


def asked(device: Device, owner: Device, session: str) -> KeyRequest:
    device.vault.put_asked(TALK, session, int(time.time()))
    begin(owner, [device.peer], [device])
    return KeyRequest(device.account, device.name, TALK, session)


# Devices


def test_a_device_that_publishes_after_one_that_it_has_let_in_is_believed(
    anna: Device, ben: Device, tmp_path: Path
) -> None:
    """The account's first device may have no keys for encryption yet when its list is first asked for."""
    laptop = Device(tmp_path, BEN, "laptop", linked_by=ben)
    first = KeysFound(
        device_keys={ben.user: {"laptop": laptop.device_keys()}},
        versions={ben.user: 1},
        links={ben.user: [ben.link, laptop.link]},
    )
    assert not take(anna, first)
    assert not take(anna, listed([ben, laptop], version=2))


def test_the_first_device_of_an_account_was_let_in_by_nobody(anna: Device, tmp_path: Path) -> None:
    """I12: the server says that one of its own has let Anna's phone in, and signs it."""
    spy = Device(tmp_path, ANNA, "spy")
    found = listed([spy, anna])
    found.links[anna.user] = [spy.link, spy.let_in(anna)]
    assert [refused.device for refused in take(anna, found)] == ["spy"]
    assert [peer.device for peer in anna.vault.peers([ANNA])] == ["phone"]


def test_who_claims_somebody_elses_key_takes_no_session(anna: Device, ben: Device, mallory: Device) -> None:
    """I5: Mallory publishes Anna's Curve25519 key as its own. What Ben says to Anna is for Anna all the same."""
    unsigned = {
        **{key: value for key, value in mallory.device_keys().items() if key != "signatures"},
        "keys": {"curve25519:phone": anna.identity.curve25519, "ed25519:phone": mallory.identity.key},
    }
    stolen = mallory.identity.sign_object(unsigned, user=mallory.user, device="phone")
    found = listed([anna, mallory])
    found.device_keys[mallory.user]["phone"] = stolen
    take(ben, found)
    take(ben, listed([ben]))
    for peer in ben.vault.peers([MALLORY]):
        ben.machine.begin([peer], {mallory.user: {"phone": mallory.claimed()}})
    prepare(ben, [anna, ben])
    take(anna, listed([ben]))
    assert anna.read(message(ben, "hello", 1)) == "hello"


def test_what_a_device_wrote_before_it_was_revoked_is_read(anna: Device, ben: Device, tmp_path: Path) -> None:
    """I5: by one that never saw it active, and got the key from its own account's device."""
    old = Device(tmp_path, BEN, "old", linked_by=ben)
    for device in (anna, ben, old):
        take(device, listed([anna]))
        take(device, listed([ben, old]))
    prepare(old, [anna, ben, old])
    item = message(old, "written before it was revoked", 2)
    assert anna.read(item) == "written before it was revoked"
    tablet = Device(tmp_path, ANNA, "tablet", linked_by=anna)
    take(tablet, listed([anna, tablet]))
    take(tablet, listed([ben], gone=[old], version=3))
    take(anna, listed([anna, tablet], version=2))
    request = asked(tablet, anna, session_of(old))
    assert Asking(anna.machine, anna.store).answer(request, tablet.peer, {ANNA: "owner", BEN: "member"})
    carry(anna, [tablet])
    assert tablet.read(item) == "written before it was revoked"


def test_a_device_that_stays_unknown_is_asked_for_once(anna: Device, ben: Device, mallory: Device) -> None:
    """I11: Mallory's device logs in, and publishes no keys: nobody is to ask for it for ever."""
    introduced(anna, ben)
    take(mallory, listed([anna, ben, mallory]))
    prepare(mallory, [anna, ben, mallory])
    take(anna, KeysFound(device_keys={mallory.user: {}}, versions={mallory.user: -1}))
    item = message(mallory, "boo", 2)
    assert anna.read(item) == "(unknown_device)"
    assert anna.machine.doubtful == {MALLORY}
    take(anna, KeysFound(device_keys={mallory.user: {}}, versions={mallory.user: -1}))
    assert anna.read(item) == "(unknown_device)"
    assert not anna.machine.doubtful
    anna.machine.lose_connection()
    assert anna.read(item) == "(unknown_device)"
    assert anna.machine.doubtful == {MALLORY}, "on the next connection it may be told"


# Keys


def test_a_key_that_ones_other_device_gave_away_ends_with_who_got_it(
    anna: Device, ben: Device, cleo: Device, tmp_path: Path
) -> None:
    """I8: Anna's phone does not know that Cleo has the key of its session."""
    laptop = Device(tmp_path, ANNA, "laptop", linked_by=anna)
    for device in (anna, laptop, ben):
        take(device, listed([anna, laptop]))
        take(device, listed([ben]))
    prepare(anna, [anna, laptop, ben])
    item = message(anna, "one", 2)
    assert laptop.read(item) == "one"
    take(laptop, listed([cleo]))
    take(cleo, listed([anna, laptop]))
    put(laptop, started(ANNA, BEN, CLEO), item)
    request = asked(cleo, laptop, session_of(anna))
    assert Asking(laptop.machine, laptop.store).answer(request, cleo.peer, laptop.store.members(TALK))
    carry(laptop, [cleo])
    assert cleo.read(item) == "one"
    anna.machine.end_session(TALK)  # Cleo is removed
    prepare(anna, [anna, laptop, ben])
    assert cleo.read(message(anna, "after Cleo was removed", 5)) == "(no_key)"


def test_a_session_ends_with_any_device_of_a_member(anna: Device, ben: Device, tmp_path: Path) -> None:
    """I8: also in conversations in which it never got a key from this device."""
    introduced(anna, ben)
    put(anna, started(ANNA, BEN))
    prepare(anna, [anna, ben])
    before = session_of(anna)
    anna.machine.end_sessions_of(CLEO)
    assert session_of(anna) == before
    anna.machine.end_sessions_of(BEN)
    assert not anna.machine.is_ready(TALK)
    prepare(anna, [anna, ben])
    assert session_of(anna) != before


def test_strangers_fill_no_store(anna: Device, mallory: Device) -> None:
    """I11: with Olm sessions of keys that are no device's, and with keys of conversations that there are not."""
    introduced(anna, mallory)
    anna.machine.fallback_used = True
    anna.publish()
    fallback = list(anna.fallback.values())[-1]["key"]
    for _ in range(50):
        account = Account()
        session = account.create_outbound_session(
            Curve25519PublicKey.from_base64(anna.identity.curve25519), Curve25519PublicKey.from_base64(fallback)
        )
        kind, text = session.encrypt(b"{}").to_parts()
        content = {
            "algorithm": matrix.OLM,
            "sender_key": account.curve25519_key.to_base64(),
            "ciphertext": {anna.identity.curve25519: {"type": kind, "body": payloads.to_base64(text)}},
        }
        anna.machine.take_mail(mail(MALLORY, content))
    begin(mallory, [anna.peer], [anna])
    for _ in range(2 * machines.STRANGE_SESSIONS_MAX):
        group = GroupSession()
        key = {
            "algorithm": matrix.MEGOLM,
            "room_id": matrix.room_id(str(uuid4())),
            "session_id": group.session_id,
            "session_key": group.session_key.to_base64(),
        }
        mallory.machine.post({anna.peer: mallory.machine.olm.encrypt(anna.peer, machines.ROOM_KEY, key, SERVER)})
    carry(mallory, [anna])
    ((olm,),) = anna.store.query("SELECT count(*) FROM olm_sessions")
    ((inbound,),) = anna.store.query("SELECT count(*) FROM inbound_sessions")
    assert (olm <= 10, inbound) == (True, machines.STRANGE_SESSIONS_MAX)


def test_parcels_are_as_large_as_the_server_takes(anna: Device, tmp_path: Path) -> None:
    """Also with names that are as long as can be."""
    sender = Device(tmp_path, BEN, "\N{CJK UNIFIED IDEOGRAPH-7535}" * 64)
    others = [
        Device(tmp_path, ANNA, f"{number:02}" + "\N{CJK UNIFIED IDEOGRAPH-7535}" * 62, linked_by=anna)
        for number in range(12)
    ]
    take(sender, listed([anna, *others]))
    begin(sender, sender.vault.peers([ANNA]), [anna, *others])
    bytes_max = 16_384
    sender.machine.hear_server(SERVER, frame_bytes_max=bytes_max)
    sender.machine.share(TALK, {ANNA, BEN})
    parcels = sender.vault.parcels()
    sizes = [len(msgspec.json.encode({"messages": parcel.messages})) for parcel in parcels]
    assert len(parcels) > 1
    assert max(sizes) <= bytes_max
    assert sum(len(contents) for parcel in parcels for contents in parcel.messages.values()) == 13


def test_a_new_session_is_the_one_that_is_used(anna: Device, ben: Device) -> None:
    """Whatever the clock says, and however many there were."""
    introduced(anna, ben)
    seen: set[str] = set()
    for _ in range(12):
        begin(anna, [ben.peer], [ben])
        newest = anna.vault.olm_sessions(BEN, ben.identity.curve25519)[0].session_id
        assert newest not in seen
        seen.add(newest)
        anna.restart()


# Unlucky moments


def test_versions_of_lists_end_with_a_restore(anna: Device, ben: Device) -> None:
    """docs/protocol.md, "After a restore": they count what is counted anew. Who was known is known."""
    introduced(anna, ben)
    anna.store.go_back("new", {TALK: Marks()}, [])
    assert anna.vault.list_versions([BEN]) == {}
    assert anna.vault.linked(BEN) == {"phone": ben.identity.key}


def test_a_restored_server_may_count_its_mail_anew(anna: Device) -> None:
    anna.vault.put_fact("mail", "1000")
    anna.settle()
    anna.restart()
    anna.machine.forget_mail()
    anna.settle()
    anna.restart()
    assert anna.machine.mail_taken == 0


async def test_a_key_is_used_though_the_process_ended_when_it_had_come(anna: Device, ben: Device) -> None:
    """I5: it was stored, and the messages that wait for it were not looked at any more."""
    introduced(anna, ben)
    begin(ben, ben.machine.without_session(ben.machine.unserved(TALK, [ANNA, BEN])), [anna])
    ben.machine.share(TALK, [ANNA, BEN])
    waiting = letters(ben)
    item = message(ben, "hello", 2)
    assert Reading(anna.machine, anna.store, Gathered()).take(item, "end_to_end").undecryptable == "no_key"
    put(anna, started(ANNA, BEN), item)
    for address, letter in waiting:
        if address == (ANNA, "phone"):
            assert anna.machine.take_mail(letter)
    anna.settle()
    anna.restart()
    gathered = Gathered()
    Reading(anna.machine, anna.store, gathered).look_over(TALK, 1)
    assert list(gathered.batch.clear) == [(TALK, 2)]


async def test_an_unknown_device_is_asked_for_after_a_restart(anna: Device, ben: Device) -> None:
    introduced(anna, ben)
    anna.store.write("DELETE FROM peers WHERE account = ?", (BEN,))
    anna.store.write("DELETE FROM linked WHERE account = ?", (BEN,))
    anna.settle()
    prepare(ben, [anna, ben])
    item = message(ben, "hello", 2)
    assert Reading(anna.machine, anna.store, Gathered()).take(item, "end_to_end").undecryptable == "unknown_device"
    put(anna, started(ANNA, BEN), item)
    anna.restart()
    Reading(anna.machine, anna.store, Gathered()).look_over(TALK, 1)
    assert anna.machine.doubtful == {BEN}
