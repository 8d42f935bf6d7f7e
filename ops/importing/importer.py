"""Carries the steps of a channel's logs out by the writer, in the order of the lines.

Everything that a step does is a command whose id is derived from its line; what the log has already is left out. So a
run that is killed goes on where it was, and ends as if it had not been. Each command to the channel has one event
there, so its seq, which answers name, is known beforehand.

A chunk is answered before the next one begins, and so are its registrations and new names before its other commands. A
message tells the version of its sender's account: it is the same in every run, since where a chunk ends depends on the
file alone, not on what is there already.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, assert_never

import msgspec

from domain.account import AccountCommand
from domain.conversation import AddMembers, ConversationCommand, LeaveConversation, SendMessage, StartConversation
from domain.ids import CommandId
from ops.importing.files import DayLog
from ops.importing.ids import DEVICE, ChannelIds
from ops.importing.links import answered
from ops.importing.people import People
from ops.importing.queue import Queue, Queued
from ops.importing.stored import StoredChannel, commands_of
from ops.importing.survey import Survey
from ops.importing.times import occurred_at
from ops.irc.lines import Skipped, parse
from ops.irc.script import Enter, Leave, Rename, Say, Script, Step
from ops.writing import WriteSide
from signet_client import payloads
from signet_client.messages import encode_body

CHUNK: Final = 2_000
"""How many lines are carried out together."""

MEMBERS_MAX: Final = 100_000
"""How many a channel may have at least: days that are added later bring more."""


class Counts(msgspec.Struct, kw_only=True):
    """What came of the lines, in this run or an earlier one."""

    lines: int = 0
    messages: int = 0
    changes: int = 0
    """Lines that somebody joined, left or took another nick by."""
    added: int = 0
    """Messages that this run has added."""
    replies: int = 0
    skipped: Counter[str] = msgspec.field(default_factory=Counter)
    dropped: Counter[str] = msgspec.field(default_factory=Counter)
    """Links that no message names."""


class Importer:
    def __init__(self, side: WriteSide, channel: str, ids: ChannelIds, stored: StoredChannel) -> None:
        self._side = side
        self._channel = channel
        self._ids = ids
        self._stored = stored
        self._seq = stored.head
        self._script = Script()
        self._people = People(side, ids, is_new=not stored.head)
        self._queue = Queue(side)
        self._accounts: list[Queued] = []
        """Registrations and new names of this chunk."""
        self._commands: list[Queued] = []
        self.counts = Counts()

    @property
    def persons(self) -> int:
        return len(self._people)

    async def start(self, surveyed: Survey) -> None:
        """Makes the channel, where it is not there. Raises OpsError."""
        if self._stored.head:
            return
        ids, at = self._ids, surveyed.begins_at
        if ids.owner_registration not in await commands_of(self._side.log, ids.owner):
            registration = self._people.registration(ids.owner, ids.owner_registration, self._channel)
            await self._queue.submit([Queued(command=registration, occurred_at=at, where="the channel's owner")])
        start = StartConversation(
            id=ids.start, conversation=ids.conversation, by=ids.owner, device=DEVICE, kind="group", protection="none",
            others=[], title=self._side.sealer.seal(ids.owner, self._channel),
            members_max=max(MEMBERS_MAX, surveyed.persons + 1),
        )  # fmt: skip
        self._seq = 1
        await self._queue.submit([Queued(command=start, occurred_at=at, where="the channel", seq=1)])

    async def take(self, logs: Sequence[DayLog], on_chunk: Callable[[], None]) -> None:
        """All of them. `on_chunk` is called after each chunk. Raises OpsError."""
        for log in logs:
            day = _Day(log)
            for begin in range(0, len(day.lines), CHUNK):
                for step in self._script.steps(day.lines[begin : begin + CHUNK]):
                    await self._take(step, day)
                await self._flush()
                on_chunk()
            self.counts.lines += len(day.lines)
            for line in day.links:
                self.counts.dropped["no_message"] += 0 if line in day.seqs else len(day.links[line])

    async def _take(self, step: Step, day: "_Day") -> None:
        match step:
            case Say():
                self._say(step, day)
            case Enter():
                await self._enter(step, day)
            case Leave():
                self._leave(step, day)
            case Rename():
                self.counts.changes += 1
                await self._rename("rename", step, day)
            case Skipped():
                self.counts.skipped[step.reason] += 1
            case _:
                assert_never(step)

    def _say(self, say: Say, day: "_Day") -> None:
        self.counts.messages += 1
        about = answered(day.links.get(say.line, frozenset()), day.seqs, self.counts.dropped)
        self.counts.replies += about is not None
        command_id = self._ids.command("say", day.name, say.line)
        seq = self._stored.seq_of(command_id)
        if seq is None:
            self.counts.added += 1
            seq = self._add(self._message(command_id, say, about), say.line, day)
        day.seqs[say.line] = seq

    def _message(self, command_id: CommandId, say: Say, about: int | None) -> SendMessage:
        sender, conversation, after = self._people.account(say.person), self._ids.conversation, self._seq
        body = encode_body(say.text, kind="action" if say.action else "text", reply_to=about)
        digest = payloads.digest_of(body)
        header = payloads.Header(
            id=command_id, conversation=conversation, sender=sender, device=DEVICE, after=after, digest=digest,
            about=about,
        )  # fmt: skip
        return SendMessage(
            id=command_id, conversation=conversation, by=sender, device=DEVICE, after=after, counts=True, digest=digest,
            header=payloads.encode_header(header), body=self._side.sealer.seal(sender, body),
        )  # fmt: skip

    async def _enter(self, enter: Enter, day: "_Day") -> None:
        self.counts.changes += not enter.implied
        ids = self._ids
        command_id = ids.command("enter", day.name, enter.line)
        is_there = self._stored.seq_of(command_id) is not None
        if enter.person not in self._people:
            registration = await self._people.meet(enter.person, enter.nick, is_there=is_there)
            if registration is not None:
                self._accounts.append(day.queued(registration, enter.line))
        elif not self._people.is_called(enter.person, enter.nick):
            await self._rename("name", enter, day)
        if not is_there:
            add = AddMembers(
                id=command_id, conversation=ids.conversation, by=ids.owner, device=DEVICE, after=self._seq,
                accounts=[self._people.account(enter.person)],
            )  # fmt: skip
            self._add(add, enter.line, day)

    def _leave(self, leave: Leave, day: "_Day") -> None:
        self.counts.changes += 1
        command_id = self._ids.command("leave", day.name, leave.line)
        if self._stored.seq_of(command_id) is None:
            command = LeaveConversation(
                id=command_id, conversation=self._ids.conversation, by=self._people.account(leave.person),
                device=DEVICE, after=self._seq,
            )  # fmt: skip
            self._add(command, leave.line, day)

    async def _rename(self, purpose: str, step: Rename | Enter, day: "_Day") -> None:
        command_id = self._ids.command(purpose, day.name, step.line)
        change = await self._people.rename(step.person, step.nick, command_id)
        if change is not None:
            self._accounts.append(day.queued(change, step.line))

    def _add(self, command: ConversationCommand, line: int, day: "_Day") -> int:
        """Its seq."""
        self._seq += 1
        self._commands.append(day.queued(command, line, seq=self._seq))
        return self._seq

    async def _flush(self) -> None:
        accounts, self._accounts = self._accounts, []
        commands, self._commands = self._commands, []
        await self._queue.submit(accounts)
        await self._queue.submit(commands)


class _Day:
    """One log while it is read."""

    def __init__(self, log: DayLog) -> None:
        self.name = log.name
        self.lines = list(parse(log.text()))
        self.links = log.links()
        self.seqs: dict[int, int] = {}
        """Of the messages so far, by line."""
        self._times = occurred_at(log.date, self.lines)

    def queued(self, command: ConversationCommand | AccountCommand, line: int, *, seq: int | None = None) -> Queued:
        return Queued(command=command, occurred_at=self._times[line], where=f"{self.name}, line {line + 1}", seq=seq)
