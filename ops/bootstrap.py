"""What `./signet` does before any command: make `.venv` in the checkout or bring it up to date, build the web client
where the command serves it (`ops/webbuild.py`), and hand over to the command.

Only the standard library is imported here. `.venv` has levels, each with all of the one below it; a higher one comes
when a verb first needs it. A stamp in `.venv` says for which locks, interpreter and folder each level was made. A level
that is added leaves the stamps of those below in force, since they lose nothing by it; an update takes all out of force
before it begins. So an interrupted set-up goes on, and one that never got its first level starts anew. Launchers that
start together take turns on a lock of the checkout's folder; the installers that they run hold it too, so that nobody
begins while one of them still writes, even if its launcher was killed.
"""

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from ops import webbuild
from ops.installing import Command, SetupFailed, Step, alone, find_uv, install, say

LOCKS = {"run": "requirements.lock", "analytics": "requirements-analytics.lock", "dev": "requirements-dev.lock"}
"""The levels of `.venv`, lowest first, and the lock of each."""

VERB_LEVELS = {"analytics": "analytics", "test": "dev"}
"""The level that a verb needs; the others are content with `run`."""

WEB_VERBS = frozenset({"up"})
"""The verbs before which the web client is built; `test` does it as a step of its own."""

HELP = frozenset({"-h", "--help"})

FIRST_TIME = {
    "run": "setting up {venv} from {lock}; the first time takes half a minute…",
    "analytics": "adding what the analytics need (ClickHouse in the process, Arrow, pandas): "
    "about 280 MB to download, 0.9 GB on disk, only this once…",
    "dev": "adding the tools of the checks and tests from {lock}…",
}
"""What is said before a level is installed."""

LOUD = frozenset({"analytics"})
"""The levels whose download is long enough to be watched."""

PROJECTS = ("pyproject.toml", "client/pyproject.toml")


def main(root: str, arguments: list[str]) -> NoReturn:
    """Replace this process by the command, in an environment that fits the locks. Progress goes to stderr."""
    home = Path(root)
    level = VERB_LEVELS.get(arguments[0], "run") if arguments else "run"
    try:
        if not is_ready(home, level):
            set_up(home, level)
        if WEB_VERBS.intersection(arguments[:1]) and not HELP.intersection(arguments):
            webbuild.bring(home)
    except SetupFailed as failure:
        sys.exit(f"signet: {failure}")
    except KeyboardInterrupt:
        say("interrupted; the next start completes the set-up.")
        sys.exit(130)
    python = str(home / ".venv/bin/python")
    # -P: a folder named `ops` where the user happens to stand must not be taken for ours.
    os.execv(python, [python, "-P", "-m", "ops.cli", *arguments])


def is_ready(home: Path, level: str) -> bool:
    """Whether `.venv` is complete for this level, or for one above it."""
    made_for = read_stamp(home)
    return any(made_for[have] == fingerprint(home, have) for have in levels(level, "dev") if have in made_for)


def levels(lowest: str, highest: str) -> list[str]:
    """Those from the one to the other, lowest first."""
    names = list(LOCKS)
    return names[names.index(lowest) : names.index(highest) + 1]


def set_up(home: Path, level: str) -> None:
    """Make `.venv` fit, alone: another launcher may have done it while this one waited."""
    with alone(home) as lock:
        if not is_ready(home, level):
            bring_up(home, level, lock)


def bring_up(home: Path, asked: str, lock: int) -> None:
    """Install each level that is not ready, up to the asked one, or to the highest that had been there.

    Where only one above the asked one fails, it stays as it is until it is needed.
    """
    wanted = [level for level in LOCKS if level in {asked, *read_stamp(home)}][-1]
    for level in levels("run", wanted):
        if is_ready(home, level):
            continue
        try:
            add_level(home, level, wanted, lock)
        except SetupFailed as failure:
            if not is_ready(home, asked):
                raise
            say(f"{failure}\nsignet: going on without it: only the level {level} is not up to date.")
            return
    say("ready.")


def add_level(home: Path, level: str, wanted: str, lock: int) -> None:
    """Install what this level has and those below it have not; with the lowest also this checkout."""
    had = read_stamp(home)
    lowest = level == "run"
    say(announcement(home, level, first_time=not had if lowest else level not in had))
    if lowest:
        void_stamp(home)

    def run(command: Command) -> None:
        subprocess.run(command, cwd=home, check=True, stdout=sys.stderr, stdin=subprocess.DEVNULL, pass_fds=[lock])

    venv = home / ".venv"
    step = Step(
        venv=venv,
        lock_file=home / LOCKS[level],
        wanted=home / LOCKS[wanted],
        fresh=not had,
        ours=lowest,
        quiet=level not in LOUD,
    )
    install(run, step, find_uv(venv))
    write_stamp(home, level)


def announcement(home: Path, level: str, *, first_time: bool) -> str:
    text = FIRST_TIME[level] if first_time else "updating {venv} from {lock}…"
    return text.format(venv=home / ".venv", lock=LOCKS[level])


def fingerprint(home: Path, level: str) -> str:
    """What decides the content of `.venv`: the locks, and what installs this checkout."""
    parts = [(home / LOCKS[name]).read_bytes() for name in levels("run", level)]
    parts += [json.dumps(packaging(home / name), sort_keys=True).encode() for name in PROJECTS]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def packaging(project_file: Path) -> object:
    """The parts of a pyproject.toml that decide what is installed; the settings of the tools in it don't."""
    content = tomllib.loads(project_file.read_text())
    tables = {name: content.get(name) for name in ("project", "build-system", "dependency-groups")}
    return tables | {"hatch": content.get("tool", {}).get("hatch")}


def place(home: Path) -> list[str]:
    """Where `.venv` works: in this folder, on this interpreter (its name tells the version)."""
    return [str(home), str((home / ".venv/bin/python").resolve(strict=True))]


def stamp_path(home: Path) -> Path:
    return home / ".venv/signet-stamp.json"


def read_stamp(home: Path) -> dict[str, str]:
    """What each level was last installed for, by its name; empty where `.venv` is absent, half made or out of place."""
    with suppress(OSError, ValueError, KeyError):
        stamp = json.loads(stamp_path(home).read_text())
        if stamp["place"] == place(home):
            return dict(stamp["levels"])
    return {}


def write_stamp(home: Path, level: str) -> None:
    """Note that the level is complete; what was noted of others stays."""
    put_stamp(home, read_stamp(home) | {level: fingerprint(home, level)})


def void_stamp(home: Path) -> None:
    """No level is ready from here on; which ones had been there stays noted."""
    if had := read_stamp(home):
        put_stamp(home, dict.fromkeys(had, ""))
    else:
        stamp_path(home).unlink(missing_ok=True)


def put_stamp(home: Path, made_for: Mapping[str, str]) -> None:
    written = stamp_path(home).with_suffix(".new")
    written.write_text(json.dumps({"place": place(home), "levels": made_for}) + "\n")
    written.replace(stamp_path(home))
