"""`signet play`: what it makes of the files, and what it refuses before anything is played."""

import json
import sys
from pathlib import Path

import pytest

from ops import cli
from ops.errors import OpsError
from ops.irc.script import Person
from ops.playing import plan
from ops.playing.journal import Journal
from ops.playing.plan import read_plan

LOG = """[09:00] <ann> hello
=== ben [n=ben@example.org]  has joined #ubuntu
=== ben [n=ben@example.org]  has left #ubuntu []
=== cal [n=cal@example.org]  has joined #ubuntu
=== cal [n=cal@example.org]  has joined #ubuntu
=== mode/#ubuntu [+o ann] by ChanServ
"""


def written(folder: Path, text: str, name: str = "day.raw.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_plan_says_what_is_to_come(tmp_path: Path) -> None:
    found = read_plan([written(tmp_path, LOG)])
    assert (found.lines, found.messages, found.members_max) == (6, 1, 2)
    assert found.names == {Person(name): name for name in ("ann", "ben", "cal")}
    assert found.skipped == {"already_in": 1, "mode": 1}
    assert found.lines == sum(found.skipped.values()) + len(found.steps) - 1, "an implied Enter is beside its line"


def test_days_in_a_row_are_one_channel(tmp_path: Path) -> None:
    days = [written(tmp_path, LOG, "1"), written(tmp_path, LOG.replace("hello", "again"), "2")]
    found = read_plan(days)
    assert (found.lines, found.messages, found.members_max) == (12, 2, 3)
    assert len(found.names) == 3


def test_a_file_in_which_nobody_speaks(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="raw log of an IRC channel"):
        read_plan([written(tmp_path, "1 2 -\n")])


def test_more_people_than_one_play_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "PERSONS_MAX", 2)
    with pytest.raises(OpsError, match="3 persons"):
        read_plan([written(tmp_path, LOG)])


def test_a_journal_never_mixes_with_others(tmp_path: Path) -> None:
    written(tmp_path, "", "other.jsonl")
    with pytest.raises(OpsError, match=r"other\.jsonl"):
        Journal(tmp_path)


def test_a_journal_begins_anew(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with Journal(tmp_path / "new") as journal:
            journal.stored("ann", seq=3, author="ben", text=text)
            journal.ticks("ann", sent=2, delivered=True, read=False)
    lines = (tmp_path / "new/journal.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"nick": "ann", "seq": 3, "from": "ben", "text": "two"},
        {"nick": "ann", "sent": 2, "delivered": True, "read": False},
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--data", "{folder}"], "./signet up"),
        (["--data", "{folder}", "--url", "http://127.0.0.1:9"], "give one of them"),
        (["--journal", "{folder}"], "no play wrote"),
    ],
)
def test_what_can_not_be_played_is_refused(
    options: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written(tmp_path, "", "other.jsonl")
    arguments = [each.format(folder=tmp_path) for each in options]
    monkeypatch.setattr(sys, "argv", ["signet", "play", "irc", str(written(tmp_path, LOG)), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert says in capsys.readouterr().err
