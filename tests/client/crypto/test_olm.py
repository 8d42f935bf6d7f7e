"""I12: what one device says to another is read by that one alone, and believed of nobody else; a session that is broken
heals."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signet_client import matrix, payloads
from signet_client.crypto.machine import DUMMY, REQUEST, ROOM_KEY
from signet_client.crypto.olm import OlmFailed, Opened
from signet_client.crypto.vault import Peer
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

ELSEWHERE = "44444444-4444-4444-8444-444444444444"


def say(sender: Device, to: Device, word: str) -> matrix.Object:
    content = sender.machine.olm.encrypt(to.peer, "word", {"word": word}, SERVER)
    sender.settle()
    return content


def hear(device: Device, sender: str, content: matrix.Object) -> Opened:
    opened = device.machine.olm.decrypt(sender, content, SERVER)
    device.settle()
    return opened


def heard(device: Device, sender: Device, content: matrix.Object) -> str:
    opened = hear(device, sender.account, content)
    assert (opened.type, opened.sender) == ("word", sender.peer)
    return str(opened.content["word"])


def event(author: Device, reader: Device, **changes: object) -> matrix.Object:
    """The encrypted part of a message from one to the other, with something else in it."""
    return {
        "type": "word",
        "content": {"word": "?"},
        "sender": author.user,
        "keys": {"ed25519": author.identity.key},
        "recipient": reader.user,
        "recipient_keys": {"ed25519": reader.identity.key},
        "sender_device_keys": author.device_keys(),
        **changes,
    }


def encrypted(author: Device, reader: Device, plain: bytes) -> matrix.Object:
    """Whatever a device may encrypt with the session that it has."""
    session = author.vault.olm_sessions(reader.account, reader.identity.curve25519)[0]
    kind, ciphertext = session.encrypt(plain).to_parts()
    author.vault.put_olm(reader.account, reader.identity.curve25519, session)
    author.settle()
    return {
        "algorithm": matrix.OLM,
        "sender_key": author.identity.curve25519,
        "ciphertext": {reader.identity.curve25519: {"type": kind, "body": payloads.to_base64(ciphertext)}},
    }


def forged(author: Device, reader: Device, **changes: object) -> matrix.Object:
    return encrypted(author, reader, json.dumps(event(author, reader, **changes)).encode())


@pytest.fixture
def pair(anna: Device, ben: Device) -> tuple[Device, Device]:
    """Anna has begun a session with Ben."""
    introduced(anna, ben)
    begin(anna, [ben.peer], [ben])
    return anna, ben


@pytest.mark.parametrize("restarting", [False, True])
def test_many_messages_both_ways(pair: tuple[Device, Device], restarting: bool) -> None:
    """Also where each message is read by a machine that was just made."""
    anna, ben = pair
    for number in range(60):
        sender, reader = (anna, ben) if number % 7 < 4 else (ben, anna)
        content = say(sender, reader, f"m{number}")
        if restarting:
            sender.restart()
            reader.restart()
        assert heard(reader, sender, content) == f"m{number}"


def test_messages_change_places_on_their_way(pair: tuple[Device, Device]) -> None:
    anna, ben = pair
    contents = [say(anna, ben, f"m{number}") for number in range(20)]
    words = [heard(ben, anna, content) for content in reversed(contents)]
    assert words == [f"m{number}" for number in reversed(range(20))]


def test_both_begin_at_once(anna: Device, ben: Device) -> None:
    """Each reads what the other has said by its own session, and both go on with one of them."""
    introduced(anna, ben)
    begin(anna, [ben.peer], [ben])
    begin(ben, [anna.peer], [anna])
    by_anna, by_ben = say(anna, ben, "a"), say(ben, anna, "b")
    assert heard(ben, anna, by_anna) == "a"
    assert heard(anna, ben, by_ben) == "b"
    for number in range(10):
        assert heard(ben, anna, say(anna, ben, f"a{number}")) == f"a{number}"
        assert heard(anna, ben, say(ben, anna, f"b{number}")) == f"b{number}"


def test_a_session_is_begun_by_the_fallback_key_where_no_other_is_left(anna: Device, ben: Device) -> None:
    introduced(anna, ben)
    ben.keys.clear()
    begin(anna, [ben.peer], [ben])
    assert heard(ben, anna, say(anna, ben, "Hello")) == "Hello"


def test_a_one_time_key_is_used_up(pair: tuple[Device, Device]) -> None:
    """The first message that began a session begins no second one, also not in a store that was opened anew."""
    anna, ben = pair
    content = say(anna, ben, "Hello")
    assert heard(ben, anna, content) == "Hello"
    ben.store.write("DELETE FROM olm_sessions")
    ben.settle()
    ben.restart()
    with pytest.raises(OlmFailed, match="no session can be made of it"):
        hear(ben, ANNA, content)


@pytest.mark.parametrize("established", [False, True])
def test_a_message_that_was_tampered_with_is_refused(pair: tuple[Device, Device], established: bool) -> None:
    """Wherever it was changed; the message itself can be read after all attempts."""
    anna, ben = pair
    if established:
        assert heard(ben, anna, say(anna, ben, "Hello")) == "Hello"
        assert heard(anna, ben, say(ben, anna, "Hello")) == "Hello"
    content = say(anna, ben, "secret")
    [(key, part)] = content["ciphertext"].items()
    body = payloads.from_base64(part["body"])
    for at in range(0, len(body), 5):
        changed = bytearray(body)
        changed[at] ^= 0x10
        altered = {**content, "ciphertext": {key: {**part, "body": payloads.to_base64(bytes(changed))}}}
        with pytest.raises(OlmFailed):
            hear(ben, ANNA, altered)
    assert heard(ben, anna, content) == "secret"


@pytest.mark.parametrize("established", [False, True])
def test_a_replayed_message_is_refused(pair: tuple[Device, Device], established: bool) -> None:
    anna, ben = pair
    if established:
        assert heard(ben, anna, say(anna, ben, "Hello")) == "Hello"
        assert heard(anna, ben, say(ben, anna, "Hello")) == "Hello"
    content = say(anna, ben, "once")
    assert heard(ben, anna, content) == "once"
    for _ in range(2):
        with pytest.raises(OlmFailed):
            hear(ben, ANNA, content)
        ben.restart()


def test_a_message_in_anothers_name_is_refused(pair: tuple[Device, Device], cleo: Device) -> None:
    """The server says that Cleo has sent what Anna has."""
    anna, ben = pair
    take(ben, listed([cleo]))
    with pytest.raises(OlmFailed, match="sent by somebody else"):
        hear(ben, CLEO, say(anna, ben, "I am Cleo"))


def test_a_message_that_claims_anothers_name_is_refused(pair: tuple[Device, Device], cleo: Device) -> None:
    """Anna says so herself, and the server with her."""
    anna, ben = pair
    take(ben, listed([cleo]))
    for changes in ({"sender": cleo.user}, {"sender": cleo.user, "sender_device_keys": cleo.device_keys()}):
        for keys in ({}, {"keys": {"ed25519": cleo.identity.key}}):
            for named in (ANNA, CLEO):
                with pytest.raises(OlmFailed):
                    hear(ben, named, forged(anna, ben, **changes, **keys))


def test_a_message_for_another_device_is_refused(pair: tuple[Device, Device], cleo: Device, tmp_path: Path) -> None:
    """Handed to one for whom it holds nothing; or meant for somebody else inside."""
    anna, ben = pair
    with pytest.raises(OlmFailed, match="not for this device"):
        hear(cleo, ANNA, say(anna, ben, "to Ben"))
    tablet = Device(tmp_path, BEN, "tablet", linked_by=ben)
    for other in (Peer(CLEO, "phone", ben.identity.key, ben.identity.curve25519), tablet.peer):
        meant = other._replace(curve25519=ben.identity.curve25519)
        session = anna.vault.olm_sessions(BEN, meant.curve25519)[0]
        anna.vault.put_olm(meant.account, meant.curve25519, session)
        content = anna.machine.olm.encrypt(meant, "word", {}, SERVER)
        anna.vault.put_olm(BEN, meant.curve25519, anna.vault.olm_sessions(meant.account, meant.curve25519)[0])
        with pytest.raises(OlmFailed, match="meant for somebody else"):
            hear(ben, ANNA, content)


def test_a_message_of_a_device_with_other_keys_is_refused(pair: tuple[Device, Device], cleo: Device) -> None:
    """It names an Ed25519 key that is not the device's."""
    anna, ben = pair
    with pytest.raises(OlmFailed, match="its keys are not those of the device"):
        hear(ben, ANNA, forged(anna, ben, keys={"ed25519": cleo.identity.key}))


def test_who_is_not_pinned_shows_and_signs_its_keys(anna: Device, ben: Device, cleo: Device) -> None:
    """Keys that are missing, of another device, of another user, or not signed make nobody."""
    take(anna, listed([ben]))
    begin(anna, [ben.peer], [ben])
    unsigned = {**anna.device_keys(), "signatures": {}}
    other_device = {**anna.device_keys(), "device_id": "laptop"}
    for keys in (None, 5, {}, unsigned, other_device, cleo.device_keys(), ben.device_keys()):
        with pytest.raises(OlmFailed, match="its device"):
            hear(ben, ANNA, forged(anna, ben, sender_device_keys=keys))
    assert hear(ben, ANNA, forged(anna, ben)).sender == anna.peer


def test_nobody_takes_the_name_of_a_pinned_device(anna: Device, ben: Device, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    stranger = Device(folder, ANNA, "phone")
    take(ben, listed([anna]))
    take(stranger, listed([ben]))
    begin(stranger, [ben.peer], [ben])
    with pytest.raises(OlmFailed, match="its device is unknown"):
        hear(ben, ANNA, say(stranger, ben, "I am Anna's phone"))


_PARTS = ("type", "content", "sender", "keys", "recipient", "recipient_keys")
_WRONG: tuple[object, ...] = (None, 5, [], {}, "?")


@pytest.mark.parametrize(("part", "wrong"), list(itertools.product(_PARTS, _WRONG)), ids=str)
def test_an_event_that_lacks_something_is_refused(pair: tuple[Device, Device], part: str, wrong: object) -> None:
    anna, ben = pair
    content = forged(anna, ben, **{part: wrong})
    if (part, wrong) in (("content", {}), ("type", "?")):
        assert hear(ben, ANNA, content).sender == anna.peer
    else:
        with pytest.raises(OlmFailed):
            hear(ben, ANNA, content)


@pytest.mark.parametrize("plain", [b"", b"[]", b"5", b"\xff", b"{", b"[" * 5_000])
def test_what_is_no_event_is_refused(pair: tuple[Device, Device], plain: bytes) -> None:
    anna, ben = pair
    with pytest.raises(OlmFailed, match="no event"):
        hear(ben, ANNA, encrypted(anna, ben, plain))


# One-time keys


def signed_by_another(ben: Device, cleo: Device) -> matrix.Object:
    """A key of Cleo's, in Ben's name."""
    [key] = cleo.claimed().values()
    return {
        "key": key["key"],
        "signatures": {ben.user: {"ed25519:phone": key["signatures"][cleo.user]["ed25519:phone"]}},
    }


def with_another_key(ben: Device, cleo: Device) -> matrix.Object:
    """Ben's signature, over another key."""
    [key] = ben.claimed().values()
    [other] = cleo.claimed().values()
    return {**key, "key": other["key"]}


def without_signature(ben: Device, cleo: Device) -> matrix.Object:
    [key] = ben.claimed().values()
    return {"key": key["key"]}


def of_another_device(ben: Device, cleo: Device) -> matrix.Object:
    [key] = cleo.claimed().values()
    return key


def no_key(ben: Device, cleo: Device) -> matrix.Object:
    return ben.identity.sign_object({"key": "AAAA"}, user=ben.user, device=ben.name)


def all_zeros(ben: Device, cleo: Device) -> matrix.Object:
    """A key with which anybody knows the outcome, signed by Ben."""
    zeros = payloads.to_base64(bytes(32))
    return ben.identity.sign_object({"key": zeros}, user=ben.user, device=ben.name)


@pytest.mark.parametrize(
    "forge", [signed_by_another, with_another_key, without_signature, of_another_device, no_key, all_zeros]
)
def test_a_forged_one_time_key_makes_no_session(anna: Device, ben: Device, cleo: Device, forge: Any) -> None:
    """I12: nothing is encrypted with it; until it connects anew the device leaves the other out, and goes on."""
    introduced(anna, ben)
    machine = anna.machine
    machine.begin([ben.peer], {ben.user: {"phone": {"signed_curve25519:AAAA": forge(ben, cleo)}}})
    assert not machine.olm.has_session(ben.peer)
    machine.share(TALK, [ANNA, BEN])
    assert not letters(anna)
    assert machine.settle(TALK, [ANNA, BEN]), "the others are not held up by it"
    assert not machine.without_session([ben.peer])
    machine.lose_connection()
    assert machine.without_session([ben.peer]) == [ben.peer]
    introduced(anna, ben)
    prepare(anna, [anna, ben])
    assert ben.read(message(anna, "Hello", 1)) == "Hello"


def test_of_several_keys_one_that_is_good_is_enough(anna: Device, ben: Device, cleo: Device) -> None:
    introduced(anna, ben)
    keys = {"signed_curve25519:A": without_signature(ben, cleo), **ben.claimed()}
    anna.machine.begin([ben.peer], {ben.user: {"phone": keys}})
    assert heard(ben, anna, say(anna, ben, "Hello")) == "Hello"


# Sessions that break


def talk(anna: Device, ben: Device, rounds: int) -> None:
    for number in range(rounds):
        assert heard(ben, anna, say(anna, ben, f"a{number}")) == f"a{number}"
        assert heard(anna, ben, say(ben, anna, f"b{number}")) == f"b{number}"


def test_a_session_heals_when_the_readers_store_was_rolled_back(pair: tuple[Device, Device], tmp_path: Path) -> None:
    """I5: the reader notices it, begins a new session and says so; the next key comes. What was sent in the meantime is
    asked for."""
    anna, ben = pair
    talk(anna, ben, 2)
    ben.copy(tmp_path / "earlier")
    talk(anna, ben, 2)
    ben.go_back(tmp_path / "earlier")

    prepare(anna, [anna, ben])
    lost = message(anna, "lost", 1)
    assert ben.machine.wedged == {anna.peer}
    assert ben.machine.has_errands
    assert ben.machine.without_session([anna.peer]) == [anna.peer]
    begin(ben, sorted(ben.machine.wedged), [anna])
    assert not ben.machine.wedged
    [(address, dummy)] = letters(ben)
    assert address == (ANNA, "phone")
    assert hear(anna, BEN, json.loads(dummy.content)).type == DUMMY

    prepare(anna, [anna, ben], c=ELSEWHERE)
    assert ben.read(message(anna, "here again", 1, c=ELSEWHERE)) == "here again"
    assert ben.read(lost) == "(no_key)"
    talk(anna, ben, 2)


def test_a_session_heals_when_the_senders_store_was_rolled_back(pair: tuple[Device, Device], tmp_path: Path) -> None:
    anna, ben = pair
    talk(anna, ben, 2)
    ben.copy(tmp_path / "earlier")
    assert heard(anna, ben, say(ben, anna, "said and forgotten")) == "said and forgotten"
    ben.go_back(tmp_path / "earlier")

    introduced(ben, anna)
    prepare(ben, [anna, ben])
    assert anna.machine.wedged == {ben.peer}
    begin(anna, sorted(anna.machine.wedged), [ben])
    carry(anna, [ben])
    prepare(ben, [anna, ben], c=ELSEWHERE)
    assert anna.read(message(ben, "here again", 1, c=ELSEWHERE)) == "here again"
    talk(anna, ben, 2)


def test_first_contact_with_a_key_that_is_gone_heals(anna: Device, ben: Device, tmp_path: Path) -> None:
    """The store was rolled back to before the key was made with which the other begins."""
    introduced(anna, ben)
    ben.copy(tmp_path / "earlier")
    ben.keys.clear()
    ben.publish()
    begin(anna, [ben.peer], [ben])
    ben.go_back(tmp_path / "earlier")
    prepare(anna, [anna, ben])
    assert ben.machine.wedged == {anna.peer}
    begin(ben, sorted(ben.machine.wedged), [anna])
    carry(ben, [anna])
    prepare(anna, [anna, ben], c=ELSEWHERE)
    assert ben.read(message(anna, "Hello", 1, c=ELSEWHERE)) == "Hello"


def test_a_session_is_given_up_once_an_hour_at_most(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I11: whoever sends what can't be read, makes nobody claim keys all the time."""
    anna, ben = pair
    hours = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: next(hours) * 1_200.0)
    content = say(anna, ben, "Hello")
    assert heard(ben, anna, content) == "Hello"
    named = []
    for _ in range(9):
        ben.machine.take_mail(mail(ANNA, content))
        named.append(bool(ben.machine.wedged))
        ben.machine.wedged.clear()
    assert named == [True, False, False, False, True, False, False, False, True]


def test_nobody_breaks_anothers_session(pair: tuple[Device, Device], cleo: Device) -> None:
    """I11: mail that names Anna's key, of somebody else."""
    anna, ben = pair
    talk(anna, ben, 1)
    content = say(anna, ben, "Hello")
    [(key, part)] = content["ciphertext"].items()
    broken = {**content, "ciphertext": {key: {**part, "body": part["body"][:-4] + "AAAA"}}}
    take(ben, listed([cleo]))
    ben.machine.take_mail(mail(CLEO, broken))
    assert not ben.machine.wedged


# What anybody may send

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def couple(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Device, Device]]:
    folder = tmp_path_factory.mktemp("couple")
    anna, ben = Device(folder, ANNA, "phone"), Device(folder, BEN, "phone")
    introduced(anna, ben)
    begin(anna, [ben.peer], [ben])
    yield anna, ben
    anna.store.close()
    ben.store.close()


def _mails(ben: Device) -> st.SearchStrategy[tuple[str, str]]:
    part = st.fixed_dictionaries({}, optional={"type": _json | st.integers(-3, 3), "body": _json | st.just("AAAA")})
    content = st.fixed_dictionaries(
        {},
        optional={
            "algorithm": st.just(matrix.OLM) | _json,
            "sender_key": st.just(ben.identity.curve25519) | _json,
            "ciphertext": st.just(ben.identity.curve25519).flatmap(lambda key: st.fixed_dictionaries({key: part}))
            | _json,
        },
    )
    wanted = st.fixed_dictionaries({}, optional={"room_id": _json, "session_id": _json})
    request = st.fixed_dictionaries(
        {},
        optional={"action": st.just("request") | _json, "requesting_device_id": _json, "body": wanted | _json},
    )
    types = st.sampled_from(["m.room.encrypted", REQUEST, ROOM_KEY, "?"])
    return st.tuples(types, (content | request | _json).map(json.dumps) | st.text())


@given(st.data())
@settings(max_examples=300)
def test_no_mail_harms_who_gets_it(couple: tuple[Device, Device], data: st.DataObject) -> None:
    """I11: whatever it holds, it is let go, and the next one is read."""
    anna, ben = couple
    type_, content = data.draw(_mails(ben))
    letter = mail(ANNA, {}, type_=type_)
    assert not ben.machine.take_mail(type(letter)(n=letter.n, type=type_, sender=letter.sender, content=content))
    assert heard(ben, anna, say(anna, ben, "Hello")) == "Hello"


@given(st.data())
@settings(max_examples=300)
def test_no_encrypted_event_harms_who_gets_it(couple: tuple[Device, Device], data: st.DataObject) -> None:
    """I11: also from a device that one has a session with."""
    anna, ben = couple
    types = st.sampled_from([ROOM_KEY, "m.forwarded_room_key", DUMMY, "?"])
    names = ("algorithm", "room_id", "session_id", "session_key", "signet.account", "signet.device")
    content = st.fixed_dictionaries({}, optional=dict.fromkeys(names, _json))
    optional: dict[str, Any] = {"type": types | _json, "content": content | _json, "sender_device_keys": _json}
    changes = data.draw(st.fixed_dictionaries({}, optional=optional))
    assert not ben.machine.take_mail(mail(ANNA, forged(anna, ben, **changes)))
    assert heard(ben, anna, say(anna, ben, "Hello")) == "Hello"


@pytest.mark.parametrize("kind", [-1, 2**64, 1e300])
def test_a_type_that_is_no_small_number_harms_nobody(pair: tuple[Device, Device], kind: float) -> None:
    """I11: the mail is let go; it would come again and again."""
    anna, ben = pair
    content = say(anna, ben, "Hello")
    [part] = content["ciphertext"].values()
    part["type"] = kind
    assert not ben.machine.take_mail(mail(ANNA, content))
    assert ben.machine.mail_taken


def test_keys_that_are_nested_deep_harm_nobody(anna: Device, ben: Device) -> None:
    """I11: what a JSON decoder has taken in, the code of canonical JSON takes as well, or refuses it."""
    take(anna, listed([ben]))
    begin(anna, [ben.peer], [ben])
    for depth in range(0, 1_500, 25):
        plain = json.dumps(event(anna, ben, sender_device_keys={**anna.device_keys(), "more": "deep"}))
        nested = plain.replace('"deep"', "[" * depth + "]" * depth)
        assert not ben.machine.take_mail(mail(ANNA, encrypted(anna, ben, nested.encode())))
        assert ben.machine.mail_taken
