"""The read model `attestations`: devices with their keys, how many are left, versions of lists, signed statements."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.account import Account, DeviceRevoked
from domain.ids import AccountId, ConversationId, DeviceId
from domain.keys import DeviceKeysPublished
from domain.receipts import Receipt, ReceiptsAdvanced
from projections import attestations
from projections.attestations import Attestations, AttestedDevice, KeyCounts
from tests.projections.eventful import eventful
from tests.projections.histories import PHONE, History, fold, histories, must
from tests.projections.stores import scans

pytestmark = pytest.mark.usefixtures("each_store")
LAPTOP, FRIDGE = DeviceId("laptop"), DeviceId("fridge")
STRANGER = AccountId("00000000-0000-4000-8000-000000000001")
either = st.one_of(histories(), eventful())


@given(either, st.integers(min_value=2, max_value=50))
def test_bit_by_bit_is_equal_to_a_rebuild(history: History, batch_max: int) -> None:
    """I9"""
    one_by_one, rebuilt = fold(Attestations, history.events), fold(Attestations, history.events, batch_max=batch_max)
    assert one_by_one.row_hash() == rebuilt.row_hash()
    rebuilt.advance(history.events)
    assert one_by_one.row_hash() == rebuilt.row_hash(), "a batch fed twice changes nothing"


@given(histories())
async def test_it_knows_of_keys_what_the_domain_knows(history: History) -> None:
    """I12: the keys of a revoked device are never told as those of one that is in."""
    model = fold(Attestations, history.events, batch_max=20)
    for account, state in history.accounts.items():
        known = {device.device: (device.key, device.keys, device.active) for device in await model.devices(account)}
        assert known == {
            device: (each.key, each.keys.device_keys if each.keys else None, each.active)
            for device, each in state.devices.items()
        }
        for device in (PHONE, LAPTOP, FRIDGE):
            assert await model.counts(account, device) == expected_counts(state, device)


def expected_counts(state: Account, device: DeviceId) -> KeyCounts:
    known = state.devices.get(device)
    if known is None or known.keys is None:
        return KeyCounts()
    return KeyCounts(
        one_time_keys=len(known.keys.waiting),
        fallback_unused=known.keys.fallback is not None and not known.keys.fallback_used,
        published=True,
    )


@given(histories())
async def test_the_version_of_a_list_is_that_of_the_event_that_changed_it_last(history: History) -> None:
    """I10: whoever knows it need not ask again, and whoever knows another must."""
    model = fold(Attestations, history.events, batch_max=20)
    for account in history.accounts:
        changes = [
            event.version
            for event in history.events
            if event.stream == f"account-{account}" and isinstance(event.entry.e, DeviceKeysPublished | DeviceRevoked)
        ]
        assert await model.list_version(account) == max(changes, default=-1)
    assert await model.list_version(STRANGER) == -1


@given(either)
async def test_of_each_devices_statements_those_of_its_greatest_marks_are_kept(history: History) -> None:
    """I5, I6: what was signed stands there as it was signed; of equal marks the first one."""
    model = fold(Attestations, history.events, batch_max=20)
    for conversation in history.conversations:
        found = await model.statements(conversation)
        assert sorted(map(repr, found)) == sorted(map(repr, expected_statements(history, conversation)))


def expected_statements(history: History, conversation: ConversationId) -> Iterable[Receipt]:
    signed: dict[tuple[AccountId, DeviceId], list[Receipt]] = {}
    for event in history.events:
        if event.stream == f"receipts-{conversation}" and isinstance(event.entry.e, ReceiptsAdvanced):
            for receipt in event.entry.e.receipts:
                if receipt.signature is not None:
                    signed.setdefault((receipt.account, receipt.device), []).append(receipt)
    for stated in signed.values():
        # `max` gives the first of equal ones.
        greatest = [max(stated, key=lambda one: one.delivered), max(stated, key=lambda one: one.read)]
        kept = [greatest[0] if greatest[0].delivered else None, greatest[1] if greatest[1].read else None]
        yield from (one for number, one in enumerate(kept) if one is not None and one not in kept[:number])


async def test_devices_with_whoever_has_let_them_in() -> None:
    history = History()
    ann = history.register("ann")
    history.link(ann, LAPTOP)
    history.publish_keys(ann, "A", device=LAPTOP)
    history.revoke(ann, LAPTOP)
    assert await fold(Attestations, history.events).devices(ann) == [
        AttestedDevice(
            device=LAPTOP, key="key of laptop", linked_by=PHONE, link_signature="s", keys='{"device_id":"laptop"}',
            active=False,
        ),
        AttestedDevice(device=PHONE, key="key of ann", linked_by=None, link_signature="s", keys=None, active=True),
    ]  # fmt: skip
    assert await fold(Attestations, history.events).devices(STRANGER) == []


async def test_what_is_left_after_claims_and_what_changes_the_version() -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")

    async def known() -> tuple[KeyCounts, int]:
        model = fold(Attestations, history.events)
        return await model.counts(ann, PHONE), await model.list_version(ann)

    assert await known() == (KeyCounts(), -1)
    history.publish_keys(ann, "A", "B", fallback="F")
    version = 2  # after the registration's two events
    assert await known() == (KeyCounts(one_time_keys=2, fallback_unused=True, published=True), version)
    for left, unused in ((1, True), (0, True), (0, False), (0, False)):
        must(history.claim_key(ann, ben))
        assert await known() == (KeyCounts(one_time_keys=left, fallback_unused=unused, published=True), version)
    must(history.publish_keys(ann, "C"))
    must(history.claim_key(ann, ben))
    assert await known() == (KeyCounts(published=True), version)
    must(history.publish_keys(ann, fallback="G"))
    assert await known() == (KeyCounts(fallback_unused=True, published=True), version)
    history.link(ann, LAPTOP)
    assert (await known())[1] == version
    history.publish_keys(ann, device=LAPTOP)
    assert (await known())[1] > version


async def test_statements_that_are_not_signed_leave_nothing() -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    for text in ("one", "two", "three"):
        history.send(chat, ann, text)
    history.receive(chat, ben, delivered=4, read=4)
    assert await fold(Attestations, history.events).statements(chat) == []
    history.receive(chat, ann, read=3, signature="a")
    history.receive(chat, ann, delivered=4, undecryptable=(4,), signature="b")
    found = await fold(Attestations, history.events).statements(chat)
    assert [(one.signature, one.delivered, one.read, one.undecryptable) for one in found] == [
        ("b", 4, 0, [4]), ("a", 0, 3, []),
    ]  # fmt: skip
    history.receive(chat, ann, delivered=4, read=4, signature="c")
    found = await fold(Attestations, history.events).statements(chat)
    assert [one.signature for one in found] == ["c", "b"]


def test_what_is_asked_is_found_by_its_key() -> None:
    """I10"""
    model = fold(Attestations, [])
    for sql in (attestations._DEVICES, attestations._COUNTS, attestations._STATEMENTS):
        assert scans(model.db, sql) == []
