"""One timer for all connections: each is visited when something of it is due, precise to a tick.

A timer for each connection would cost memory and a heap; here a connection stands in one slot of a wheel, and moving it
costs two operations on sets.
"""

import asyncio
import logging
from typing import Final, Protocol

_log = logging.getLogger("signet.wheel")

SLOTS: Final = 64
_NOWHERE: Final = -1


class Member(Protocol):
    """Something that is visited. `wheel_slot` belongs to the wheel; it starts at -1."""

    wheel_slot: int

    def due(self) -> float | None:
        """Does what is due. Gives the seconds until the next visit; None: none, or `put` was called meanwhile."""
        ...


class Wheel:
    """Runs its timer only while it has members."""

    def __init__(self, *, tick_s: float = 1.0) -> None:
        self._tick_s = tick_s
        self._slots: list[set[Member]] = [set() for _ in range(SLOTS)]
        self._now = 0
        self._members = 0
        self._running = False

    def put(self, member: Member, delay_s: float) -> None:
        """The member's next visit; it replaces the one that was planned. At most 63 ticks ahead."""
        ticks = max(1, round(delay_s / self._tick_s))
        assert ticks < SLOTS, f"{delay_s} s are beyond the wheel"
        self.drop(member)
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_later(self._tick_s, self._tick)
        member.wheel_slot = (self._now + ticks) % SLOTS
        self._slots[member.wheel_slot].add(member)
        self._members += 1

    def drop(self, member: Member) -> None:
        """No more visits."""
        if member.wheel_slot != _NOWHERE:
            self._slots[member.wheel_slot].discard(member)
            member.wheel_slot = _NOWHERE
            self._members -= 1

    def _tick(self) -> None:
        self._now = (self._now + 1) % SLOTS
        for member in list(self._slots[self._now]):
            # A visit may drop or move others that stand in this slot.
            if member.wheel_slot == self._now:
                self.drop(member)
                self._visit(member)
        self._running = self._members > 0
        if self._running:
            asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def _visit(self, member: Member) -> None:
        try:
            delay_s = member.due()
        except Exception:
            _log.exception("a visit failed")
            return
        if delay_s is not None:
            self.put(member, delay_s)
