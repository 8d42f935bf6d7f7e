"""How long to wait before the next attempt."""

import random
from typing import Final

BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 20.0
STEADY_S: Final = 5.0
"""A connection that stood so long makes the next wait the first again."""
FLAPS_MAX: Final = 3
"""One that caught up but stood for less counts as a failure, too, but never makes the wait longer than so many do: the
server is there, and only must not be asked several times a second for ever."""


def backoff(attempt: int) -> float:
    """Seconds to wait before the next attempt: doubling, and at random between half and all of it."""
    return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0))


def failures_after(failures: int, *, stood_s: float, was_live: bool) -> int:
    """How many failed connections there were in a row, after one that stood for so long."""
    if stood_s > STEADY_S:
        return 0
    return min(failures + 1, FLAPS_MAX) if was_live else failures + 1
