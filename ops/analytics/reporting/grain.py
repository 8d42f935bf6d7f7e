"""In what steps a span of days is drawn: so that each bar can be seen, days that lie far apart too."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import Final

import msgspec

SLOTS_MAX: Final = 100
"""More bars than that are hairs on a telephone."""
_DAY: Final = timedelta(days=1)


class Grain(msgspec.Struct, frozen=True):
    name: str
    begin: Callable[[date], date]
    """The first day of the step that the day is in."""
    label: Callable[[date], str]
    """Of a step, by its first day."""
    days: int
    """No step has more."""

    def spread(self, days: Sequence[date]) -> list[date]:
        """The first day of each step from the first of the days to the last, the empty ones in between too."""
        return list(self._steps(self.begin(days[0]), days[-1])) if days else []

    def _steps(self, step: date, last: date) -> Iterable[date]:
        while step <= last:
            yield step
            step = self.begin(step + self.days * _DAY)

    def sums(self, days: Sequence[date], numbers: Sequence[int]) -> list[int]:
        """Of the numbers of each step."""
        found = dict.fromkeys(self.spread(days), 0)
        for day, number in zip(days, numbers, strict=True):
            found[self.begin(day)] += number
        return list(found.values())


GRAINS: Final = (
    Grain("day", lambda day: day, date.isoformat, 1),
    Grain("week", lambda day: day - day.weekday() * _DAY, date.isoformat, 7),
    Grain("month", lambda day: day.replace(day=1), lambda day: f"{day:%Y-%m}", 31),
    Grain(
        "quarter",
        lambda day: day.replace(month=day.month - (day.month - 1) % 3, day=1),
        lambda day: f"{day:%Y} Q{(day.month + 2) // 3}",
        92,
    ),
    Grain("year", lambda day: day.replace(month=1, day=1), lambda day: f"{day:%Y}", 366),
)


def grain_of(days: Sequence[date]) -> Grain:
    """The finest whose bars can be seen. The days are in order."""
    return next((grain for grain in GRAINS if len(grain.spread(days)) <= SLOTS_MAX), GRAINS[-1])
