"""What `./signet` does before any command: make `.venv` in the checkout or bring it up to date, and hand over to it.

Only the standard library is imported here. A stamp in `.venv` says for which locks, interpreter and folder it was made.
It is removed before a set-up begins and written when it is complete, so an interrupted set-up starts anew. Launchers
that start together take turns on a lock of the checkout's folder; the installers that they run hold it too, so that
nobody begins while one of them still writes, even if its launcher was killed.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

DEV_VERBS = frozenset({"test"})
"""The verbs that need the tools of `requirements-dev.lock` beside the engine's own dependencies."""

LOCKS = {"run": "requirements.lock", "dev": "requirements-dev.lock"}
PROJECTS = ("pyproject.toml", "client/pyproject.toml")

Run = Callable[[Sequence[str | Path]], None]


class SetupFailed(Exception):
    """The environment could not be made; the text says why and what to do."""


def main(root: str, arguments: list[str]) -> NoReturn:
    """Replace this process by the command, in an environment that fits the locks. Progress goes to stderr."""
    home = Path(root)
    level = "dev" if arguments[:1] and arguments[0] in DEV_VERBS else "run"
    try:
        if not is_ready(home, level):
            set_up(home, level)
    except SetupFailed as failure:
        sys.exit(f"signet: {failure}")
    except KeyboardInterrupt:
        say("interrupted; the next start does the set-up again.")
        sys.exit(130)
    python = str(home / ".venv/bin/python")
    # -P: a folder named `ops` where the user happens to stand must not be taken for ours.
    os.execv(python, [python, "-P", "-m", "ops.cli", *arguments])


def is_ready(home: Path, level: str) -> bool:
    """Whether `.venv` is complete for this level; what has the tools also has the engine's dependencies."""
    made_for = read_stamp(home)
    return any(made_for.get(have) == fingerprint(home, have) for have in (level, "dev"))


def set_up(home: Path, level: str) -> None:
    """Make `.venv` fit, alone: another launcher may have done it while this one waited."""
    lock = os.open(home, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another start is setting up; waiting for it…")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_ready(home, level):
            install(home, level, lock)
    finally:
        os.close(lock)


def install(home: Path, level: str, lock: int) -> None:
    """Install the level's lock and this checkout, by uv where it is at hand and works, else by pip."""
    venv = home / ".venv"
    fresh = not read_stamp(home)
    stamp_path(home).unlink(missing_ok=True)

    def run(command: Sequence[str | Path]) -> None:
        subprocess.run(command, cwd=home, check=True, stdout=sys.stderr, stdin=subprocess.DEVNULL, pass_fds=[lock])

    say(f"{'setting up' if fresh else 'updating'} {venv} from {LOCKS[level]}; the first time takes half a minute…")
    uv = find_uv(venv)
    if uv is None or not uv_manages(lambda: install_by_uv(run, uv, venv, LOCKS[level], fresh)):
        install_by_pip(run, venv, LOCKS[level], fresh=fresh or uv is not None)
    write_stamp(home, level)
    say("ready.")


def install_by_uv(run: Run, uv: str, venv: Path, lock_file: str, fresh: bool) -> None:
    python = venv / "bin/python"
    if fresh:
        run([uv, "venv", "--quiet", "--clear", "--no-project", "--python", base_python(), venv])
    run([uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", lock_file])
    run([uv, "pip", "install", "--quiet", "--python", python, *OURS])


def install_by_pip(run: Run, venv: Path, lock_file: str, fresh: bool) -> None:
    """As `install_by_uv`. What a lock no longer names stays installed: pip has no sync."""
    pip: list[str | Path] = [venv / "bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    try:
        if fresh or not (venv / "bin/pip").exists():
            check_venv_modules()
            run([base_python(), "-m", "venv", "--clear", venv])
        run([*pip, "--require-hashes", "--requirement", lock_file])
        run([*pip, *OURS])
    except subprocess.CalledProcessError as error:
        raise SetupFailed(
            "the set-up failed, see above. If a download failed, check the network or pip's configuration "
            f"(pip config list) and start again. The command was: {' '.join(map(str, error.cmd))}"
        ) from None


OURS = ("--no-build-isolation", "--no-deps", "-e", "./client", "-e", ".")


def uv_manages(step: Callable[[], None]) -> bool:
    """Run it; whether uv managed."""
    try:
        step()
    except (subprocess.CalledProcessError, OSError):
        say("uv could not do it; trying pip…")
        return False
    return True


def find_uv(venv: Path) -> str | None:
    """The user's uv; never the one in `.venv` itself, which is about to change."""
    uv = shutil.which("uv")
    return None if uv is None or Path(uv).resolve().is_relative_to(venv) else uv


def base_python() -> str:
    """The interpreter behind this one, also when `.venv` itself runs the launcher."""
    return str(getattr(sys, "_base_executable", sys.executable))


def check_venv_modules() -> None:
    """Refuse a Python whose distribution left out what makes environments, with the remedy."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupFailed(
            f"{base_python()} cannot make an environment: its {' and '.join(missing)} is not installed.\n"
            f"Debian, Ubuntu: apt-get install python3-venv (or python{version}-venv). Elsewhere: install Python with\n"
            "its standard library complete, or uv, which needs neither. Then start again."
        )


def fingerprint(home: Path, level: str) -> str:
    """What decides the content of `.venv`: the locks, and what installs this checkout."""
    files = [LOCKS["run"]] if level == "run" else list(LOCKS.values())
    parts = [(home / name).read_bytes() for name in files]
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
    """The fingerprint of what was installed, by its level; empty where `.venv` is absent, half made or out of place."""
    with suppress(OSError, ValueError, KeyError):
        stamp = json.loads(stamp_path(home).read_text())
        if stamp["place"] == place(home):
            return dict(stamp["levels"])
    return {}


def write_stamp(home: Path, level: str) -> None:
    stamp = {"place": place(home), "levels": {level: fingerprint(home, level)}}
    stamp_path(home).write_text(json.dumps(stamp) + "\n")


def say(text: str) -> None:
    print(f"signet: {text}", file=sys.stderr, flush=True)
