"""The read model `directory`: names and devices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import AccountId, DeviceId
from projections.directory import DeviceRow, Directory
from tests.projections.histories import PHONE, History, fold, histories, must, seal

pytestmark = pytest.mark.usefixtures("each_store")
LAPTOP = DeviceId("laptop")


@given(histories(), st.integers(min_value=2, max_value=50))
def test_bit_by_bit_is_equal_to_a_rebuild(history: History, batch_max: int) -> None:
    """I9"""
    one_by_one, rebuilt = fold(Directory, history.events), fold(Directory, history.events, batch_max=batch_max)
    assert one_by_one.row_hash() == rebuilt.row_hash()
    rebuilt.advance(history.events)
    assert one_by_one.row_hash() == rebuilt.row_hash(), "a batch fed twice changes nothing"


@given(histories())
async def test_it_knows_the_devices_that_the_domain_knows(history: History) -> None:
    """I12: a revoked device is never shown as active."""
    model = fold(Directory, history.events, batch_max=20)
    for account, state in history.accounts.items():
        devices = {row.device: (row.key, row.active) for row in await model.devices(account)}
        assert devices == {device: (known.key, known.active) for device, known in state.devices.items()}
        for device in (PHONE, LAPTOP):
            row = await model.device(account, device)
            assert (row is not None and row.active) == state.has_active(device)


async def test_names_change_and_strangers_have_none() -> None:
    history = History()
    ann = history.register("ann")
    assert await fold(Directory, history.events).name_of(ann) == seal("ann")
    history.rename(ann, "Ann of Lagos")
    model = fold(Directory, history.events)
    assert await model.name_of(ann) == seal("Ann of Lagos")
    assert await model.exists(ann)
    stranger = AccountId("00000000-0000-4000-8000-000000000001")
    assert await model.name_of(stranger) is None
    assert not await model.exists(stranger)
    assert await model.device(stranger, PHONE) is None
    assert await model.devices(stranger) == []


async def test_devices_stand_in_the_order_of_their_linking() -> None:
    history = History()
    ann = history.register("ann")
    linked = must(history.link(ann, LAPTOP))
    history.revoke(ann, LAPTOP)
    phone, laptop = await fold(Directory, history.events, batch_max=9).devices(ann)
    assert (phone.device, phone.by, phone.active) == (PHONE, None, True)
    assert laptop == DeviceRow(
        account=ann, device=LAPTOP, key="key of laptop", active=False, linked_at=linked.entry.at, by=PHONE
    )
