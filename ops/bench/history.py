"""`signet bench history`: a long log, what its read models cost to be made anew, and how soon an engine serves."""

import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import msgspec

from ops.bench.historian import Historian
from ops.engine import engine
from ops.errors import OpsError
from ops.progress import progress_bar
from ops.settings import HOME, PREFIX, load_settings
from ops.writing import write_side

STARTS: Final = 3


class HistoryMeasured(msgspec.Struct, frozen=True, kw_only=True):
    events: int
    """In the log; two thirds of them messages, one third receipts, but for the accounts and conversations."""
    written_per_s: int
    """By the writer in this process, in large batches."""
    rebuild_events_per_s: dict[str, int]
    """Of each read model, by itself, on one core, beside the one that serves."""
    rebuild_all_s: float
    """All of them one after the other, the comparisons included."""
    equal: bool
    check_s: float
    start_s: float
    """From the start of the process until it serves: the median."""
    start_s_spread: tuple[float, float]


async def measure_history(events: int) -> HistoryMeasured:
    """Raises OpsError."""
    with tempfile.TemporaryDirectory(prefix="signet-bench-") as folder:
        data = Path(folder) / "data"
        began = perf_counter()
        await _write(data, events)
        written_s = perf_counter() - began
        await _signet("rebuild", "--all", "--data", str(data))  # There was nothing to compare it with.
        began = perf_counter()
        rebuilt = await _signet("rebuild", "--all", "--data", str(data))
        rebuilt_s = perf_counter() - began
        began = perf_counter()
        await _signet("check", "--data", str(data))
        checked_s = perf_counter() - began
        starts = [await _start(data) for _ in range(STARTS)]
    return HistoryMeasured(
        events=max(each["events"] for each in rebuilt.values()),
        written_per_s=round(events / written_s),
        rebuild_events_per_s={name: each["events_per_s"] for name, each in rebuilt.items()},
        rebuild_all_s=round(rebuilt_s, 1),
        equal=all(each["equal"] for each in rebuilt.values()),
        check_s=round(checked_s, 1),
        start_s=round(statistics.median(starts), 2),
        start_s_spread=(round(min(starts), 2), round(max(starts), 2)),
    )


async def _write(data: Path, events: int) -> None:
    with progress_bar("events") as bar:
        task = bar.add_task("write", total=events)
        async with write_side(load_settings(data)) as side:
            await Historian(side).write(events, lambda written: bar.update(task, completed=written))


async def _signet(*arguments: str) -> Any:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "ops.cli", *arguments, "--json",
        cwd=HOME, env=environment, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    answer, _ = await process.communicate()
    if process.returncode:
        raise OpsError(f"signet {' '.join(arguments)} failed; what it said stands above")
    return json.loads(answer)


async def _start(data: Path) -> float:
    began = perf_counter()
    async with engine(data, {"log_level": "warning"}):
        return perf_counter() - began
