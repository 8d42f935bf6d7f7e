"""`signet analytics`, as people and programs call it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer

from ops.analytics.asking import query, sql, tables
from ops.analytics.checking import status, verify
from ops.analytics.loading import load
from ops.analytics.place import connect, folder_of
from ops.analytics.schema import read_mark
from ops.errors import OpsError
from ops.settings import HOME, Settings
from projections.analytics.tables import TABLES
from tests.corpus import DAYS
from tests.ops.analytics.loads import log_of
from tests.ops.analytics.test_keeper import keepers
from tests.ops.imports import import_files
from tests.projections.histories import History

PATIENCE_S = 60
EVENTS = 4_699
"""Of the sample days."""


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """The folder of one with the sample days; its ClickHouse is embedded."""
    asyncio.run(import_files(Settings(data=tmp_path), *DAYS))
    return tmp_path


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_from_a_log_to_an_answer(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(connect(Settings(data=server), "reader")) as by_hand:
        load(data=server, json=True)
        loaded = told(capsys)
        assert (loaded["events"], loaded["added"], loaded["deleted_rows"]) == (EVENTS, EVENTS, 0)
        load(data=server, json=True)
        assert told(capsys)["added"] == 0
        status(data=server, json=True)
        found = told(capsys)
        assert found["position"] == found["head"] == loaded["position"]
        assert found["tables"]["messages"]["rows"] == 3_412
        assert found["tables"]["messages"]["bytes"] > 0
        query("busiest-people", ["limit=1"], names=True, data=server, json=True)
        answer = told(capsys)
        assert answer["position"] == loaded["position"]
        assert answer["columns"] == ["account", "account_name", "messages", "conversations", "days"]
        assert answer["rows"][0][1:] == ["neersighted", 371, 1, 2]
        sql("SELECT count() AS messages FROM messages", data=server, json=True)
        assert told(capsys)["rows"] == [[3_412]]
        verify(data=server, json=True)
        assert told(capsys)["equal"]
        by_hand.command("DELETE FROM messages WHERE seq = 100")
        with pytest.raises(typer.Exit) as ended:
            verify(data=server, json=True)
        assert ended.value.exit_code == 1
        verified = told(capsys)
        assert not verified["equal"]
        assert [each["what"] for each in verified["differences"]] == ["missing"]
        load(anew=True, data=server, json=True)
        verify(data=server)
        assert "messages: 3,412 rows, all as the log says" in capsys.readouterr().out


def test_people_are_shown_tables(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(connect(Settings(data=server), "reader")) as by_hand:
        load(data=server)
        assert f"the tables hold {EVENTS:,} events" in capsys.readouterr().out
        status(data=server)
        assert "all of the log" in capsys.readouterr().out
        query("messages-by-day", data=server)
        assert "1,024" in capsys.readouterr().out
        query("busiest-conversations", data=server)
        assert "dea6be41-df9c-5cd0-9f7e-c204c105785f" in capsys.readouterr().out, "whole, for a pipe"
        by_hand.command("DELETE FROM messages WHERE seq < 100")
        with pytest.raises(typer.Exit):
            verify(data=server)
        said = capsys.readouterr().out
        assert "messages: a row of the event at position" in said
        assert "to mend it: signet analytics load --anew" in said


def test_questions_and_tables_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    query()
    assert "who-answers-whom" in capsys.readouterr().out
    tables(json=True)
    assert set(told(capsys)) == set(TABLES)
    tables()
    assert "delivery_ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "parameters", "what"),
    [
        ("no-such", [], "there is no question 'no-such'; there are totals, messages-by-day"),
        ("messages-by-day", ["2005"], "write NAME=VALUE"),
    ],
)
def test_what_is_no_question_is_refused(name: str, parameters: list[str], what: str) -> None:
    with pytest.raises(OpsError, match=what):
        query(name, parameters)


def test_where_nothing_is_loaded_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="no engine has run"):
        load(data=tmp_path)

    async def make_log() -> None:
        async with log_of(Settings(data=tmp_path)):
            (tmp_path / "server.json").write_text('{"name":"localhost"}')

    asyncio.run(make_log())
    for verb in (status, verify):
        with pytest.raises(OpsError, match="nothing is loaded yet"):
            verb(data=tmp_path)


@pytest.mark.slow
def test_a_load_that_follows_outlives_its_clickhouse(tmp_path: Path) -> None:
    settings, history = Settings(data=tmp_path), History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    asyncio.run(_append(settings, history, 0))
    (tmp_path / "server.json").write_text('{"name":"localhost"}')
    command = [
        sys.executable,
        "-P",
        "-m",
        "ops.cli",
        "analytics",
        "load",
        "--follow",
        "--json",
        "--data",
        str(tmp_path),
    ]
    with subprocess.Popen(command, cwd=HOME, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as following:
        _await_events(settings, 5)
        for keeper in keepers(settings):
            keeper.kill()
        history.send(chat, ann)
        asyncio.run(_append(settings, history, 5))
        _await_events(settings, 6)
        os.kill(following.pid, signal.SIGTERM)
        assert following.stdout is not None
        loaded = json.loads(following.stdout.read())
        assert (loaded["events"], loaded["added"]) == (6, 6)
        assert following.wait(PATIENCE_S) == 0


async def _append(settings: Settings, history: History, first: int) -> None:
    async with log_of(settings, history.events[first:]):
        pass


def _await_events(settings: Settings, events: int) -> None:
    given_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < given_up:
        if (folder_of(settings) / "chdb").exists():
            with closing(connect(settings, "reader")) as warehouse:
                mark = read_mark(warehouse)
                if mark is not None and mark.events == events:
                    return
        time.sleep(0.05)  # The verb is another process, and ClickHouse tells nobody of its inserts.
    raise AssertionError(f"{events} events were not loaded")
