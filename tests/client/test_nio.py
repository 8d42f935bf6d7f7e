"""A client of another make, matrix-nio, reads what this client encrypts, and the other way round."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from nio.events import DummyEvent, RoomKeyEvent, RoomMessageEmote, RoomMessageText

from signet_client import matrix, payloads
from signet_client.messages import Body
from tests.client.fake import TALK
from tests.client.makers import NIO_DEVICE, NIO_USER, OUR_DEVICE, OUR_USER, Nio, Object, Ours

ELSEWHERE = "44444444-4444-4444-8444-444444444444"
PRE_KEY, NORMAL = 0, 1
"""What begins an Olm session, and what belongs to one that both sides have."""

BYTES = pytest.mark.parametrize("position", [0, 1, 2, 20, -70, -1])
"""Where a ciphertext is changed: from its version to its MAC or signature."""


@pytest.fixture
def ours(path: Path) -> Iterator[Ours]:
    device = Ours(path)
    yield device
    device.close()


@pytest.fixture
def nio(tmp_path: Path) -> Iterator[Nio]:
    device = Nio(tmp_path)
    yield device
    device.close()


@pytest.fixture
def acquainted(ours: Ours, nio: Nio) -> None:
    """Each has the other one's device list."""
    assert not ours.learn(nio.uploaded["device_keys"])
    assert nio.learn(ours.uploaded["device_keys"])


@pytest.fixture
def talking(ours: Ours, nio: Nio, acquainted: None) -> None:
    """There is an Olm session which both have used, and each has the other one's key of the conversation."""
    assert ours.begin(claim(nio.uploaded["one_time_keys"]))
    assert nio.take(ours.share(TALK))
    assert ours.take(nio.share(TALK))


def claim(keys: Object, number: int = 0) -> Object:
    """What a claim gives of a device's keys."""
    return dict([list(keys.items())[number]])


def kind_of(mail: Object) -> int:
    (ciphertext,) = mail["ciphertext"].values()
    kind: int = ciphertext["type"]
    return kind


def flipped(text: str, position: int) -> str:
    """Unpadded base64 with one bit changed."""
    raw = bytearray(payloads.from_base64(text))
    raw[position] ^= 1
    return payloads.to_base64(bytes(raw))


def tampered(mail: Object, position: int) -> Object:
    ((key, ciphertext),) = mail["ciphertext"].items()
    return {**mail, "ciphertext": {key: {**ciphertext, "body": flipped(ciphertext["body"], position)}}}


def text(read: Body | str | None) -> str:
    assert isinstance(read, Body), read
    return read.text


# Keys


@pytest.mark.parametrize("keys", ["one_time_keys", "fallback_keys"])
def test_nio_takes_our_keys(ours: Ours, nio: Nio, keys: str) -> None:
    device = nio.learn(ours.uploaded["device_keys"])
    assert (device.ed25519, device.curve25519) == (ours.machine.me.ed25519, ours.machine.me.curve25519)
    assert nio.begin(claim(ours.uploaded[keys]))


def test_we_take_nios_keys(ours: Ours, nio: Nio) -> None:
    named, identity = nio.uploaded["device_keys"], nio.olm.account.identity_keys
    keys = (identity["ed25519"], identity["curve25519"])
    assert matrix.check_device_keys(named, user=NIO_USER, device=NIO_DEVICE) == keys
    assert not ours.learn(named)
    assert (ours.other.ed25519, ours.other.curve25519) == keys
    assert ours.begin(claim(nio.uploaded["one_time_keys"]))


def test_forged_device_keys_are_refused(ours: Ours, nio: Nio) -> None:
    """Neither takes a key that the device itself has not signed."""
    ours.uploaded["device_keys"]["keys"][f"curve25519:{OUR_DEVICE}"] = nio.olm.account.identity_keys["curve25519"]
    assert nio.learn(ours.uploaded["device_keys"]) is None
    nio.uploaded["device_keys"]["keys"][f"curve25519:{NIO_DEVICE}"] = ours.machine.me.curve25519
    (refused,) = ours.learn(nio.uploaded["device_keys"])
    assert refused.why == f"the signature is not by {NIO_DEVICE}"


@pytest.mark.usefixtures("acquainted")
def test_forged_one_time_keys_are_refused(ours: Ours, nio: Nio) -> None:
    """Neither begins a session with a key that the device itself has not signed."""
    (of_ours,), (of_nio,) = (
        claim(ours.uploaded["one_time_keys"]).values(),
        claim(nio.uploaded["one_time_keys"]).values(),
    )
    id_ = "signed_curve25519:AAAAAA"
    assert not nio.begin({id_: {**of_ours, "key": of_nio["key"]}})
    assert not ours.begin({id_: {**of_nio, "key": of_ours["key"]}})


# Messages


@pytest.mark.usefixtures("acquainted")
def test_nio_reads_what_we_encrypt(ours: Ours, nio: Nio) -> None:
    # given
    assert ours.begin(claim(nio.uploaded["one_time_keys"]))
    # when
    key = nio.take(ours.share(TALK))
    content = ours.encrypt(TALK, "Grüße 👋")
    # then
    assert isinstance(key, RoomKeyEvent)
    assert (key.sender, key.room_id) == (OUR_USER, matrix.room_id(TALK))
    assert key.session_id == content["session_id"]
    event = nio.read(TALK, 1, content)
    assert isinstance(event, RoomMessageText)
    assert (event.sender, event.body) == (OUR_USER, "Grüße 👋")
    assert event.verified, "it is of the device that the list names"
    waves = nio.read(TALK, 2, ours.encrypt(TALK, "waves", kind="action"))
    assert isinstance(waves, RoomMessageEmote)
    assert waves.body == "waves"


@pytest.mark.usefixtures("acquainted")
@pytest.mark.parametrize("keys", ["one_time_keys", "fallback_keys"])
def test_we_read_what_nio_encrypts(ours: Ours, nio: Nio, keys: str) -> None:
    # given
    assert nio.begin(claim(ours.uploaded[keys]))
    # when
    sessions = ours.take(nio.share(TALK))
    content = nio.encrypt(TALK, "Grüße 👋")
    # then
    assert sessions == [(TALK, content["session_id"])]
    body = ours.read(nio.message(TALK, 1, content))
    assert isinstance(body, Body)
    assert (body.kind, body.text) == ("text", "Grüße 👋")


@pytest.mark.usefixtures("talking")
def test_sessions_go_on(ours: Ours, nio: Nio) -> None:
    """Many messages by one session each way, also out of order; then keys of another conversation by the same Olm
    session, which nobody begins anew."""
    for seq in range(1, 9, 2):
        first, second = (nio.message(TALK, seq + more, nio.encrypt(TALK, f"nio's {seq + more}")) for more in (0, 1))
        assert [text(ours.read(second)), text(ours.read(first))] == [f"nio's {seq + 1}", f"nio's {seq}"]
        contents = [ours.encrypt(TALK, f"ours {seq + more}") for more in (0, 1)]
        assert nio.read(TALK, seq + 1, contents[1]).body == f"ours {seq + 1}"
        assert nio.read(TALK, seq, contents[0]).body == f"ours {seq}"

    from_nio, from_us = nio.share(ELSEWHERE), ours.share(ELSEWHERE)
    assert (kind_of(from_nio), kind_of(from_us)) == (NORMAL, NORMAL)
    assert nio.take(from_us).room_id == matrix.room_id(ELSEWHERE)
    assert [conversation for conversation, _ in ours.take(from_nio)] == [ELSEWHERE]
    assert text(ours.read(nio.message(ELSEWHERE, 1, nio.encrypt(ELSEWHERE, "there")))) == "there"
    assert nio.read(ELSEWHERE, 1, ours.encrypt(ELSEWHERE, "and back")).body == "and back"


@pytest.mark.usefixtures("acquainted")
def test_both_begin_at_once(ours: Ours, nio: Nio) -> None:
    """Two Olm sessions: whichever a side uses, the other one has it."""
    # given
    assert ours.begin(claim(nio.uploaded["one_time_keys"]))
    assert nio.begin(claim(ours.uploaded["one_time_keys"]))
    from_us, from_nio = ours.share(TALK), nio.share(TALK)
    assert (kind_of(from_us), kind_of(from_nio)) == (PRE_KEY, PRE_KEY)
    # when
    assert nio.take(from_us)
    assert ours.take(from_nio)
    # then
    assert nio.take(ours.share(ELSEWHERE))
    assert ours.take(nio.share(ELSEWHERE))
    assert nio.read(TALK, 1, ours.encrypt(TALK, "ours")).body == "ours"
    assert text(ours.read(nio.message(TALK, 1, nio.encrypt(TALK, "nio's")))) == "nio's"


# What a server changes


@BYTES
@pytest.mark.usefixtures("talking")
def test_tampered_messages_are_refused(ours: Ours, nio: Nio, position: int) -> None:
    """And spoil nothing: as it was sent, each is read."""
    content = ours.encrypt(TALK, "ours")
    assert nio.read(TALK, 1, {**content, "ciphertext": flipped(content["ciphertext"], position)}) is None
    assert nio.read(TALK, 1, content).body == "ours"
    content = nio.encrypt(TALK, "nio's")
    changed = {**content, "ciphertext": flipped(content["ciphertext"], position)}
    assert ours.read(nio.message(TALK, 1, changed)) == "tampered"
    assert text(ours.read(nio.message(TALK, 1, content))) == "nio's"


@pytest.mark.usefixtures("talking")
def test_a_message_under_another_ones_id_is_refused(ours: Ours, nio: Nio) -> None:
    content = ours.encrypt(TALK, "ours")
    assert nio.read(TALK, 1, content).body == "ours"
    assert nio.read(TALK, 2, content) is None
    content = nio.encrypt(TALK, "nio's")
    assert text(ours.read(nio.message(TALK, 1, content))) == "nio's"
    assert ours.read(nio.message(TALK, 2, content)) == "replayed"


@BYTES
@pytest.mark.usefixtures("acquainted")
def test_tampered_first_mail_is_refused(ours: Ours, nio: Nio, position: int) -> None:
    """And uses up no one-time key: as it was sent, each is taken."""
    assert ours.begin(claim(nio.uploaded["one_time_keys"]))
    assert nio.begin(claim(ours.uploaded["one_time_keys"]))
    from_us, from_nio = ours.share(TALK), nio.share(TALK)
    assert (kind_of(from_us), kind_of(from_nio)) == (PRE_KEY, PRE_KEY)
    assert nio.take(tampered(from_us, position)) is None
    assert nio.take(from_us)
    assert not ours.take(tampered(from_nio, position))
    assert ours.take(from_nio)


@BYTES
@pytest.mark.usefixtures("talking")
def test_tampered_mail_is_refused(ours: Ours, nio: Nio, position: int) -> None:
    """Also in a session that both have."""
    mail = ours.share(ELSEWHERE)
    assert kind_of(mail) == NORMAL
    assert nio.take(tampered(mail, position)) is None
    assert nio.take(mail)
    mail = nio.share(ELSEWHERE)
    assert kind_of(mail) == NORMAL
    assert not ours.take(tampered(mail, position))
    assert ours.take(mail)


@pytest.mark.usefixtures("talking")
def test_a_broken_session_is_renewed(ours: Ours, nio: Nio) -> None:
    """nio takes the `m.dummy` by which it hears of the new session, and writes in that one."""
    # given
    broken = ours.olm_session
    assert not ours.take(tampered(nio.share(ELSEWHERE), -1))
    assert ours.machine.without_session([ours.other]) == [ours.other]
    # when
    assert ours.begin(claim(nio.uploaded["one_time_keys"], 1))
    mail = ours.mail()
    # then
    assert kind_of(mail) == PRE_KEY
    assert isinstance(nio.take(mail), DummyEvent)
    assert nio.olm_session == ours.olm_session != broken
    nio.olm.create_outbound_group_session(matrix.room_id(ELSEWHERE))
    assert ours.take(nio.share(ELSEWHERE))
    assert text(ours.read(nio.message(ELSEWHERE, 1, nio.encrypt(ELSEWHERE, "there")))) == "there"
