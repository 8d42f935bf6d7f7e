"""Lets so many through in each turn of the loop; the others wait, first come, first served.

A turn of the loop ends when all that has come is dealt with, and whatever comes meanwhile waits for that. A request or
a handshake takes half a millisecond: where a hundred came in one turn, everybody's messages would wait for all of them.

How many that are depends on who is there. Long turns make large batches, which cost less for each message: right where
everybody sends as much as is possible. While somebody says little, turns are short, and pauses lie between them.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

STRANGERS_PER_TURN: Final = 2
STRANGERS_PER_SHORT_TURN: Final = 1
HELD_PER_TURN: Final = 4
HELD_PER_SHORT_TURN: Final = 1

LITTLE_PER_S: Final = 20
"""How many frames a device that says little sends in a second at most."""

COURTESY_S: Final = 1.0
"""How long turns are short after somebody has said little."""

PAUSE_TURNS: Final = 3
"""For so many turns nobody goes through after a short one: a request takes several itself, and where many are under way
each turn has a step of each. A message takes about three turns, too."""


class Voice:
    """How much one device says."""

    __slots__ = ("_before", "_now", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._before = LITTLE_PER_S + 1
        """How many frames it sent in the second before; of a newcomer nobody knows."""
        self._now = 0

    def says_little(self, frames: int) -> bool:
        """To be asked whenever it speaks."""
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._before = self._now if second == self._second + 1 else 0
            self._second, self._now = second, 0
        self._now += frames
        return not self.says_much

    @property
    def says_much(self) -> bool:
        """As of when it last spoke."""
        return self._before > LITTLE_PER_S or self._now > LITTLE_PER_S


class Courtesy:
    """Whether turns are short."""

    def __init__(self) -> None:
        self._until = 0.0

    def heard(self) -> None:
        """Somebody who says little has spoken."""
        self._until = asyncio.get_running_loop().time() + COURTESY_S

    @property
    def due(self) -> bool:
        return asyncio.get_running_loop().time() < self._until


class Turnstile:
    def __init__(self, courtesy: Courtesy, *, per_turn: int, per_short_turn: int) -> None:
        self._courtesy = courtesy
        self._per_turn = per_turn
        self._per_short_turn = per_short_turn
        self._left = per_turn
        self._waiting: deque[Callable[[], object]] = deque()
        self._turning = False
        self._pause = 0
        """For so many turns more nobody goes through."""

    def admits(self) -> bool:
        """Whether somebody may go through at once."""
        if not self._left:
            return False
        self._left -= 1
        self._turn_soon()
        return True

    def wait(self, go_on: Callable[[], object]) -> None:
        """Calls it when its turn has come, and never at once."""
        self._waiting.append(go_on)
        self._turn_soon()

    async def passed(self) -> None:
        """Returns when its turn has come."""
        if not self.admits():
            through = asyncio.Event()
            self.wait(through.set)
            await through.wait()

    def _turn_soon(self) -> None:
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        if self._pauses():
            self._turn_soon()
            return
        most = self._left = self._per_short_turn if self._courtesy.due else self._per_turn
        loop = asyncio.get_running_loop()
        while self._left and self._waiting:
            self._left -= 1
            loop.call_soon(self._waiting.popleft())
        if self._left < most:
            self._turn_soon()

    def _pauses(self) -> bool:
        if self._pause:
            self._pause -= 1
            return True
        if self._courtesy.due:
            self._pause = PAUSE_TURNS
        return False


class Turnstiles:
    """Those of one engine."""

    def __init__(self) -> None:
        self.courtesy = Courtesy()
        self.strangers = Turnstile(self.courtesy, per_turn=STRANGERS_PER_TURN, per_short_turn=STRANGERS_PER_SHORT_TURN)
        """For requests, handshakes and log-ins: each takes about half a millisecond."""
        self.held = Turnstile(self.courtesy, per_turn=HELD_PER_TURN, per_short_turn=HELD_PER_SHORT_TURN)
        """For live connections that have sent more than is taken at once."""
