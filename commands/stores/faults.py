"""What a store in memory can be told to do wrong: each way in which the port lets an append fail."""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum, auto

import msgspec

from commands.stores.tail import Signal
from domain.log import Append


class Fate(Enum):
    """What becomes of the append to one stream that is not simply stored and answered."""

    REFUSED = auto()
    """Unavailable, not stored."""
    REQUEST_LOST = auto()
    """Unknown, never stored."""
    ANSWER_LOST = auto()
    """Unknown, but stored, or in conflict."""
    DELAYED = auto()
    """Unknown, and stored after the next append or by `Medium.settle`, if its expected version still holds then."""


class _Rule(msgspec.Struct, kw_only=True):
    fate: Fate
    concerns: Callable[[Append], bool]
    calls_left: int | None
    """None: until `heal`."""

    def use(self) -> None:
        if self.calls_left is not None:
            self.calls_left -= 1


class Faults:
    """`refuse`, `lose_request`, `lose_answer` and `delay` hold once: for the next call of `append` that names one of
    the given streams, and for those streams in it; where none is given, for the whole of the next call."""

    def __init__(self, stored: Signal) -> None:
        self.away = False
        self.positions_hidden = False
        self._stored = stored
        self._rules: list[_Rule] = []
        self._held_appends: list[asyncio.Event] = []
        self._held_answers: list[asyncio.Event] = []

    def refuse(self, *streams: str) -> None:
        self._once(Fate.REFUSED, streams)

    def lose_request(self, *streams: str) -> None:
        self._once(Fate.REQUEST_LOST, streams)

    def lose_answer(self, *streams: str) -> None:
        self._once(Fate.ANSWER_LOST, streams)

    def delay(self, *streams: str) -> None:
        self._once(Fate.DELAYED, streams)

    def when(self, concerns: Callable[[Append], bool], fate: Fate, *, calls: int | None = None) -> None:
        """For the streams that the predicate picks, in that many calls of `append` which have any; without a number
        until `heal`. Where several rules pick a stream, the oldest holds."""
        self._rules.append(_Rule(fate=fate, concerns=concerns, calls_left=calls))

    def go_away(self) -> None:
        """Every append is Unavailable, and every read and subscription breaks, until `heal`."""
        self.away = True
        self._stored.give()

    def heal(self) -> None:
        """The store is there again, and no rule holds any more."""
        self.away = False
        self._rules.clear()

    def hold_append(self) -> asyncio.Event:
        """The next append is stored only when this event is set, and answered then."""
        self._held_appends.append(release := asyncio.Event())
        return release

    def hold_answer(self) -> asyncio.Event:
        """The next append is stored at once, and subscribers hear of it, but it is answered only when this is set."""
        self._held_answers.append(release := asyncio.Event())
        return release

    def hide_positions(self) -> None:
        """From now on Appended tells none, as with some stores."""
        self.positions_hidden = True

    # What the store asks

    def fates(self, batch: Sequence[Append]) -> dict[str, Fate]:
        """What befalls the streams of this call; the rules that it meets are used up by it."""
        fates: dict[str, Fate] = {}
        for rule in self._rules:
            hit = {append.stream: rule.fate for append in batch if rule.concerns(append)}
            if hit:
                fates = hit | fates
                rule.use()
        self._rules = [rule for rule in self._rules if rule.calls_left != 0]
        return fates

    async def before_storing(self) -> None:
        if self._held_appends:
            await self._held_appends.pop(0).wait()

    async def before_answering(self) -> None:
        if self._held_answers:
            await self._held_answers.pop(0).wait()

    def _once(self, fate: Fate, streams: tuple[str, ...]) -> None:
        self.when(lambda append: not streams or append.stream in streams, fate, calls=1)
