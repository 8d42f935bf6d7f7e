"""I1, I2, I3 in one process: whatever is sent, repeated, lost, restarted or contested, in whatever order."""

import asyncio
import itertools
import logging
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import commands.writer
import domain.recent
from commands.snapshots import Snapshots
from commands.stores.faults import Fate
from commands.stores.memory import Medium, MemoryLog
from commands.writer import Accepted, Refused, Reply
from domain.conversation import SendMessage
from domain.entry import Sealed
from domain.ids import AccountId, ConversationId, conversation_stream
from tests.commands.helpers import Desk, entries, idle, send, until, whole
from tests.commands.trail import Stopped, Trail, check_rules

TALKS = 3
PEERS = [AccountId(f"peer{number}") for number in range(3)]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, TALKS - 1), st.integers(0, 2), st.integers(1, 5)),
        st.tuples(st.just("repeat"), st.integers(0, 200)),
        st.tuples(st.just("fault"), st.sampled_from(Fate), st.integers(-1, TALKS - 1), st.integers(1, 5)),
        st.tuples(st.just("wait"), st.integers(1, 30)),
        st.tuples(st.just("settle")),
        st.tuples(st.just("restart"), st.integers(0, 1)),
        st.tuples(st.just("stop"), st.integers(0, 1)),
        st.tuples(st.just("bug"), st.integers(0, TALKS - 1), st.integers(0, 2)),
        st.tuples(st.just("away"), st.integers(1, 60)),
        st.tuples(st.just("answer_late"), st.booleans(), st.integers(1, 30)),
    ),
    max_size=50,
)


class Trap(bytes):
    """The codec can't encode a subclass of bytes."""


class Play:
    """Runs the steps of a program, and remembers for each command what its every try was answered."""

    def __init__(self, writers: int, snapshots: Snapshots | None) -> None:
        self.medium = Medium()
        self.snapshots = snapshots
        self.talks: list[ConversationId] = []
        self.commands: list[SendMessage] = []
        self.buggy: set[str] = set()
        self.trails: list[Trail] = []
        self.tries: dict[str, list[asyncio.Future[Reply]]] = {}
        self.handed_over = writers == 1
        self.desks = [self._desk() for _ in range(writers)]
        self.runs: list[asyncio.Task[None]] = []

    def _desk(self) -> Desk:
        options: dict[str, Any] = {
            "unavailable_tries_max": 3, "batch_max": 5, "slots_max": 4, "snapshots": self.snapshots,
        }  # fmt: skip
        trail = Trail(MemoryLog(self.medium), self.medium)
        self.trails.append(trail)
        return Desk(trail, **options, **({} if self.handed_over else {"hand_over": None}))

    async def begin(self) -> None:
        self.runs = [asyncio.create_task(desk.writer.run()) for desk in self.desks]
        for _ in range(TALKS):
            self.talks.append(await self.desks[0].talk(*PEERS))

    def send(self, talk: int, peer: int, count: int) -> None:
        for _ in range(count):
            head = len(self.medium.streams[conversation_stream(self.talks[talk])])
            command = send(self.talks[talk], PEERS[peer], after=head)
            self.commands.append(command)
            self._try(command)

    def repeat(self, number: int) -> None:
        if self.commands:
            self._try(self.commands[number % len(self.commands)])

    def _try(self, command: SendMessage) -> None:
        # A peer stays with one writer, as a connection does.
        desk = self.desks[PEERS.index(command.by) % len(self.desks)]
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def reply(reply: Reply) -> None:
            answer.set_result(reply)  # raises where there was an answer before
            cast(Trail, desk.log).answer(command, reply)

        desk.writer.submit(command, turn=command.by, reply=reply)
        self.tries.setdefault(command.id, []).append(answer)

    def bug(self, talk: int, peer: int) -> None:
        """A command that can't be encoded."""
        command = send(self.talks[talk], PEERS[peer], body=Sealed(key="k", box=Trap(b"x")))
        self.buggy.add(command.id)
        self.commands.append(command)
        self._try(command)

    def fault(self, fate: Fate, talk: int, calls: int) -> None:
        stream = conversation_stream(self.talks[talk]) if talk >= 0 else None
        self.medium.faults.when(lambda append: stream in (None, append.stream), fate, calls=calls)

    async def wait(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    def settle(self) -> None:
        self.medium.settle()

    async def away(self, turns: int) -> None:
        self.medium.faults.go_away()
        await self.wait(turns)
        self.medium.faults.away = False

    async def answer_late(self, stored: bool, turns: int) -> None:
        """The next append is stored at once or only then; unless none comes."""
        hold = self.medium.faults.hold_answer if stored else self.medium.faults.hold_append
        release = hold()
        await self.wait(turns)
        release.set()

    async def restart(self, which: int) -> None:
        """As a crash: what was not answered never will be."""
        which %= len(self.desks)
        self.runs[which].cancel()
        await self._next_process(which)

    async def stop(self, which: int) -> None:
        """As SIGTERM: whatever is still unknown then is answered by nobody."""
        which %= len(self.desks)
        cast(Trail, self.desks[which].log).steps.append(Stopped())
        self.desks[which].writer.stop()
        await self._next_process(which)

    async def _next_process(self, which: int) -> None:
        await asyncio.gather(self.runs[which], return_exceptions=True)
        self.handed_over = False
        self.desks[which] = self._desk()
        self.runs[which] = asyncio.create_task(self.desks[which].writer.run())
        await self.wait(9)  # it needs the store to begin

    async def end(self) -> None:
        self.medium.faults.heal()
        for desk, run in zip(self.desks, self.runs, strict=True):
            # Answers to everything that this desk's writer still holds: nothing may be left open.
            await until(lambda writer=desk.writer: not writer._unanswered)  # type: ignore[misc]
            await idle()
            desk.writer.stop()
            await run
        self.medium.settle()


async def play(steps: list[tuple[Any, ...]], writers: int, snapshots: bool) -> None:
    with TemporaryDirectory() as folder:
        kept = Snapshots(Path(folder) / "snapshots.db", events_min=1) if snapshots else None
        await run(Play(writers, kept), steps)
        if kept is not None:
            await kept.close()


async def run(played: Play, steps: list[tuple[Any, ...]]) -> None:
    await played.begin()
    for name, *arguments in steps:
        result = getattr(played, name)(*arguments)
        if result is not None:
            await result
    await played.end()
    await check(played)


async def check(played: Play) -> None:
    for trail in played.trails:
        check_rules(trail.steps)
    log = MemoryLog(played.medium)
    seq_of: dict[str, int] = {}
    for talk in played.talks:
        events = await entries(log, talk)
        assert [event.version for event in events] == list(range(len(events)))
        seq_of |= {event.entry.cmd: event.version + 1 for event in events}
        ordinals = [event.entry.e.ordinal for event in events[1:]]  # type: ignore[union-attr]
        assert ordinals == list(range(1, len(events)))
    everything = await whole(log)
    counts = Counter(event.entry.cmd for event in everything if event.stream.startswith("conversation-"))
    assert not counts or max(counts.values()) == 1
    for command in played.commands:
        tries = played.tries[command.id]
        replies = [answer.result() for answer in tries if answer.done()]
        assert {reply.seq for reply in replies if isinstance(reply, Accepted)} <= {seq_of.get(command.id)}
        if command.id in played.buggy:
            assert command.id not in seq_of
            assert {reply.code for reply in replies if isinstance(reply, Refused)} <= {"failed", "unavailable", "busy"}
        if len(replies) == len(tries) and all(isinstance(reply, Refused) for reply in replies):
            assert command.id not in seq_of
    check_order(played, seq_of)
    if played.handed_over:
        assert played.desks[0].handed == everything


def check_order(played: Play, seq_of: dict[str, int]) -> None:
    """What a peer sent, and what was accepted at the first try, stands in the order in which it was sent."""
    for talk, peer in itertools.product(played.talks, PEERS):
        mine = [command.id for command in played.commands if (command.conversation, command.by) == (talk, peer)]
        firsts = [(command_id, played.tries[command_id][0]) for command_id in mine]
        accepted = [seq_of[one] for one, answer in firsts if answer.done() and isinstance(answer.result(), Accepted)]
        assert accepted == sorted(accepted)


LATE = [("send", 0, 0, 1), ("fault", Fate.DELAYED, 0, 1), ("send", 0, 1, 3), ("wait", 9), ("settle",)]
LOST = [("fault", Fate.ANSWER_LOST, -1, 3), ("send", 0, 0, 2), ("send", 1, 0, 2), ("repeat", 0)]
PASSED = [("fault", Fate.ANSWER_LOST, 0, 2), ("send", 0, 0, 1), ("wait", 30), ("send", 1, 0, 1), ("wait", 30)]
STOPPED = [
    ("fault", Fate.ANSWER_LOST, 0, 9),
    ("send", 0, 0, 2),
    ("wait", 9),
    ("send", 0, 1, 2),
    ("stop", 0),
    ("repeat", 0),
]
REPEATED = [("fault", Fate.ANSWER_LOST, 0, 9), ("send", 0, 0, 1), ("wait", 9), ("repeat", 0), ("stop", 0)]
FAULTS = [("fault", Fate.ANSWER_LOST, 0, 1), ("fault", Fate.REFUSED, 0, 9)]
REFUSED_LATER = [*FAULTS, ("send", 0, 0, 1), *[("wait", 30)] * 50]
PARTLY = [
    ("fault", Fate.DELAYED, 0, 2),
    ("fault", Fate.REFUSED, 1, 2),
    ("send", 0, 0, 1),
    ("send", 1, 0, 1),
    ("send", 2, 0, 1),
]
AMONG = [("send", 0, 0, 2), ("bug", 0, 1), ("send", 0, 0, 2), ("send", 1, 1, 1)]
CRASH = [("fault", Fate.ANSWER_LOST, 0, 9), ("send", 0, 0, 2), ("restart", 0), ("repeat", 0)]


@given(steps=STEPS, writers=st.integers(1, 2), pause_s=st.sampled_from([0.0001, 0.003]), snapshots=st.booleans())
@settings(max_examples=200)
@example(steps=LATE, writers=1, pause_s=0.003, snapshots=True)
@example(steps=LOST, writers=1, pause_s=0.003, snapshots=True)
@example(steps=PASSED, writers=1, pause_s=0.003, snapshots=True)
@example(steps=CRASH, writers=2, pause_s=0.003, snapshots=True)
@example(steps=STOPPED, writers=1, pause_s=0.003, snapshots=True)
@example(steps=REPEATED, writers=1, pause_s=0.003, snapshots=True)
@example(steps=REFUSED_LATER, writers=1, pause_s=0.0001, snapshots=True)
@example(steps=PARTLY, writers=2, pause_s=0.003, snapshots=True)
@example(steps=AMONG, writers=1, pause_s=0.003, snapshots=True)
def test_every_accepted_command_stands_in_the_log_once(
    steps: list[tuple[Any, ...]], writers: int, pause_s: float, snapshots: bool
) -> None:
    """I1, I2, I3: an accepted command is in the log once, at the seq that it was told; a refused one never is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands.writer, "PAUSE_FIRST_S", pause_s)
        patch.setattr(commands.writer, "PAUSE_LAST_S", 2 * pause_s)
        patch.setattr(domain.recent, "RECENT_MIN", 4)
        patch.setattr(logging.getLogger("signet.writer"), "disabled", True)
        asyncio.run(play(steps, writers, snapshots))
