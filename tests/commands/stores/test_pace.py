"""When commits leave the loop's thread, and when they come back."""

from commands.stores.pace import INLINE_BELOW_S, SLOW_MAX, STAY_MAX, THREAD_ABOVE_S, WINDOW, Pace

FAST = INLINE_BELOW_S / 2
BETWEEN = (INLINE_BELOW_S + THREAD_ABOVE_S) / 2
SLOW = THREAD_ABOVE_S * 2


def fed(pace: Pace, *commits: float) -> Pace:
    for seconds in commits:
        pace.add(seconds)
    return pace


def settled() -> Pace:
    """On a disk that was fast for long, and is slow now."""
    return fed(Pace(), *[FAST] * STAY_MAX, *[SLOW] * (SLOW_MAX + 1))


def test_a_fast_disk_stays_in_the_loop() -> None:
    assert not fed(Pace(), *[FAST, BETWEEN] * WINDOW).in_thread


def test_one_hiccup_in_a_hundred_changes_nothing() -> None:
    assert not fed(Pace(), *([SLOW] * SLOW_MAX + [FAST] * (WINDOW - SLOW_MAX)) * 5).in_thread


def test_a_slow_p99_goes_into_a_thread_at_once() -> None:
    pace = fed(Pace(), *[FAST] * 1_000, *[SLOW] * SLOW_MAX)
    assert not pace.in_thread
    assert fed(pace, SLOW).in_thread


def test_a_slow_disk_stays_in_a_thread() -> None:
    """Without a try now and then: each would hold up the loop."""
    assert fed(settled(), *[SLOW, FAST, FAST, FAST] * STAY_MAX).in_thread
    assert fed(settled(), *[BETWEEN] * STAY_MAX).in_thread


def test_it_comes_back_after_a_window_of_fast_commits() -> None:
    pace = fed(settled(), *[FAST] * (WINDOW - 1))
    assert pace.in_thread
    assert not fed(pace, FAST).in_thread


def test_waits_of_a_busy_loop_s_thread_don_t_keep_it_there() -> None:
    assert not fed(settled(), *([FAST] * 19 + [SLOW]) * (WINDOW // 20)).in_thread


def test_after_the_way_back_it_counts_anew() -> None:
    pace = fed(settled(), *[FAST] * WINDOW, *[SLOW] * SLOW_MAX)
    assert not pace.in_thread
    assert fed(pace, SLOW).in_thread


def test_tries_that_fail_become_rare_and_one_that_lasts_is_forgiven() -> None:
    pace, stays = settled(), []
    for _ in range(10):
        stays.append(0)
        while pace.in_thread and stays[-1] <= STAY_MAX:
            stays[-1] += 1
            pace.add(FAST)
        fed(pace, *[SLOW] * (SLOW_MAX + 1))
    assert stays == [min(WINDOW * 2**tries, STAY_MAX) for tries in range(10)]
    fed(pace, *[FAST] * STAY_MAX, *[FAST] * STAY_MAX, *[SLOW] * (SLOW_MAX + 1))
    assert fed(pace, *[FAST] * (WINDOW - 1)).in_thread
    assert not fed(pace, FAST).in_thread
