"""A talk whose connection is cut without FIN, at every frame boundary and at random bytes, on both sides."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from signet_client import Client
from tests.proxy import Fault, How, Meter, Proxy, Side
from tests.scenarios.audit import Said, check_all
from tests.scenarios.failing import FailingEngine, failing_engine
from tests.scenarios.stage import Diary, register, seed

ROUNDS: Final = 1
"""Of the script, before whose end each cut comes: one has every kind of frame."""
FRAMES_MIN: Final = 2 + 2 * ROUNDS
"""Of either side: the hello or its answer, an ack or a tick, and a frame for each of the two messages that the phone
sends in a round. All others may come together in frames, the more the slower the machine is."""
ROUNDS_MAX: Final = 20
TALKS_AT_ONCE: Final = 30
TALK_MAX_S: Final = 120
"""They slow down each other."""
CUTS: Final = (How.RESET, How.HALF, How.SILENCE)
BYTES_MAX: Final = 6_000
FAULTS: Final = 420


class Talk:
    """Anna's phone, whose first connection has the fault, her tablet, and Ben: a direct conversation and a group."""

    def __init__(self, phone: Client, tablet: Client, ben: Client, proxy: Proxy) -> None:
        self.phone = phone
        self.tablet = tablet
        self.ben = ben
        self.proxy = proxy
        self.diaries = [Diary(client) for client in self.clients]
        self.said: list[Said] = []
        self.direct = self.group = ""

    @property
    def clients(self) -> list[Client]:
        return [self.phone, self.tablet, self.ben]

    async def begin(self) -> None:
        self.direct = await self.ben.start_direct(self.phone.account)
        self.group = await self.ben.start_group([self.phone.account], title="Two")

    async def round(self) -> None:
        for client, conversation in (
            (self.phone, self.direct),
            (self.ben, self.direct),
            (self.tablet, self.group),
            (self.ben, self.group),
            (self.phone, self.group),
        ):
            text = f"{len(self.said)} of {client.device}"
            sent = await client.send(conversation, text)
            self.said.append(Said(conversation=conversation, id=sent.id, seq=sent.seq, text=text))
        for client in self.clients:
            await client.held(self.group, self.said[-1].seq)
            client.read(self.group, self.said[-1].seq)
        self.tablet.read(self.direct, self.tablet.marks(self.direct).cursor)

    async def go_on(self, rounds_min: int) -> None:
        """At least so many rounds, and on until the fault has come; then one more."""
        async with asyncio.timeout(TALK_MAX_S):
            rounds = 0
            while rounds < rounds_min or not self.proxy.fired.is_set():
                rounds += 1
                assert rounds <= ROUNDS_MAX, "the talk was not cut"
                await self.round()
            await self.round()


class Talks:
    """Some of them at once on one engine."""

    def __init__(self, engine: FailingEngine, folder: Path, stack: AsyncExitStack) -> None:
        """In an empty folder of their own."""
        self._port = int(engine.url.rpartition(":")[2])
        self._url = engine.url
        self._folder = folder
        self._stack = stack
        self._numbers = count()
        self.talks: list[Talk] = []

    async def cut(self, faults: Sequence[Fault]) -> None:
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(self._cut(fault))

    async def _cut(self, fault: Fault) -> None:
        try:
            talk = await self.meet(fault)
            await talk.go_on(1)
        except BaseException as error:
            error.add_note(f"{fault}")
            raise

    async def meet(self, fault: Fault | None = None) -> Talk:
        """A new talk, whose clients run; its conversations exist before they connect."""
        enter = self._stack.enter_async_context
        talk = await self._introduce(f"talk {next(self._numbers)}", await enter(Proxy.to(self._port, fault)))
        self.talks.append(talk)
        await talk.begin()
        for client in talk.clients:
            await enter(client)
        return talk

    async def _introduce(self, name: str, proxy: Proxy) -> Talk:
        phone = await register(proxy.url, f"anna of {name}", self._folder)
        ben = await register(self._url, f"ben of {name}", self._folder)
        tablet = Client.prepare(self._url, phone.account, self._folder / f"tablet of {name}.db", durable=False)
        await phone.link_device(tablet.device, tablet.key)
        return Talk(phone, tablet, ben, proxy)

    async def check(self, data: Path) -> None:
        """The whole audit."""
        clients = [client for talk in self.talks for client in talk.clients]
        said = [said for talk in self.talks for said in talk.said]
        await check_all(data, clients, said, [diary for talk in self.talks for diary in talk.diaries])
        assert [client.outbox() for client in clients if client.outbox()] == []


@asynccontextmanager
async def talks_on(engine: FailingEngine, folder: Path) -> AsyncIterator[Talks]:
    folder.mkdir()  # noqa: ASYNC240 - a test may
    async with AsyncExitStack() as stack:
        yield Talks(engine, folder, stack)


async def cut_all(folder: Path, engine: FailingEngine, faults: Sequence[Fault]) -> None:
    """A talk for each fault, a few at once, and the whole audit after these."""
    for start in range(0, len(faults), TALKS_AT_ONCE):
        async with talks_on(engine, folder / f"from {start}") as talks:
            await talks.cut(faults[start : start + TALKS_AT_ONCE])
            await talks.check(folder / "data")
        print(f"{min(start + TALKS_AT_ONCE, len(faults))} of {len(faults)} talks were cut", flush=True)


async def frames_of(engine: FailingEngine, folder: Path) -> dict[Side, int]:
    """How many frames each side sends in an undisturbed talk."""
    async with talks_on(engine, folder) as talks:
        talk = await talks.meet()
        for _ in range(ROUNDS):
            await talk.round()
        meters: dict[Side, Meter] = talk.proxy.lives[0]
        return {side: meter.frames for side, meter in meters.items()}


@pytest.mark.slow
@pytest.mark.usefixtures("wary_clients")
async def test_a_talk_may_be_cut_at_every_frame(tmp_path: Path) -> None:
    """I1, I2, I3, I4, I7: after each frame of either side, the connection is reset or falls silent."""
    async with failing_engine(tmp_path / "data") as engine:
        counts = await frames_of(engine, tmp_path / "undisturbed")
        print(f"frames: {counts}")
        assert counts[Side.CLIENT] >= FRAMES_MIN
        assert counts[Side.SERVER] >= FRAMES_MIN
        faults = [
            Fault(side=side, how=how, frames=frames)
            for side, passed in counts.items()
            for frames in range(passed + 1)
            for how in CUTS
        ]
        await cut_all(tmp_path, engine, faults)


@pytest.mark.soak
@pytest.mark.usefixtures("wary_clients")
async def test_a_talk_may_be_cut_at_any_byte(tmp_path: Path) -> None:
    """I1, I2, I3, I4, I7: reset, silent, deaf or late, somewhere within a handshake, a frame, or a frame's head."""
    rng = random.Random(seed())
    async with failing_engine(tmp_path / "data") as engine:
        await cut_all(tmp_path, engine, [random_fault(rng) for _ in range(FAULTS)])


def random_fault(rng: random.Random) -> Fault:
    return Fault(
        side=rng.choice(list(Side)),
        how=rng.choice(list(How)),
        bytes=rng.randrange(BYTES_MAX),
        delay_s=rng.uniform(0.0, 3.0),
    )
