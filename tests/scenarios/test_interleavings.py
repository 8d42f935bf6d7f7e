"""Five people on eight devices send, retract, join, leave, come back, are removed, acknowledge, read and reconnect, all
at once and over real sockets: what each device shows is what must be (I2 to I8)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Self

import pytest
from hypothesis import HealthCheck, given, seed, settings

import signet_client.api
import signet_client.backoff
from ops.node import Node
from tests.scenarios import stage
from tests.scenarios.cast import Cast
from tests.scenarios.interleaving import play
from tests.scenarios.program import Program, programs
from tests.scenarios.stage import WAIT_S, Place

EXAMPLES: Final = 150
SOAK_EXAMPLES: Final = 2_000
TALKS_MAX: Final = 20
"""After so many groups others come: every welcome lists all groups of an account."""
SHRINKING_S: Final = 3.0
"""How long is waited for what does not come, once something has failed."""


class World:
    """One engine for all programs."""

    def __init__(self, node: Node, folder: Path) -> None:
        self._node = node
        self._folder = folder
        self._casts = 0
        self._talks = TALKS_MAX
        self._cast: Cast
        self._leaving = AsyncExitStack()
        self._patience_s: float = WAIT_S

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator[Self]:
        place = Place(folder / "server", in_memory=False)
        async with place.engine() as node:
            world = cls(node, folder)
            yield world
            await world._leaving.aclose()

    async def play(self, program: Program) -> None:
        if self._talks >= TALKS_MAX:
            await self._meet()
        self._talks += 1
        try:
            await play(self._node, self._cast, program)
        except BaseException:
            # What comes now is told by nothing that this one has left behind.
            self._talks, self._patience_s = TALKS_MAX, SHRINKING_S
            raise

    async def _meet(self) -> None:
        await self._leaving.aclose()
        self._casts += 1
        gathering = Cast.gather(self._node, self._folder / f"cast-{self._casts}", patience_s=self._patience_s)
        self._cast = await self._leaving.enter_async_context(gathering)
        self._talks = 0


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    # Debug mode would cost more than everything else.
    with asyncio.Runner(debug=False) as runner:
        yield runner


@pytest.fixture
def world(
    runner: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[World]:
    monkeypatch.setattr(signet_client.backoff, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(signet_client.api, "RETRY_FIRST_S", 0.01)
    opened = World.open(tmp_path)
    world = runner.run(opened.__aenter__())
    yield world
    runner.run(opened.__aexit__(None, None, None))
    errors = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not errors


RULES: Final = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.mark.slow
@settings(RULES, max_examples=EXAMPLES)
@given(program=programs)
def test_every_device_shows_what_must_be(runner: asyncio.Runner, world: World, program: Program) -> None:
    """I2 to I8: messages, order, retractions, members, title, unread counts and ticks, after any interleaving."""
    runner.run(world.play(program))


@pytest.mark.soak
def test_every_device_shows_what_must_be_for_long(runner: asyncio.Runner, world: World) -> None:
    """The same with programs that differ each time."""

    @seed(stage.seed())
    @settings(RULES, max_examples=SOAK_EXAMPLES, derandomize=False, database=None)
    @given(program=programs)
    def play(program: Program) -> None:
        runner.run(world.play(program))

    play()
