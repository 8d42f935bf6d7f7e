"""How much more the object store can take, where that is known: what is free, without what was promised to uploads."""

from collections.abc import Callable

from domain.ids import MediaId
from gateways.refusal import Refusal


class Room:
    def __init__(self, free: Callable[[], int | None], clock: Callable[[], float], promise_s: float) -> None:
        """`free`: how many bytes there is room for; None where nobody knows. `clock`: seconds. `promise_s`: how long an
        upload may take; it counts as long as it was not taken in."""
        self._free = free
        self._clock = clock
        self._promise_s = promise_s
        self._promised: dict[MediaId, tuple[float, int]] = {}
        """Until when, and how many bytes. The oldest come first."""

    def promise(self, media: MediaId, size: int) -> None:
        """Room for an upload. Raises Refusal(`storage_full`)."""
        self._promised.pop(media, None)
        self.check(size)
        self._promised[media] = (self._clock() + self._promise_s, size)

    def release(self, media: MediaId) -> None:
        """It was taken in, or is gone."""
        self._promised.pop(media, None)

    def check(self, size: int) -> None:
        """Whether there is room for so many bytes more. Raises Refusal(`storage_full`)."""
        free = self._free()
        if free is None:
            return
        self._forget()
        if free < size + sum(promised for _, promised in self._promised.values()):
            raise Refusal("storage_full")

    def _forget(self) -> None:
        now = self._clock()
        for media, (until, _) in list(self._promised.items()):
            if until > now:
                break
            del self._promised[media]
