"""The lock files: what makes them (`python -m ops.locks [--upgrade]`), and a check that they fit, without a network.

`requirements.lock` holds what the engine needs, `requirements-dev.lock` the same releases and the tools beside them.
Both carry hashes and no address of any registry. Their first line holds a digest of the requirements that they were
made from.
"""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN_LOCK = "requirements.lock"
DEV_LOCK = "requirements-dev.lock"

_COMPILE = (
    *(sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--quiet"),
    *("--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header"),
    "--no-strip-extras",  # pip finds no hash for `name[extra]` where the lock says `name`
    *("--no-emit-package", "signet-client", "--group", "build"),
)


def make(upgrade: bool) -> None:
    """Resolve both locks anew. Releases that are locked already stay, unless `upgrade` asks for newer ones."""
    extra = ["--upgrade"] if upgrade else []
    _compile(RUN_LOCK, *extra)
    _compile(DEV_LOCK, "--group", "dev", "--constraint", RUN_LOCK, *extra)


def check(root: Path = ROOT) -> list[str]:
    """What is wrong with the locks, one sentence each."""
    texts = {name: (root / name).read_text() for name in (RUN_LOCK, DEV_LOCK)}
    wrong = [f"{name} holds an address" for name, text in texts.items() if re.search(r"://|^-", text, re.MULTILINE)]
    wrong += [
        f"{name} was not made from these requirements: run .venv/bin/python -m ops.locks"
        for name, text in texts.items()
        if text.splitlines()[:1] != [_first_line(root)]
    ]
    if not _pins(texts[RUN_LOCK]) <= _pins(texts[DEV_LOCK]):
        wrong.append(f"{DEV_LOCK} lacks releases of {RUN_LOCK}: run .venv/bin/python -m ops.locks")
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
