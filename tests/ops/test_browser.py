"""How `signet test` brings a Chromium. The apt-get is a script here, and so is sudo, for whoever isn't root."""

from pathlib import Path

import pytest

from ops import browser

APT = """#!/bin/sh
# Knows packages once it was told to update, and brings a Chromium.
here="$(cd "${0%/*}" && pwd)"
echo "$*" >> "$here/calls"
case "$*" in
    *update) [ "${NETWORK:-up}" = up ] || { echo "E: no network"; exit 100; }; : > "$here/known";;
    *install*) [ -e "$here/known" ] || { echo "E: Unable to locate package chromium"; exit 100; }
        : > "$here/chromium"; /bin/chmod +x "$here/chromium";;
esac
"""
SUDO = """#!/bin/sh
shift
[ "$1" = true ] && exit "${ALLOWED:-0}"
exec /usr/bin/env "$@"
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in the PATH: it has an apt-get, and no Chromium."""
    for name, text in (("apt-get", APT), ("sudo", SUDO)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    return tmp_path


def verbs(path: Path) -> list[str]:
    """What apt-get was asked to do."""
    calls = path / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    return [word for line in lines for word in line.split() if word in ("install", "update")]


def test_it_is_installed_where_the_package_is_known(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path / "known").touch()
    browser.bring()
    assert browser.find() == str(path / "chromium")
    assert verbs(path) == ["install"]
    [said] = capsys.readouterr().err.splitlines()
    assert "installing Chromium" in said


def test_the_list_of_packages_is_fetched_where_it_is_not(path: Path) -> None:
    browser.bring()
    assert browser.find() is not None
    assert verbs(path) == ["install", "update", "install"]


def test_nothing_is_done_where_it_is_there(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path / "known").touch()
    browser.bring()
    capsys.readouterr()
    browser.bring()
    assert verbs(path) == ["install"]
    assert capsys.readouterr().err == ""


def test_a_failure_is_told_with_its_reason_and_a_remedy(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NETWORK", "down")
    browser.bring()
    said = capsys.readouterr().err
    assert "E: no network" in said
    assert browser.REMEDY in said


def test_without_an_apt_get_the_remedy_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path / "apt-get").unlink()
    browser.bring()
    assert browser.REMEDY in capsys.readouterr().err


def test_one_that_was_named_is_taken_and_never_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = path / "another"
    monkeypatch.setenv("CHROMIUM", str(named))
    browser.bring()
    assert verbs(path) == []
    assert "CHROMIUM" in capsys.readouterr().err
    named.touch(mode=0o755)
    assert browser.find() == str(named)


@pytest.mark.parametrize(
    ("paths", "wanted"),
    [
        ([], True),
        (["-x", "-vv"], True),
        (["tests"], True),
        (["tests/web"], True),
        (["tests/web/test_views.py::test_one"], True),
        (["tests/domain", "tests/web/test_views.py"], True),
        (["tests/domain"], False),
        (["tests/webs", "-x"], False),
    ],
)
def test_it_is_for_runs_that_look_at_the_web_client(paths: list[str], wanted: bool, tmp_path: Path) -> None:
    assert browser.is_for(paths, tmp_path, tmp_path) is wanted
