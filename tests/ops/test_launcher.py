"""The launcher: when it sets up, when it goes straight on, and what it says to a Python that can't."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ops import bootstrap
from ops.locks import ROOT

CODE = ("signet", "ops/__init__.py", "ops/bootstrap.py", "ops/installing.py", "ops/webbuild.py")
PARTS = (*CODE, *bootstrap.PROJECTS, *bootstrap.LOCKS.values())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the launcher reads, without `.venv`."""
    home = tmp_path / "checkout"
    for part in PARTS:
        (home / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, home / part)
    return home


def install_python(home: Path) -> None:
    (home / ".venv/bin").mkdir(parents=True)
    (home / ".venv/bin/python").symlink_to(sys.executable)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_set_up_environment_is_used_as_it_is(checkout: Path) -> None:
    install_python(checkout)
    assert not bootstrap.is_ready(checkout, "run")
    bootstrap.write_stamp(checkout, "run")
    assert bootstrap.is_ready(checkout, "run")
    assert not bootstrap.is_ready(checkout, "dev")


@pytest.mark.parametrize(
    ("made", "ready"),
    [("run", ["run"]), ("analytics", ["run", "analytics"]), ("dev", ["run", "analytics", "dev"])],
)
def test_a_level_brings_those_below_it_along(checkout: Path, made: str, ready: list[str]) -> None:
    install_python(checkout)
    bootstrap.write_stamp(checkout, made)
    assert [level for level in bootstrap.LOCKS if bootstrap.is_ready(checkout, level)] == ready


@pytest.mark.parametrize(
    ("changed", "ready"),
    [
        ("requirements.lock", []),
        ("requirements-analytics.lock", ["run"]),
        ("requirements-dev.lock", ["run", "analytics"]),
    ],
)
def test_a_changed_lock_asks_for_an_update_of_its_level_and_those_above(
    checkout: Path, changed: str, ready: list[str]
) -> None:
    install_python(checkout)
    for level in bootstrap.LOCKS:
        bootstrap.write_stamp(checkout, level)
    (checkout / changed).write_text("")
    assert [level for level in bootstrap.LOCKS if bootstrap.is_ready(checkout, level)] == ready


def test_verbs_name_levels_that_there_are() -> None:
    assert bootstrap.VERB_LEVELS["test"] == "dev"
    assert set(bootstrap.VERB_LEVELS.values()) <= set(bootstrap.LOCKS)


def test_requirements_ask_for_an_update_and_settings_of_tools_do_not(checkout: Path) -> None:
    install_python(checkout)
    bootstrap.write_stamp(checkout, "run")
    change(checkout / "pyproject.toml", "line-length = 120", "line-length = 100")
    assert bootstrap.is_ready(checkout, "run")
    change(checkout / "client/pyproject.toml", '"msgspec"', '"msgspec>=0.20"')
    assert not bootstrap.is_ready(checkout, "run")


def test_a_moved_checkout_or_a_lost_interpreter_begins_anew(checkout: Path) -> None:
    install_python(checkout)
    bootstrap.write_stamp(checkout, "run")
    moved = checkout.rename(checkout.with_name("moved"))
    assert bootstrap.read_stamp(moved) == {}
    checkout = moved.rename(checkout)
    assert bootstrap.read_stamp(checkout) != {}
    (checkout / ".venv/bin/python").unlink()
    assert bootstrap.read_stamp(checkout) == {}


def launch(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the launcher where no uv is at hand."""
    return subprocess.run(
        [sys.executable, checkout / "signet", "--help"],
        cwd=checkout.parent,
        env={**os.environ, "PATH": "/nowhere", **environment},
        capture_output=True,
        text=True,
    )


def test_a_python_without_ensurepip_is_told_what_to_install(checkout: Path) -> None:
    (checkout.parent / "sitecustomize.py").write_text("import sys\nsys.modules['ensurepip'] = None\n")
    run = launch(checkout, PYTHONPATH=str(checkout.parent))
    assert run.returncode == 1
    assert "apt-get install python3-venv" in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_a_failed_set_up_says_so_and_leaves_nothing_that_looks_complete(checkout: Path) -> None:
    (checkout / "requirements.lock").write_text("msgspec==0.0.0 --hash=sha256:" + "0" * 64 + "\n")
    run = launch(checkout, PIP_NO_INDEX="1", PIP_FIND_LINKS="", PIP_CONFIG_FILE=os.devnull)
    assert run.returncode == 1
    assert "the set-up failed" in run.stderr
    assert "Traceback" not in run.stderr
    assert not bootstrap.is_ready(checkout, "run")
