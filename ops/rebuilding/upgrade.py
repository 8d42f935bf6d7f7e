"""After an upgrade: read models of which the new release has a newer version are built in a process of its own, while
the engine serves the older ones."""

import asyncio
import logging
import sys
from typing import Final

from ops.settings import HOME, Settings
from projections.catalogue import find_serving
from projections.models import MODELS, newest
from projections.readmodel import ReadModelError

_log = logging.getLogger("signet.rebuilding")

STOP_MAX_S: Final = 10.0
PAUSE_FIRST_S: Final = 2.0
PAUSE_LAST_S: Final = 600.0


async def upgrade(settings: Settings) -> None:
    """One after the other. What fails is told, and tried again, less and less often. Whoever cancels it ends the
    process, and the next start goes on."""
    for name in MODELS:
        pause = PAUSE_FIRST_S
        while await _is_left_undone(settings, name):
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_LAST_S)


async def _is_left_undone(settings: Settings, name: str) -> bool:
    """Tries it. Whether it must be tried again."""
    version = newest(name).version
    try:
        serving = find_serving(settings.readmodels_place, name)
    except ReadModelError as error:
        _log.warning("whether version %d of the read model %r is to be built is not known: %s", version, name, error)
        return True
    if serving.build.version == version or serving.held:
        return False
    _log.info("the read model %r is served by %s; version %d is being built", name, serving.build, version)
    code = await _rebuild(settings, name)
    if code:
        _log.error("version %d of the read model %r is not built yet (exit code %d; why, stands above); %s serves"
                   " meanwhile, and it is tried again", version, name, code, serving.build)  # fmt: skip
    return code != 0


async def _rebuild(settings: Settings, name: str) -> int:
    """The exit code."""
    # By the same command line as this engine's. Its stdin ends with this process, however that ends.
    spec = sys.modules["__main__"].__spec__
    module = "ops.cli" if spec is None else spec.name
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", module, "rebuild", name, "--data", str(settings.data), "--json", "--until-eof",
        cwd=HOME, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await asyncio.wait_for(process.wait(), STOP_MAX_S)
        raise
