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
"""A p90 below this one, in a thread, is worth a try in the loop. A higher percentile would tell of the loop and not of
the disk: a thread whose commit is done must get hold of the interpreter again, for 20 ms where the loop is busy."""

STAY_MAX: Final = 64 * WINDOW
"""How many commits stay in a thread at most, before the next try: each try that fails doubles their number."""


class Pace:
    """The running p99 of commits against a limit, as a count of those beyond it."""

    def __init__(self) -> None:
        self.in_thread = False
        self._slow = deque([False] * WINDOW, maxlen=WINDOW)
        self._count = 0
        self._stayed = 0
        """How many commits came since it last changed."""
        self._stay = WINDOW
        """How many stay in a thread, the next time."""

    def add(self, seconds: float) -> None:
        """How long a commit took, wherever it ran."""
        self._stayed += 1
        if seconds <= THREAD_ABOVE_S and not self._count and not self.in_thread:
            return  # There is none to be forgotten either.
        slow = seconds > (INLINE_BELOW_S if self.in_thread else THREAD_ABOVE_S)
        self._count += slow - self._slow[0]
        self._slow.append(slow)
        if self.in_thread:
            if self._stayed >= self._stay and self._count <= WINDOW // 10:
                self._change(in_thread=False)
        elif self._count > SLOW_MAX:
            self._stay = WINDOW if self._stayed >= self._stay else min(2 * self._stay, STAY_MAX)
            self._change(in_thread=True)

    def _change(self, *, in_thread: bool) -> None:
        """What was measured against the other limit says nothing of this one."""
        self.in_thread = in_thread
        self._stayed = 0
        self._slow.extend([in_thread] * WINDOW)
        self._count = WINDOW if in_thread else 0
