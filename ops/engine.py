"""An engine in a process of its own, for the verbs that need one for a while."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from ops.child import stop_process
from ops.errors import OpsError
from ops.settings import HOME, PREFIX

START_MAX_S: Final = 60
STOP_MAX_S: Final = 30


class _Announced(msgspec.Struct, frozen=True):
    url: str


class EngineProcess:
    """A running engine."""

    def __init__(self, url: str, process: asyncio.subprocess.Process) -> None:
        self.url = url
        self.process = process

    def cpu_s(self) -> float:
        """What the engine and its children have used so far, user and system, in seconds of CPU."""
        return cpu_of(self.process.pid)


@asynccontextmanager
async def engine(
    data: Path, settings: Mapping[str, str] | None = None, *, port: int = 0, module: str = "ops.cli"
) -> AsyncIterator[EngineProcess]:
    """Starts an engine on the data folder; stops it at the end. `settings`: by name, without SIGNET_. `port`: 0 for a
    free one. `module`: whose command line has the verb `up`.

    Raises OpsError where it does not come up.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {f"{PREFIX}{name.upper()}": value for name, value in (settings or {}).items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", module, "up", "--data", str(data), "--port", str(port), "--json",
        cwd=HOME, env=environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield EngineProcess(await _url_of(process), process)
    finally:
        await stop_process(process, STOP_MAX_S)


def cpu_of(pid: int) -> float:
    """What a process and its children have used so far, in seconds of CPU."""
    return sum(_cpu_s(each) for each in family(pid))


async def _url_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_MAX_S)
    except TimeoutError as error:
        raise OpsError(f"the engine did not come up within {START_MAX_S} s") from error
    if not line:
        raise OpsError("the engine did not come up; what it said stands above")
    return msgspec.json.decode(line, type=_Announced).url


def family(pid: int) -> list[int]:
    """A process and all that descend from it, itself first."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def _cpu_s(pid: int) -> float:
    """utime and stime of a process, from /proc/<pid>/stat (proc(5)); 0 for one that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
