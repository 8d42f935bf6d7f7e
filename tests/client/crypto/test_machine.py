"""I5, I12: what a message says is believed where everything about it is as it must be; what is wrong with it has a
name."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vodozemac import InboundGroupSession, SessionKey

from signet_client import matrix, payloads, wire
from signet_client.crypto import content
from signet_client.crypto.machine import PARCEL_DEVICES_MAX, ROOM_KEY
from signet_client.crypto.vault import Inbound, Peer
from signet_client.messages import FORGED, encode_body
from signet_client.records import Batch
from tests.client.crypto.devices import (
    ANNA,
    BEN,
    CLEO,
    SERVER,
    Device,
    begin,
    carry,
    claims,
    introduced,
    letters,
    listed,
    mail,
    message,
    prepare,
    pushed,
    take,
)
from tests.client.fake import TALK

ELSEWHERE = "44444444-4444-4444-8444-444444444444"


@pytest.fixture
def talk(anna: Device, ben: Device, cleo: Device) -> tuple[Device, Device, Device]:
    """All three know each other, and may write."""
    everybody = anna, ben, cleo
    introduced(*everybody)
    for device in everybody:
        prepare(device, everybody)
    return everybody


def body_of(author: Device, text: str = "Hello", *, c: str = TALK) -> str:
    return author.machine.encrypt(c, kind="text", text=text, reply_to=None)


def body_with(author: Device, event: bytes) -> str:
    """What is encrypted is any bytes."""
    session, ciphertext = author.machine.megolm.encrypt(TALK, event)
    key = author.identity.curve25519
    return content.encode_encrypted(ciphertext, session, sender_key=key, device=author.name)


# What is as it must be

_OPEN: tuple[wire.Protection | None, ...] = (None, "none")


@pytest.mark.parametrize("text", ["Hello", "", "ünï ✓", "\u0000\n", "x" * 20_000])
@pytest.mark.parametrize("kind", ["text", "action", "m.notice", "anything"])
def test_a_message_says_what_its_sender_has_said(talk: tuple[Device, Device, Device], text: str, kind: str) -> None:
    anna, ben, _ = talk
    item = pushed(anna, anna.machine.encrypt(TALK, kind=kind, text=text, reply_to=7), 1)
    read = ben.machine.read(item, "end_to_end")
    assert read.clear is not None
    body = json.loads(read.clear)
    assert (body["kind"], body["text"], body["reply_to"]) == (kind, text, 7)
    assert text == "" or text not in str(item.body)


def test_a_message_is_read_again_and_again(talk: tuple[Device, Device, Device]) -> None:
    """The same message is no replay of itself, also for a machine that was just made."""
    anna, ben, _ = talk
    items = [message(anna, f"m{number}", number + 1) for number in range(5)]
    for _ in range(2):
        for item in (*items, *reversed(items)):
            assert ben.read(item) == f"m{item.seq - 1}"
            assert anna.read(item) == f"m{item.seq - 1}"
        ben.restart()
        anna.restart()


def test_before_it_is_known_what_a_conversation_is_both_forms_are_read(talk: tuple[Device, Device, Device]) -> None:
    anna, ben, _ = talk
    assert ben.machine.read(message(anna, "Hello", 1), None).clear is not None
    plain = pushed(anna, encode_body("Hello", kind="text", reply_to=None), 2)
    for protection in _OPEN:
        read = ben.machine.read(plain, protection)
        assert (read.clear, read.reason) == (None, None)


def test_a_retracted_message_says_nothing_and_nothing_is_wrong_with_it(talk: tuple[Device, Device, Device]) -> None:
    anna, ben, _ = talk
    item = msgspec.structs.replace(message(anna, "Hello", 1), body=None, retracted=2)
    read = ben.machine.read(item, "end_to_end")
    assert (read.clear, read.reason) == (None, None)


# What is wrong

Forge = Callable[[Device, Device, Device], wire.Message]


def without_a_key(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    anna.machine.megolm.begin(TALK)
    return message(anna, "Hello", 1)


def with_a_later_key(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    """The reader's key begins behind the message."""
    session, first = anna.machine.megolm.begin(TALK).session, message(anna, "Hello", 1)
    later = InboundGroupSession(SessionKey(session.session_key.to_base64()))
    ben.vault.put_inbound(TALK, Inbound(later, ANNA, "phone", anna.identity.key))
    return first


def by_a_device_that_nobody_knows(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    laptop = Device(anna.path.parent, ANNA, "laptop", linked_by=anna)
    take(laptop, listed([ben]))
    prepare(laptop, [ben])
    return message(laptop, "Hello", 1)


def by_a_device_that_has_another_key(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    """The session came from one that had the same name, when it came."""
    item = message(anna, "Hello", 1)
    inbound = ben.vault.inbound(TALK, item_session(item), ANNA, "phone")
    assert inbound is not None
    ben.vault.put_inbound(TALK, inbound._replace(ed25519=cleo.identity.key))
    return item


def item_session(item: wire.Message) -> str:
    encrypted = content.encrypted_of(item.body)
    assert encrypted is not None
    return encrypted.session_id


def with_another_ciphertext(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    """Signed by the sender as it is, so that nothing else is wrong."""
    body = json.loads(body_of(anna))
    raw = bytearray(payloads.from_base64(body["ciphertext"]))
    raw[20] ^= 1
    return pushed(anna, json.dumps({**body, "ciphertext": payloads.to_base64(bytes(raw))}), 1)


def with_no_ciphertext(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    return pushed(anna, json.dumps({**json.loads(body_of(anna)), "ciphertext": "no base64"}), 1)


def sent_once_more(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    body = body_of(anna)
    assert ben.read(pushed(anna, body, 1)) == "Hello"
    return pushed(anna, body, 2)


def sent_once_more_to_one_that_has_forgotten(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    item = sent_once_more(anna, ben, cleo)
    ben.restart()
    return item


def by_somebody_else(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    """Cleo says what Anna has encrypted."""
    return pushed(cleo, body_of(anna), 1)


def by_another_device(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    return pushed(anna, body_of(anna), 1, device="laptop")


def of_another_conversation(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    """Its sender has encrypted it with this conversation's session."""
    return pushed(anna, body_with(anna, content.encode_event(ELSEWHERE, kind="text", text="x", reply_to=None)), 1)


def with_an_unsigned_header(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    return msgspec.structs.replace(message(anna, "Hello", 1), signature=None)


def with_a_header_signed_by_another(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    item = message(anna, "Hello", 1)
    return msgspec.structs.replace(item, signature=cleo.identity.sign(item.header.encode()))


def with_a_changed_header(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    """It would count as unread, or not."""
    item = message(anna, "Hello", 1)
    return msgspec.structs.replace(item, header=item.header.replace('"n":true', '"n":false'))


def with_a_header_of_another_body(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    return pushed(anna, body_of(anna), 1, digest=payloads.digest_of("another"))


def with_a_header_of_another_conversation(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    return pushed(anna, body_of(anna), 1, conversation=ELSEWHERE)


def in_clear(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    return pushed(anna, encode_body("Hello", kind="text", reply_to=None), 1)


def encrypted_in_another_way(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    return pushed(anna, json.dumps({**json.loads(body_of(anna)), "algorithm": "m.megolm.v2"}), 1)


def with_no_object_in_it(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    event = {"type": "m.room.message", "room_id": matrix.room_id(TALK), "content": "Hello"}
    return pushed(anna, body_with(anna, json.dumps(event).encode()), 1)


def without_content(anna: Device, ben: Device, cleo: Device) -> wire.Message:
    return pushed(anna, body_with(anna, json.dumps({"room_id": matrix.room_id(TALK)}).encode()), 1)


_FAULTS: list[tuple[str, Forge]] = [
    ("no_key", without_a_key),
    ("no_key", with_a_later_key),
    ("unknown_device", by_a_device_that_nobody_knows),
    ("unknown_device", by_a_device_that_has_another_key),
    ("tampered", with_another_ciphertext),
    ("tampered", with_no_ciphertext),
    ("replayed", sent_once_more),
    ("replayed", sent_once_more_to_one_that_has_forgotten),
    ("no_key", by_somebody_else),
    ("unknown_device", by_another_device),
    ("wrong_conversation", of_another_conversation),
    ("forged_header", with_an_unsigned_header),
    ("forged_header", with_a_header_signed_by_another),
    ("forged_header", with_a_changed_header),
    ("forged_header", with_a_header_of_another_body),
    ("forged_header", with_a_header_of_another_conversation),
    ("not_encrypted", in_clear),
    ("not_encrypted", encrypted_in_another_way),
    ("malformed", with_no_object_in_it),
    ("malformed", without_content),
]


def test_every_reason_has_a_message_with_just_this_fault() -> None:
    assert {reason for reason, _ in _FAULTS} == FORGED | {"no_key", "unknown_device"}


@pytest.mark.parametrize(("reason", "forge"), _FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_wrong_with_a_message_has_a_name(
    talk: tuple[Device, Device, Device], reason: str, forge: Forge
) -> None:
    """I5, I12: it says nothing, whenever it is read; the next message is read."""
    anna, ben, cleo = talk
    item = forge(anna, ben, cleo)
    for _ in range(2):
        assert ben.read(item) == f"({reason})"
        ben.restart()
    prepare(cleo, talk)
    assert ben.read(message(cleo, "next", 3)) == "next"


def test_what_a_newer_client_says_is_believed_and_shown_as_far_as_it_is_known(
    talk: tuple[Device, Device, Device],
) -> None:
    """Of another kind, and without a text: it is no forgery."""
    anna, ben, _ = talk
    event = {"type": "m.reaction", "room_id": matrix.room_id(TALK), "content": {"m.relates_to": {"key": "+"}}}
    read = ben.machine.read(pushed(anna, body_with(anna, json.dumps(event).encode()), 1), "end_to_end")
    assert read.clear is not None
    assert (json.loads(read.clear)["kind"], json.loads(read.clear)["text"]) == ("m.reaction", "")


def test_wherever_the_server_changes_a_ciphertext_it_says_nothing(talk: tuple[Device, Device, Device]) -> None:
    """A change of the position may make it a message whose key is not there, one of the encoding the same ciphertext:
    then the header is not of this body."""
    anna, ben, _ = talk
    item = message(anna, "secret", 1)
    assert item.body is not None
    body = json.loads(item.body)
    raw = payloads.from_base64(body["ciphertext"])
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 0x40
        altered = json.dumps({**body, "ciphertext": payloads.to_base64(bytes(changed))})
        read = ben.read(msgspec.structs.replace(item, body=altered))
        assert read in ("(tampered)", "(no_key)", "(forged_header)")
    assert ben.read(item) == "secret"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_texts = st.fixed_dictionaries(
    {}, optional={"msgtype": st.text() | _json, "body": st.text() | _json, "signet.reply_to": st.integers() | _json}
)
_rooms = st.just(matrix.room_id(TALK)) | _json
_events = st.fixed_dictionaries({}, optional={"type": _json, "room_id": _rooms, "content": _texts | _json})


@pytest.fixture(scope="module")
def couple(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Device, Device]]:
    folder = tmp_path_factory.mktemp("couple")
    anna, ben = Device(folder, ANNA, "phone"), Device(folder, BEN, "phone")
    introduced(anna, ben)
    prepare(anna, [anna, ben])
    yield anna, ben
    anna.store.close()
    ben.store.close()


@given(event=(_events | _json).map(lambda event: json.dumps(event).encode()) | st.binary(max_size=40))
@settings(max_examples=200)
def test_whatever_is_encrypted_harms_nobody(couple: tuple[Device, Device], event: bytes) -> None:
    """I11: a member may encrypt anything; it says what a message says, or why it does not."""
    anna, ben = couple
    item = pushed(anna, body_with(anna, event), 1)
    read = ben.machine.read(item, "end_to_end")
    if read.clear is None:
        # Of the many that have the same seq here, each has a position of its own.
        assert read.reason in ("malformed", "wrong_conversation")
    else:
        assert json.loads(event)["content"].get("body", "") == json.loads(read.clear)["text"]


@given(
    body=st.text()
    | _json.map(json.dumps)
    | st.fixed_dictionaries(
        {"algorithm": st.just(matrix.MEGOLM), "ciphertext": st.text() | _json, "session_id": st.text() | _json}
    ).map(json.dumps)
)
def test_whatever_a_body_is_it_harms_nobody(couple: tuple[Device, Device], body: str) -> None:
    """I11."""
    anna, ben = couple
    assert ben.machine.read(pushed(anna, body, 1), "end_to_end").reason in ("not_encrypted", "no_key")


# Keys


def keys_for(sender: Device, reader: Device, key: matrix.Object) -> wire.Mail:
    return mail(sender.account, sender.machine.olm.encrypt(reader.peer, ROOM_KEY, key, SERVER))


def key_of(sender: Device) -> matrix.Object:
    outbound = sender.vault.outbound(TALK)
    assert outbound is not None
    return {
        "algorithm": matrix.MEGOLM,
        "room_id": matrix.room_id(TALK),
        "session_id": outbound.session.session_id,
        "session_key": outbound.session.session_key.to_base64(),
    }


def test_a_key_that_is_not_what_it_says_is_let_go(talk: tuple[Device, Device, Device]) -> None:
    anna, ben, cleo = talk
    anna.machine.megolm.begin(TALK)
    right = key_of(anna)
    other = key_of(cleo)
    wrong = [
        {**right, "algorithm": "?"},
        {**right, "session_id": other["session_id"]},
        {**right, "session_key": right["session_key"][:-8] + "AAAAAAAA"},
        {**right, "session_key": "?"},
        {**right, "session_key": 5},
        *({name: value for name, value in right.items() if name != left_out} for left_out in right),
    ]
    for key in wrong:
        assert not ben.machine.take_mail(keys_for(anna, ben, key))
    item = message(anna, "Hello", 1)
    assert ben.read(item) == "(no_key)"
    assert ben.machine.take_mail(keys_for(anna, ben, right)) == [(TALK, right["session_id"])]
    assert ben.read(item) == "Hello"


def test_a_key_in_clear_is_no_key(talk: tuple[Device, Device, Device]) -> None:
    anna, ben, _ = talk
    anna.machine.megolm.begin(TALK)
    assert not ben.machine.take_mail(mail(ANNA, key_of(anna), type_=ROOM_KEY))
    assert ben.read(message(anna, "Hello", 1)) == "(no_key)"


def test_a_key_that_somebody_else_gives_as_its_own_takes_nothing_away(talk: tuple[Device, Device, Device]) -> None:
    """I5, I12: Cleo has Anna's key, as a member, and gives it to Ben as her own, before or after Anna: Anna's messages
    are read, and are Anna's. What Cleo says after Anna is signed by Cleo."""
    anna, ben, cleo = talk
    ben.machine.take_mail(keys_for(cleo, ben, key_of(anna)))
    body = body_of(anna)
    assert ben.read(pushed(cleo, body, 1)) == "Hello"
    assert ben.read(pushed(anna, body, 2)) == "Hello"
    anna.machine.megolm.begin(TALK)
    ben.machine.take_mail(keys_for(cleo, ben, key_of(anna)))
    assert ben.read(message(anna, "Hello", 3)) == "(no_key)"
    ben.machine.take_mail(keys_for(anna, ben, key_of(anna)))
    assert ben.read(message(anna, "Hello", 4)) == "Hello"


def test_a_later_key_takes_nothing_away(talk: tuple[Device, Device, Device]) -> None:
    """I5: of two keys of a session the one that reads more is kept, in whatever order they come."""
    anna, ben, _ = talk
    anna.machine.megolm.begin(TALK)
    early = key_of(anna)
    item = message(anna, "Hello", 1)
    late = key_of(anna)
    assert ben.machine.take_mail(keys_for(anna, ben, late))
    assert ben.read(item) == "(no_key)"
    assert ben.machine.take_mail(keys_for(anna, ben, early)) == [(TALK, early["session_id"])]
    assert ben.read(item) == "Hello"
    assert not ben.machine.take_mail(keys_for(anna, ben, late))
    ben.restart()
    assert ben.read(item) == "Hello"


def test_mail_is_taken_once(talk: tuple[Device, Device, Device]) -> None:
    """It comes again until the device has said that it took it, also to a machine that was just made."""
    anna, ben, _ = talk
    anna.machine.megolm.begin(TALK)
    letter = keys_for(anna, ben, key_of(anna))
    assert ben.machine.take_mail(letter)
    assert not ben.machine.take_mail(letter)
    ben.settle()
    ben.restart()
    assert ben.machine.mail_taken == letter.n
    assert not ben.machine.take_mail(letter)


def test_mail_that_was_not_stored_is_not_taken(talk: tuple[Device, Device, Device]) -> None:
    """After a crash it comes again, and is opened again: the session is as it was, too."""
    anna, ben, _ = talk
    anna.machine.megolm.begin(TALK)
    letter = keys_for(anna, ben, key_of(anna))
    before = ben.machine.mail_taken
    for _ in range(3):
        assert ben.machine.take_mail(letter)
        ben.restart()
        assert ben.machine.mail_taken == before
    assert ben.machine.take_mail(letter)
    assert ben.read(message(anna, "Hello", 1)) == "Hello"


def test_mail_of_nobody_is_let_go(talk: tuple[Device, Device, Device]) -> None:
    anna, ben, _ = talk
    letter = keys_for(anna, ben, key_of(anna))
    assert not ben.machine.take_mail(msgspec.structs.replace(letter, sender="anna"))
    assert ben.machine.mail_taken == letter.n


# One's own keys


def wants_upload(device: Device) -> bool:
    return device.machine.wants_upload


def test_keys_are_published_when_they_run_short(anna: Device) -> None:
    """And those of an upload that nobody has confirmed go out once more, the very same."""
    machine = anna.machine
    machine.lose_connection()
    assert not wants_upload(anna), "the server has not said what it has"
    machine.hear_counts(wire.KeyCounts(left=50))
    assert not wants_upload(anna)
    machine.hear_counts(wire.KeyCounts(left=24))
    assert wants_upload(anna)
    first = machine.upload()
    assert len(first["one_time_keys"]) == 26
    assert "device_keys" not in first
    anna.settle()
    anna.restart()
    anna.machine.hear_counts(wire.KeyCounts(left=24))
    again = anna.machine.upload()
    assert again["one_time_keys"].keys() == first["one_time_keys"].keys()
    anna.machine.uploaded(50)
    assert not wants_upload(anna)


def test_keys_are_on_disk_before_they_leave(anna: Device, ben: Device, tmp_path: Path) -> None:
    """I1: what was published can be used by others, whatever happens to the device then."""
    folder = tmp_path / "copy"
    anna.keys.clear()
    anna.machine.hear_counts(wire.KeyCounts(left=0))
    body = anna.machine.upload()
    anna.settle()
    anna.copy(folder)
    anna.go_back(folder)
    anna.keys.update(body["one_time_keys"])
    introduced(anna, ben)
    prepare(ben, [anna, ben])
    assert anna.read(message(ben, "Hello", 1)) == "Hello"


def test_a_fallback_key_that_was_used_is_replaced(anna: Device) -> None:
    machine = anna.machine
    machine.hear_counts(wire.KeyCounts(left=50, fallback_used=True))
    assert machine.wants_upload
    body = machine.upload()
    assert not body["one_time_keys"]
    assert body["fallback_keys"].keys() != anna.fallback.keys()
    machine.uploaded(50)
    assert not machine.wants_upload


def test_a_device_without_keys_holds_nobody_up(anna: Device, ben: Device, cleo: Device) -> None:
    """It is left out until the next connection; what it missed it asks for."""
    introduced(anna, ben, cleo)
    members = [ANNA, BEN, CLEO]
    peers = anna.machine.without_session(anna.machine.unserved(TALK, members))
    anna.machine.begin(peers, claims([ben], peers))
    anna.machine.share(TALK, members)
    carry(anna, [ben, cleo])
    assert anna.machine.settle(TALK, members)
    item = message(anna, "Hello", 1)
    assert [ben.read(item), cleo.read(item)] == ["Hello", "(no_key)"]


def test_a_key_for_many_devices_goes_out_in_parts(anna: Device, ben: Device) -> None:
    """I11: no request grows without bound, and nobody is left out."""
    introduced(anna, ben)
    begin(anna, [ben.peer], [ben])
    many = [Peer(BEN, f"d{number}", ben.identity.key, ben.identity.curve25519) for number in range(250)]
    anna.vault.put_list(BEN, 2, many)
    anna.machine.share(TALK, [BEN])
    sizes = [sum(map(len, parcel.messages.values())) for parcel in anna.vault.parcels()]
    assert sizes == [PARCEL_DEVICES_MAX, PARCEL_DEVICES_MAX, 50]
    assert {address[1] for address, _ in letters(anna)} == {peer.device for peer in many}
    assert not anna.machine.unserved(TALK, [BEN])


# What was taken back


def rows(device: Device, table: str = "items") -> list[tuple[object, ...]]:
    return [tuple(row) for row in device.store.query(f"SELECT clear FROM {table}")]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_a_retraction_leaves_no_text_in_the_store(
    talk: tuple[Device, Device, Device], together: bool, own: bool
) -> None:
    """What was taken back is gone, also where the message and its retraction came at once."""
    anna, ben, _ = talk
    reader = anna if own else ben
    item = message(anna, "secret", 1)
    clear = reader.machine.read(item, "end_to_end").clear
    assert clear is not None
    retraction = wire.Change(c=TALK, seq=2, at=2, what="retracted", by=ANNA, id="r", target=1)
    if together:
        reader.store.commit(Batch(items=[item, retraction], clear={(TALK, 1): clear}))
    else:
        reader.store.commit(Batch(items=[item], clear={(TALK, 1): clear}))
        assert rows(reader) != [(None,)]
        reader.store.commit(Batch(items=[retraction]))
    assert rows(reader) == [(None,), (None,)]
    held = reader.store.held(TALK, after=0, limit=1)[0]
    assert isinstance(held.item, wire.Message)
    assert (held.item.body, held.item.retracted, held.clear) == (None, 2, None)
    encrypted = content.encrypted_of(item.body)
    assert encrypted is not None
    assert encrypted.ciphertext.encode() not in b"".join(
        bytes(row[0]) for row in reader.store.query("SELECT item FROM items")
    )


def test_what_a_page_says_was_retracted_leaves_no_text(talk: tuple[Device, Device, Device]) -> None:
    """The retraction itself the account may not see."""
    anna, ben, _ = talk
    item = message(anna, "secret", 1)
    clear = ben.machine.read(item, "end_to_end").clear
    assert clear is not None
    ben.store.commit(Batch(items=[item], clear={(TALK, 1): clear}, retracted=[(TALK, 1, 2)]))
    assert rows(ben) == [(None,)]


def test_a_forged_copy_takes_nothing_from_the_message_itself(talk: tuple[Device, Device, Device]) -> None:
    """I5: the server shows the ciphertext first in somebody else's name, or without a signature; what comes after it as
    its sender has sent it is read, and not called a replay."""
    anna, ben, cleo = talk
    for seq, forge in ((1, by_somebody_else), (3, with_an_unsigned_header)):
        copy = msgspec.structs.replace(forge(anna, ben, cleo), seq=seq)
        assert ben.read(copy) in ("(no_key)", "(forged_header)")
        assert copy.body is not None
        assert ben.read(pushed(anna, copy.body, seq + 1)) == "Hello"
        assert ben.read(pushed(anna, copy.body, seq + 2)) == "(replayed)"
