"""So many go through in each turn of the loop, in order, and nobody is forgotten."""

import asyncio

import pytest

from gateways.turnstile import LITTLE_PER_S, PAUSE_TURNS, Courtesy, Turnstile, Voice


async def turns(turnstile: Turnstile, through: list[int]) -> list[list[int]]:
    """Who went through in each turn, until nobody does any more."""
    seen = []
    for _ in range(20):
        before = len(through)
        await asyncio.sleep(0)
        if through[before:]:
            seen.append(through[before:])
    return seen


async def test_so_many_at_once_and_the_others_in_later_turns() -> None:
    turnstile, through = Turnstile(Courtesy(), per_turn=2, per_short_turn=1), list[int]()
    assert [turnstile.admits() for _ in range(3)] == [True, True, False]
    for number in range(5):
        turnstile.wait(lambda number=number: through.append(number))  # type: ignore[misc]
    assert through == []
    assert await turns(turnstile, through) == [[0, 1], [2, 3], [4]]


async def test_turns_are_short_after_somebody_has_said_little() -> None:
    courtesy, through = Courtesy(), list[int]()
    turnstile = Turnstile(courtesy, per_turn=3, per_short_turn=1)
    courtesy.heard()
    for number in range(3):
        turnstile.wait(lambda number=number: through.append(number))  # type: ignore[misc]
    assert await turns(turnstile, through) == [[0], [1], [2]]


async def test_pauses_lie_between_short_turns() -> None:
    courtesy, through = Courtesy(), list[int]()
    turnstile = Turnstile(courtesy, per_turn=3, per_short_turn=1)
    courtesy.heard()
    for number in range(3):
        turnstile.wait(lambda number=number: through.append(number))  # type: ignore[misc]
    seen = []
    for _ in range(20):
        await asyncio.sleep(0)
        seen.append(len(through))
    assert [seen.count(number) for number in (1, 2)] == [1 + PAUSE_TURNS] * 2
    assert through == [0, 1, 2]


async def test_who_speaks_often_does_not_say_little(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    voice = Voice()
    voice.says_little(1)
    now = 102.0
    assert [voice.says_little(1) for _ in range(LITTLE_PER_S + 1)] == [True] * LITTLE_PER_S + [False]
    assert voice.says_much
    now = 103.0
    assert not voice.says_little(1)
    now = 104.0
    assert voice.says_little(1)
    assert not voice.says_much


async def test_nobody_overtakes_those_who_wait() -> None:
    turnstile, admitted = Turnstile(Courtesy(), per_turn=1, per_short_turn=1), list[bool]()
    turnstile.wait(lambda: admitted.append(turnstile.admits()))
    turnstile.wait(lambda: admitted.append(turnstile.admits()))
    await turns(turnstile, [])
    assert admitted == [False, False]
    assert turnstile.admits()


async def test_one_that_fails_or_is_cancelled_holds_up_nobody() -> None:
    turnstile, through, errors = Turnstile(Courtesy(), per_turn=1, per_short_turn=1), list[int](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))

    def fail() -> None:
        raise ValueError

    turnstile.wait(fail)
    cancelled = asyncio.create_task(turnstile.passed())
    await asyncio.sleep(0)
    cancelled.cancel()
    turnstile.wait(lambda: through.append(1))
    assert await turns(turnstile, through) == [[1]]
    assert [type(error) for error in errors] == [ValueError]
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_it_is_waited_for_in_order() -> None:
    turnstile, through = Turnstile(Courtesy(), per_turn=1, per_short_turn=1), list[int]()

    async def go(number: int) -> None:
        await turnstile.passed()
        through.append(number)

    tasks = [asyncio.create_task(go(number)) for number in range(4)]
    await asyncio.gather(*tasks)
    assert through == [0, 1, 2, 3]
