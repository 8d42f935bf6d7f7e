"""What is remembered for a while only, and within a bound."""

from typing import Generic, TypeVar

from gateways.refusal import Refusal

K = TypeVar("K")
V = TypeVar("V")


class Fading(Generic[K, V]):
    """A bounded dict whose entries last at least `life_us`, and at most twice that. In two generations: the older one
    is dropped whole, since to drop entries one by one from the front of a dict walks over all earlier holes."""

    def __init__(self, *, life_us: int, entries_max: int) -> None:
        self._life_us = life_us
        self._entries_max = entries_max
        self._turned_at = 0
        self._new: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K, now: int) -> V | None:
        self._turn(now)
        value = self._new.get(key)
        return self._old.get(key) if value is None else value

    def put(self, key: K, value: V, now: int) -> None:
        """Raises Refusal(`busy`) where it is full."""
        self._turn(now)
        self._old.pop(key, None)
        if key not in self._new and len(self._new) + len(self._old) >= self._entries_max:
            raise Refusal("busy", "too many devices have logged in of late")
        self._new[key] = value

    def drop(self, key: K) -> None:
        self._new.pop(key, None)
        self._old.pop(key, None)

    def _turn(self, now: int) -> None:
        if now - self._turned_at < self._life_us:
            return
        # After two lives without a turn, nothing in either is young enough.
        self._old = self._new if now - self._turned_at < 2 * self._life_us else {}
        self._new = {}
        self._turned_at = now
