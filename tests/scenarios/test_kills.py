"""The engine is killed at random moments under load, and nothing that it promised is broken."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from domain.codec import CODEC, Event
from domain.log import START
from ops.child import free_port
from ops.engine import EngineProcess, engine
from projections.attestations import Attestations
from projections.directory import Directory
from projections.inbox import Inbox
from projections.messages import Messages
from projections.readmodel import ReadModel
from projections.receipts import Receipts
from tests.scenarios.audit import Ledger, check_stored_once
from tests.scenarios.crowd import Crowd
from tests.scenarios.stage import UNBOUNDED, open_events, register, running, seed, unsealing

PEOPLE: Final = 20
KILLS: Final = 20
KILLS_ELSEWHERE: Final = 5
"""Where another store than SQLite has the log."""
ROUNDS: Final = 4
"""So many times as many kills again in the long run."""
GROUPS: Final = (5, 20, 8)
"""In the last one people come and go."""
MESSAGES_BETWEEN: Final = 100
MODELS: Final[tuple[type[ReadModel], ...]] = (Messages, Inbox, Receipts, Directory, Attestations)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty_clients")
async def test_nothing_is_lost_or_doubled_over_twenty_kills(data: Path, tmp_path: Path) -> None:
    """I1, I2, I3, I4, I7, I9: twenty SIGKILLs under load from 20 clients; on other stores than SQLite, five."""
    await survive(tmp_path, data, random.Random(seed()), KILLS_ELSEWHERE if (data / "signet.toml").exists() else KILLS)


@pytest.mark.soak
@pytest.mark.usefixtures("hasty_clients")
@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_nothing_is_lost_or_doubled_over_eighty_kills(round_: int, tmp_path: Path) -> None:
    """I1, I2, I3, I4, I7, I9: the same, again and again."""
    await survive(tmp_path, tmp_path / "data", random.Random(seed() + round_), KILLS)


async def survive(folder: Path, data: Path, rng: random.Random, kills: int) -> None:
    port = free_port()
    settings = {"log_level": "error", **UNBOUNDED}
    async with AsyncExitStack() as engines:

        async def start() -> EngineProcess:
            return await engines.enter_async_context(engine(data, settings, port=port))

        started = await start()
        clients = [await register(started.url, f"p{number}", folder / "people") for number in range(PEOPLE)]
        crowd = Crowd(clients, rng)
        async with running(*clients):
            await crowd.meet(GROUPS)
            async with crowd.talking():
                for number in range(1, kills + 1):
                    await kill(started, crowd)
                    await check_dead(crowd, data)
                    print(f"kill {number} of {kills}: {crowd.accepted} messages accepted so far", flush=True)
                    started = await start()
                await crowd.more(MESSAGES_BETWEEN)
            await crowd.check(data)
    check_read_models(data, await read_log(data))


async def kill(running: EngineProcess, crowd: Crowd) -> None:
    """At once after the start now and then; else somewhere in the midst of the load."""
    if crowd.rng.random() > 0.2:
        await crowd.more(crowd.rng.randint(1, MESSAGES_BETWEEN))
    await asyncio.sleep(crowd.rng.uniform(0.0, 0.05))  # the moment of the kill
    running.process.kill()
    await running.process.wait()


async def check_dead(crowd: Crowd, data: Path) -> None:
    """While the engine is down: what it has accepted so far is in the log once, and no seq is missing."""
    said = crowd.said
    ledger = Ledger(await read_log(data))
    with unsealing(data) as unseal:
        check_stored_once(ledger, said, unseal)


async def read_log(data: Path) -> list[Event]:
    log, events = open_events(data), list[Event]()
    try:
        while page := await log.read_all(after=events[-1].position if events else START, limit=1_000):
            events += [CODEC.decode(recorded) for recorded in page]
        return events
    finally:
        await log.close()


def check_read_models(data: Path, events: list[Event]) -> None:
    """I9: each read model, carried over all kills, equals one that is built from nothing."""
    for kind in MODELS:
        lived, rebuilt = kind.open(data / "readmodels"), kind.open(data / "rebuilt")
        rebuilt.advance([event for event in events if event.position <= lived.position])
        assert rebuilt.row_hash() == lived.row_hash(), kind.name
        assert lived.position > 0.9 * events[-1].position
        lived.close()
        rebuilt.close()
