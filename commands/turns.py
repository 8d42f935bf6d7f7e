"""The writer's queue: commands by peer, taken turn by turn, so that a busy peer can't push the others back."""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Holds as much as it is given: its user bounds it."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, deque[T]] = {}
        self._order: deque[Hashable] = deque()
        """The peers that have something waiting, the next one first."""

    def __bool__(self) -> bool:
        return bool(self._order)

    def add(self, turn: Hashable, item: T) -> None:
        queue = self._queues.get(turn)
        if queue is None:
            self._queues[turn] = deque((item,))
            self._order.append(turn)
        else:
            queue.append(item)

    def put_back(self, turn: Hashable, item: T) -> None:
        """What was taken and is not done comes before all else of its peer. Of several, the last one is put back
        first, so that their order holds."""
        queue = self._queues.get(turn)
        if queue is None:
            self._queues[turn] = deque((item,))
            self._order.appendleft(turn)
        else:
            queue.appendleft(item)

    def take(self, most: int) -> list[T]:
        """Up to `most` items: one of each peer, then a second of each, and so on; each peer's in order."""
        taken: list[T] = []
        while self._order and len(taken) < most:
            turn = self._order.popleft()
            queue = self._queues[turn]
            taken.append(queue.popleft())
            if queue:
                self._order.append(turn)
            else:
                del self._queues[turn]
        return taken
