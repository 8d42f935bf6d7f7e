"""Lets so many through in each turn of the loop; the others wait, first come, first served.

A turn of the loop ends when all that has come is dealt with, and whatever comes meanwhile waits for that. A request or
a handshake takes half a millisecond: where a hundred came in one turn, everybody's messages would wait for all of them.
"""

import asyncio
from collections import deque
from collections.abc import Callable


class Turnstile:
    def __init__(self, *, per_turn: int) -> None:
        self._per_turn = per_turn
        self._left = per_turn
        self._waiting: deque[Callable[[], object]] = deque()
        self._turning = False

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
        self._left = self._per_turn
        loop = asyncio.get_running_loop()
        while self._left and self._waiting:
            self._left -= 1
            loop.call_soon(self._waiting.popleft())
        if self._left < self._per_turn:
            self._turn_soon()
