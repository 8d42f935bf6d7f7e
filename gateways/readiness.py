"""Whether an engine can do its work, told part by part: what `/readyz` answers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from commands.sealing import Sealer
from commands.writer import Writer
from domain.log import EventLog, StoreUnavailable
from projections.feed import Feed
from projections.runner import Runner

Probe = Callable[[], Awaitable[str]]
"""What is wrong with one part; empty where it can do its work."""

PROBE_MAX_S: Final = 2.0

FAILED_S: Final = 30.0
"""How long a failed append counts, where no other one has come since: without new commands nobody knows better."""


class Readiness:
    """The parts of one engine."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = dict(probes)

    async def look(self) -> dict[str, str]:
        """What is wrong with each part, as the probes say it."""
        found = await asyncio.gather(*(_asked(probe) for probe in self._probes.values()))
        return dict(zip(self._probes, found, strict=True))


def engine_probes(
    *, log: EventLog, writer: Writer, sealer: Sealer, feed: Feed, runners: Mapping[str, Runner]
) -> dict[str, Probe]:
    """What every engine is made of."""
    models = {f"readmodel {name}": partial(_check_runner, runner, feed) for name, runner in runners.items()}
    return {"log": partial(_check_log, log, writer), "keyring": partial(_check_keyring, sealer), **models}


async def _check_log(log: EventLog, writer: Writer) -> str:
    """Whether it can be read, and took what was appended last."""
    try:
        await log.head()
    except StoreUnavailable as error:
        return str(error)
    measures = writer.measures
    since = asyncio.get_running_loop().time() - measures.failed_at
    if measures.failure and (writer.open_appends or since < FAILED_S):
        return f"an append failed {since:.0f} s ago: {measures.failure}"
    return ""


async def _check_keyring(sealer: Sealer) -> str:
    sealer.check()
    return ""


async def _check_runner(runner: Runner, feed: Feed) -> str:
    if runner.stopped is not None:
        return runner.stopped
    if not runner.connected:
        return "its database is away"
    # Not by a number of positions: those of some stores count bytes.
    if feed.holds(runner.position):
        return ""
    return f"it is at position {runner.position}, and the log at {feed.head}: wait until it has caught up"


async def _asked(probe: Probe) -> str:
    try:
        async with asyncio.timeout(PROBE_MAX_S):
            return await probe()
    except TimeoutError:
        return f"no answer within {PROBE_MAX_S:g} s: see to its server or disk, and to the network"
    except Exception as error:
        return str(error) or repr(error)
