"""The locks fit the requirements, name no address, and agree with each other; each fault is told."""

import shutil
from pathlib import Path

import pytest

from ops import locks


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "client").mkdir()
    for name in (*locks.LOCKS, "pyproject.toml", "client/pyproject.toml"):
        shutil.copy(locks.ROOT / name, tmp_path / name)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_locks_of_this_checkout_are_right() -> None:
    assert locks.check() == []


# What no lock may hold, put into a copy of one.
@pytest.mark.parametrize("line", ["--index-url somewhere", "-e ./client", "a @ some://where"])
def test_an_address_is_found(checkout: Path, line: str) -> None:
    path = checkout / locks.RUN_LOCK
    path.write_text(f"{path.read_text()}{line}\n")
    assert locks.check(checkout) == ["requirements.lock holds an address"]


@pytest.mark.parametrize("project", ["pyproject.toml", "client/pyproject.toml"])
def test_requirements_that_are_newer_than_the_locks_are_found(checkout: Path, project: str) -> None:
    edit(checkout / project, '"msgspec"', '"msgspec>=0.20"')
    assert len(locks.check(checkout)) == len(locks.LOCKS)


def test_settings_of_tools_and_versions_of_ours_do_not_matter(checkout: Path) -> None:
    edit(checkout / "pyproject.toml", "line-length = 120", "line-length = 100")
    edit(checkout / "client/pyproject.toml", 'version = "', 'version = "1.')
    assert locks.check(checkout) == []


@pytest.mark.parametrize(
    ("changed", "pin", "lower", "upper"),
    [
        ("requirements.lock", "\nuvicorn==", "requirements.lock", "requirements-analytics.lock"),
        ("requirements-analytics.lock", "\nchdb==", "requirements-analytics.lock", "requirements-dev.lock"),
    ],
)
def test_a_release_that_differs_between_the_locks_is_found(
    checkout: Path, changed: str, pin: str, lower: str, upper: str
) -> None:
    edit(checkout / changed, pin, f"{pin}9.")
    assert locks.check(checkout) == [f"{upper} lacks releases of {lower}: run .venv/bin/python -m ops.locks"]


def test_the_analytics_are_in_no_lock_of_the_engine() -> None:
    engine = (locks.ROOT / locks.RUN_LOCK).read_text()
    assert not any(f"\n{name}==" in engine for name in ("chdb", "pandas", "pyarrow", "plotly"))
