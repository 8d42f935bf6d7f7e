"""I6: what devices state about what they have stored, could read and have read gives the same ticks in every order."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateways.limits import LimitSettings
from signet_client import wire
from tests.gateways.engine import Person
from tests.gateways.live import SocketDevice, live_server, send

OWNERS: Final = (0, 0, 1, 1, 2, 2, 3, 4)
"""To which of five accounts each of the eight devices belongs; the first one is the author."""
OTHERS: Final = range(2, 8)
MESSAGES: Final = 6
HEAD: Final = 1 + MESSAGES
"""The first seq is the group's start."""


@dataclass(frozen=True)
class Stated:
    device: int
    delivered: int = 0
    read: int = 0
    undecryptable: frozenset[int] = frozenset()
    repaired: frozenset[int] = frozenset()

    def frame(self, group: str) -> wire.ClientFrame:
        if self.read:
            return wire.Read(c=group, upto=self.read)
        return wire.Ack(
            c=group, upto=self.delivered, undecryptable=sorted(self.undecryptable), repaired=sorted(self.repaired)
        )


def _acks(device: int) -> st.SearchStrategy[Stated]:
    return st.integers(1, HEAD).flatmap(lambda upto: _acks_up_to(device, upto))


def _acks_up_to(device: int, upto: int) -> st.SearchStrategy[Stated]:
    seqs = st.frozensets(st.integers(2, max(2, upto)), max_size=2 if upto > 1 else 0)
    return st.builds(Stated, device=st.just(device), delivered=st.just(upto), undecryptable=seqs, repaired=seqs)


def _reads(device: int) -> st.SearchStrategy[Stated]:
    return st.builds(Stated, device=st.just(device), read=st.integers(1, HEAD))


# One of each of every device at least: else a mark that is missing would hide what the others do.
in_two_orders: Final = st.tuples(
    *(_acks(device) for device in OTHERS),
    *(_reads(device) for device in OTHERS),
    *(st.sampled_from(OTHERS).flatmap(_acks) for _ in range(4)),
).flatmap(lambda stated: st.tuples(st.just(stated), st.permutations(stated)))


class Ticks(NamedTuple):
    delivered: int
    read: int
    undelivered: frozenset[int]


def due(stated: Sequence[Stated]) -> Ticks:
    """What the author must see, message by message."""
    by_account = [[each for each in stated if OWNERS[each.device] == account] for account in range(1, 5)]
    delivered = _lowest(max((each.delivered for each in of_one), default=0) for of_one in by_account)
    read = _lowest(max((each.read for each in of_one), default=0) for of_one in by_account)
    unreadable = {seq for seq in range(2, HEAD + 1) if any(_unreadable(of_one, seq) for of_one in by_account)}
    return Ticks(delivered, read, frozenset(unreadable))


def _lowest(marks: Iterator[int]) -> int:
    # Everybody counts as past the start, where all came in.
    return max(1, min(marks))


def _unreadable(stated: Sequence[Stated], seq: int) -> bool:
    """Some device of the account could not decrypt it, and no other one could, nor could that one later."""
    devices = {each.device for each in stated if each.delivered >= seq}
    excepting = {each.device for each in stated if seq in each.undecryptable}
    repaired = {each.device for each in stated if seq in each.repaired}
    return bool(excepting - repaired) and devices <= excepting - repaired


class House:
    """The author with two devices, and everybody else."""

    def __init__(self, people: Sequence[Person], devices: Sequence[SocketDevice]) -> None:
        self._people = people
        self._author = people[0]
        self._devices = devices

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Self]:
        unbounded = LimitSettings(
            starts_account=None,
            commands_device=None,
            commands_account=None,
            receipts_device=None,
            requests_account=None,
            conversations_shared_max=1_000_000,
        )
        async with live_server(limits=unbounded) as server, AsyncExitStack() as stack:
            people: list[Person] = []
            devices: list[SocketDevice] = []
            for number, owner in enumerate(OWNERS):
                if owner == len(people):
                    person = await server.engine.person(f"person {owner}")
                    people.append(person)
                else:
                    person = await people[owner].new_device(f"device {number}")
                devices.append(await stack.enter_async_context(server.device(person)))
            yield cls(people, devices)

    async def group(self) -> str:
        """With some messages of the author."""
        group = await self._author.start_group(*self._people[1:])
        for number in range(MESSAGES):
            await self._devices[0].say(send(self._author, group, str(number)))
            await self._devices[0].next(wire.Accepted)
        return group

    async def state(self, group: str, stated: Sequence[Stated]) -> tuple[Ticks, Ticks]:
        """What the author was told, and what it is told when it asks."""
        author, other = self._devices[:2]
        for each in stated:
            await self._devices[each.device].say(each.frame(group))
        told: list[wire.ServerFrame] = []
        for device in self._devices:
            heard = await device.round_trip()
            # It may be told while the others are still heard.
            told += heard if device is other else []
        # It comes after all that was stated, and the author's other device is told of it.
        await author.say(wire.Read(c=group, upto=HEAD))
        while not any(isinstance(frame, wire.Mark) and frame.c == group for frame in told):
            told += await other.round_trip()
        shown = (await self._author.do("GET", f"/conversations/{group}"))["overview"]["ticks"]
        asked = Ticks(shown["delivered"], shown["read"], frozenset(shown.get("undelivered", ())))
        return _folded(told, group), asked


def _folded(told: Sequence[wire.ServerFrame], group: str) -> Ticks:
    # At the start of the group all came in: so far everybody is.
    ticks = Ticks(1, 1, frozenset())
    for frame in told:
        if isinstance(frame, wire.Receipt) and frame.c == group:
            undelivered = ticks.undelivered.union(frame.undelivered).difference(frame.repaired)
            ticks = Ticks(frame.delivered, frame.read, undelivered)
    return ticks


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(debug=False) as runner:
        yield runner


@pytest.fixture
def house(runner: asyncio.Runner) -> Iterator[House]:
    opened = House.open()
    yield runner.run(opened.__aenter__())
    runner.run(opened.__aexit__(None, None, None))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(orders=in_two_orders)
def test_every_order_gives_the_same_ticks(
    runner: asyncio.Runner, house: House, orders: tuple[Sequence[Stated], Sequence[Stated]]
) -> None:
    """I5, I6: through real connections; what is pushed adds up to what is shown."""

    async def state(stated: Sequence[Stated]) -> tuple[Ticks, Ticks]:
        return await house.state(await house.group(), stated)

    for stated in orders:
        assert runner.run(state(stated)) == (due(stated), due(stated))
