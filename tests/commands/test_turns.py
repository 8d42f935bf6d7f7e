"""Peers are served turn by turn, and each one's items in order."""

from collections import deque
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from commands.turns import Turns


def filled(**queues: str) -> Turns[str]:
    turns: Turns[str] = Turns()
    for turn, items in queues.items():
        for item in items:
            turns.add(turn, item)
    return turns


def test_one_of_each_peer_then_a_second_of_each() -> None:
    assert filled(a="123", b="x", c="pq").take(10) == ["1", "x", "p", "2", "q", "3"]


def test_no_more_are_taken_than_asked_for_and_the_next_peer_goes_on() -> None:
    turns = filled(a="123", b="xyz", c="pqr")
    assert turns.take(2) == ["1", "x"]
    assert turns.take(4) == ["p", "2", "y", "q"]
    assert turns.take(0) == []
    assert turns.take(9) == ["3", "z", "r"]
    assert turns.take(9) == []


def test_it_knows_whether_something_waits() -> None:
    turns = filled(a="1")
    assert turns
    turns.take(1)
    assert not turns


def test_what_is_put_back_comes_before_all_else_of_its_peer() -> None:
    turns = filled(a="1234", b="xy")
    assert turns.take(3) == ["1", "x", "2"]
    for item in ("2", "1"):
        turns.put_back("a", item)
    assert turns.take(9) == ["y", "1", "2", "3", "4"]


def test_a_peer_that_had_nothing_left_comes_first_with_what_is_put_back() -> None:
    turns = filled(a="1", b="xy")
    assert turns.take(1) == ["1"]
    turns.put_back("a", "1")
    assert turns.take(9) == ["1", "x", "y"]


class Take(NamedTuple):
    most: int
    put_back: bool


STEPS = st.one_of(st.integers(0, 3), st.builds(Take, st.integers(0, 5), st.booleans()))


@given(st.lists(STEPS))
def test_each_peer_s_order_holds(steps: list[int | Take]) -> None:
    """A number adds an item for that peer."""
    turns: Turns[tuple[int, int]] = Turns()
    waiting: dict[int, deque[int]] = {peer: deque() for peer in range(4)}
    for number, step in enumerate(steps):
        if isinstance(step, int):
            turns.add(step, (step, number))
            waiting[step].append(number)
            continue
        taken = turns.take(step.most)
        assert len(taken) == min(step.most, sum(map(len, waiting.values())))
        if step.put_back:
            for item in reversed(taken):
                turns.put_back(item[0], item)
        else:
            assert all(waiting[peer].popleft() == item for peer, item in taken)
        assert bool(turns) == any(waiting.values())
