"""At each failpoint the engine is killed, loses its connections, or fails, while people talk; nothing that it promised
is broken."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from ops.child import free_port
from tests.scenarios.crowd import Crowd
from tests.scenarios.failing import FailingEngine, failing_engine
from tests.scenarios.failpoints import Action, Point
from tests.scenarios.stage import WAIT_S, register, running, seed

PEOPLE: Final = 6
GROUPS: Final = (6, 4)
HITS_MAX: Final = 60
MESSAGES_AFTER: Final = 40
ELSEWHERE: Final = ("postgres", "kurrentdb")
AT_THE_LOG: Final = (Point.BEFORE_APPEND, Point.AFTER_APPEND)
"""Where a store takes part. What happens at all other points is in the engine alone."""


@pytest.mark.slow
@pytest.mark.usefixtures("hasty_clients")
@pytest.mark.parametrize("point", Point)
async def test_nothing_is_lost_or_doubled_wherever_it_fails(point: Point, tmp_path: Path) -> None:
    """I1, I2, I3, I4, I7: kill, cut, error and surprise, each at a random hit, each followed by an audit."""
    await survive(point, tmp_path / "data", tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty_clients")
@pytest.mark.parametrize("point", AT_THE_LOG)
@pytest.mark.parametrize("data", ELSEWHERE, indirect=True)
async def test_nothing_is_lost_or_doubled_where_an_append_elsewhere_fails(
    point: Point, data: Path, tmp_path: Path
) -> None:
    """I1, I2, I3, I4, I7: the same on other stores, where they take part."""
    await survive(point, data, tmp_path)


@pytest.mark.soak
@pytest.mark.usefixtures("hasty_clients")
@pytest.mark.parametrize("point", [point for point in Point if point not in AT_THE_LOG])
@pytest.mark.parametrize("data", ELSEWHERE, indirect=True)
async def test_nothing_is_lost_or_doubled_wherever_it_fails_on_other_stores(
    point: Point, data: Path, tmp_path: Path
) -> None:
    """I1, I2, I3, I4, I7: and where they don't."""
    await survive(point, data, tmp_path)


async def survive(point: Point, data: Path, tmp_path: Path) -> None:
    rng, port = random.Random(seed()), free_port()
    async with AsyncExitStack() as engines:

        async def start() -> FailingEngine:
            return await engines.enter_async_context(failing_engine(data, port=port))

        engine = await start()
        clients = [await register(engine.url, f"p{number}", tmp_path / "people") for number in range(PEOPLE)]
        crowd = Crowd(clients, rng)
        async with running(*clients):
            await crowd.meet(GROUPS)
            for action in rng.sample(list(Action), len(Action)):
                async with crowd.talking():
                    await engine.happens(action, point, hit=rng.randint(1, HITS_MAX))
                    if action is Action.KILL:
                        engine = await start()
                    await crowd.more(MESSAGES_AFTER)
                await crowd.check(data)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty_clients")
@pytest.mark.parametrize("action", Action)
async def test_nothing_is_missed_where_nothing_comes_after(action: Action, tmp_path: Path) -> None:
    """I1, I4, I6: a lone message meets each failpoint, so no later one shows that it is missing, or its tick."""
    rng, data, port = random.Random(seed()), tmp_path / "data", free_port()
    async with AsyncExitStack() as engines:

        async def start() -> FailingEngine:
            return await engines.enter_async_context(failing_engine(data, port=port))

        engine = await start()
        clients = [await register(engine.url, f"p{number}", tmp_path / "people") for number in range(PEOPLE)]
        crowd = Crowd(clients, rng)
        async with running(*clients):
            await crowd.meet([PEOPLE])
            for point in Point:
                for client in clients:
                    await asyncio.wait_for(client.caught_up(), WAIT_S)
                async with engine.about_to(action, point, hit=1 if "reply" in point else rng.randint(1, 2)):
                    saying = asyncio.create_task(crowd.say_one())
                if action is Action.KILL:
                    engine = await start()
                await asyncio.wait_for(saying, WAIT_S)
                await crowd.ticked()
                await crowd.check(data)
