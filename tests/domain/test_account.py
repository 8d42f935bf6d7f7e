"""given / when / then for accounts and their devices."""

import pytest

from domain.account import (
    Account,
    AccountCommand,
    AccountEvent,
    AccountRegistered,
    ChangeProfile,
    DeviceLinked,
    DeviceRevoked,
    LinkDevice,
    ProfileChanged,
    RegisterAccount,
    RevokeDevice,
    decide,
    evolve,
)
from domain.entry import Entry, Sealed
from domain.errors import DeviceExists, DeviceNotActive, IdTaken, NoSuchAccount, NoSuchDevice, Rejected
from domain.ids import AccountId, CommandId, DeviceId

ANN = AccountId("ann")
PHONE, TABLET = DeviceId("phone"), DeviceId("tablet")
NAME = Sealed(key="k", box=b"Ann")
REGISTERED = AccountRegistered(name=NAME)
FIRST = DeviceLinked(device=PHONE, key="K1", signature="S1")
SECOND = DeviceLinked(device=TABLET, key="K2", by=PHONE, signature="S2")


def given(*history: AccountEvent) -> Account:
    state = Account()
    for version, event in enumerate(history):
        evolve(state, version, Entry(v=1, id=f"e{version}", cmd=f"c{version}", at=version, e=event))
    return state


def register(key: str = "K1") -> RegisterAccount:
    return RegisterAccount(id=CommandId("r"), account=ANN, name=NAME, device=PHONE, key=key, signature="S1")


def link(key: str = "K2", *, by: DeviceId = PHONE) -> LinkDevice:
    return LinkDevice(id=CommandId("l"), account=ANN, by=by, device=TABLET, key=key, signature="S2")


def revoke(device: DeviceId, *, by: DeviceId = PHONE, id_: str = "v") -> RevokeDevice:
    return RevokeDevice(id=CommandId(id_), account=ANN, by=by, device=device)


def rename(command: str = "p", *, by: DeviceId = PHONE) -> ChangeProfile:
    return ChangeProfile(id=CommandId(command), account=ANN, by=by, name=NAME)


@pytest.mark.parametrize(
    ("history", "command", "events"),
    [
        ([], register(), [REGISTERED, FIRST]),
        ([REGISTERED, FIRST], register(), []),
        ([REGISTERED, FIRST], link(), [SECOND]),
        ([REGISTERED, FIRST, SECOND], link(), []),
        ([REGISTERED, FIRST, SECOND], revoke(TABLET), [DeviceRevoked(device=TABLET, by=PHONE)]),
        ([REGISTERED, FIRST, SECOND], revoke(PHONE), [DeviceRevoked(device=PHONE, by=PHONE)]),
        ([REGISTERED, FIRST, SECOND, DeviceRevoked(device=TABLET, by=PHONE)], revoke(TABLET), []),
        # Said again by the device that has revoked itself; `c2` is its command's id in this history.
        ([REGISTERED, FIRST, DeviceRevoked(device=PHONE, by=PHONE)], revoke(PHONE, id_="c2"), []),
        ([REGISTERED, FIRST], rename(), [ProfileChanged(name=NAME)]),
        ([REGISTERED, FIRST, ProfileChanged(name=NAME)], rename("c2"), []),
        ([REGISTERED, FIRST, ProfileChanged(name=NAME), ProfileChanged(name=NAME)], rename("c2"), []),
    ],
)
def test_decisions(history: list[AccountEvent], command: AccountCommand, events: list[AccountEvent]) -> None:
    assert decide(given(*history), command) == events


@pytest.mark.parametrize(
    ("history", "command", "error"),
    [
        ([REGISTERED, FIRST], register("K9"), IdTaken),
        ([], link(), NoSuchAccount),
        ([], rename(), NoSuchAccount),
        ([REGISTERED, FIRST], link(by=DeviceId("none")), DeviceNotActive),
        ([REGISTERED, FIRST, SECOND], link("K9"), DeviceExists),
        ([REGISTERED, FIRST, SECOND, DeviceRevoked(device=TABLET, by=PHONE)], link(), DeviceExists),
        ([REGISTERED, FIRST], revoke(TABLET), NoSuchDevice),
        ([REGISTERED, FIRST, DeviceRevoked(device=PHONE, by=PHONE)], revoke(PHONE), DeviceNotActive),
        ([REGISTERED, FIRST, SECOND, DeviceRevoked(device=TABLET, by=PHONE)], rename(by=TABLET), DeviceNotActive),
        (
            [REGISTERED, FIRST, SECOND, DeviceRevoked(device=TABLET, by=PHONE)],
            revoke(PHONE, by=TABLET),
            DeviceNotActive,
        ),
    ],
)
def test_refusals(history: list[AccountEvent], command: AccountCommand, error: type[Rejected]) -> None:
    with pytest.raises(error):
        decide(given(*history), command)
