"""Waiting before the next attempt."""

from signet_client.backoff import BACKOFF_FIRST_S, BACKOFF_MAX_S, FLAPS_MAX, STEADY_S, backoff, failures_after


def test_doubles_up_to_a_bound() -> None:
    for attempt in range(30):
        whole = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**attempt)
        assert whole / 2 <= backoff(attempt) <= whole


def test_a_steady_connection_ends_a_row_of_failures() -> None:
    assert failures_after(9, stood_s=STEADY_S + 1, was_live=True) == 0


def test_a_connection_that_never_caught_up_counts_for_more_than_one_that_did() -> None:
    """I11: a server that can't serve is asked less and less; one that drops whom it has served is not asked all the
    time, but nobody is kept away from it for long either."""
    refused = dropped = 0
    for _ in range(8):
        refused = failures_after(refused, stood_s=0.1, was_live=False)
        dropped = failures_after(dropped, stood_s=0.1, was_live=True)
    assert (refused, dropped) == (8, FLAPS_MAX)
    assert failures_after(refused, stood_s=0.1, was_live=True) == FLAPS_MAX
