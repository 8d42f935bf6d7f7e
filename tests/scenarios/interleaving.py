"""Plays a program over real sockets, and judges what came of it.

What stands in one burst is asked for at once; the log says in which order it happened. From this order alone `group`
works out what was to be accepted and refused, and what each device must show.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import assert_never

from domain import conversation as happened
from domain.codec import CODEC, Event
from domain.ids import ConversationId, conversation_stream
from ops.node import Node
from signet_client import Client, ClientClosed, Refused, wire
from tests.scenarios.cast import Cast, Device
from tests.scenarios.group import Deed, Group, start
from tests.scenarios.program import ASKS, Op, Program, choose
from tests.scenarios.showing import check_shown


@dataclass(eq=False)
class Asked:
    """Something that a device has asked for, and its answer."""

    deed: Deed
    since: int
    """It happened after this seq, or never."""
    until: int | None = None
    """It happened up to this seq; None: it may happen yet."""
    answer: str | None = None
    """"accepted", a code, or None where the device was closed before."""
    seq: int | None = None


async def play(node: Node, cast: Cast, program: Program) -> None:
    """Raises AssertionError where anything is not as it must be."""
    for device in cast.devices:
        await device.open()
    run = await Run.start(node, cast, program.members)
    for burst in program.bursts:
        await run.burst(burst)
    await run.finish()


class Run:
    """One group, from its start on."""

    def __init__(self, node: Node, cast: Cast, talk: str, group: Group) -> None:
        self._node = node
        self._cast = cast
        self._talk = talk
        self._groups = [group]
        """The group after each seq."""
        self._asked: list[Asked] = []
        self._said = 0

    @classmethod
    async def start(cls, node: Node, cast: Cast, members: frozenset[int]) -> "Run":
        owner, others = cast.devices[0], tuple(cast.people[number] for number in sorted(members))
        # Half of the talks are encrypted: those cost twice the time, and find what the others can't.
        protection: wire.Protection = "end_to_end" if len(others) % 2 else "none"
        talk = await owner.client.start_group(others, title="0", protection=protection)
        return cls(node, cast, talk, start(owner.account, others, "0"))

    @property
    def group(self) -> Group:
        return self._groups[-1]

    async def burst(self, ops: Sequence[Op]) -> None:
        before = len(self._asked)
        try:
            async with asyncio.timeout(self._cast.patience_s):
                await asyncio.gather(*(self._do(op) for op in ops))
        except TimeoutError:
            unanswered = [asked for asked in self._asked[before:] if asked.answer is None]
            raise AssertionError(f"no answer to {unanswered}") from None
        await self._read_log()
        for asked in self._asked[before:]:
            if asked.answer is not None:
                asked.until = self.group.seq
        if any(op.act == "look" for op in ops):
            await self._look()

    async def finish(self) -> None:
        for device in self._cast.devices:
            await device.open()
        await self._look()
        self._settle_outboxes()
        self._judge()

    async def _look(self) -> None:
        devices = [device for device in self._cast.devices if device.is_open]
        await self._cast.settle(lambda: [each for device in devices for each in _unanswered(device)])
        await self._all_is_decided()
        await self._read_log()
        await check_shown(self._cast, self._talk, self._groups)

    async def _all_is_decided(self) -> None:
        """What a device said before it was closed may still be under way."""
        async with asyncio.timeout(self._cast.patience_s):
            while self._node.services.writer.unanswered:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.001)

    # Doing

    async def _do(self, op: Op) -> None:
        device = self._cast.devices[op.device]
        if op.act == "open":
            await device.open()
        elif op.act == "close":
            await device.close()
        elif op.act == "cut":
            await asyncio.sleep(op.pick / 10_000)  # the moment of the cut
            for each in self._cast.devices if op.pick % 2 else [device]:
                each.proxy.cut()
        elif op.act == "read" and device.is_open:
            device.client.read(self._talk, device.client.marks(self._talk).cursor - op.pick % 4)
        elif op.act in ASKS:
            await self._say(*choose(op, self.group, self._cast))

    async def _say(self, device: Device, deed: Deed) -> None:
        self._said += 1
        if deed.what in ("message", "title"):
            deed = deed._replace(text=str(self._said))
        if deed.what == "message" and device.is_open:
            await self._send(device.client, deed)
        elif deed.what != "message":
            async with device.at_work:
                if device.is_open:
                    await self._command(device.client, deed)

    async def _send(self, client: Client, deed: Deed) -> None:
        answer = client.post(self._talk, deed.text, counts=deed.counts)
        asked = self._ask(deed._replace(id=client.outbox()[-1].id))
        try:
            asked.seq = (await answer).seq
            asked.answer = "accepted"
        except Refused as refused:
            asked.answer = refused.code
        except ClientClosed:
            # It is in the outbox.
            pass

    async def _command(self, client: Client, deed: Deed) -> None:
        asked = self._ask(deed)
        try:
            await self._answer(client, deed)
            asked.answer = "accepted"
        except Refused as refused:
            asked.answer = refused.code

    def _answer(self, client: Client, deed: Deed) -> Awaitable[None]:
        match deed.what:
            case "added":
                return client.add(self._talk, deed.whom)
            case "removed":
                return client.remove(self._talk, *deed.whom)
            case "role":
                assert deed.role is not None
                return client.set_role(self._talk, deed.whom[0], deed.role)
            case "left":
                return client.leave(self._talk)
            case "title":
                return client.set_title(self._talk, deed.text)
            case "retracted":
                return client.retract(self._talk, deed.target)
            case "started" | "message":
                raise AssertionError(f"{deed} is no command to a group")
            case _:
                assert_never(deed.what)

    def _ask(self, deed: Deed) -> Asked:
        asked = Asked(deed, since=self.group.seq)
        self._asked.append(asked)
        return asked

    # What has happened

    async def _read_log(self) -> None:
        stream = conversation_stream(ConversationId(self._talk))
        for recorded in await self._node.log.read_stream(stream, after=self.group.seq - 1, limit=1_000):
            assert recorded.version == self.group.seq, "a seq is missing"
            self._groups.append(self.group.after(self._deed(CODEC.decode(recorded))))

    def _deed(self, event: Event) -> Deed:
        fact = event.entry.e
        match fact:
            case happened.MessageSent():
                said = [asked.deed for asked in self._asked if asked.deed.id == event.entry.cmd]
                assert len(said) == 1, f"nobody sent {event.entry.cmd}"
                return said[0]
            case happened.MessageRetracted():
                return Deed("retracted", fact.by, target=fact.target)
            case happened.MembersAdded():
                return Deed("added", fact.by, tuple(fact.accounts))
            case happened.MemberRemoved():
                return Deed("removed", fact.by, (fact.account,))
            case happened.MemberLeft():
                return Deed("left", fact.by)
            case happened.RoleChanged():
                return Deed("role", fact.by, (fact.account,), role=fact.role)
            case happened.TitleSet():
                return Deed("title", fact.by, text=self._node.services.sealer.unseal(fact.title) or "")
            case _:
                raise AssertionError(f"{fact} in a group that has started")

    # What was answered

    def _settle_outboxes(self) -> None:
        """A message whose device was closed before the answer was sent again since, or was refused."""
        refused = {each.id: each.refused for device in self._cast.devices for each in device.client.outbox()}
        stored = {deed.id for deed in self.group.deeds}
        for asked in self._asked:
            if asked.answer is None and asked.deed.what == "message":
                asked.answer = "accepted" if asked.deed.id in stored else refused.get(asked.deed.id)
                assert asked.answer is not None, f"{asked.deed} is lost"

    def _judge(self) -> None:
        """Each deed was asked for, once, and allowed where it stands (I2, I8); each other answer was right at some time
        between the asking and the answer."""
        pending = list(self._asked)
        for before in self._groups[:-1]:
            deed = self.group.deed(before.seq + 1)
            fitting = [asked for asked in pending if self._fits(asked, before, deed)]
            assert fitting, f"nobody was allowed {deed} at {before.seq + 1}"
            pending.remove(min(fitting, key=self._last))
        for asked in pending:
            possible = {group.decide(asked.deed) for group in self._groups[asked.since - 1 : self._last(asked)]}
            # Accepted without a deed is what was so already.
            assert (None if asked.answer == "accepted" else asked.answer) in possible, asked

    def _fits(self, asked: Asked, before: Group, deed: Deed) -> bool:
        return (
            asked.answer == "accepted"
            and asked.since <= before.seq < self._last(asked)
            and asked.seq in (None, before.seq + 1)
            and before.decide(asked.deed) == deed
        )

    def _last(self, asked: Asked) -> int:
        return asked.until or self.group.seq


def _unanswered(device: Device) -> list[tuple[object, ...]]:
    return [(device.key, "sends", each.id) for each in device.client.outbox() if each.refused is None]
