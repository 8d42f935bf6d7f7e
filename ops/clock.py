"""The time, as events have it."""

import time


def clock() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1_000
