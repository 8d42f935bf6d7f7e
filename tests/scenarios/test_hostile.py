"""Readers that stall, floods, and what is malformed or oversized, all at once: other people hardly notice.

The people run on uvloop and without asyncio's debug mode, which would measure itself.
"""

import asyncio
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
import msgspec
import pytest
import uvloop

from ops.bench.load import register
from ops.bench.peer import Peer, Person, connect
from ops.engine import EngineProcess, engine
from ops.settings import HOME
from signet_client import payloads, wire
from tests.scenarios.mob import Report
from tests.scenarios.stage import WAIT_S

PAIRS: Final = 10
PAUSE_S: Final = 0.1
"""Between two messages of one person."""
QUIET_S: Final = 5.0
MEMORY_MIB_MAX: Final = 100
ATTACK_MAX_S: Final = 120
RUNS: Final = 5
CODES: Final = {
    "close 1002", "close 1003", "close 1007", "close 1009", "close 4501",
    "http 400", "http 401", "http 404", "http 405", "http 413", "http 422", "http 429",
    "refused bad_header", "refused bad_digest", "refused too_large", "refused no_such_conversation",
    "refused rate_limited",
}  # fmt: skip
"""All that may come back of what is malformed."""


CLOSES: Final = {
    "close 1002": "protocol_error",
    "close 1003": "unsupported_data",
    "close 1007": "invalid_data",
    "close 1009": "message_too_big",
    "close 4501": "bad_frame",
}
"""And how the engine counts them."""


class Talker:
    """Sends to its friend at a steady pace, and measures how long each message takes to get there."""

    def __init__(self, person: Person, conversation: str) -> None:
        self.person = person
        self.conversation = conversation
        self.peer: Peer
        self.friend: Talker
        self.latencies: list[float] = []
        self._sent_at: dict[str, float] = {}
        self._all_arrived = asyncio.Event()
        self._seq = 0

    def hear(self, frame: wire.ServerFrame) -> None:
        if isinstance(frame, wire.Message):
            self._seq = max(self._seq, frame.seq)
            self.friend.arrived(msgspec.json.decode(frame.header, type=payloads.Header).id)
        assert not isinstance(frame, wire.Refused), frame

    def arrived(self, id_: str) -> None:
        self.latencies.append(time.perf_counter() - self._sent_at.pop(id_))
        if not self._sent_at:
            self._all_arrived.set()

    async def talk(self, ended: asyncio.Event) -> None:
        """Until then; returns when all of it has arrived. Each begins at a moment of its own: in step with each other,
        they would all be measured by the few moments at which they speak."""
        await asyncio.sleep(random.uniform(0, PAUSE_S))  # the moment
        while not ended.is_set():
            self._say()
            await asyncio.sleep(PAUSE_S)  # the pace
        await asyncio.wait_for(self._all_arrived.wait(), WAIT_S)

    def _say(self) -> None:
        body = '{"kind":"text","text":"How are you?","salt":"AAAAAAAAAAAAAAAAAAAAAA"}'
        header = payloads.Header(
            id=str(uuid4()),
            conversation=self.conversation,
            sender=self.person.account,
            device=self.person.device,
            after=self._seq,
            digest=payloads.digest_of(body),
        )
        self._all_arrived.clear()
        self._sent_at[header.id] = time.perf_counter()
        self.peer.send(wire.Send(header=payloads.encode_header(header), body=body))


class Bystanders:
    """People who have nothing to do with it."""

    def __init__(self, talkers: list[Talker]) -> None:
        self._talkers = talkers

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[None]:
        """What they measure within it is in `p99_ms`."""
        ended = asyncio.Event()
        for talker in self._talkers:
            talker.latencies.clear()
        async with asyncio.TaskGroup() as group:
            for talker in self._talkers:
                group.create_task(talker.talk(ended))
            yield
            ended.set()

    @property
    def p99_ms(self) -> float:
        latencies = [latency for talker in self._talkers for latency in talker.latencies]
        assert len(latencies) > 100
        return statistics.quantiles(latencies, n=100)[98] * 1_000


@asynccontextmanager
async def bystanders(url: str) -> AsyncIterator[Bystanders]:
    talkers: list[Talker] = []
    for number in range(PAIRS):
        (one, api), (two, other_api) = await register(url, 2 * number), await register(url, 2 * number + 1)
        started = await api.start("direct", [two.account], title=None, protection="none")
        pair = Talker(one, started.conversation), Talker(two, started.conversation)
        pair[0].friend, pair[1].friend = pair[1], pair[0]
        talkers += pair
        await api.close()
        await other_api.close()
    for talker in talkers:
        talker.peer = await connect(url, talker.person, talker.hear)
    try:
        yield Bystanders(talkers)
    finally:
        for talker in talkers:
            talker.peer.close()


class Mob:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def attack(self) -> Report:
        """Once it is `gathered`."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"attack\n")
        return msgspec.json.decode(await self._line(), type=Report)

    async def gathered(self) -> None:
        await self._line()

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), ATTACK_MAX_S)
        assert line, "the mob has fallen"
        return line


@asynccontextmanager
async def mob(url: str) -> AsyncIterator[Mob]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "tests.scenarios.mob", url,
        cwd=HOME, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Mob(process)
    finally:
        process.kill()
        await process.wait()


def memory_mib(running: EngineProcess, which: str) -> float:
    """`VmRSS`: now; `VmHWM`: at most so far (proc(5))."""
    for line in Path(f"/proc/{running.process.pid}/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) / 1_024
    raise AssertionError(which)


async def counts(url: str) -> Counter[str]:
    """The engine's counters, by name and labels."""
    async with httpx.AsyncClient() as http:
        shown = (await http.get(f"{url}/metrics")).text
    lines = (line.rpartition(" ") for line in shown.splitlines() if line.startswith("signet_"))
    return Counter({name: int(float(number)) for name, _, number in lines})


async def until_nothing_waits(url: str) -> None:
    """What the last attack has left in the engine's queue is dealt with."""
    async with asyncio.timeout(WAIT_S):
        while (await counts(url))["signet_commands_waiting"]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.1)


async def paired(running: EngineProcess, people: Bystanders, attackers: Mob) -> tuple[float, float]:
    """p99 in ms when it is quiet, and in an attack, whose answers are looked at."""
    await attackers.gathered()
    await until_nothing_waits(running.url)
    async with people.talking():
        await asyncio.sleep(QUIET_S)  # what is measured
    quiet, before, counted = people.p99_ms, memory_mib(running, "VmRSS"), await counts(running.url)
    async with people.talking():
        report = await attackers.attack()
    grown = memory_mib(running, "VmHWM") - before
    print(f"p99 {quiet:.1f} ms when quiet, {people.p99_ms:.1f} ms in the attack; {grown:.0f} MiB more; {report}")
    check_answers(report)
    check_counted(report, await counts(running.url) - counted)
    assert grown <= MEMORY_MIB_MAX
    return quiet, people.p99_ms


def check_answers(report: Report) -> None:
    """I11: whatever was refused was refused by a code."""
    assert report.stalled == 200
    assert sum(report.malformed.values()) == report.malformed_sent == 10_000
    assert set(report.malformed) <= CODES
    assert set(report.flood) <= {"accepted", "refused rate_limited", "refused busy"}


def check_counted(report: Report, counted: Counter[str]) -> None:
    """I11: an operator sees each refusal."""
    refused = 0
    for answer, count in (Counter(report.malformed) + Counter(report.flood)).items():
        if answer in CLOSES:
            assert counted[f'signet_disconnects_total{{code="{CLOSES[answer]}"}}'] >= count, answer
        elif answer != "accepted":
            refused += count
    assert sum(count for name, count in counted.items() if name.startswith("signet_refusals_total")) >= refused


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[tuple[EngineProcess, Bystanders, Mob]]:
    async with (
        engine(folder / "data", {"log_level": "error"}) as running,
        bystanders(running.url) as people,
        mob(running.url) as attackers,
    ):
        yield running, people, attackers


async def pairs(folder: Path, runs: int) -> list[tuple[float, float]]:
    async with scene(folder) as (running, people, attackers):
        return [await paired(running, people, attackers) for _ in range(runs)]


@pytest.mark.slow
def test_others_go_on_beside_a_hostile_crowd(tmp_path: Path) -> None:
    """I11: one pair of runs; the bound is generous, since other tests run beside."""
    [(quiet, attacked)] = uvloop.run(pairs(tmp_path, 1))
    assert attacked < 10 * quiet + 2_000


@pytest.mark.soak
def test_others_wait_at_most_twice_as_long_beside_a_hostile_crowd(tmp_path: Path) -> None:
    """I11: the median of five pairs of runs. Nothing else may run on the machine."""
    ratios = [attacked / quiet for quiet, attacked in uvloop.run(pairs(tmp_path, RUNS))]
    print(f"{[round(ratio, 2) for ratio in ratios]}")
    assert statistics.median(ratios) <= 2
