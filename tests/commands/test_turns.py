"""Peers are served turn by turn, and each one's items in order."""

import weakref
from collections import deque
from typing import NamedTuple, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.turns import PATIENT_PART, PATIENT_PAUSE_MAX_S, PATIENT_PAUSE_S, Lanes, Turns

T = TypeVar("T")


def take(turns: Turns[T], most: int) -> list[T]:
    return list(turns.take(most))


def filled(**queues: str) -> Turns[str]:
    turns: Turns[str] = Turns()
    for turn, items in queues.items():
        for item in items:
            turns.add(turn, item)
    return turns


def test_one_of_each_peer_then_a_second_of_each() -> None:
    assert take(filled(a="123", b="x", c="pq"), 10) == ["1", "x", "p", "2", "q", "3"]


def test_no_more_are_taken_than_asked_for_and_the_next_peer_goes_on() -> None:
    turns = filled(a="123", b="xyz", c="pqr")
    assert take(turns, 2) == ["1", "x"]
    assert take(turns, 4) == ["p", "2", "y", "q"]
    assert take(turns, 0) == []
    assert take(turns, 9) == ["3", "z", "r"]
    assert take(turns, 9) == []


def test_it_knows_whether_something_waits() -> None:
    turns = filled(a="1")
    assert turns
    take(turns, 1)
    assert not turns


def test_what_is_put_back_comes_before_all_else_of_its_peer() -> None:
    turns = filled(a="1234", b="xy")
    assert take(turns, 3) == ["1", "x", "2"]
    for item in ("2", "1"):
        turns.put_back("a", item)
    assert take(turns, 9) == ["y", "1", "2", "3", "4"]


def test_what_is_put_back_of_a_peer_that_had_nothing_left_waits_for_its_next_turn() -> None:
    turns = filled(a="1", b="xy")
    assert take(turns, 1) == ["1"]
    turns.put_back("a", "1")
    assert take(turns, 9) == ["x", "1", "y"]


def test_what_is_put_back_when_nothing_waits_keeps_the_order_of_each() -> None:
    turns = filled(a="12", b="x")
    for item in reversed(take(turns, 3)):
        turns.put_back("b" if item == "x" else "a", item)
    assert [item for item in take(turns, 9) if item != "x"] == ["1", "2"]


def test_a_peer_that_had_nothing_comes_before_those_that_have() -> None:
    turns = filled(a="123", b="xyz")
    assert take(turns, 1) == ["1"]
    turns.add("c", "p")
    assert take(turns, 2) == ["x", "p"]
    assert take(turns, 1) == ["2"]
    turns.add("d", "q")
    assert take(turns, 9) == ["q", "y", "3", "z"]


def test_but_once_in_each_turn_of_all() -> None:
    turns = filled(a="123", b="xyz")
    assert take(turns, 2) == ["1", "x"]
    turns.add("c", "p")
    assert take(turns, 1) == ["p"]
    turns.add("c", "q")
    assert take(turns, 9) == ["2", "y", "q", "3", "z"]


def test_what_is_added_meanwhile_may_be_taken() -> None:
    turns = filled(a="12")
    taken = []
    for item in turns.take(3):
        if item == "1":
            turns.add("b", "x")
        taken.append(item)
    assert taken == ["1", "x", "2"]


def test_nobody_is_kept_who_has_had_a_turn() -> None:
    turns: Turns[str] = Turns()
    for peer in range(100):
        turns.add(peer, "x")
        for _ in turns.take(1):
            break
    assert len(turns._queues) == len(turns._order) == 1


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
        taken = take(turns, step.most)
        assert len(taken) == min(step.most, sum(map(len, waiting.values())))
        if step.put_back:
            for item in reversed(taken):
                turns.put_back(item[0], item)
        else:
            assert all(waiting[peer].popleft() == item for peer, item in taken)
        assert bool(turns) == any(waiting.values())


# Lanes


def lanes(*, prompt: str = "", patient: str = "") -> Lanes[str]:
    filled: Lanes[str] = Lanes()
    for item in prompt:
        filled.add("prompt", item, patient=False)
    for item in patient:
        filled.add("patient", item, patient=True)
    return filled


def test_what_is_patient_waits_three_times_as_long_as_its_last_round_took() -> None:
    both = lanes(patient="abc")
    assert list(both.take(2, now=10.0)) == ["a", "b"]
    both.done(began=10.0, now=10.5)
    again = 10.5 + (PATIENT_PART - 1) * 0.5
    assert list(both.take(2, now=again - 0.01)) == []
    assert both.ready_at() == again
    assert list(both.take(2, now=again)) == ["c"]
    assert both.ready_at() is None
    assert not both


def test_what_is_patient_waits_a_while_after_a_short_round_too() -> None:
    both = lanes(patient="ab")
    assert list(both.take(1, now=10.0)) == ["a"]
    both.done(began=10.0, now=10.001)
    assert both.ready_at() == 10.001 + PATIENT_PAUSE_S


def test_what_is_patient_does_not_wait_for_long_after_a_round_that_hung() -> None:
    both = lanes(patient="ab")
    assert list(both.take(1, now=10.0)) == ["a"]
    both.done(began=10.0, now=610.0)
    assert both.ready_at() == 610.0 + PATIENT_PAUSE_MAX_S


def test_what_is_prompt_never_waits() -> None:
    both = lanes(prompt="xyz", patient="a")
    assert list(both.take(9, now=1.0)) == ["x", "y", "z", "a"]
    both.done(began=1.5, now=2.0)
    both.add("patient", "b", patient=True)
    both.add("prompt", "q", patient=False)
    assert both.ready_at() == 0.0
    assert list(both.take(9, now=2.0)) == ["q"]
    both.done(began=2.0, now=3.4)
    assert both.ready_at() == 3.5, "a round of prompt ones alone makes nobody wait"


def test_however_much_is_prompt_nobody_is_passed_over_for_ever() -> None:
    both = lanes(prompt="stuvwxyz", patient="ab")
    rounds = []
    for _ in range(5):
        rounds.append("".join(both.take(2, now=1.0)))
        both.done(began=1.0, now=1.0)
    assert rounds == ["st", "au", "bv", "wx", "yz"]


@given(st.data())
def test_a_peer_s_order_holds_once_it_is_patient_too(data: st.DataObject) -> None:
    """Peers are prompt first and patient then; what was taken may come back."""
    both: Lanes[tuple[str, int]] = Lanes()
    added, got, patient = dict.fromkeys("abc", 0), dict[str, list[int]]((peer, []) for peer in "abc"), set[str]()
    now = 0.0
    for _ in range(data.draw(st.integers(1, 20))):
        for peer in data.draw(st.lists(st.sampled_from("abc"), max_size=6)):
            if data.draw(st.booleans()):
                patient.add(peer)
            both.add(peer, (peer, added[peer]), patient=peer in patient)
            added[peer] += 1
        taken = []
        for item in both.take(data.draw(st.integers(1, 5)), now=now):
            taken.append(item)
            if data.draw(st.booleans()):
                break  # the batch is full otherwise
        if data.draw(st.booleans()):
            for peer, number in reversed(taken):
                both.put_back(peer, (peer, number))
        else:
            for peer, number in taken:
                got[peer].append(number)
        both.done(began=now, now=now + 0.01)
        now += data.draw(st.sampled_from([0.01, 0.1]))
    assert all(numbers == list(range(len(numbers))) for numbers in got.values())


def test_what_is_put_back_is_not_patient_any_more() -> None:
    both = lanes(patient="ab")
    assert list(both.take(1, now=1.0)) == ["a"]
    both.done(began=1.0, now=2.0)
    both.put_back("patient", "a")
    assert list(both.take(9, now=2.0)) == ["a"]


@pytest.mark.parametrize("patient", [False, True])
def test_nobody_is_kept_in_memory_who_has_nothing_waiting(patient: bool) -> None:
    """A flood that has gone would be until the next one comes."""

    class Peer:
        pass

    peer = Peer()
    gone = weakref.ref(peer)
    both: Lanes[str] = Lanes()
    both.add(peer, "a", patient=patient)
    assert list(both.take(9, now=1.0)) == ["a"]
    both.done(began=1.0, now=1.0)
    del peer
    assert gone() is None
