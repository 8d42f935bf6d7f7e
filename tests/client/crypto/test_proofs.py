"""I5, I6: a tick is believed where the members' devices have signed it; each way in which it can be wrong is named."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signet_client import payloads
from signet_client.crypto.proofs import Missing, Statement, check, is_signed
from signet_client.crypto.vault import Peer
from signet_client.identity import Identity
from tests.client.crypto.devices import ANNA, BEN, CLEO
from tests.client.fake import TALK

ELSEWHERE: Final = "44444444-4444-4444-8444-444444444444"
_IDENTITIES: Final = {
    (account, device): Identity() for account in (ANNA, BEN, CLEO) for device in ("phone", "laptop")
}  # fmt: skip


def pin(account: str, device: str) -> Peer | None:
    identity = _IDENTITIES.get((account, device))
    return None if identity is None else Peer(account, device, identity.key, identity.curve25519)


def stated(
    account: str,
    device: str = "phone",
    *,
    delivered: int = 0,
    read: int = 0,
    undecryptable: Iterable[int] = (),
    repaired: Iterable[int] = (),
    conversation: str = TALK,
    signed_by: str | None = None,
) -> Statement:
    """A statement as a device signs it. `signed_by`: the account whose phone has signed it, where it is another."""
    by = _IDENTITIES[signed_by, "phone"] if signed_by else _IDENTITIES[account, device]
    seqs, others = list(undecryptable), list(repaired)
    payload = payloads.receipt_payload(
        conversation=conversation, account=account, device=device, delivered=delivered, read=read, undecryptable=seqs,
        repaired=others,
    )  # fmt: skip
    return Statement(
        account=account, device=device, delivered=delivered, read=read, undecryptable=seqs, repaired=others,
        signature=by.sign(payload),
    )  # fmt: skip


def found(
    *statements: Statement, delivered_to: Mapping[str, int] | None = None, read_by: Mapping[str, int] | None = None
) -> list[Missing]:
    return check(TALK, statements, pin=pin, delivered_to=delivered_to or {}, read_by=read_by or {})


def missing(account: str, verb: str, seq: int) -> Missing:
    text = f"no device of the account has signed that it {verb} message {seq}"
    return Missing(account=account, device="", text=text)


def unsigned(statement: Statement) -> Missing:
    text = f"a receipt up to {max(statement.delivered, statement.read)} is not signed by the device"
    return Missing(account=statement.account, device=statement.device, text=text)


# Nothing is wrong


def test_what_all_have_signed_is_true() -> None:
    ben, cleo = stated(BEN, delivered=9, read=7), stated(CLEO, delivered=8, read=8, undecryptable=[2, 5], repaired=[1])
    assert not found(ben, cleo, delivered_to={BEN: 8, CLEO: 8}, read_by={BEN: 7, CLEO: 7})


def test_ticks_that_have_not_moved_need_no_proof() -> None:
    assert not found(delivered_to={BEN: 0, CLEO: 0}, read_by={BEN: 0})


def test_who_is_ahead_of_the_ticks_is_not_wrong() -> None:
    assert not found(stated(BEN, delivered=100, read=100), delivered_to={BEN: 3}, read_by={BEN: 2})


def test_one_device_of_an_account_is_enough() -> None:
    """Each mark may have been said by another device, and in another statement."""
    statements = [
        stated(BEN, "phone", delivered=9), stated(BEN, "laptop", read=8), stated(BEN, "laptop", delivered=2, read=1)
    ]  # fmt: skip
    for order in (statements, statements[::-1]):
        assert not found(*order, delivered_to={BEN: 9}, read_by={BEN: 8})


def test_who_need_not_have_it_need_not_have_signed() -> None:
    """Such as those who came later."""
    assert not found(stated(BEN, delivered=5), delivered_to={BEN: 5})


# Something is


def test_a_member_who_has_stated_nothing_is_named() -> None:
    assert found(stated(BEN, delivered=5, read=5), delivered_to={BEN: 5, CLEO: 5}, read_by={BEN: 5, CLEO: 4}) == [
        missing(CLEO, "has got", 5),
        missing(CLEO, "has read", 4),
    ]


@pytest.mark.parametrize(("delivered", "read"), [(4, 0), (4, 9), (0, 5), (0, 9)])
def test_who_has_stated_less_than_the_tick_is_named(delivered: int, read: int) -> None:
    """That it has read something proves no delivery, which the device states apart."""
    assert missing(BEN, "has got", 5) in found(stated(BEN, delivered=delivered, read=read), delivered_to={BEN: 5})


def test_what_was_delivered_was_not_read_thereby() -> None:
    assert found(stated(BEN, delivered=9, read=4), delivered_to={BEN: 9}, read_by={BEN: 5}) == [
        missing(BEN, "has read", 5)
    ]


def test_one_member_says_nothing_for_another() -> None:
    assert found(stated(CLEO, delivered=9), delivered_to={BEN: 1}) == [missing(BEN, "has got", 1)]


def test_a_statement_that_another_has_signed_proves_nothing() -> None:
    """It is named, and so is the tick that hangs on it."""
    for forged in (stated(BEN, delivered=9, signed_by=CLEO), stated(BEN, "laptop", delivered=9, signed_by=BEN)):
        assert found(forged, delivered_to={BEN: 9}) == [unsigned(forged), missing(BEN, "has got", 9)]


def test_a_forged_statement_is_named_also_where_nothing_hangs_on_it() -> None:
    true, forged = stated(BEN, delivered=9), stated(BEN, "laptop", delivered=50, read=60, signed_by=ANNA)
    assert found(true, forged, delivered_to={BEN: 9}) == [unsigned(forged)]


def test_a_device_that_nobody_knows_says_nothing() -> None:
    """I12: the server may sign with a device that it has made up."""
    unknown = msgspec.structs.replace(stated(BEN, delivered=9), device="stray")
    assert not is_signed(unknown, TALK, None)
    assert found(unknown, delivered_to={BEN: 9}) == [unsigned(unknown), missing(BEN, "has got", 9)]


def test_a_statement_of_another_conversation_says_nothing_here() -> None:
    elsewhere = stated(BEN, delivered=9, conversation=ELSEWHERE)
    assert is_signed(elsewhere, ELSEWHERE, pin(BEN, "phone"))
    assert found(elsewhere, delivered_to={BEN: 9}) == [unsigned(elsewhere), missing(BEN, "has got", 9)]


@pytest.mark.parametrize("signature", ["", "?", "AAAA", "ü", "A" * 86])
def test_a_signature_that_is_none_proves_nothing(signature: str) -> None:
    broken = msgspec.structs.replace(stated(BEN, delivered=9), signature=signature)
    assert found(broken, delivered_to={BEN: 9}) == [unsigned(broken), missing(BEN, "has got", 9)]


_seqs = st.lists(st.integers(1, 50), max_size=4, unique=True)
_statements = st.builds(
    stated,
    st.sampled_from([BEN, CLEO]),
    st.sampled_from(["phone", "laptop"]),
    delivered=st.integers(0, 50),
    read=st.integers(0, 50),
    undecryptable=_seqs,
    repaired=_seqs,
)
_changes = st.one_of(
    st.fixed_dictionaries({"account": st.sampled_from([ANNA, BEN, CLEO])}),
    st.fixed_dictionaries({"device": st.sampled_from(["phone", "laptop"])}),
    st.fixed_dictionaries({"delivered": st.integers(0, 60)}),
    st.fixed_dictionaries({"read": st.integers(0, 60)}),
    st.fixed_dictionaries({"undecryptable": _seqs}),
    st.fixed_dictionaries({"repaired": _seqs}),
)


@given(statement=_statements, change=_changes)
def test_nothing_of_a_statement_can_be_changed(statement: Statement, change: dict[str, object]) -> None:
    """I5: also not what it names as undecryptable."""
    changed = msgspec.structs.replace(statement, **change)
    is_same = changed == statement
    assert is_signed(changed, TALK, pin(changed.account, changed.device)) == is_same
    assert (unsigned(changed) in found(changed)) == (not is_same)


_claims = st.dictionaries(st.sampled_from([BEN, CLEO]), st.integers(0, 50), max_size=2)


@given(statements=st.lists(_statements, max_size=5), delivered_to=_claims, read_by=_claims)
def test_a_tick_is_named_just_where_no_device_has_signed_it(
    statements: list[Statement], delivered_to: dict[str, int], read_by: dict[str, int]
) -> None:
    """I6: over all statements, in any order."""
    expected = [
        missing(account, verb, seq)
        for claimed, verb, mark in ((delivered_to, "has got", "delivered"), (read_by, "has read", "read"))
        for account, seq in claimed.items()
        if seq > max((getattr(each, mark) for each in statements if each.account == account), default=0)
    ]
    assert found(*statements, delivered_to=delivered_to, read_by=read_by) == expected
