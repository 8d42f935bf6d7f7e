"""What the write side measures of itself: plain numbers, a few for each batch, from which an edge makes metrics."""

from bisect import bisect_left
from typing import Final, Protocol, runtime_checkable

SECONDS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
COMMANDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """How often a value fell into each of the buckets that end at the bounds, and the sum of all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """The last one is for what is greater than every bound."""
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@runtime_checkable
class Measured(Protocol):
    """A store that tells how long its commits take."""

    commits: Histogram


class WriterMeasures:
    """Of one writer."""

    def __init__(self) -> None:
        self.batch_commands = Histogram(COMMANDS)
        self.decide_s = Histogram(SECONDS)
        """A batch each: commands against their states, reading those included."""
        self.append_s = Histogram(SECONDS)
        """A batch each: the store's answer."""
        self.events = 0
        """That were appended."""
        self.failure = ""
        """What the store said when it last failed; empty once an append succeeds."""
        self.failed_at = 0.0
        """When that was, by the loop's clock."""
