"""`signet analytics report`: a page that is right, that holds all it needs, and that no stranger's name can break."""

import asyncio
import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from domain.conversation import ConversationStarted, TitleSet
from domain.ids import conversation_stream, receipts_stream
from domain.receipts import Receipt, ReceiptsAdvanced
from ops.analytics.opening import loaded, settings_of
from ops.analytics.place import connect
from ops.analytics.questions import QUESTIONS
from ops.analytics.reporting.report import report, write_whole
from ops.analytics.reporting.sections import PARTS
from ops.errors import OpsError
from ops.settings import HOME, load_settings
from tests.ops.chronicle import ANNA, BEN, NOON_US, PHONE, TALK, Chronicle, message
from tests.ops.history.test_listing import engine
from tests.ops.imports import import_files

DAYS = HOME / "tests/data/ubuntu-irc"
SCRIPT = "<script>alert(1)</script>"
IMAGE = "</td><img src=x onerror=alert(2)>"
TITLE = "\"'><a href=https://example.org>win</a>"


def load(data: Path) -> Path:
    subprocess.run(
        [sys.executable, "-P", "-m", "ops.cli", "analytics", "load", "--data", data], cwd=HOME, check=True,
        capture_output=True,
    )  # fmt: skip
    return data


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server with the sample days, loaded."""
    settings = load_settings(tmp_path_factory.mktemp("days") / "data")
    asyncio.run(import_files(settings, *sorted(DAYS.glob("*.raw.txt"))))
    load(settings.data)
    # It stays open meanwhile: to open it takes longer than most tests.
    with closing(connect(settings, "reader")):
        yield settings.data


async def write_hostile(data: Path) -> None:
    chronicle = Chronicle(data)
    await chronicle.register(ANNA, SCRIPT)
    await chronicle.register(BEN, IMAGE)
    await chronicle.record(
        conversation_stream(TALK),
        ConversationStarted(
            by=ANNA, kind="group", protection="none", members={ANNA: "owner", BEN: "member"}, members_max=9
        ),
        TitleSet(by=ANNA, title=chronicle.seal(TITLE)),
    )
    body = chronicle.seal("text")
    await chronicle.record(conversation_stream(TALK), message(body), message(body))
    chronicle.now = NOON_US + 1_500_000
    await chronicle.record(conversation_stream(TALK), message(body, by=BEN, header='{"b":3}'))
    receipt = Receipt(account=BEN, device=PHONE, delivered=4, read=3)
    await chronicle.record(receipts_stream(TALK), ReceiptsAdvanced(receipts=[receipt]))
    await chronicle.close()
    async with engine(data):
        pass


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server whose people have chosen names that are tags."""
    data = tmp_path_factory.mktemp("hostile")
    asyncio.run(write_hostile(data))
    load(data)
    with closing(connect(load_settings(data), "reader")):
        yield data


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        """Tag, name, value."""
        self.scripts: list[str] = []
        """Those that run."""
        self.headings: list[str] = []
        self.rows: dict[str, int] = {}
        """Of the tables, by the id of their section."""
        self.texts: list[str] = []
        self.plots: dict[str, Any] = {}
        self._section = ""
        self._in: list[str] = []
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in given.items()]
        if tag == "section":
            self._section = given["id"]
        if tag == "tr":
            self.rows[self._section] = self.rows.get(self._section, -1) + 1
        self._in.append(f"{tag}#{given['id']}" if tag == "script" and "id" in given else tag)

    def handle_endtag(self, tag: str) -> None:
        self._in.pop()
        while self._in and self._in[-1] == "meta":
            self._in.pop()

    def handle_data(self, data: str) -> None:
        match self._in[-1] if self._in else "":
            case "script":
                self.scripts.append(data)
            case "script#plots":
                self.plots = {name.removeprefix("plot-"): plot for name, plot in json.loads(data).items()}
            case "h2":
                self.headings.append(data)
            case within if within != "style":
                self.texts.append(data)

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Page]:
    def make(data: Path, **given: Any) -> Page:
        file = tmp_path / "report.html"
        report(output=file, data=data, **given)
        return Page(file)

    return make


def asked(data: Path, name: str, **given: Any) -> list[dict[str, Any]]:
    """The rows of a question's answer."""
    question = QUESTIONS[name]
    with loaded(settings_of(data)) as (warehouse, _):
        answer = warehouse.select(question.sql, {**question.values({}), **given})
    return [dict(zip(answer.names, row, strict=True)) for row in answer.data]


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


# What it shows


def test_every_section_is_there_and_its_table_has_what_the_question_answers(
    days: Path, made: Callable[..., Page]
) -> None:
    page = made(days)
    assert page.headings == [part.heading for part in PARTS]
    for part in PARTS:
        limit = {} if part.limit is None else {"limit": part.limit}
        assert page.rows.get(part.question, 0) == len(asked(days, part.question, **limit)), part.question


def test_plots_show_the_figures_of_the_questions(days: Path, made: Callable[..., Page]) -> None:
    plots = made(days).plots
    messages = sum(column(asked(days, "messages-by-day"), "messages"))
    assert messages > 3_000
    for name in ("messages-by-day", "messages-by-hour", "busiest-conversations"):
        [trace] = plots[name]["data"]
        assert sum(trace["x" if trace.get("orientation") == "h" else "y"]) == messages, name
    [week] = plots["messages-by-weekday-and-hour"]["data"]
    assert sum(map(sum, week["z"])) == messages
    assert week["y"][0] == "Monday"
    busy = asked(days, "messages-by-weekday-and-hour")[0]
    assert week["z"][busy["weekday"] - 1][busy["hour"]] == busy["messages"]
    writers = asked(days, "busiest-people")
    assert plots["busiest-people"]["data"][0]["x"] == column(writers, "messages")
    assert plots["busiest-people"]["layout"]["yaxis"]["ticktext"] == [id_[:8] for id_ in column(writers, "account")]
    pairs = asked(days, "who-answers-whom", limit=15)
    assert plots["who-answers-whom"]["data"][0]["x"] == column(pairs, "answers")
    times = plots["answer-times"]["data"][0]["y"]
    assert times[: len(asked(days, "answer-times"))] == column(asked(days, "answer-times"), "percent")
    assert sum(times) == pytest.approx(100, abs=0.5)
    people = asked(days, "active-people")
    drawn = {trace["name"]: trace["y"] for trace in plots["active-people"]["data"]}
    assert drawn["within 1 day"] == column(people, "within_1_day")
    assert drawn["within 30 days"] == column(people, "within_30_days")
    [sizes] = plots["group-sizes"]["data"]
    assert sizes["y"] == column(asked(days, "group-sizes"), "members")
    comings = {trace["name"]: sum(trace["y"]) for trace in plots["comings-and-goings"]["data"]}
    told = asked(days, "comings-and-goings")
    assert comings == {"joined": sum(column(told, "joined")), "left": -sum(column(told, "left"))}
    [linked] = plots["devices-by-day"]["data"]
    assert sum(linked["y"]) == sum(column(asked(days, "devices-by-day"), "linked"))


def test_plots_are_plotlys_and_their_axes_have_titles(days: Path, hostile: Path, made: Callable[..., Page]) -> None:
    drawn = [*made(days).plots.items(), *made(hostile).plots.items()]
    assert {name for name, _ in drawn} == {part.question for part in PARTS}
    for name, plot in drawn:
        layout = go.Figure(plot).layout
        assert all((layout.xaxis.title.text, layout.yaxis.title.text)), name


def test_the_head_tells_position_span_and_totals(days: Path, made: Callable[..., Page]) -> None:
    text = " ".join(made(days).texts)
    [totals] = asked(days, "totals")
    for number in totals.values():
        assert f" {number:,} " in text
    with loaded(settings_of(days)) as (_, mark):
        assert f"up to position {mark.position:,}, where it had {mark.events:,} events" in text
    by_day = column(asked(days, "messages-by-day"), "day")
    assert f"The messages are of {by_day[0]} to {by_day[-1]}." in text


def test_delays_are_drawn_in_seconds(hostile: Path, made: Callable[..., Page]) -> None:
    plots = made(hostile).plots
    for name in ("delivery-delays", "reading-delays"):
        [row] = asked(hostile, name)
        drawn = {trace["name"]: trace["y"] for trace in plots[name]["data"]}
        assert (drawn["half"], drawn["all"]) == ([row["p50_s"]], [row["longest_s"]])
        assert row["longest_s"] == 1.5


def test_where_nothing_is_a_sentence_stands(days: Path, made: Callable[..., Page]) -> None:
    page = made(days, from_="1999-01-01", to="1999-12-31")
    assert page.headings == [part.heading for part in PARTS]
    assert (page.plots, page.rows) == ({}, {})
    assert {part.nothing for part in PARTS} <= set(page.texts)
    assert "There are no messages in this span. Days and hours are those of UTC." in page.texts


def test_days_zone_and_conversation_are_heeded(days: Path, made: Callable[..., Page]) -> None:
    conversation = asked(days, "busiest-conversations")[0]["conversation"]
    page = made(days, from_="2005-02-08", to="2005-02-08", zone="Asia/Tokyo", conversation=conversation)
    values = {"from": "2005-02-08", "to": "2005-02-08", "zone": "Asia/Tokyo"}
    [day] = asked(days, "messages-by-day", **values)
    assert page.plots["messages-by-day"]["data"][0]["y"] == [day["messages"]]
    assert page.plots["messages-by-hour"]["layout"]["xaxis"]["title"]["text"] == "hour of the day (Asia/Tokyo)"
    assert not {"busiest-conversations", "devices-by-day"} & page.plots.keys()
    assert not made(days, conversation="00000000-0000-4000-8000-000000000000").plots


# That it is safe


def test_it_needs_nothing_from_elsewhere(days: Path, made: Callable[..., Page]) -> None:
    page = made(days)
    assert not page.values("src", "href", "srcset", "action", "data", "poster", "style")
    assert not {"link", "base", "iframe", "object", "embed", "img"} & set(page.tags)
    style = page.html.partition("<style>")[2].partition("</style>")[0]
    assert style
    assert "url(" not in style
    assert "@import" not in style


def test_only_its_own_scripts_may_run_and_reach_nothing(days: Path, made: Callable[..., Page]) -> None:
    page = made(days)
    [policy] = [value for value in page.values("content") if "default-src" in value]
    rules = dict(each.strip().partition(" ")[::2] for each in policy.split(";"))
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts]
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == " ".join(f"'sha256-{each}'" for each in hashes)
    assert (len(hashes), rules["img-src"], rules["base-uri"], rules["form-action"]) == (2, "data:", "'none'", "'none'")
    assert not {"connect-src", "font-src", "frame-src"} & rules.keys()


def test_names_of_strangers_are_texts_wherever_they_stand(hostile: Path, made: Callable[..., Page]) -> None:
    without = made(hostile)
    page = made(hostile, names=True)
    assert sorted(page.tags) == sorted(without.tags)
    assert len(page.scripts) == 2
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    told = "\n".join(page.texts)
    for name in (SCRIPT, IMAGE, TITLE):
        assert name in told
        assert name not in page.html
    for text in _texts(page.plots):
        assert "<" not in text.replace("<extra></extra>", "").replace("<br>", ""), text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def test_without_names_there_are_none(hostile: Path, made: Callable[..., Page]) -> None:
    page = made(hostile)
    assert not [
        part for part in ("alert(1)", "onerror", "example.org") if part in page.html.replace(page.scripts[0], "")
    ]
    assert page.plots["busiest-people"]["layout"]["yaxis"]["ticktext"] == [ANNA[:8], BEN[:8]]


# Where it goes


def test_it_tells_where_the_file_is_and_how_large(days: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(data=days, json=True)
    told = json.loads(capsys.readouterr().out)
    file = days / "analytics/report.html"
    assert (told["path"], told["bytes"]) == (str(file), file.stat().st_size)
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(told["plots"]) == [part.question for part in PARTS]
    assert told["plots"]["delivery-delays"] == 0
    assert told["plots"]["messages-by-hour"] == len(asked(days, "messages-by-hour"))
    report(data=days)
    assert capsys.readouterr().out == f"{file}  ({file.stat().st_size / 1e6:.1f} MB)\n"


def test_what_cannot_be_written_is_refused_and_leaves_nothing(days: Path, tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"there is no folder .*/none: make it first"):
        report(data=days, output=tmp_path / "none/report.html")
    with pytest.raises(OpsError, match=r"is a folder: name a file in it, as --output .*report\.html"):
        report(data=days, output=tmp_path)
    with pytest.raises(OpsError, match="is no file that can be replaced"):
        report(data=days, output=Path("/dev/null"))
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(OpsError, match="can't write"):
        write_whole(taken, b"page")
    assert list(tmp_path.iterdir()) == [taken]


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_whole(file, b"an older and longer page")
    write_whole(file, b"page")
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (b"page", [file])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"from_": "yesterday"}, "the first day, YYYY-MM-DD"),
        ({"zone": "Mars/Olympus"}, "a time zone"),
        ({"conversation": "dea6"}, "a conversation's id"),
    ],
)
def test_what_is_asked_wrongly_is_refused(days: Path, tmp_path: Path, given: dict[str, str], told: str) -> None:
    with pytest.raises(OpsError, match=told):
        report(data=days, output=tmp_path / "report.html", **given)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_nothing_loaded_is_told_with_what_to_do(tmp_path: Path) -> None:
    asyncio.run(write_hostile(tmp_path))
    with pytest.raises(OpsError, match="signet analytics load"):
        report(data=tmp_path, output=tmp_path / "report.html")
