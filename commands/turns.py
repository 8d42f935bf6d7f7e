"""The writer's queue: commands by peer, taken turn by turn, so that a busy peer can't push the others back; and a lane
beside it for those that may wait.

A peer that had nothing waiting comes before those that have, as sparse flows do in RFC 8290 (FQ-CoDel), 4.2: whoever
says a little hardly waits, however much others say. It does so once in each turn of all, so that nobody is starved by
those who say one thing after the other.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

PATIENT_PAUSE_S: Final = 0.02
PATIENT_PART: Final = 4
"""After a round with something of the patient lane it pauses so long at least, and so long that it gets one part in so
many of the time at most."""
PATIENT_PAUSE_MAX_S: Final = 2.0
"""However long the round took: a store that was away for minutes is no reason to wait three times as long again."""


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
        self.forget()
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

    def forget(self) -> None:
        """Where nothing waits everybody has had a turn, and a peer that has gone is not to be kept in memory."""
        if not self._waiting:
            self._queues.clear()
            self._order.clear()

    def take(self, most: int) -> Iterator[T]:
        """Up to `most` items, each taken when it is asked for: one of each peer, then a second of each, and so on; each
        peer's in order. What is added meanwhile may be among them."""
        while most > 0 and self._waiting:
            most -= 1
            yield self.pop()[1]

    def pop(self) -> tuple[Hashable, T]:
        """The next item, and its peer. Something must be waiting."""
        while True:
            turn = (self._new or self._order).popleft()
            queue = self._queues[turn]
            if queue:
                self._waiting -= 1
                self._order.append(turn)
                return turn, queue.popleft()
            del self._queues[turn]


class Lanes(Generic[T]):
    """The prompt lane, and the patient one, which pauses between its rounds. So who comes by the prompt lane seldom has
    to wait for the end of a commit, or for a disk that is busy with one, however much the others say; and what they say
    meanwhile gathers, and is committed at once."""

    def __init__(self) -> None:
        self._prompt: Turns[T] = Turns()
        self._patient: Turns[T] = Turns()
        self._patient_from = 0.0
        self._was_due = self._was_patient = False
        """In this round the patient lane's time had come; something of it was taken."""
        self._hurries = False

    def __bool__(self) -> bool:
        return bool(self._prompt) or bool(self._patient)

    def add(self, turn: Hashable, item: T, *, patient: bool) -> None:
        """What a peer has in the prompt lane comes before what it has in the patient one, whichever was added first."""
        (self._patient if patient else self._prompt).add(turn, item)

    def put_back(self, turn: Hashable, item: T) -> None:
        """What was taken and is not done goes on promptly; see `Turns.put_back`."""
        self._prompt.put_back(turn, item)

    def ready_at(self) -> float | None:
        """From when on something can be taken, by the clock that `take` is told; None: nothing waits."""
        if self._prompt:
            return 0.0
        return self._patient_from if self._patient else None

    def take(self, most: int, *, now: float) -> Iterator[T]:
        """Up to `most` items; see `Turns.take`. Those of the patient lane come last, where its time has come. Where the
        prompt lane left no room for them in the round before, one of them changes lanes: nobody waits for ever."""
        passed_over = self._was_due and not self._was_patient
        self._was_due, self._was_patient = bool(self._patient) and now >= self._patient_from, False
        if self._was_due and passed_over:
            self._prompt.add(*self._patient.pop())
        for item in self._prompt.take(most):
            most -= 1
            yield item
        if self._was_due:
            for item in self._patient.take(most):
                self._was_patient = True
                yield item

    def hurry(self) -> None:
        """From now on nothing pauses: nobody comes any more whom it would be for."""
        self._hurries = True
        self._patient_from = 0.0

    def done(self, *, began: float, now: float) -> None:
        """The round is over, and what is put back is in its lane again."""
        self._prompt.forget()
        self._patient.forget()
        if self._was_patient and not self._hurries:
            pause = max(PATIENT_PAUSE_S, (PATIENT_PART - 1) * (now - began))
            self._patient_from = now + min(pause, PATIENT_PAUSE_MAX_S)
