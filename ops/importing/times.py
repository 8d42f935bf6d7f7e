"""When each line of a day's log was written, as far as the log tells.

- Times are taken for UTC, and are those of minutes. The file's name tells the day on which it begins.
- Before October 2007 the logs are on a 12-hour clock without am and pm, but for a file that shows an hour from 13 on.
  There a file is taken to begin in the morning; 12:05 and 00:05 are the same time, five minutes into a half of the day.
- A time before that of the line before it is one of the next half of the day, on a 24-hour clock of the next day: so
  11:59, 00:00 (or 12:00) is noon, and a log may run past midnight.
- Where it is less than an hour before, the clock was set back, or lines are out of order: then, and as long as times
  are less than the one that was reached, that one holds. Within a file times never go back.
- A line without a time has that of the line before, and the first ones have that of the first line with one.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Final

from ops.irc.lines import Line

CLOCK_OF_24_HOURS_FROM: Final = date(2007, 10, 1)
SET_BACK_MAX: Final = 60
"""In minutes: by that much a time may be less than the one before without being one of the next day."""

_HALF_DAY, _DAY = 720, 1_440
_MINUTE: Final = 60_000_000
"""In microseconds."""


def occurred_at(day: date, lines: Sequence[Line]) -> list[int]:
    """For each line of a file, in microseconds since 1970 UTC."""
    begin = int(datetime.combine(day, time(), UTC).timestamp()) * 1_000_000
    told = [line.minute for line in lines if line.minute is not None]
    clock = _clock(day, told)
    # How many minutes after the day's beginning, and where the running half of the day (or day) begins.
    now = told[0] % clock if told else 0
    turn = 0
    times = []
    for line in lines:
        if line.minute is not None:
            minute = turn + line.minute % clock
            if now - minute >= SET_BACK_MAX:
                turn += clock
                minute += clock
            now = max(now, minute)
        times.append(begin + now * _MINUTE)
    return times


def _clock(day: date, told: Sequence[int]) -> int:
    """After how many minutes it begins anew."""
    is_of_24_hours = day >= CLOCK_OF_24_HOURS_FROM or max(told, default=0) >= _HALF_DAY + 60
    return _DAY if is_of_24_hours else _HALF_DAY
