"""Sealed texts: read with their key, and by nothing else."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.ids import new_uuid
from commands.keyring import MemoryKeyring
from commands.sealing import FRESH_BYTES_MAX, FRESH_MAX, DamagedText, KeyMissing, Sealer
from domain.codec import CODEC
from domain.conversation import TitleSet
from domain.entry import Entry, Sealed
from domain.ids import is_uuid
from tests.commands.helpers import ANN, BEN, Clock


class Forgetful(MemoryKeyring):
    """Keys can be destroyed."""

    def destroy(self, name: str) -> None:
        del self._by_name[name]


@pytest.fixture
def keyring() -> Forgetful:
    return Forgetful()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sealer(keyring: Forgetful, clock: Clock) -> Sealer:
    return Sealer(keyring, clock)


@given(st.text())
def test_what_was_sealed_is_unsealed(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    sealer = Sealer(MemoryKeyring(), Clock())
    sealed = sealer.seal(ANN, text)
    assert [sealer.unseal(sealed) for _ in range(2)] == [text, text]  # from memory, then from its box


def test_nothing_of_the_text_shows(sealer: Sealer) -> None:
    """I12"""
    one, other = sealer.seal(ANN, "attack at dawn"), sealer.seal(ANN, "attack at dawn")
    assert b"dawn" not in one.box
    assert one.key == other.key
    assert one.box != other.box


def test_a_box_is_plain_bytes_that_the_codec_takes(sealer: Sealer) -> None:
    sealed = sealer.seal(ANN, "title")
    assert type(sealed.box) is bytes
    entry = Entry(v=1, id="e", cmd="c", at=1, e=TitleSet(by=ANN, title=sealed))
    new = CODEC.encode(entry)
    assert CODEC.decode_entry(new.topic, new.data) == entry


def test_a_key_for_each_account_and_month(sealer: Sealer, clock: Clock) -> None:
    def at(*date: int) -> str:
        clock.now = int(datetime(*date, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[arg-type, misc]
        return sealer.seal(ANN, "x").key

    november = at(2026, 11, 1)
    assert at(2026, 11, 30, 23, 59, 59) == november
    december = at(2026, 12, 1)
    assert december != november
    assert at(2027, 12, 1) not in (november, december)
    assert at(2026, 11, 15) == november  # a clock that was put back
    assert sealer.seal(BEN, "x").key != november


def test_a_destroyed_key_takes_the_text_with_it(sealer: Sealer, keyring: Forgetful) -> None:
    sealed = sealer.seal(ANN, "x")
    keyring.destroy(sealed.key)
    with pytest.raises(KeyMissing, match=sealed.key):
        sealer.unseal(sealed)


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "other key"])
def test_a_damaged_text_is_told(sealer: Sealer, damage: str) -> None:
    sealed, other = sealer.seal(ANN, "x"), sealer.seal(BEN, "x")
    boxes = {
        "flipped": sealed.box[:-1] + bytes([sealed.box[-1] ^ 1]),
        "short": sealed.box[:30],
        "empty": b"",
        "other key": other.box,
    }
    with pytest.raises(DamagedText, match=sealed.key):
        sealer.unseal(Sealed(key=sealed.key, box=boxes[damage]))


def test_texts_that_nobody_unseals_are_not_kept(sealer: Sealer) -> None:
    for _ in range(3 * FRESH_MAX):
        sealer.seal(ANN, "x")
    assert len(sealer._fresh) <= FRESH_MAX


def test_long_texts_that_nobody_unseals_are_kept_within_a_bound(sealer: Sealer) -> None:
    """I11: whoever sends to a conversation that doesn't exist is refused after its text was sealed."""
    text = "x" * 65_000
    sealed = [sealer.seal(ANN, text) for _ in range(300)]
    assert 1 < len(sealer._fresh) <= FRESH_BYTES_MAX // 65_000
    assert all(sealer.unseal(each) == text for each in sealed)
    assert not sealer._fresh
    # What was unsealed is not counted any more.
    kept = sealer.seal(ANN, "x")
    for each in [sealer.seal(ANN, text) for _ in range(50)]:
        sealer.unseal(each)
    assert kept.box in sealer._fresh


def test_new_ids_are_uuids_of_version_4_and_never_the_same() -> None:
    ids = [new_uuid() for _ in range(2_000)]
    assert len(set(ids)) == 2_000
    assert all(is_uuid(made) and made[14] == "4" and made[19] in "89ab" for made in ids)
