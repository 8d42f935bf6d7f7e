"""A client that encrypts is killed again and again: it loses nothing that it had taken, says nothing twice, and uses no
position of a key stream for two messages."""

import asyncio
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from ops.node import Node
from signet_client import Client, Forged
from tests.corpus import ROOT
from tests.scenarios.stage import WAIT_S, Heard, Place, people, register, seed, texts

KILLS: Final = 20
COUNT: Final = 40
"""How many messages each life of the client begins to say."""
LIFE_MAX_S: Final = 0.6


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with Place(tmp_path / "data", in_memory=False).engine() as node:
        yield node


async def test_a_client_that_is_killed_reuses_no_key(node: Node, tmp_path: Path) -> None:
    """I1, I2: the state of a session is on disk before what it has made leaves. Were it not, two messages would stand
    at one position of a session, and the second one would count as a replay."""
    chance = random.Random(seed())
    anna = await register(node.url, "anna", tmp_path)
    async with people(node.url, tmp_path, "ben") as (ben,):
        async with anna:
            talk = await anna.start_direct(ben.account)
            await anna.held(talk, 1)
        forged: list[Forged] = []
        ben.listen(lambda event: forged.append(event) if isinstance(event, Forged) else None)
        for life in range(KILLS):
            await _live_and_die(anna, talk, COUNT * life, chance.uniform(0, LIFE_MAX_S))
        process = await _start(anna, talk, COUNT * KILLS)
        async with asyncio.timeout(WAIT_S):
            assert await process.wait() == 0
        said = {str(number) for number in range(COUNT * (KILLS + 1))}
        await Heard(ben).until(lambda: len(texts(ben, talk)) >= len(said) and None not in texts(ben, talk))
        assert forged == []
        assert Counter(texts(ben, talk)) == Counter(said)


async def _start(client: Client, talk: str, first: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "tests.scenarios.speaker",
        str(client._store.path), talk, str(first), str(COUNT),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def _live_and_die(client: Client, talk: str, first: int, life_s: float) -> None:
    """Killed this long after it has posted all that it says."""
    process = await _start(client, talk, first)
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        assert await process.stdout.readline() == b"posted\n"
    try:
        async with asyncio.timeout(life_s):
            await process.wait()
    except TimeoutError:
        process.send_signal(signal.SIGKILL)
    await process.wait()
