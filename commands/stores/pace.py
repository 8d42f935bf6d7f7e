"""Where commits belong: in the loop's thread, which is cheaper, or in one of their own, where the disk is slow."""

from collections import deque
from typing import Final

WINDOW: Final = 200
"""How many of the last commits are looked at."""

SLOW_MAX: Final = WINDOW // 100
"""More slow ones among them mean that the p99 is slow."""

THREAD_ABOVE_S: Final = 0.002
"""A p99 above this one holds up the loop too long."""

INLINE_BELOW_S: Final = 0.001
"""Half of it, so that commits don't go to and fro. In a thread a commit seems longer than it is, where the loop is
busy: that thread must get hold of the interpreter again."""


class Pace:
    """The running p99 of commits against a limit, as a count of those beyond it."""

    def __init__(self) -> None:
        self.in_thread = False
        self._slow = deque([False] * WINDOW, maxlen=WINDOW)
        self._count = 0

    def add(self, seconds: float) -> None:
        """How long a commit took, wherever it ran."""
        if seconds <= THREAD_ABOVE_S and not self._count:
            return  # There is none to be forgotten either.
        slow = seconds > (INLINE_BELOW_S if self.in_thread else THREAD_ABOVE_S)
        self._count += slow - self._slow[0]
        self._slow.append(slow)
        if self.in_thread != (self._count > SLOW_MAX):
            self._turn()

    def _turn(self) -> None:
        """What was measured against the other limit says nothing of this one: the way back takes a whole window."""
        self.in_thread = not self.in_thread
        self._slow.extend([self.in_thread] * WINDOW)
        self._count = WINDOW if self.in_thread else 0
