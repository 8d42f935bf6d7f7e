"""`signet rebuild` and `signet rollback`, as an operator uses them (I9)."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ops.datafolder import DataFolder
from ops.engine import engine
from ops.rebuilding import desk as desk_module
from projections.catalogue import Build, Catalogue, Serving
from projections.inbox import Inbox
from projections.models import MODELS
from tests import postgres
from tests.ops.long_history import EVENTS, answer, data, made_once, signet
from tests.scenarios.stage import Place, people

__all__ = ["data", "made_once"]


@pytest.fixture
def readmodels(data: Path) -> Path:
    return data / "readmodels"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.db") if path.name != "catalogue.db")


def test_all_are_rebuilt_and_equal(data: Path, readmodels: Path) -> None:
    before = files(readmodels)
    rebuilt = answer("rebuild", "--all", "--data", str(data))
    assert list(rebuilt) == list(MODELS)
    for result in rebuilt.values():
        assert result["equal"] is True
        assert result["hash_live"] == result["hash_rebuilt"]
        assert result["events"] >= EVENTS
        assert result["events_per_s"] > 0
        assert (result["build"], result["parked"]) == (2, 0)
    assert files(readmodels) == [name.replace(".db", ".2.db") for name in before], "nobody needs the old ones"
    # Again, now from a catalogue that has rows.
    assert answer("rebuild", "inbox", "--data", str(data))["inbox"]["build"] == 3


async def test_it_works_beside_an_engine_which_serves_it_at_once(data: Path, readmodels: Path, tmp_path: Path) -> None:
    place = Place(data, in_memory=False)
    async with (
        engine(data, {"log_level": "warning"}, port=place.port),
        people(place.url, tmp_path / "people", "ann", "ben") as [ann, ben],
    ):
        talk = await ann.start_direct(ben.account)
        for number in range(5):
            await ann.send(talk, f"before {number}")
        rebuilt = await asyncio.to_thread(answer, "rebuild", "--all", "--data", str(data))
        assert {result["equal"] for result in rebuilt.values()} == {True}
        sent = await ann.send(talk, "after it")
        [overview] = await ben.overviews()
        assert (overview.head, overview.unread) == (sent.seq, 6)
    assert Catalogue(readmodels).get("inbox") is not None
    assert "inbox-4.2.db" in files(readmodels)
    assert "inbox-4.db" not in files(readmodels), "deleted at the latest when the engine stops"
    assert answer("check", "--data", str(data))["drift"] == 0


def test_what_differs_is_told_and_kept(data: Path, readmodels: Path) -> None:
    with closing(sqlite3.connect(Inbox.file_in(readmodels))) as db, db:
        db.execute(
            "UPDATE conversations SET head = head + 1 WHERE conversation = (SELECT min(conversation) FROM members)"
        )
    text = signet("rebuild", "inbox", "--data", str(data)).stdout
    assert "NOT equal to what served" in text
    assert answer("check", "inbox", "--data", str(data))["drift"] == 0, "it is mended"
    [inbox] = [each for each in answer("rebuild", "--list", "--data", str(data)) if each["name"] == "inbox"]
    assert (inbox["serving"], inbox["earlier"]) == ({"version": 4, "number": 2}, {"version": 4, "number": 1})
    back = answer("rollback", "inbox", "--data", str(data))["inbox"]
    assert (back["build"], back["equal"]) == (1, False)
    assert answer("check", "inbox", "--data", str(data), code=1)["drift"] == 1
    dropped = answer("rollback", "inbox", "--drop", "--data", str(data))
    assert dropped == {"dropped": {"version": 4, "number": 2}}
    assert "inbox-4.2.db" not in files(readmodels)


def test_after_a_kill_it_goes_on_where_it_stopped(data: Path, readmodels: Path) -> None:
    arguments = [sys.executable, "-P", "-m", "ops.cli", "rebuild", "messages", "--data", str(data)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        while position(readmodels / "messages-5.2.db") == 0:
            assert process.poll() is None, "it had ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
    done = position(readmodels / "messages-5.2.db")
    result = answer("rebuild", "messages", "--data", str(data))["messages"]
    assert result["equal"] is True
    assert 0 < result["events"] <= result["position"] - done


def test_what_a_killed_engine_left_behind_is_swept_up(data: Path, readmodels: Path) -> None:
    shutil.copy(Inbox.file_in(readmodels), Inbox.file_in(readmodels, 2))
    Catalogue(readmodels).put(Serving(name="inbox", build=Build(4, 2)))
    answer("rebuild", "inbox", "--data", str(data))
    assert [name for name in files(readmodels) if name.startswith("inbox")] == ["inbox-4.3.db"]


def position(file: Path) -> int:
    if not file.exists():
        return 0
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        try:
            return int(db.execute("SELECT position FROM readmodel").fetchone()[0])
        except (sqlite3.OperationalError, TypeError):
            return 0


def test_an_interrupt_leaves_what_serves_alone(data: Path, readmodels: Path) -> None:
    arguments = [sys.executable, "-P", "-m", "ops.cli", "rebuild", "messages", "--data", str(data)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        while position(readmodels / "messages-5.2.db") == 0:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130
    assert "the next call goes on with it" in said
    serving = Catalogue(readmodels).get("messages")
    assert serving is not None
    assert serving.build == Build(5)


def test_what_can_t_be_done_is_said_with_the_remedy(data: Path, tmp_path: Path) -> None:
    def refusal(*arguments: str) -> str:
        run = signet(*arguments)
        assert run.returncode == 1
        return run.stderr

    assert "name read models, of messages, inbox" in refusal("rebuild", "--data", str(data))
    assert "there is no read model 'outbox'" in refusal("rebuild", "outbox", "--data", str(data))
    assert "there is nothing to go back to" in refusal("rollback", "inbox", "--data", str(data))
    assert "nothing is kept" in refusal("rollback", "inbox", "--drop", "--data", str(data))
    assert "no engine has run on" in refusal("rebuild", "--all", "--data", str(tmp_path / "elsewhere"))
    shutil.copytree(data, tmp_path / "copy")
    (tmp_path / "copy" / "log.db").unlink()
    assert "there is no event log" in refusal("rebuild", "inbox", "--data", str(tmp_path / "copy")).lower()


def test_two_at_a_time_do_not_fill_one_build(data: Path) -> None:
    lock = data / "rebuild-inbox.lock"
    holder = [sys.executable, "-c", f"import fcntl, sys; f = open({str(lock)!r}, 'w'); fcntl.flock(f, 2); "
              "print('held', flush=True); sys.stdin.read()"]  # fmt: skip
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        run = signet("rebuild", "inbox", "--data", str(data))
        assert (run.returncode, "is being rebuilt by another process already" in run.stderr) == (1, True)
        process.communicate()
    assert answer("rebuild", "inbox", "--data", str(data))["inbox"]["events"] >= EVENTS


def test_an_owner_that_does_not_answer_is_not_passed_by(data: Path) -> None:
    """Whoever owns the folder without a control socket, such as an import, may write the read models."""
    folder = DataFolder(data)
    try:
        run = signet("rebuild", "inbox", "--data", str(data))
    finally:
        folder.close()
    assert (run.returncode, "belongs to an engine that runs already" in run.stderr) == (1, True)


async def test_in_postgresql(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = postgres.shared(18)
    url = server.url(server.new_database())
    monkeypatch.setenv("SIGNET_READMODELS", url)
    monkeypatch.setattr(desk_module, "GRACE_S", 0.0)
    place = Place(data, in_memory=False)
    async with place.engine(), people(place.url, tmp_path / "people", "ann", "ben") as [ann, ben]:
        talk = await ann.start_direct(ben.account)
        await ann.send(talk, "before")
        rebuilt = await asyncio.to_thread(answer, "rebuild", "--all", "--data", str(data))
        assert {result["equal"] for result in rebuilt.values()} == {True}
        await ann.send(talk, "after")
        [overview] = await ben.overviews()
        assert overview.unread == 2
        report = await asyncio.to_thread(answer, "check", "--data", str(data))
        assert (report["drift"], report["checked"] > EVENTS) == (0, True)
    assert Catalogue(url).get("inbox") is not None
