"""I12: what stands in a device's store nobody reads without the key file beside it; what was written before there was
encryption is taken over."""

import os
import sqlite3
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec
import pytest
from vodozemac import GroupSession, InboundGroupSession, SessionKey

from signet_client import matrix, payloads, wire
from signet_client.crypto.box import Box
from signet_client.crypto.vault import (
    OLM_SESSIONS_MAX,
    TELL_AGAIN,
    UNTOLD,
    Inbound,
    Parcel,
    Peer,
    Place,
    Vault,
    by_user,
)
from signet_client.errors import StoreFailed
from signet_client.identity import Identity, key_beside
from signet_client.messages import encode_body
from signet_client.records import Batch, Marks, Outgoing, Profile
from signet_client.schema import FIRST, SCHEMA_VERSION, SINCE_2
from signet_client.store import Store
from tests.client.crypto.devices import (
    ANNA,
    BEN,
    Device,
    carry,
    introduced,
    letters,
    message,
    prepare,
)
from tests.client.fake import TALK

SESSION: Final = "session"


def hold(device: Device, item: wire.Message) -> None:
    """As the live path does with a message: what it says is stored with it."""
    clear = device.machine.read(item, "end_to_end").clear
    assert clear is not None
    device.machine.save_identity()
    device.store.commit(Batch(items=[item], clear={(item.c, item.seq): clear}))


def bytes_of(device: Device) -> bytes:
    """All that is on disk but the key file."""
    files = [file for file in device.files() if file.suffix != ".key"]
    assert any(file.name.endswith("-wal") for file in files)
    return b"".join(file.read_bytes() for file in files)


def forms(secret: bytes) -> list[bytes]:
    """As it may stand somewhere."""
    return [secret, secret.hex().encode(), payloads.to_base64(secret).encode()]


# What is on disk


def test_no_text_and_no_secret_stands_in_the_store(anna: Device, ben: Device) -> None:
    """I12: fifty texts, sent, received, and waiting to be sent; the keys of sessions as they are shared; those of the
    store. None of them is in the store or in its log of changes, open or encoded; with the key file all are there."""
    introduced(anna, ben)
    texts = [f"what nobody may know {number} {uuid4()}" for number in range(50)]
    keys: list[str] = []
    for seq, text in enumerate(texts[:40], start=1):
        sender = anna if seq % 2 else ben
        if seq % 10 < 2 or seq == 2:
            keys.append(sender.machine.megolm.begin(TALK).session.session_key.to_base64())
            sender.machine.unsettle(TALK)
            prepare(sender, [anna, ben])
        item = message(sender, text, seq)
        for device in (anna, ben):
            hold(device, item)
    for text in texts[40:]:
        for device in (anna, ben):
            clear = encode_body(text, kind="text", reply_to=None)
            outgoing = Outgoing(id=str(uuid4()), conversation=TALK, header="", body="", signature="", clear=clear)
            device.store.put_outgoing(outgoing)
            device.store.settle()
    assert len(keys) > 5
    for device in (anna, ben):
        stored = bytes_of(device)
        for text in texts:
            assert text.encode() not in stored
            assert text.encode()[3:-3].hex().encode() not in stored
        for key in keys:
            raw = payloads.from_base64(key)
            for form in (*forms(raw), *forms(raw[5:37])):
                assert form not in stored
        seal = key_beside(device.path)
        for secret in (seal, device.vault._box.pickle_key):
            for form in forms(secret):
                assert form not in stored
        assert device.identity.curve25519.encode() in stored, "what is public stands there, so the search finds things"
        said = [held.clear for held in device.store.held(TALK, after=0, limit=100)]
        waiting = [outgoing.clear for outgoing in device.store.outbox()]
        for text in texts:
            assert any(text in (clear or "") for clear in (*said, *waiting))


def test_no_key_stands_in_mail_that_waits(anna: Device, ben: Device) -> None:
    """I12: it is encrypted before it is stored."""
    introduced(anna, ben)
    prepare(anna, [anna, ben], members=[ANNA])
    anna.machine.begin([ben.peer], {ben.user: {"phone": ben.claimed()}})
    anna.machine.share(TALK, [ANNA, BEN])
    anna.settle()
    assert anna.vault.parcels()
    outbound = anna.vault.outbound(TALK)
    assert outbound is not None
    for form in forms(payloads.from_base64(outbound.session.session_key.to_base64())):
        assert form not in bytes_of(anna)


def test_equal_states_are_not_equal_on_disk(anna: Device) -> None:
    """A copy from before and one from after don't tell whether something has happened."""
    session = GroupSession()
    inbound = Inbound(InboundGroupSession(session.session_key), ANNA, "phone", anna.identity.key)
    pickles = set()
    for _ in range(2):
        anna.vault.put_inbound(TALK, inbound)
        anna.settle()
        pickles.update(anna.store.query("SELECT pickle FROM inbound_sessions"))
    assert len(pickles) == 2


def test_another_key_file_opens_nothing(anna: Device, ben: Device) -> None:
    """I12: and it is said what to do."""
    introduced(anna, ben)
    prepare(anna, [anna, ben])
    hold(anna, message(anna, "secret", 1))
    box = Box(os.urandom(32))
    anna.store.box = box
    vault = Vault(anna.store, box)
    with pytest.raises(StoreFailed, match="key file"):
        anna.store.held(TALK, after=0, limit=1)
    with pytest.raises(StoreFailed, match="key file"):
        vault.outbound(TALK)
    with pytest.raises(StoreFailed, match="key file"):
        vault.olm_sessions(BEN, ben.identity.curve25519)


def test_a_damaged_session_ends_the_client(anna: Device, ben: Device) -> None:
    """It is not taken for one that is not there: a new one would use positions again."""
    introduced(anna, ben)
    prepare(anna, [anna, ben])
    anna.store.write("UPDATE outbound_sessions SET pickle = ?", (anna.vault._box.seal(b"?"),))
    anna.settle()
    anna.restart()
    with pytest.raises(StoreFailed, match="can't be read"):
        anna.vault.outbound(TALK)


# Stores of before


def test_a_store_of_version_2_is_taken_over(tmp_path: Path) -> None:
    """What it holds is there, and it encrypts from then on."""
    path = tmp_path / "old.db"
    identity = Identity()
    profile = Profile(url="http://127.0.0.1", account=ANNA, device="phone")
    body = encode_body("Hello", kind="text", reply_to=None)
    header = payloads.Header(
        id="h", conversation=TALK, sender=ANNA, device="phone", after=0, digest=payloads.digest_of(body)
    )
    item = wire.Message(c=TALK, seq=1, at=1, ordinal=1, own=1, header=payloads.encode_header(header), body=body)
    encode = msgspec.json.encode
    with sqlite3.connect(path) as db:
        db.executescript(FIRST + SINCE_2)
        db.execute("PRAGMA user_version = 2")
        sealed = identity.seal(key_beside(path, make=True))
        db.execute("INSERT INTO device VALUES (1, ?, ?)", (encode(profile).decode(), sealed))
        db.execute("INSERT INTO conversations VALUES (?, 'group', 'none', 'Talk', NULL)", (TALK,))
        db.execute("INSERT INTO members VALUES (?, ?, 'owner')", (TALK, ANNA))
        db.execute("INSERT INTO marks VALUES (?, 1, 1, 1, 0, '[]')", (TALK,))
        db.execute("INSERT INTO items VALUES (?, 1, ?)", (TALK, encode(item)))
        outbox = "INSERT INTO outbox (id, conversation, header, body, signature) VALUES ('o', ?, ?, ?, 's')"
        db.execute(outbox, (TALK, item.header, body))
        db.execute("INSERT INTO facts VALUES ('epoch', 'e1')")
        db.execute("INSERT INTO lost VALUES (?, 2, 'l', ?)", (TALK, encode(item)))
    db.close()

    for _ in range(2):
        store = Store(path, durable=False)
        assert store.query("PRAGMA user_version") == [(SCHEMA_VERSION,)]
        assert store.profile() == profile
        assert Identity.unseal(store.identity(), key_beside(path)).key == identity.key
        assert store.epoch() == "e1"
        assert store.marks() == {TALK: Marks(cursor=1, read=1, tick_delivered=1)}
        assert [each.protection for each in store.conversations()] == ["none"]
        assert store.members(TALK) == {ANNA: "owner"}
        [held] = store.held(TALK, after=0, limit=10)
        assert (held.item, held.clear, held.reason) == (item, None, None)
        [outgoing] = store.outbox()
        assert (outgoing.id, outgoing.body, outgoing.clear, outgoing.counts) == ("o", body, None, True)
        assert [lost.item for lost in store.lost(TALK)] == [item]
        store.close()


def test_a_device_of_a_store_of_version_2_encrypts(tmp_path: Path, ben: Device) -> None:
    path = tmp_path / f"{ANNA[:4]}-old.db"
    with sqlite3.connect(path) as db:
        db.executescript(FIRST + SINCE_2)
        db.execute("PRAGMA user_version = 2")
    db.close()
    anna = Device(tmp_path, ANNA, "old")
    introduced(anna, ben)
    prepare(anna, [anna, ben])
    item = message(anna, "Hello", 1)
    hold(anna, item)
    assert ben.read(item) == "Hello"
    anna.store.close()


def test_a_store_of_a_newer_client_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(StoreFailed, match="newer client"):
        Store(path)


# The tables


def session_with(ben: Device, anna: Device) -> str:
    """Begins one more session; its id."""
    anna.machine.begin([ben.peer], {ben.user: {"phone": ben.claimed()}})
    anna.settle()
    return anna.vault.olm_sessions(BEN, ben.identity.curve25519)[0].session_id


def test_the_sessions_used_last_are_kept(anna: Device, ben: Device) -> None:
    """I11: so many with one device, however many it begins."""
    introduced(anna, ben)
    made = [session_with(ben, anna) for _ in range(OLM_SESSIONS_MAX + 3)]
    kept = [session.session_id for session in anna.vault.olm_sessions(BEN, ben.identity.curve25519)]
    assert kept == made[: -OLM_SESSIONS_MAX - 1 : -1]
    first = anna.vault.olm_sessions(BEN, ben.identity.curve25519)[-1]
    anna.vault.put_olm(BEN, ben.identity.curve25519, first)
    assert anna.vault.olm_sessions(BEN, ben.identity.curve25519)[0].session_id == first.session_id
    assert anna.vault.has_olm(BEN, ben.identity.curve25519)
    assert not anna.vault.has_olm(ANNA, anna.identity.curve25519)


def test_many_sessions_of_messages_are_held(anna: Device) -> None:
    """More than are kept in memory."""
    sessions = [GroupSession() for _ in range(300)]
    for session in sessions:
        key = SessionKey(session.session_key.to_base64())
        anna.vault.put_inbound(TALK, Inbound(InboundGroupSession(key), BEN, "phone", "k"))
    anna.settle()
    for _ in range(2):
        for session in sessions:
            inbound = anna.vault.inbound(TALK, session.session_id, BEN, "phone")
            assert inbound is not None
            assert inbound.session.session_id == session.session_id
            assert inbound[1:] == (BEN, "phone", "k")
    assert anna.vault.inbound(TALK, "?", BEN, "phone") is None
    assert anna.vault.inbound("?", sessions[0].session_id, BEN, "phone") is None
    assert anna.vault.inbound(TALK, sessions[0].session_id, BEN, "laptop") is None


def test_a_position_belongs_to_the_first_message_that_had_it(anna: Device) -> None:
    """Also over a restart; in another session or at another position it is another one's."""
    vault = anna.vault
    assert vault.see(Place(SESSION, BEN, "phone", 0), TALK, 5)
    assert vault.see(Place(SESSION, BEN, "phone", 1), TALK, 4)
    anna.settle()
    anna.restart()
    vault = anna.vault
    assert vault.see(Place(SESSION, BEN, "phone", 0), TALK, 5)
    assert not vault.see(Place(SESSION, BEN, "phone", 0), TALK, 6)
    assert not vault.see(Place(SESSION, BEN, "phone", 0), "elsewhere", 5)
    assert vault.see(Place("another", BEN, "phone", 0), TALK, 6)
    assert vault.see(Place(SESSION, BEN, "laptop", 0), TALK, 6)
    assert vault.seqs_of(SESSION, BEN, "phone") == [(0, 5), (1, 4)]


def test_shares_end_with_the_session(anna: Device, ben: Device) -> None:
    introduced(anna, ben)
    prepare(anna, [anna, ben])
    assert anna.vault.shares(TALK) == {(BEN, "phone")}
    anna.machine.megolm.begin(TALK)
    assert anna.vault.shares(TALK) == set()


def test_mail_waits_in_the_order_of_its_making(anna: Device, ben: Device) -> None:
    """With the transaction that it had, over restarts, until it is said to be taken."""
    contents = {("@b", "x"): {"n": 1}, ("@b", "y"): {"n": 2}, ("@c", "x"): {"n": 3}}
    assert by_user(contents) == {"@b": {"x": {"n": 1}, "y": {"n": 2}}, "@c": {"x": {"n": 3}}}
    parcels = [Parcel(str(uuid4()), f"t{number}", by_user(contents)) for number in range(5)]
    for parcel in parcels:
        anna.vault.put_parcel(parcel)
    anna.settle()
    anna.restart()
    assert anna.vault.parcels() == parcels
    anna.vault.drop_parcel(parcels[1].transaction)
    assert anna.vault.parcels() == [parcels[0], *parcels[2:]]


def test_mail_of_an_uncommitted_write_never_was(anna: Device, ben: Device) -> None:
    """I1: mail, and what has made it, are stored together."""
    introduced(anna, ben)
    anna.machine.begin([ben.peer], {ben.user: {"phone": ben.claimed()}})
    anna.settle()
    anna.machine.share(TALK, [ANNA, BEN])
    assert anna.vault.parcels()
    anna.restart()
    assert not anna.vault.parcels()
    assert anna.vault.outbound(TALK) is None
    introduced(anna, ben)
    prepare(anna, [anna, ben])
    assert ben.read(message(anna, "Hello", 1)) == "Hello"


def test_a_device_that_is_not_in_a_list_any_more_stays_pinned(anna: Device, ben: Device) -> None:
    """What it has said before can be read on; it gets nothing more."""
    introduced(anna, ben)
    anna.vault.put_list(BEN, 2, [])
    assert anna.vault.peers([BEN]) == []
    assert anna.vault.peer(BEN, "phone") == ben.peer
    assert anna.vault.list_versions([ANNA, BEN, "?"]) == {ANNA: 1, BEN: 2}
    anna.vault.put_list(BEN, 3, [ben.peer])
    assert anna.vault.peers([BEN, "?"]) == [ben.peer]
    assert anna.vault.peer("?", "phone") is None


def test_a_pin_never_changes(anna: Device, ben: Device) -> None:
    """I12: whatever is put, the keys are those that were pinned first."""
    introduced(anna, ben)
    other = Identity()
    anna.vault.put_peer(Peer(BEN, "phone", other.key, other.curve25519))
    assert anna.vault.peer(BEN, "phone") == ben.peer


def test_what_could_not_be_decrypted_is_kept_until_it_is_known_to_be_told(anna: Device) -> None:
    vault = anna.vault
    for seq, reason in ((7, "no_key"), (3, "tampered"), (5, "unknown_device")):
        vault.put_undecrypted(TALK, seq, SESSION, reason)
    vault.put_undecrypted(TALK, 7, SESSION, "tampered")
    assert [(row.seq, row.reason) for row in vault.undecrypted(TALK)] == [
        (3, "tampered"),
        (5, "unknown_device"),
        (7, "no_key"),
    ]
    vault.set_told(TALK, [3, 5], 9)
    vault.set_repaired(TALK, 5)
    vault.set_reason(TALK, 7, "unknown_device")
    anna.settle()
    anna.restart()
    assert [tuple(row) for row in anna.vault.undecrypted(TALK)] == [
        (3, SESSION, "tampered", False, 9),
        (5, SESSION, "unknown_device", True, TELL_AGAIN),
        (7, SESSION, "unknown_device", False, UNTOLD),
    ]
    anna.vault.forget_undecrypted(TALK, [3, 7])
    assert [row.seq for row in anna.vault.undecrypted(TALK)] == [5]
    assert not anna.vault.undecrypted("elsewhere")


def test_what_is_on_its_way_reaches_whom_it_is_for(anna: Device, ben: Device, cleo: Device) -> None:
    """The parcels of a share, as the server hands them over: each device its own, and no other can open it."""
    introduced(anna, ben, cleo)
    peers = [ben.peer, cleo.peer]
    anna.machine.begin(peers, {each.user: {"phone": each.claimed()} for each in (ben, cleo)})
    anna.machine.share(TALK, [ANNA, BEN, cleo.account])
    sent = dict(letters(anna))
    assert sent.keys() == {(BEN, "phone"), (cleo.account, "phone")}
    assert not ben.machine.take_mail(sent[cleo.account, "phone"])
    assert not carry(anna, [ben, cleo]), "all mail is out"
    assert matrix.user_id(ANNA, "signet.example") == sent[BEN, "phone"].sender
