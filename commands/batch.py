"""What the writer holds of a batch: commands without an answer, and for each stream what is to be appended."""

from collections.abc import Hashable, Sequence
from typing import Any

import msgspec

from commands.handlers import Command
from commands.replies import Refused, ReplyTo
from commands.states import Slot
from domain.codec import DomainEvent, Event
from domain.conversation import Conversation
from domain.entry import Entry
from domain.log import Append, NewEvent
from domain.recent import First


class Waiting(msgspec.Struct, eq=False):
    """A command that has not been answered yet."""

    command: Command
    stream: str
    """`stream_of` the command."""
    turn: Hashable
    reply: ReplyTo
    occurred_at: int | None = None
    """When it happened, microseconds since 1970 UTC, where an importer claims that."""
    conflicts: int = 0


Answer = First | Refused | int | None
"""First: decided before. int: the stream version of the command's event. None: it had nothing to change."""


class Group:
    """A batch's commands for one stream with their answers to be, and the events of all of them."""

    __slots__ = (
        "answers", "at", "broken", "bytes", "entries", "events", "expected", "hearers", "last", "positions", "slot",
        "tries", "uncertain",
    )  # fmt: skip

    def __init__(self, slot: Slot[Any], *, now: int) -> None:
        self.slot = slot
        self.at = max(now, slot.at)
        """When the events are recorded."""
        self.expected = slot.version
        self.hearers = len(slot.state.members) if isinstance(slot.state, Conversation) else 1
        """How many members hear of each event."""
        self.answers: list[tuple[Waiting, Answer]] = []
        self.entries: list[Entry[DomainEvent]] = []
        self.events: list[NewEvent] = []
        self.bytes = 0
        """How many bytes the events' data have."""
        self.broken = False
        """A bug struck while the state was being changed: nothing of the group may be stored."""
        self.tries = 0
        self.uncertain = False
        """Some try of the append ended as Unknown."""
        self.positions: Sequence[int] | None = None
        """Those of the committed events, where the store tells them."""
        self.last: int | None = None
        """That of the last one, likewise."""

    @property
    def append(self) -> Append:
        return Append(stream=self.slot.stream, expected=self.expected, events=self.events)

    @property
    def waiting(self) -> list[Waiting]:
        return [waiting for waiting, _ in self.answers]

    def placed(self, positions: Sequence[int] | None, last: int | None = None) -> None:
        """The store tells where the events stand."""
        self.positions = positions
        self.last = positions[-1] if positions else last

    def committed(self) -> list[Event]:
        """The events as they stand in the log; none where the store doesn't tell their positions."""
        stream = self.slot.stream
        return [
            Event(position=position, stream=stream, version=version, entry=entry)
            for version, (position, entry) in enumerate(
                zip(self.positions or (), self.entries, strict=False), self.expected + 1
            )
        ]


class OpenAppend:
    """An append whose outcome is open, and the commands of its stream that came since."""

    __slots__ = ("due", "group", "later")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.due = 0.0
        """When it is tried again, by the loop's clock."""
        self.later: list[Waiting] = []
