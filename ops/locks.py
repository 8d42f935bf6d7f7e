"""The lock files: what makes them (`python -m ops.locks [--upgrade]`), and a check that they fit, without a network.

`requirements.lock` holds what the engine needs, `requirements-analytics.lock` the same releases and what the analytics
need beside them, `requirements-dev.lock` these and the tools. `requirements-web.lock` is by itself: Node, which builds
the web client. They carry hashes and no address of any registry. Their first line holds a digest of the requirements
that they were made from.
"""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN_LOCK = "requirements.lock"
ANALYTICS_LOCK = "requirements-analytics.lock"
DEV_LOCK = "requirements-dev.lock"
WEB_LOCK = "requirements-web.lock"
LEVELS = (RUN_LOCK, ANALYTICS_LOCK, DEV_LOCK)
"""Each holds the releases of the one before it."""
LOCKS = (*LEVELS, WEB_LOCK)

_COMPILE = (
    *(sys.executable, "-m", "uv", "pip", "compile", "--quiet"),
    *("--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header"),
    "--no-strip-extras",  # pip finds no hash for `name[extra]` where the lock says `name`
)
_ENGINE = ("pyproject.toml", "--no-emit-package", "signet-client", "--group", "build")


def make(upgrade: bool) -> None:
    """Resolve the locks anew. Releases that are locked already stay, unless `upgrade` asks for newer ones."""
    extra = ["--upgrade"] if upgrade else []
    _compile(RUN_LOCK, *_ENGINE, *extra)
    _compile(ANALYTICS_LOCK, *_ENGINE, "--group", "analytics", "--constraint", RUN_LOCK, *extra)
    _compile(DEV_LOCK, *_ENGINE, "--group", "dev", "--constraint", ANALYTICS_LOCK, *extra)
    _compile(WEB_LOCK, "--group", "web", *extra)


def check(root: Path = ROOT) -> list[str]:
    """What is wrong with the locks, one sentence each."""
    texts = {name: (root / name).read_text() for name in LOCKS}
    wrong = [f"{name} holds an address" for name, text in texts.items() if re.search(r"://|^-", text, re.MULTILINE)]
    wrong += [
        f"{name} was not made from these requirements: run .venv/bin/python -m ops.locks"
        for name, text in texts.items()
        if text.splitlines()[:1] != [_first_line(root)]
    ]
    wrong += [
        f"{upper} lacks releases of {lower}: run .venv/bin/python -m ops.locks"
        for lower, upper in pairwise(LEVELS)
        if not _pins(texts[lower]) <= _pins(texts[upper])
    ]
    return wrong


def _compile(name: str, *options: str) -> None:
    subprocess.run([*_COMPILE, *options, "--output-file", name], cwd=ROOT, check=True)
    path = ROOT / name
    path.write_text(f"{_first_line(ROOT)}\n{path.read_text()}")


def _first_line(root: Path) -> str:
    server, client = (tomllib.loads((root / name).read_text()) for name in ("pyproject.toml", "client/pyproject.toml"))
    wanted = [
        *([project["project"]["requires-python"], project["project"]["dependencies"]] for project in (server, client)),
        server["dependency-groups"],
    ]
    return f"# made by ops/locks.py for {hashlib.sha256(json.dumps(wanted).encode()).hexdigest()}"


def _pins(lock: str) -> set[tuple[str, str]]:
    """Names and releases. Extras may differ: the tools can ask for more of a package than the engine does."""
    return set(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^ \\]+)", lock, re.MULTILINE))


if __name__ == "__main__":
    make(upgrade="--upgrade" in sys.argv[1:])
