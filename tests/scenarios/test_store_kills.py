"""The server that has the log is killed under load: nothing is lost or doubled, and the engine is back soon."""

import asyncio
import random
import time
from pathlib import Path
from typing import Final

import httpx
import pytest

from ops.engine import engine
from tests.scenarios.conftest import StoreServer
from tests.scenarios.crowd import Crowd
from tests.scenarios.stage import UNBOUNDED, WAIT_S, register, running, seed

PEOPLE: Final = 8
GROUPS: Final = (8, 5)
KILLS: Final = 5
SOAK_KILLS: Final = 20
MESSAGES_BETWEEN: Final = 100
BACK_MAX_S: Final = 3.0
"""How long after its store an engine takes messages again."""


@pytest.mark.slow
@pytest.mark.usefixtures("hasty_clients")
async def test_nothing_is_lost_or_doubled_when_the_store_is_killed(
    breakable: tuple[Path, StoreServer], tmp_path: Path
) -> None:
    """I1, I2, I3, I4, I7"""
    await survive(*breakable, tmp_path, KILLS)


@pytest.mark.soak
@pytest.mark.usefixtures("hasty_clients")
async def test_nothing_is_lost_or_doubled_when_the_store_is_killed_often(
    breakable: tuple[Path, StoreServer], tmp_path: Path
) -> None:
    """I1, I2, I3, I4, I7: the same, twenty times."""
    await survive(*breakable, tmp_path, SOAK_KILLS)


async def survive(data: Path, store: StoreServer, folder: Path, kills: int) -> None:
    rng = random.Random(seed())
    async with engine(data, {"log_level": "error", **UNBOUNDED}) as started:
        clients = [await register(started.url, f"p{number}", folder / "people") for number in range(PEOPLE)]
        crowd = Crowd(clients, rng)
        async with running(*clients):
            await crowd.meet(GROUPS)
            async with crowd.talking():
                for number in range(1, kills + 1):
                    await crowd.more(rng.randint(1, MESSAGES_BETWEEN))
                    await asyncio.to_thread(store.kill)
                    await refuses(started.url)
                    await asyncio.to_thread(store.start)
                    began = time.monotonic()
                    await crowd.more(1)
                    took = time.monotonic() - began
                    print(
                        f"kill {number} of {kills}: {crowd.accepted} accepted, the last after {took:.1f} s", flush=True
                    )
                    assert took <= BACK_MAX_S
                await crowd.more(MESSAGES_BETWEEN)
            await crowd.check(data)
        async with httpx.AsyncClient() as http:
            assert await counted(http, started.url, "signet_commit_seconds_count") > 0


async def refuses(url: str) -> None:
    """Returns when the engine has refused somebody by the code that says to try again."""
    async with httpx.AsyncClient() as http, asyncio.timeout(WAIT_S):
        before = await counted(http, url, "signet_refusals_total", 'code="unavailable"')
        while await counted(http, url, "signet_refusals_total", 'code="unavailable"') == before:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)
        assert (await http.get(f"{url}/readyz")).status_code == 503


async def counted(http: httpx.AsyncClient, url: str, name: str, label: str = "") -> float:
    """What the engine's metrics say."""
    lines = (await http.get(f"{url}/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name) and label in line)
