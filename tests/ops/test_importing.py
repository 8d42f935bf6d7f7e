"""What an import makes of files, times and annotations, before anything is stored."""

import io
import re
import tarfile
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.importing.files import day_logs
from ops.importing.ids import ChannelIds
from ops.importing.links import answered, parse_links
from ops.importing.stored import StoredChannel
from ops.importing.survey import check_order, survey
from ops.importing.times import occurred_at
from ops.irc.lines import parse
from ops.irc.script import Person

OLD, NEW = date(2005, 2, 8), date(2012, 5, 4)


def told(day: date, *times: str) -> list[str]:
    """When lines with these times were written; "" is a line without one. Days after the first have a + before them."""
    log = "".join(f"[{time}] <ann> x\n" if time else "=== ann waves\n" for time in times)
    shown = []
    for occurred in occurred_at(day, list(parse(log))):
        at = datetime.fromtimestamp(occurred / 1_000_000, UTC)
        shown.append("+" * (at.date() - day).days + at.strftime("%H:%M"))
    return shown


# Times


def test_a_log_of_24_hours_runs_past_midnight() -> None:
    assert told(NEW, "13:00", "23:59", "00:00", "13:00", "12:30") == ["13:00", "23:59", "+00:00", "+13:00", "+13:00"]


def test_a_log_of_12_hours_passes_noon_and_midnight() -> None:
    assert told(OLD, "09:56", "11:59", "12:00", "01:03", "11:00", "12:10") == [
        "09:56", "11:59", "12:00", "13:03", "23:00", "+00:10",
    ]  # fmt: skip


def test_noon_may_be_written_as_midnight_is() -> None:
    assert told(OLD, "11:55", "00:05", "01:00") == ["11:55", "12:05", "13:00"]
    assert told(OLD, "12:05", "01:00") == ["00:05", "01:00"]


@pytest.mark.parametrize("day", [date(2007, 9, 30), date(2007, 10, 1)])
def test_the_clock_changed_in_october_2007(day: date) -> None:
    assert told(day, "11:00", "01:00") == ["11:00", "13:00" if day.month == 9 else "+01:00"]


def test_an_old_log_that_shows_13_hours_is_on_a_clock_of_24() -> None:
    assert told(OLD, "12:59", "01:00") == ["00:59", "01:00"]
    assert told(OLD, "12:59", "13:00", "01:00") == ["12:59", "13:00", "+01:00"]


def test_a_clock_that_was_set_back_holds() -> None:
    assert told(NEW, "02:59", "02:00", "02:30", "03:00") == ["02:59", "02:59", "02:59", "03:00"]
    assert told(NEW, "02:59", "01:59") == ["02:59", "+01:59"]


def test_a_line_without_a_time_has_that_of_the_line_before() -> None:
    assert told(NEW, "", "10:00", "", "10:01") == ["10:00", "10:00", "10:00", "10:01"]
    assert told(NEW, "", "") == ["00:00", "00:00"]


# Links


def test_a_link_tells_which_line_answers_which() -> None:
    assert parse_links("1000 1001 -\n1002 1002 -\n1003 1001 - \n\n999 1001 -\n", "x") == {
        1001: {1000, 999},
        1003: {1001},
    }


@pytest.mark.parametrize("line", ["1 2 3", "one 2 -", "1", "-1 2 -"])
def test_what_is_no_link_is_refused(line: str) -> None:
    with pytest.raises(OpsError, match=re.escape(f"of x, line 2: {line!r} is no link")):
        parse_links(f"1 2 -\n{line}\n", "the annotations of x")


@pytest.mark.parametrize(
    ("lines", "seq", "dropped"),
    [
        (set(), None, {}),
        ({3}, 30, {}),
        ({1, 3}, 30, {"not_the_nearest": 1}),
        ({2}, None, {"no_message": 1}),
        ({1, 2, 4}, 10, {"no_message": 2}),
    ],
)
def test_a_message_answers_the_last_message_that_its_line_answers(
    lines: set[int], seq: int | None, dropped: dict[str, int]
) -> None:
    counted = Counter[str]()
    assert answered(lines, {1: 10, 3: 30}, counted) == seq
    assert +counted == Counter(dropped)


# Files


def write(folder: Path, **logs: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in logs.items():
        (folder / f"{name.replace('_', '-')}.raw.txt").write_text(text)


def test_a_folder_has_its_logs_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "b", _2005_01_02="second")
    write(tmp_path / "a", _2005_01_03="third", _2005_01_01="first")
    (tmp_path / "a" / "-2005-01-01.annotation.txt").write_text("0 1 -")
    (tmp_path / "a" / "README.md").write_text("no log")
    with day_logs([tmp_path]) as logs:
        assert [log.text() for log in logs] == ["first", "third", "second"]
        assert [log.date.day for log in logs] == [1, 3, 2]
        assert [log.links() for log in logs] == [{1: {0}}, {}, {}]


def test_the_order_of_the_paths_holds(tmp_path: Path) -> None:
    write(tmp_path, _2005_01_02="second", _2005_01_01="first")
    (tmp_path / "-2005-01-02.annotation.txt").write_text("0 1 -")
    with day_logs([tmp_path / "-2005-01-02.raw.txt", tmp_path / "-2005-01-01.raw.txt"]) as logs:
        assert [(log.text(), log.links()) for log in logs] == [("second", {1: {0}}), ("first", {})]


@pytest.mark.parametrize("packing", ["", "gz", "xz"])
def test_an_archive_is_read_as_a_folder_is(tmp_path: Path, packing: str) -> None:
    archive = tmp_path / f"days.tar.{packing}"
    with tarfile.open(archive, f"w:{packing}") as packed:  # type: ignore[call-overload]  # chosen at run time
        for name, text in {
            "x/2005-01-02.raw.txt": "second", "x/2005-01-01.annotation.txt": "0 1 -", "x/LICENSE": "",
            "x/2005-01-01.raw.txt": "first",
        }.items():  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            packed.addfile(entry, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("x/2005-01-03.raw.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(link)
    with day_logs([archive]) as logs:
        assert [(log.name, log.text(), log.links()) for log in logs] == [
            ("2005-01-01.raw.txt", "first", {1: {0}}), ("2005-01-02.raw.txt", "second", {}),
        ]  # fmt: skip


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "days", _2005_01_01="first" * 10_000)
    archive = tmp_path / "days.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tmp_path / "days")
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(OpsError, match="Is it whole"), day_logs([archive]):
        pass


def test_a_log_that_does_not_tell_its_day_is_refused(tmp_path: Path) -> None:
    for name in ("yesterday.raw.txt", "2005-02-30.raw.txt", "12005-02-03.raw.txt"):
        (tmp_path / name).write_text("")
        with pytest.raises(OpsError, match="does not tell its day"), day_logs([tmp_path / name]):
            pass


def test_one_name_stands_for_one_log(tmp_path: Path) -> None:
    write(tmp_path / "a", _2005_01_01="")
    write(tmp_path / "b", _2005_01_01="")
    with pytest.raises(OpsError, match="two logs have the name"), day_logs([tmp_path]):
        pass
    (tmp_path / "c").mkdir()
    with pytest.raises(OpsError, match="there are no raw logs"), day_logs([tmp_path / "c"]):
        pass


# Ids, and the order of days


def test_ids_are_the_same_in_every_run_and_of_one_channel_alone() -> None:
    one, again, other = ChannelIds("#ubuntu"), ChannelIds("#ubuntu"), ChannelIds("#debian")
    ann = Person("ann")
    assert (one.conversation, one.account(ann), one.command("say", "f", 1)) == (
        again.conversation, again.account(ann), again.command("say", "f", 1),
    )  # fmt: skip
    made = [
        *(ids.conversation for ids in (one, other)), *(ids.owner for ids in (one, other)), one.account(ann),
        other.account(ann), one.account(Person("ben")), one.registration(ann), one.command("say", "f", 1),
        one.command("say", "f", 2), one.command("say", "g", 1), one.command("enter", "f", 1),
    ]  # fmt: skip
    assert len(set(made)) == len(made)


def test_days_are_only_added_at_the_end(tmp_path: Path) -> None:
    write(tmp_path, _2005_01_01="[01:00] <ann> x\n", _2005_01_02="=== ann waves\n", _2005_01_03="[01:00] <ann> x\n")
    ids = ChannelIds("#x")

    def stored(*names: str) -> StoredChannel:
        return StoredChannel({ids.command("say", f"-2005-01-0{name}.raw.txt", 0): 1 for name in names})

    with day_logs([tmp_path]) as logs:
        seen = survey(logs)
        assert (seen.messages, seen.persons) == (2, 1)
        for earlier in (stored(), stored("1"), stored("1", "3")):
            check_order(logs, seen, earlier, ids)
        with pytest.raises(OpsError, match=r"01-03.* was imported before, and -2005-01-01.* was not"):
            check_order(logs, seen, stored("3"), ids)
        with pytest.raises(OpsError, match="nobody says anything"):
            survey(logs[1:2])
