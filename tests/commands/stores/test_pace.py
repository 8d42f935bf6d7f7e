"""When commits leave the loop's thread, and when they come back."""

from commands.stores.pace import INLINE_BELOW_S, SLOW_MAX, THREAD_ABOVE_S, WINDOW, Pace

FAST = INLINE_BELOW_S / 2
BETWEEN = (INLINE_BELOW_S + THREAD_ABOVE_S) / 2
SLOW = THREAD_ABOVE_S * 2


def fed(pace: Pace, *commits: float) -> Pace:
    for seconds in commits:
        pace.add(seconds)
    return pace


def slow_disk() -> Pace:
    return fed(Pace(), *[SLOW] * (SLOW_MAX + 1))


def test_a_fast_disk_stays_in_the_loop() -> None:
    assert not fed(Pace(), *[FAST, BETWEEN] * WINDOW).in_thread


def test_one_hiccup_in_a_hundred_changes_nothing() -> None:
    assert not fed(Pace(), *([SLOW] * SLOW_MAX + [FAST] * (WINDOW - SLOW_MAX)) * 5).in_thread


def test_a_slow_p99_goes_into_a_thread_at_once() -> None:
    pace = fed(Pace(), *[FAST] * 1_000, *[SLOW] * SLOW_MAX)
    assert not pace.in_thread
    assert fed(pace, SLOW).in_thread


def test_it_comes_back_after_a_window_of_fast_commits() -> None:
    pace = fed(slow_disk(), *[FAST] * (WINDOW - SLOW_MAX - 1))
    assert pace.in_thread
    assert not fed(pace, FAST).in_thread


def test_what_is_neither_fast_nor_slow_stays_where_it_is() -> None:
    assert fed(slow_disk(), *[BETWEEN] * 1_000).in_thread
    assert not fed(Pace(), *[BETWEEN] * 1_000).in_thread


def test_after_the_way_back_it_counts_anew() -> None:
    pace = fed(slow_disk(), *[FAST] * WINDOW)
    assert not fed(pace, *[SLOW] * SLOW_MAX).in_thread
    assert fed(pace, SLOW).in_thread
