"""The store fails in every way that the port allows while people talk, and nothing accepted is lost or doubled."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

import commands.writer
from commands.stores.faults import Fate
from commands.stores.memory import Medium, MemoryLog
from tests.proxy import Proxy
from tests.scenarios.audit import check_delivered, check_overviews, check_stored_once, check_told_in_order, settled
from tests.scenarios.crowd import Crowd
from tests.scenarios.stage import Place, register, running, seed

PEOPLE: Final = 8
GROUPS: Final = (8, 5)
MESSAGES_BETWEEN: Final = 30
ROUNDS: Final = 2


class Storm:
    """What the store is made to do, while people talk; each returns when it is over."""

    def __init__(self, medium: Medium, crowd: Crowd, proxy: Proxy) -> None:
        self._medium = medium
        self._proxy = proxy
        self._faults = medium.faults
        self._crowd = crowd
        self._rng = crowd.rng

    async def go_away(self) -> None:
        self._faults.go_away()
        await asyncio.sleep(self._rng.uniform(0.1, 0.8))  # so long it is away
        self._faults.heal()

    async def lose_answers(self) -> None:
        await self._misbehave(Fate.ANSWER_LOST)

    async def lose_requests(self) -> None:
        await self._misbehave(Fate.REQUEST_LOST)

    async def store_late(self) -> None:
        await self._misbehave(Fate.DELAYED)
        self._medium.settle()

    async def commit_parts(self) -> None:
        """Some streams of a batch are stored, others refused, and of others nobody knows."""
        for fate in (Fate.REFUSED, Fate.ANSWER_LOST, Fate.DELAYED):
            self._faults.when(lambda _: self._rng.random() < 0.3, fate, calls=self._rng.randint(2, 10))
        await self._crowd.more(MESSAGES_BETWEEN)
        self._faults.heal()
        self._medium.settle()

    async def answer_late(self) -> None:
        for hold in (self._faults.hold_append, self._faults.hold_answer):
            release = hold()
            await asyncio.sleep(self._rng.uniform(0.01, 0.2))  # so late it is
            release.set()

    async def cut_off(self) -> None:
        """What is stored is not answered any more: its senders send it again."""
        release = self._faults.hold_answer()
        await asyncio.sleep(self._rng.uniform(0.0, 0.05))  # the moment of the cut
        self._proxy.cut()
        release.set()

    async def _misbehave(self, fate: Fate) -> None:
        self._faults.when(lambda _: True, fate, calls=self._rng.randint(1, 5))
        await self._crowd.more(MESSAGES_BETWEEN)


ALL: Final[list[Callable[[Storm], Awaitable[None]]]] = [
    Storm.go_away,
    Storm.lose_answers,
    Storm.lose_requests,
    Storm.store_late,
    Storm.commit_parts,
    Storm.answer_late,
    Storm.cut_off,
]


@pytest.mark.slow
@pytest.mark.usefixtures("hasty_clients")
async def test_nothing_is_lost_or_doubled_whatever_the_store_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1, I2, I3, I4, I7: each kind of failure, in random order, while eight people talk over real sockets."""
    # So that the writer gives up within an outage of 0.4 s now and then, and refuses.
    monkeypatch.setattr(commands.writer, "PAUSE_LAST_S", 0.05)
    rng = random.Random(seed())
    place = Place(tmp_path / "data", in_memory=True)
    assert place.medium is not None
    async with place.engine() as node, Proxy.to(place.port) as proxy:
        clients = [await register(proxy.url, f"p{number}", tmp_path / "people") for number in range(PEOPLE)]
        crowd = Crowd(clients, rng)
        async with running(*clients):
            await crowd.meet(GROUPS)
            async with crowd.talking():
                storm = Storm(place.medium, crowd, proxy)
                for mishap in rng.sample(ALL * ROUNDS, len(ALL) * ROUNDS):
                    await crowd.more(rng.randint(1, MESSAGES_BETWEEN))
                    await mishap(storm)
                place.medium.faults.heal()
                await crowd.more(MESSAGES_BETWEEN)
            ledger = await settled(MemoryLog(place.medium), clients)
            check_stored_once(ledger, crowd.said, node.services.sealer.unseal)
            check_delivered(ledger, clients, crowd.said)
            check_told_in_order([talker.diary for talker in crowd.talkers])
            await check_overviews(ledger, clients)
            assert {refused.code for talker in crowd.talkers for refused in talker.refused} <= {"not_a_member"}
            runners = node.services.runners.values()
            assert [(runner.stopped, runner.parked) for runner in runners] == [(None, 0)] * len(runners)
