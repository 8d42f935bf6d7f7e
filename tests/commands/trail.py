"""What one writer did, in order: its appends with their outcomes, and its answers; and whether that keeps the rules for
outcomes that are unknown."""

from collections.abc import Sequence

import msgspec

from commands.handlers import Command, stream_of
from commands.stores.memory import Medium
from commands.writer import Accepted, Refused, Reply
from domain.codec import CODEC
from domain.log import Append, Appended, Conflict, EventLog, Outcome, Unknown
from tests.commands.helpers import Passing


class Ended(msgspec.Struct, frozen=True):
    """An append, as the writer was told of it."""

    append: Append
    outcome: Outcome


class Answered(msgspec.Struct, frozen=True):
    stream: str
    command: str
    reply: Reply
    stored: bool
    """Whether the command's event stood in the log at that moment, where the answer says it does."""


class Stopped(msgspec.Struct, frozen=True):
    """From here on it is to answer what it can, and to end."""


class Trail(Passing):
    """Stands between a writer and its log."""

    def __init__(self, inner: EventLog, medium: Medium) -> None:
        super().__init__(inner)
        self._medium = medium
        self.steps: list[Ended | Answered | Stopped] = []

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        # What the writer does to the batch later is not to change what it asked for.
        asked = [msgspec.structs.replace(append, events=[*append.events]) for append in batch]
        outcomes = await super().append(batch)
        self.steps += map(Ended, asked, outcomes)
        return outcomes

    def answer(self, command: Command, reply: Reply) -> None:
        stream = stream_of(command)
        stored = not isinstance(reply, Accepted) or self._command_at(stream, reply.seq - 1) == command.id
        self.steps.append(Answered(stream, command.id, reply, stored))

    def _command_at(self, stream: str, version: int) -> str | None:
        stored = self._medium.streams.get(stream, [])
        return CODEC.decode(stored[version]).entry.cmd if version < len(stored) else None


def check_rules(steps: Sequence[Ended | Answered | Stopped]) -> None:
    """I1, I2: an append whose outcome is unknown is repeated as it was until the store says success or conflict;
    meanwhile nothing of its stream is appended or answered. Another decision has events of its own."""
    doubtful: dict[str, Append] = {}
    first: dict[str, Append] = {}
    stopped = False
    for step in steps:
        match step:
            case Stopped():
                stopped = True
            case Ended(append, outcome):
                assert append == doubtful.get(append.stream, append), "it is the same append until it is known"
                for event in append.events:
                    assert first.setdefault(event.id, append) == append, "another decision has new ids"
                if isinstance(outcome, Unknown):
                    doubtful[append.stream] = append
                elif isinstance(outcome, Appended | Conflict):
                    doubtful.pop(append.stream, None)
            case Answered(stream, command, reply, stored):
                assert stored, "it is accepted when it is on disk"
                if stream in doubtful:
                    assert stopped, "what is behind an unknown outcome waits"
                    assert reply == Refused(code="unavailable")
                    assert command not in commands_of(doubtful[stream]), "nobody knows what became of it"


def commands_of(append: Append) -> set[str]:
    return {CODEC.decode_entry(event.topic, event.data).cmd for event in append.events}
