"""How long to wait before the next attempt."""

import random
from typing import Final

BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 20.0


def backoff(attempt: int) -> float:
    """Seconds to wait before the next attempt: doubling, and at random between half and all of it."""
    return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0))
