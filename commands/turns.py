"""The writer's queue: commands by peer, taken turn by turn, so that a busy peer can't push the others back.

A peer that had nothing waiting comes before those that have, as sparse flows do in RFC 8290 (FQ-CoDel), 4.2: whoever
says a little hardly waits, however much others say. It does so once in each turn of all, so that nobody is starved by
those who say one thing after the other.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Holds as much as it is given: its user bounds it."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, deque[T]] = {}
        self._new: deque[Hashable] = deque()
        """The peers that have not been served yet since they had nothing, the next one first."""
        self._order: deque[Hashable] = deque()
        """Those that have. One that has nothing waiting any more stays until it would be its turn."""
        self._waiting = 0

    def __bool__(self) -> bool:
        return self._waiting > 0

    def add(self, turn: Hashable, item: T) -> None:
        if not self._waiting:
            # Everybody has had a turn.
            self._queues.clear()
            self._order.clear()
        self._waiting += 1
        queue = self._queues.get(turn)
        if queue is None:
            self._queues[turn] = deque((item,))
            self._new.append(turn)
        else:
            queue.append(item)

    def put_back(self, turn: Hashable, item: T) -> None:
        """What was taken and is not done comes before all else of its peer. Of several, the last one is put back
        first, so that their order holds."""
        self._waiting += 1
        queue = self._queues.get(turn)
        if queue is None:
            self._queues[turn] = deque((item,))
            self._new.appendleft(turn)
        else:
            queue.appendleft(item)

    def take(self, most: int) -> Iterator[T]:
        """Up to `most` items, each taken when it is asked for: one of each peer, then a second of each, and so on; each
        peer's in order. What is added meanwhile may be among them."""
        while most > 0 and self._waiting:
            turn = (self._new or self._order).popleft()
            queue = self._queues[turn]
            if queue:
                most -= 1
                self._waiting -= 1
                self._order.append(turn)
                yield queue.popleft()
            else:
                del self._queues[turn]
