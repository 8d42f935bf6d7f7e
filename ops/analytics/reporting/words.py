"""Numbers in sentences."""

from typing import Final

_UNITS: Final = ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s"))


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 message`, `2,165 messages`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def duration(seconds: float) -> str:
    """To two or three digits: `11 ms`, `4.2 s`, `90 min`, `2 days`."""
    if 0 < seconds < 1:
        return f"{max(1, round(seconds * 1_000))} ms"
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{_rounded(seconds / size)} {unit}"
    return f"{_rounded(seconds)} s"


def _rounded(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0") if number < 10 else f"{number:,.0f}"
