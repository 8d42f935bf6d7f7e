"""`signet parked`: what is parked, retried and skipped, beside a running engine and without one."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
import typer

from commands.handlers import Command
from commands.stores.memory import Medium, MemoryLog
from domain.codec import Event
from domain.ids import conversation_stream
from ops import parked
from ops.datafolder import DataFolder
from ops.errors import OpsError
from ops.node import Node
from ops.parking import ParkingDesk, Which
from ops.settings import HOME, load_settings
from projections.feed import Feed
from projections.inbox import Inbox
from projections.messages import Messages
from projections.models import newest_of_all
from projections.parking import failed
from projections.runner import Runner
from tests import postgres
from tests.commands.helpers import ANN, BEN, advance, register, send, start_group
from tests.projections.stores import throw_away

STOP_MAX_S = 30


@pytest.fixture(params=["sqlite", "postgres"], autouse=True)
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the read models are kept."""
    if request.param == "postgres":
        server = postgres.shared(18)
        monkeypatch.setenv("SIGNET_READMODELS", server.url(server.new_database()))
    return str(request.param)


@asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[Node]:
    async with Node.open(load_settings(folder, port=0)) as node:
        run = asyncio.create_task(node.run())
        await node.started()
        for runner in node.services.runners.values():
            await asyncio.wait_for(runner.wait(node.services.feed.head), STOP_MAX_S)
        yield node
        node.stop()
        await asyncio.wait_for(run, STOP_MAX_S)


class Place:
    """A data folder with a group whose second message no model in `models` can apply while it is poison."""

    def __init__(self, data: Path) -> None:
        self.data = data
        start = start_group(ANN, BEN)
        self.stream = conversation_stream(start.conversation)
        self.receipts = self.stream.replace("conversation", "receipts")
        messages = [send(start.conversation) for _ in range(3)]
        receipt = advance(start.conversation, BEN, delivered=2, read=2)
        self.commands: list[Command] = [register(ANN), register(BEN), start, *messages, receipt]
        self.poison = {messages[1].id}

    async def fill(self) -> None:
        async with engine(self.data) as node:
            for command in self.commands:
                await node.services.writer.execute(command, turn="a peer")
            for runner in node.services.runners.values():
                await asyncio.wait_for(runner.wait(node.services.feed.head), STOP_MAX_S)


@pytest.fixture
def models(request: pytest.FixtureRequest) -> Sequence[type[Any]]:
    return getattr(request, "param", (Messages,))


@pytest.fixture
def place(tmp_path: Path, models: Sequence[type[Any]], monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    for model in models:

        def fail(self: Any, events: Sequence[Event], apply: Any = model.apply) -> None:
            if any(event.entry.cmd in place.poison for event in events):
                raise ValueError("no row can be made of it\x1b[31m")
            apply(self, events)

        monkeypatch.setattr(model, "apply", fail)
    asyncio.run(place.fill())
    return place


class Terminal:
    """The verbs with their answers."""

    def __init__(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._data = data
        self._capsys = capsys
        self.code = 0

    def text(self, verb: Any, *arguments: str, **options: Any) -> str:
        """What it prints; its exit code stands in `code`."""
        self._capsys.readouterr()
        self.code = 0
        try:
            verb(*arguments, **{"data": self._data, "model": None, "json": False, **options})
        except typer.Exit as end:
            self.code = end.exit_code
        return self._capsys.readouterr().out

    def json(self, verb: Any, *arguments: str, **options: Any) -> Any:
        return json.loads(self.text(verb, *arguments, json=True, **options))


@pytest.fixture
def terminal(place: Place, capsys: pytest.CaptureFixture[str]) -> Iterator[Terminal]:
    return Terminal(place.data, capsys)  # type: ignore[return-value]


def test_the_list_tells_stream_event_and_reason(place: Place, terminal: Terminal) -> None:
    listed, receipts = terminal.json(parked.show_all)["parked"]
    assert {name: listed[name] for name in ("model", "stream", "version", "waiting", "topic", "behind")} == {
        "model": "messages", "stream": place.stream, "version": 2, "waiting": 2, "topic": "MessageSent", "behind": None,
    }  # fmt: skip
    assert (receipts["stream"], receipts["behind"]) == (place.receipts, place.stream)
    line, waiting = terminal.text(parked.show_all).splitlines()
    assert "messages" in line
    assert f"{place.stream}  2 events  MessageSent 2 failed: ValueError(" in line
    assert "\x1b" not in line
    assert f"waits behind {place.stream}" in waiting
    assert terminal.json(parked.show_all, model="inbox") == {"parked": [], "skipped": [], "missing": []}
    assert terminal.text(parked.show_all, model="inbox") == "nothing is parked\n"


def test_show_has_the_event_as_it_stands_in_the_log(place: Place, terminal: Terminal) -> None:
    shown = terminal.json(parked.show, place.stream)
    [event] = shown["events"].values()
    assert (event["topic"], event["data"]["cmd"]) == ("MessageSent", *place.poison)
    assert shown["parked"][0]["event"] == event["data"]["id"]
    text = terminal.text(parked.show, place.stream)
    for told in (place.stream, "no row can be made of it", event["data"]["id"]):
        assert told in text
    with pytest.raises(OpsError, match="is not parked"):
        terminal.text(parked.show, "conversation-other")


def test_of_read_models_that_are_missing_nothing_is_known(place: Place, terminal: Terminal, store: str) -> None:
    """And that is said."""
    readmodels = load_settings(place.data).readmodels_place
    throw_away(readmodels, Messages)
    [missing] = terminal.json(parked.show_all)["missing"]
    where = Messages.schema_name() if store == "postgres" else str(Messages.file_in(place.data / "readmodels"))
    assert missing["model"] == "messages"
    assert where in missing["place"]
    said, nothing = terminal.text(parked.show_all).splitlines()
    assert said == (
        f"messages   nothing is known of it: {missing['place']} is not there, or has no tables; "
        "an engine that starts makes it from the log"
    )
    assert nothing == "nothing is parked"
    assert terminal.text(parked.show_all, model="messages") == f"{said}\n"
    assert terminal.text(parked.show_all, model="inbox") == "nothing is parked\n"
    with pytest.raises(OpsError, match=f"{place.stream} is not parked; .*\nmessages   nothing is known of it"):
        terminal.text(parked.show, place.stream)
    for model in newest_of_all()[1:]:
        throw_away(readmodels, model)
    assert [line.split()[:5] for line in terminal.text(parked.show_all).splitlines()] == [
        [model.name, "nothing", "is", "known", "of"] for model in newest_of_all()
    ]


async def by_engine(place: Place, verb: Any, *arguments: Any) -> Any:
    async with engine(place.data):
        return await asyncio.to_thread(verb, *arguments)


@pytest.fixture(params=["with an engine", "without"])
def do(request: pytest.FixtureRequest, place: Place, terminal: Terminal) -> Any:
    """Runs a verb, beside an engine or not."""

    def do(verb: Any, *arguments: str) -> Any:
        if request.param == "without":
            return terminal.json(verb, *arguments)
        return asyncio.run(by_engine(place, terminal.json, verb, *arguments))

    return do


def test_a_retry_applies_what_waits(place: Place, terminal: Terminal, do: Any) -> None:
    [outcome] = do(parked.retry, place.stream)["outcomes"]
    assert (outcome["model"], outcome["applied"], len(outcome["parked"]), terminal.code) == ("messages", 0, 1, 1)
    place.poison.clear()
    [outcome] = do(parked.retry)["outcomes"]
    assert (outcome["applied"], outcome["parked"], terminal.code) == (3, [], 0)
    assert terminal.json(parked.show_all) == {"parked": [], "skipped": [], "missing": []}
    assert do(parked.retry) == {"outcomes": []}
    assert terminal.text(parked.retry) == "nothing is parked\n"


def test_a_skip_drops_one_event(place: Place, terminal: Terminal, do: Any) -> None:
    [outcome] = do(parked.skip, place.stream)["outcomes"]
    assert (outcome["applied"], outcome["parked"], terminal.code) == (2, [], 0)
    listed = terminal.json(parked.show_all)
    assert listed["parked"] == []
    assert [(each["stream"], each["version"]) for each in listed["skipped"]] == [(place.stream, 2)]
    assert terminal.text(parked.show_all).splitlines()[1].startswith("skipped 20")
    assert terminal.json(parked.show, place.stream)["events"]["2"]["topic"] == "MessageSent"


@pytest.mark.parametrize("models", [(Messages, Inbox)], indirect=True, ids=["two models"])
def test_several_models_may_park_one_stream(place: Place, terminal: Terminal, do: Any) -> None:
    listed = terminal.json(parked.show_all)["parked"]
    assert [(each["model"], each["stream"], each["behind"]) for each in listed] == [
        ("messages", place.stream, None), ("messages", place.receipts, place.stream),
        ("inbox", place.stream, None), ("inbox", place.receipts, place.stream),
    ]  # fmt: skip
    with pytest.raises(OpsError, match="by --model one of the read models that park it: inbox, messages"):
        do(parked.skip, place.stream)
    with pytest.raises(OpsError, match=f"waits behind {place.stream}"):
        do(parked.retry, place.receipts)
    assert [outcome["model"] for outcome in do(parked.retry)["outcomes"]] == ["messages", "inbox"]
    place.poison.clear()
    outcomes = do(parked.retry)["outcomes"]
    assert [(outcome["model"], outcome["applied"]) for outcome in outcomes] == [("messages", 3), ("inbox", 3)]
    assert terminal.json(parked.show_all)["parked"] == []


def test_what_can_t_be_done_is_told(place: Place, terminal: Terminal, do: Any, tmp_path: Path) -> None:
    for verb in (parked.retry, parked.skip):
        with pytest.raises(OpsError, match=r"conversation-other is not parked; .*parked list"):
            do(verb, "conversation-other")
    with pytest.raises(OpsError, match="there is no read model 'mailbox'; there are messages, inbox"):
        terminal.text(parked.show_all, model="mailbox")
    with pytest.raises(OpsError, match=r"no engine has run on .*--data"):
        terminal.text(parked.retry, data=tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_somebody_else_owns_is_left_alone(place: Place, terminal: Terminal) -> None:
    """As an engine that starts just now, and does not listen yet."""
    folder = DataFolder(place.data)
    with pytest.raises(OpsError, match="belongs to an engine"):
        terminal.text(parked.retry)
    folder.close()


async def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    await place.fill()
    async with engine(place.data) as node:
        model, runner = node.services.messages, node.services.runners["messages"]
        [first] = await node.services.feed.read_stream(place.stream, after=-1, limit=1)
        with model.db.transaction():
            model.parking.park(failed(first, ValueError(), 1))
        monkeypatch.setattr(model, "apply", full)
        with pytest.raises(OpsError, match=r"can't be read or written: .*full\. See to its disk"):
            await ParkingDesk({"messages": runner}).retry(Which(stream=place.stream))


def full(events: Sequence[Event]) -> None:
    raise apsw.FullError("database or disk is full")


def test_what_can_t_be_opened_is_told(
    place: Place, terminal: Terminal, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store == "postgres":
        monkeypatch.setenv("SIGNET_READMODELS", postgres.shared(18).url("nowhere"))
        for verb in (parked.show_all, parked.retry):
            with pytest.raises(OpsError, match="CREATE DATABASE"):
                terminal.text(verb)
        return
    Inbox.file_in(place.data / "readmodels").write_text("this is no database, and longer than a header")
    with pytest.raises(OpsError, match=r"can't be used: .*it is rebuilt"):
        terminal.text(parked.show_all)


async def test_while_their_database_is_away_nothing_is_retried(tmp_path: Path) -> None:
    """Beside a running engine."""
    server = postgres.Server.start(18)
    feed = Feed(MemoryLog(Medium()))
    model = Inbox.open(server.url(server.new_database()))
    desk = ParkingDesk({model.name: Runner(feed, model)})
    server.stop()
    for do in (desk.retry, desk.skip):
        with pytest.raises(OpsError, match="See to its disk or server, and ask again"):
            await do(Which())
    model.close()


@pytest.mark.slow
def test_from_a_shell(place: Place) -> None:
    command = [sys.executable, "-P", "-m", "ops.cli", "parked", "skip", place.stream, "--data", str(place.data)]
    run = subprocess.run(command, cwd=HOME, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"messages   {place.stream}  2 applied\n"
