"""How packages come into `.venv`: by uv where it is at hand and works, else by pip. Both are handed the same list.

The list holds the pins of a lock that `.venv` lacks, or that an interrupted installer left half there. So what is
there stays, nothing but news is shown, and a set-up that was killed anywhere goes on where it was. Only the standard
library is imported here: it runs before anything is installed.
"""

import csv
import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

Command = Sequence[str | Path]
Run = Callable[[Command], None]
"""Runs a command in the checkout; raises `CalledProcessError` or `OSError` where that fails."""

OURS = ("--no-build-isolation", "--no-deps", "-e", "./client", "-e", ".")
NOT_LOCKED = frozenset({"signet", "signet-client", "pip", "setuptools"})
"""What is in `.venv` though no lock names it: this checkout, and what `python -m venv` brings."""


class SetupFailed(Exception):
    """The environment could not be made; the text says why and what to do."""


class Step(NamedTuple):
    """What one level adds to `.venv`."""

    venv: Path
    lock_file: Path
    wanted: Path
    """The lock that tells what may stay: that of the highest level which is to be there."""
    fresh: bool
    """Whether `.venv` is made anew."""
    ours: bool
    """Whether this checkout is installed as well."""
    quiet: bool
    """Whether the installer is told to say nothing; else it shows what it downloads."""


class Installer(NamedTuple):
    """The beginnings of an installer's commands."""

    install: Command
    uninstall: Command
    quiet: str
    no_bars: Command


def install(run: Run, step: Step, uv: str | None) -> None:
    """Install what the step adds, and remove what no lock names any more. Raises `SetupFailed`."""
    if uv is None or not uv_manages(lambda: install_by_uv(run, uv, step)):
        install_by_pip(run, step)


def install_by_uv(run: Run, uv: str, step: Step) -> None:
    if step.fresh:
        run([uv, "venv", "--quiet", "--clear", "--no-project", "--python", base_python(), step.venv])
    python = ("--python", step.venv / "bin/python")
    installer = Installer((uv, "pip", "install", *python), (uv, "pip", "uninstall", *python), "-q", ("--no-progress",))
    bring(run, installer, step)


def install_by_pip(run: Run, step: Step) -> None:
    python = step.venv / "bin/python"
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    try:
        if step.fresh:
            check_venv_modules()
            run([base_python(), "-m", "venv", "--clear", step.venv])
        elif "pip" not in releases(step.venv):  # uv made it
            check_venv_modules()
            run([python, "-m", "ensurepip"])
        bring(run, Installer((*pip, "install"), (*pip, "uninstall", "-y"), "-qq", ("--progress-bar", "off")), step)
    except subprocess.CalledProcessError as error:
        raise SetupFailed(
            "the set-up failed, see above. If a download failed, check the network or pip's configuration "
            f"(pip config list) and start again. The command was: {' '.join(map(str, error.cmd))}"
        ) from None


def bring(run: Run, installer: Installer, step: Step) -> None:
    """Make `.venv` hold what the step asks for. May be repeated after it was cut off anywhere."""
    for info in halves(step.venv):
        shutil.rmtree(info)  # installers believe such notes; without them, they write over the files
    kept = NOT_LOCKED | {pin.name for pin in pins(step.wanted)}
    if unwanted := sorted(releases(step.venv).keys() - kept):
        run([*installer.uninstall, installer.quiet, *unwanted])
    if lacking := missing(step.venv, step.lock_file):
        listed = step.venv / "signet-missing.txt"
        listed.write_text("".join(f"{pin.text}\n" for pin in lacking))
        shown = (installer.quiet,) if step.quiet else () if draws() else installer.no_bars
        named = listed.relative_to(step.venv.parent)  # pip says of each package where it is listed
        run([*installer.install, *shown, "--no-deps", "--require-hashes", "--requirement", named])
        listed.unlink()
    if step.ours:
        run([*installer.install, installer.quiet, *OURS])


class Pin(NamedTuple):
    """A release that a lock names."""

    name: str
    release: str
    text: str
    """As it stands in the lock, with its marker and hashes."""


def pins(lock_file: Path) -> list[Pin]:
    """In the order of the lock. A name may be there twice, for different Pythons."""
    found = re.finditer(r"^([\w.-]+)(?:\[[^]]*\])?==([^ \\\n]+).*(?:\n[ \t].*)*", lock_file.read_text(), re.MULTILINE)
    return [Pin(normal(match[1]), match[2], match[0]) for match in found]


def missing(venv: Path, lock_file: Path) -> list[Pin]:
    """What is not there in the lock's release; also pins that are for other Pythons, which installers pass over."""
    have = releases(venv)
    return [pin for pin in pins(lock_file) if have.get(pin.name) != pin.release]


def releases(venv: Path) -> dict[str, str]:
    """What is installed, by name."""
    parts = (info.stem.partition("-") for info in infos(venv))
    return {normal(name): release for name, _, release in parts}


def halves(venv: Path) -> list[Path]:
    """The notes of packages that are not whole: a file is absent, or has a size that none of the packages gives it.

    Two packages may list the same file with sizes of their own, as chdb and chdb-core do; the last one wins.
    """
    listed = {info: files_of(info) for info in infos(venv)}
    sizes: dict[str, set[int | None]] = defaultdict(set)
    for files in listed.values():
        for path, size in files.items():
            sizes[path].add(size)
    return [
        info
        for info, files in listed.items()
        if not files or any(size_of(info.parent / path) not in sizes[path] for path in files)
    ]


def files_of(info: Path) -> dict[str, int]:
    """The sizes that its RECORD lists, in bytes; bytecode has none there. Empty where the RECORD can't be read."""
    itself = f"{info.name}/RECORD"  # uv may give it the size that it had before uv wrote it
    with suppress(OSError, ValueError), (info / "RECORD").open(encoding="utf-8", newline="") as record:
        return {path: int(size) for path, _, size in csv.reader(record) if size and path != itself}
    return {}


def size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def infos(venv: Path) -> Iterator[Path]:
    return venv.glob("lib/python*/site-packages/*.dist-info")


def normal(name: str) -> str:
    """One spelling of the many that a package's name has."""
    return re.sub(r"[-_.]+", "-", name).lower()


@contextmanager
def alone(home: Path) -> Iterator[int]:
    """While it is held no other launcher of this checkout installs or builds. The descriptor is for those that work in
    its name: whoever has it open holds the lock as well, also when the launcher was killed."""
    lock = os.open(home, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another start is setting up; waiting for it…")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def draws() -> bool:
    """Whether there is a terminal that bars can be drawn on."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


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
    absent = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if absent:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupFailed(
            f"{base_python()} cannot make an environment: its {' and '.join(absent)} is not installed.\n"
            f"Debian, Ubuntu: apt-get install python3-venv (or python{version}-venv). Elsewhere: install Python with\n"
            "its standard library complete, or uv, which needs neither. Then start again."
        )


def say(text: str) -> None:
    print(f"signet: {text}", file=sys.stderr, flush=True)
