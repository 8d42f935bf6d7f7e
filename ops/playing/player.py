"""Lets the people act, step by step: nobody acts before what went before is accepted, so the order is the files'."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter
from typing import Final, TypeVar, assert_never

import msgspec

from ops.errors import OpsError
from ops.irc.lines import Skipped
from ops.irc.script import Enter, Leave, Person, Rename, Say, Step
from ops.playing.crowd import Crowd, Member
from signet_client import Refused

QUIET_MAX_S: Final = 30.0
"""How long something may be waited for while no client hears of anything."""

T = TypeVar("T")


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A message that the engine has on disk."""

    seq: int
    person: Person
    text: str


class Stuck(OpsError):
    """What was waited for did not come."""


class Player:
    def __init__(self, crowd: Crowd, *, interval_s: float, on_message: Callable[[], None]) -> None:
        self._crowd = crowd
        self._interval_s = interval_s
        self._on_message = on_message
        self._seq = 1
        """The channel's last seq. Nobody else writes to it, so it is known beforehand."""
        self._due = 0.0
        self.accepted: Final[list[Accepted]] = []
        self.took_s = 0.0

    async def play(self, steps: Iterable[Step]) -> None:
        """Carries the steps out. Raises OpsError (Stuck among them), SignetError."""
        began = self._due = perf_counter()
        try:
            for step in steps:
                await self._act(step)
        finally:
            self.took_s = perf_counter() - began

    async def settle(self) -> None:
        """Returns when everybody who is in has every message and all its ticks. Raises as `play`."""
        for member in (*self._crowd.people.values(), self._crowd.owner):
            if member.inside or member is self._crowd.owner:
                await self._has_all(member)

    async def _act(self, step: Step) -> None:
        match step:
            case Say():
                await self._say(self._crowd.people[step.person], step)
            case Enter():
                await self._enter(self._crowd.people[step.person], step.nick)
            case Leave():
                await self._leave(self._crowd.people[step.person])
            case Rename():
                await self._rename(self._crowd.people[step.person], step.nick)
            case Skipped():
                pass
            case _:
                assert_never(step)

    async def _say(self, member: Member, say: Say) -> None:
        # A message that comes late, since others took their time, puts those after it off by nothing.
        self._due += self._interval_s
        if (wait := self._due - perf_counter()) > 0:
            await asyncio.sleep(wait)
        # Nobody speaks in a channel before seeing it.
        await self._patiently(
            member.client.held(self._crowd.channel, member.came_at), f"{member.name} to hear of being in the channel"
        )
        self._crowd.sent_at[self._seq + 1] = perf_counter()
        answer = member.client.post(self._crowd.channel, say.text, kind="action" if say.action else "text")
        sent = await self._patiently(answer, f"the engine to accept what {member.name} says")
        self._moved_to(sent.seq)
        member.sent.append(sent.seq)
        self.accepted.append(Accepted(seq=sent.seq, person=say.person, text=say.text))
        self._on_message()

    async def _enter(self, member: Member, nick: str) -> None:
        await self._rename(member, nick)
        try:
            await self._crowd.owner.client.add(self._crowd.channel, [member.client.account])
        except Refused as refused:
            if refused.code != "too_many_members":
                raise
            inside = 1 + sum(each.inside for each in self._crowd.people.values())
            raise OpsError(
                f"the engine takes no more than {inside} members into a group: start it with a greater "
                "SIGNET_GROUP_MEMBERS_MAX, or let play start one of its own"
            ) from refused
        self._moved_to(self._seq + 1)
        member.stays.append([len(self.accepted)])
        member.came_at = self._seq

    async def _leave(self, member: Member) -> None:
        # Its messages get no ticks and it gets no messages any more once it has left.
        await self._has_all(member)
        await member.client.leave(self._crowd.channel)
        self._moved_to(self._seq + 1)
        member.stays[-1].append(len(self.accepted))

    async def _rename(self, member: Member, nick: str) -> None:
        if member.name != nick:
            await member.client.rename(nick)
            member.name = nick

    async def _has_all(self, member: Member) -> None:
        channel = self._crowd.channel
        await self._patiently(member.client.held(channel, self._seq), f"{member.name} to get every message")
        await self._patiently(member.ticked(channel), f"{member.name} to get its ticks")

    def _moved_to(self, seq: int) -> None:
        if seq != self._seq + 1:
            raise OpsError(
                f"the channel moved from seq {self._seq} to {seq}: this is not the only play that writes to it"
            )
        self._seq = seq

    async def _patiently(self, waiting: Awaitable[T], what: str) -> T:
        """Waits for as long as there is life in the crowd. Raises Stuck."""
        task = asyncio.ensure_future(waiting)
        while not task.done():
            before = self._crowd.happened
            await asyncio.wait({task}, timeout=QUIET_MAX_S)
            if not task.done() and self._crowd.happened == before:
                task.cancel()
                raise Stuck(f"gave up waiting for {what}: nothing happened for {QUIET_MAX_S:g} s")
        return task.result()
