"""I14: whoever is killed while the tables are loaded, each event is in them once."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from domain.log import EventLog
from ops.analytics.place import connect
from ops.analytics.schema import read_mark
from ops.settings import HOME, Settings
from tests.clickhouse import Server, owns_server
from tests.corpus import ARCHIVE, needs_corpus
from tests.ops.analytics.loads import command, load, log_of, verify
from tests.ops.imports import import_files
from tests.projections.histories import History, play

KILLS = 6
INSERTS = 9
STEPS = 2_500
CORPUS_EVENTS = 264_847
ACTS = (
    "send",
    "send",
    "send",
    "quiet",
    "receive",
    "receive",
    "undecryptable",
    "repaired",
    "signed",
    "add",
    "remove",
    "retract",
)


def busy(seed: int) -> History:
    chance = random.Random(seed)
    return play(
        [(chance.choice(ACTS), chance.randrange(12), chance.randrange(12), chance.randrange(200)) for _ in range(STEPS)]
    )


def killed(settings: Settings, inserts: int, victim: Callable[[psutil.Process], psutil.Process]) -> None:
    """Starts a load, and kills it, or what `victim` names, after so many inserts."""
    program = [sys.executable, "-P", "-m", "tests.ops.analytics.loading", str(settings.data), settings.analytics]
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    with subprocess.Popen(
        program, cwd=HOME, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as loading:
        assert loading.stdout is not None
        loading.stdout.readline()
        chosen = victim(psutil.Process(loading.pid))
        for _ in range(inserts):
            loading.stdout.readline()
        chosen.kill()


@pytest.mark.slow
async def test_the_embedded_one(tmp_path: Path) -> None:
    settings, chance = Settings(data=tmp_path), random.Random(1)

    def victim(loading: psutil.Process) -> psutil.Process:
        return loading if chance.random() < 0.5 else loading.children()[0]

    async with log_of(settings, busy(1).events) as log:
        for _ in range(KILLS):
            killed(settings, chance.randrange(INSERTS), victim)
        await finished(settings, log)


async def finished(settings: Settings, log: EventLog) -> None:
    with closing(connect(settings, "reader")) as warehouse:
        mark = read_mark(warehouse)
        assert mark is not None
        assert 0 < mark.position < await log.head(), "the kills came midway"
    await load(settings, log)
    found = await verify(settings, log)
    assert found.equal, found.differences
    assert found.position == found.head


@needs_corpus
@pytest.mark.soak
async def test_the_corpus(tmp_path: Path) -> None:
    """By kill -9 of the verb and of ClickHouse's process, wherever they are; and a row deleted by hand is found."""
    settings, seed = Settings(data=tmp_path), int(os.environ.get("SIGNET_TEST_SEED") or random.randrange(2**32))
    print(f"SIGNET_TEST_SEED={seed}")
    chance = random.Random(seed)
    await import_files(settings, ARCHIVE)
    async with log_of(settings) as log:
        for _ in range(20):
            await killed_at_random(settings, chance)
        await load(settings, log)
        found = await verify(settings, log)
        assert found.equal, found.differences
        command(settings, "DELETE FROM messages WHERE seq = (SELECT max(seq) FROM messages WHERE seq < 100000)")
        found = await verify(settings, log)
        assert [(each.table, each.what) for each in found.differences] == [("messages", "missing")]


async def killed_at_random(settings: Settings, chance: random.Random) -> None:
    """Anew where all is loaded, for the next kill to break something."""
    anew = ["--anew"] if _is_all_loaded(settings) else []
    verb = [sys.executable, "-P", "-m", "ops.cli", "analytics", "load", *anew, "--data", str(settings.data)]
    loading = await asyncio.create_subprocess_exec(*verb, cwd=HOME, stderr=asyncio.subprocess.DEVNULL)
    try:
        # Of a load that takes two or three seconds.
        await asyncio.wait_for(loading.wait(), chance.uniform(0.5, 2.5))
    except TimeoutError:
        process = psutil.Process(loading.pid)
        victim = chance.choice([process, *process.children()])
        victim.kill()
        await loading.wait()


def _is_all_loaded(settings: Settings) -> bool:
    with closing(connect(settings, "reader")) as warehouse:
        mark = read_mark(warehouse)
        return mark is not None and mark.events == CORPUS_EVENTS


@pytest.fixture
def own_server() -> Iterator[Server]:
    server = Server.start()
    yield server
    server.stop()


@owns_server
@pytest.mark.slow
async def test_a_server(tmp_path: Path, own_server: Server) -> None:
    settings, chance = Settings(data=tmp_path, analytics=own_server.url("signet")), random.Random(2)

    def victim(loading: psutil.Process) -> psutil.Process:
        return loading if chance.random() < 0.5 else psutil.Process(own_server.pid)

    async with log_of(settings, busy(2).events) as log:
        for _ in range(KILLS):
            killed(settings, chance.randrange(INSERTS), victim)
            if not own_server.is_alive:
                own_server.kill()
                own_server.restart()
        await finished(settings, log)
