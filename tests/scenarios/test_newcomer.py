"""Somebody new starts an engine, as the launcher lets them: from any folder, with nothing but its verbs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.child import free_port
from ops.settings import HOME
from projections.inbox import Inbox
from tests.scenarios.stage import hold, people, reopen, running, texts

PATIENCE_S = 60


def environment(**more: str) -> dict[str, str]:
    """This one's, without settings of the user's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SIGNET_")} | more


def signet(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, HOME / "signet", *arguments],
        cwd=cwd, env=environment(**settings), capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip


class Engine:
    """`signet up`, as a child of the test."""

    def __init__(self, data: Path, cwd: Path, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, HOME / "signet", "up", "--data", data, "--port", str(port), "--json"],
            cwd=cwd, env=environment(), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.announced: dict[str, Any] = json.loads(self.process.stdout.readline())

    @property
    def url(self) -> str:
        return str(self.announced["url"])

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def engine(data: Path, cwd: Path, *, port: int = 0) -> Iterator[Engine]:
    engine = Engine(data, cwd, port)
    try:
        yield engine
    finally:
        if engine.process.poll() is None:
            engine.process.kill()
        engine.process.wait(PATIENCE_S)
        assert engine.process.stdout is not None
        engine.process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_from_any_folder_and_stops_when_it_is_told_to(tmp_path: Path, number: signal.Signals) -> None:
    with engine(tmp_path / "data", tmp_path) as engaged:
        assert engaged.announced == {"url": engaged.url, "data": str(tmp_path / "data")}
        assert httpx.get(f"{engaged.url}/v1/challenge", trust_env=False).json()["server"] == "localhost"
        server = json.loads((tmp_path / "data/server.json").read_text())
        assert (server["url"], server["name"]) == (engaged.url, "localhost")
        assert engaged.end(number) == 0
    assert json.loads((tmp_path / "data/server.json").read_text()).keys() == {"name", "epoch"}, "and no URL any more"


async def test_a_killed_engine_starts_again_with_all_that_it_had(tmp_path: Path) -> None:
    """I1"""
    port = free_port()
    with engine(tmp_path / "data", tmp_path, port=port) as first:
        async with people(first.url, tmp_path, "anna", "ben") as (anna, ben):
            talk = await anna.start_direct(ben.account)
            await anna.send(talk, "before the kill")
            first.end(signal.SIGKILL)
    with engine(tmp_path / "data", tmp_path, port=port) as second:
        anna, ben = reopen(tmp_path, "anna"), reopen(tmp_path, "ben")
        async with running(anna, ben):
            sent = await anna.send(talk, "after it")
            await hold([ben], talk, sent.seq)
            assert texts(ben, talk) == ["before the kill", "after it"]
        assert second.end(signal.SIGTERM) == 0


async def test_tail_shows_what_happened_beside_the_running_engine(tmp_path: Path) -> None:
    with engine(tmp_path / "data", tmp_path) as engaged:
        async with people(engaged.url, tmp_path, "anna", "ben") as (anna, ben):
            talk = await anna.start_direct(ben.account, protection="none")
            sent = await anna.send(talk, "Hello")
            secret = await ben.send(await ben.start_direct(anna.account), "for anna alone")
            told = signet("tail", "--data", str(tmp_path / "data"), "--no-follow", cwd=tmp_path)
            assert told.returncode == 0, told.stderr
            assert "anna: Hello" in told.stdout
            assert "ben: (encrypted)" in told.stdout
            run = signet("tail", "--data", str(tmp_path / "data"), "--no-follow", "--json", cwd=tmp_path)
            events = [json.loads(line) for line in run.stdout.splitlines()]
            messages = [event for event in events if event["event"] == "MessageSent"]
            assert [(event["stream"], event["version"]) for event in messages] == [
                (f"conversation-{talk}", sent.seq - 1),
                (f"conversation-{secret.conversation}", secret.seq - 1),
            ]
            assert "Hello" not in run.stdout


def test_a_folder_has_one_engine(tmp_path: Path) -> None:
    with engine(tmp_path / "data", tmp_path) as engaged:
        second = signet("up", "--data", str(tmp_path / "data"), "--port", "0", cwd=tmp_path)
        assert second.returncode == 1
        assert f"belongs to an engine that runs already (pid {engaged.process.pid}, {engaged.url})" in second.stderr
        third = signet("up", "--data", str(tmp_path / "other"), "--port", engaged.url.rpartition(":")[2], cwd=tmp_path)
        assert third.returncode == 1
        assert "can't be had: Address already in use. Name another one by --port" in third.stderr


@pytest.mark.parametrize(
    ("arguments", "settings", "toml", "said"),
    [
        ([], {"SIGNET_PROT": "1"}, "", "SIGNET_PROT, which is no setting; did you mean SIGNET_PORT?"),
        (["--port", "70000"], {}, "", "port: Input should be less than or equal to 65535"),
        ([], {}, "port = ", "signet.toml can't be read"),
        ([], {}, "events = 'nosuch://x'", "no event store is known by a URL that begins with 'nosuch'"),
    ],
)
def test_wrong_settings_are_refused_with_what_to_do(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], toml: str, said: str
) -> None:
    (tmp_path / "signet.toml").write_text(toml)
    run = signet("up", "--data", str(tmp_path), *arguments, cwd=tmp_path, **settings)
    assert (run.returncode, run.stdout) == (1, "")
    assert said in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("log.db", "move this file away"),
        ("keyring.db", "restore it from its own backup"),
        (f"readmodels/{Inbox.file_in(Path()).name}", "delete it: it is rebuilt from the log"),
        ("server.json", "Restore it from a backup"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "readmodels").mkdir()
    (tmp_path / name).write_text("this is no file of an engine, and longer than a header")
    run = signet("up", "--data", str(tmp_path), "--port", "0", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (1, "")
    assert str(tmp_path / name) in run.stderr
    assert said in run.stderr
    assert "Traceback" not in run.stderr
