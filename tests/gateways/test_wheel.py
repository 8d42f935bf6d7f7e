"""The timer wheel: visits in order of their due times, whatever happens in a visit."""

import asyncio
from collections.abc import Callable

import pytest

from gateways.wheel import Wheel

TICK_S = 0.01


class Member:
    def __init__(self, name: str, visits: list[str], then: Callable[[], float | None]) -> None:
        self.wheel_slot = -1
        self.name = name
        self.visits = visits
        self.then = then

    def due(self) -> float | None:
        self.visits.append(self.name)
        return self.then()


async def reached(visits: list[str], count: int) -> None:
    async with asyncio.timeout(10):
        while len(visits) < count:  # noqa: ASYNC110  # the wheel is what tells the time here
            await asyncio.sleep(TICK_S)


async def test_members_are_visited_when_they_are_due() -> None:
    wheel, visits = Wheel(tick_s=TICK_S), list[str]()
    for name, ticks in [("late", 9), ("soon", 1), ("between", 5)]:
        wheel.put(Member(name, visits, lambda: None), ticks * TICK_S)
    await reached(visits, 3)
    assert visits == ["soon", "between", "late"]


async def test_a_member_comes_again_as_it_asks() -> None:
    wheel, visits = Wheel(tick_s=TICK_S), list[str]()
    wheel.put(Member("a", visits, lambda: TICK_S if len(visits) < 70 else None), TICK_S)
    await reached(visits, 70)


async def test_a_new_time_replaces_the_old_one_and_a_dropped_member_is_left_alone() -> None:
    wheel, visits = Wheel(tick_s=TICK_S), list[str]()
    moved, dropped = Member("moved", visits, lambda: None), Member("dropped", visits, lambda: None)
    wheel.put(moved, TICK_S)
    wheel.put(dropped, 2 * TICK_S)
    wheel.put(moved, 4 * TICK_S)
    wheel.drop(dropped)
    wheel.put(Member("last", visits, lambda: None), 6 * TICK_S)
    await reached(visits, 2)
    assert visits == ["moved", "last"]


async def test_a_visit_may_fail_or_drop_its_neighbour(caplog: pytest.LogCaptureFixture) -> None:
    wheel, visits = Wheel(tick_s=TICK_S), list[str]()

    def fail() -> float:
        raise RuntimeError("a bug")

    wheel.put(Member("fails", visits, fail), TICK_S)
    pair = [Member(name, visits, lambda: None) for name in ("one", "other")]
    for member, neighbour in (pair, reversed(pair)):
        member.then = lambda neighbour=neighbour: wheel.drop(neighbour)  # type: ignore[misc]
        wheel.put(member, 2 * TICK_S)
    wheel.put(Member("last", visits, lambda: None), 3 * TICK_S)
    await reached(visits, 3)
    assert visits[0] == "fails"
    assert visits[1] in ("one", "other")
    assert visits[2] == "last"
    assert "a visit failed" in caplog.text
