"""A server is backed up under load, lost, and restored elsewhere: what was accepted before the backup is there, what
came after comes back from its senders, and nothing is shown twice or hidden (I1, I2, I4)."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Final

import pytest

from commands.stores import open_log
from domain.codec import CODEC
from domain.conversation import MessageSent
from domain.log import START
from ops.bench.historian import Historian
from ops.child import free_port
from ops.engine import engine
from ops.settings import load_settings
from ops.writing import write_side
from signet_client import Client, Event, Found, HistoryLost, Message, Outgoing, Received
from tests import postgres
from tests.kurrentdb.double import Node
from tests.ops.long_history import EVENTS, answer, data, made_once, signet
from tests.scenarios.crowd import Crowd
from tests.scenarios.stage import UNBOUNDED, WAIT_S, Heard, open_events, register, running, seed

__all__ = ["data", "made_once"]

PEOPLE: Final = 6


class Screen:
    """What a person is shown, as an application that only listens would show it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.shown: Counter[str] = Counter()
        """How often each message came as a new one."""
        self.found: set[str] = set()
        self.lost: dict[str, int] = {}
        client.listen(self._hear)

    def _hear(self, event: Event) -> None:
        match event:
            case Received(item=Message() as message):
                self.shown[message.id] += 1
            case Found():
                self.found.add(event.item.id)
            case HistoryLost():
                self.lost[event.conversation] = event.items
            case _:
                pass


async def messages_of(data: Path) -> dict[str, list[str]]:
    """The ids of the log's messages, by stream, in order."""
    found: dict[str, list[str]] = {}
    log = open_events(data)
    after = START
    while page := await log.read_all(after=after, limit=1_000):
        for event in map(CODEC.decode, page):
            if isinstance(event.entry.e, MessageSent):
                found.setdefault(event.stream, []).append(event.entry.cmd)
        after = page[-1].position
    await log.close()
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("hasty_clients")
async def test_a_backup_under_load_is_restored_elsewhere(tmp_path: Path) -> None:
    old, new, port = tmp_path / "old", tmp_path / "new", free_port()
    settings = {"log_level": "error", **UNBOUNDED}
    async with AsyncExitStack() as engines:
        first = await engines.enter_async_context(engine(old, settings, port=port))
        clients = [await register(first.url, f"p{number}", tmp_path / "people") for number in range(PEOPLE)]
        screens = [Screen(client) for client in clients]
        crowd = Crowd(clients, random.Random(seed()))
        async with running(*clients):
            await crowd.meet([PEOPLE, 4])
            async with crowd.talking():
                await crowd.more(200)
                before = {said.id for said in crowd.said}
                made = await asyncio.to_thread(answer, "backup", str(tmp_path / "backup"), "--data", str(old))
                await crowd.more(200)
                first.process.send_signal(signal.SIGKILL)
                await first.process.wait()
                restored = await asyncio.to_thread(answer, "restore", str(tmp_path / "backup"), "--data", str(new))
                assert restored["position"] == made["manifest"]["position"]
                stored = {id_ for ids in (await messages_of(new)).values() for id_ in ids}
                assert before <= stored, "accepted before the backup began"
                assert len(stored) < len(crowd.said), "and some after it"
                await engines.enter_async_context(engine(new, settings, port=port))
                await crowd.more(100)
            await settle(crowd, new)
            in_log = await messages_of(new)
            check_log(crowd, in_log)
            for screen in screens:
                check_screen(screen, in_log)
        assert any(screen.found for screen in screens)
        assert all(screen.lost for screen in screens)
    assert answer("check", "--data", str(new))["drift"] == 0


async def settle(crowd: Crowd, data: Path) -> None:
    """Returns when everybody has sent all that it had to, and holds all that there is."""
    heard = Heard(*crowd.clients)
    await heard.until(lambda: not any(waiting(client) for client in crowd.clients))
    for client in crowd.clients:
        await asyncio.wait_for(client.caught_up(), WAIT_S)
        for overview in await client.overviews():
            if overview.role is not None:
                await asyncio.wait_for(client.held(overview.c, overview.head), WAIT_S)


def waiting(client: Client) -> list[Outgoing]:
    return [message for message in client.outbox() if message.refused is None]


def check_log(crowd: Crowd, in_log: dict[str, list[str]]) -> None:
    times = Counter(id_ for ids in in_log.values() for id_ in ids)
    assert set(times.values()) == {1}, "each once"
    # In one group people come and go: who is out of it now can't say anything there again.
    coming_back = {said.id for said in crowd.said if said.conversation != crowd.restless}
    taken_back = {message.id for client in crowd.clients for message in all_lost(client) if message.text is None}
    lost = coming_back - times.keys() - taken_back
    assert not lost, f"{len(lost)} accepted messages did not come back from their senders"


def all_lost(client: Client) -> list[Message]:
    return [
        item
        for conversation in client.conversations()
        for item in client.lost(conversation.conversation)
        if isinstance(item, Message)
    ]


def check_screen(screen: Screen, in_log: dict[str, list[str]]) -> None:
    assert set(screen.shown.values()) == {1}, "nothing is shown as new twice"
    for conversation in screen.client.conversations():
        there = in_log.get(f"conversation-{conversation.conversation}", [])
        held = [message.id for message in screen.client.messages(conversation.conversation)]
        assert held == [id_ for id_ in there if id_ in set(held)], "in the log's order"
        if conversation.kind == "direct":
            assert held == there, "nothing is hidden"
    in_directs = [message for message in all_lost(screen.client) if is_direct(screen.client, message.conversation)]
    assert all(message.text is None for message in in_directs), "all has come again but for what was taken back"


def is_direct(client: Client, conversation: str) -> bool:
    known = client.conversation(conversation)
    return known is not None and known.kind == "direct"


# The folder


def test_a_backup_is_read_back_and_restored_row_for_row(data: Path, tmp_path: Path) -> None:
    made = answer("backup", str(tmp_path / "backup"), "--data", str(data))
    assert made["manifest"]["events"] >= EVENTS
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0, "for its owner alone"
    answer("restore", str(tmp_path / "backup"), "--data", str(tmp_path / "new"))
    assert answer("check", "--data", str(tmp_path / "new"))["drift"] == 0
    again = answer("backup", str(tmp_path / "again"), "--data", str(tmp_path / "new"))
    assert again["manifest"]["digest"] == made["manifest"]["digest"]
    assert answer("keyring", "check", "--data", str(tmp_path / "new"))["missing"] == {}
    first, second = (json.loads((folder / "server.json").read_text()) for folder in (data, tmp_path / "new"))
    assert second["name"] == first["name"]
    assert second["epoch"] != first["epoch"] == second["restored"]["before"]


def test_without_the_keyring(data: Path, tmp_path: Path) -> None:
    made = answer("backup", str(tmp_path / "backup"), "--without-keyring", "--data", str(data))
    assert made["manifest"]["keys"] is None
    assert not (tmp_path / "backup" / "keyring.db").exists()
    run = signet("restore", str(tmp_path / "backup"), "--data", str(tmp_path / "new"))
    assert "put its own backup to" in run.stdout


def test_a_changed_backup_is_refused(data: Path, tmp_path: Path) -> None:
    answer("backup", str(tmp_path / "backup"), "--data", str(data))
    with closing(sqlite3.connect(tmp_path / "backup" / "log.db")) as db, db:
        [table] = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        db.execute(f"UPDATE {table} SET state = CAST(replace(state, 'name', 'nome') AS BLOB) WHERE rowid = 1")
        db.execute(f"DELETE FROM {table} WHERE rowid = 500")
    run = signet("restore", str(tmp_path / "backup"), "--data", str(tmp_path / "new"))
    assert (run.returncode, "is damaged: its log is not the one that was backed up" in run.stderr) == (1, True)
    run = signet("up", "--port", "0", "--data", str(tmp_path / "new"))
    assert (run.returncode, "half a restored server" in run.stderr) == (1, True)


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_killed_it_goes_on_when_it_is_called_again(verb: str, data: Path, tmp_path: Path) -> None:
    backup, new = tmp_path / "backup", tmp_path / "new"
    arguments = ["backup", str(backup), "--data", str(data)]
    watched = tmp_path / "backup.unfinished" / "log.db"
    if verb == "restore":
        answer(*arguments)
        arguments, watched = ["restore", str(backup), "--data", str(new)], new / "readmodels" / "messages-5.db"
    with subprocess.Popen([sys.executable, "-P", "-m", "ops.cli", *arguments], stderr=subprocess.DEVNULL) as process:
        while not watched.exists():
            assert process.poll() is None, "it had ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
    if verb == "backup":
        assert not backup.exists(), "a folder of that name is always whole"
    else:
        assert signet("up", "--port", "0", "--data", str(new)).returncode == 1
    answer(*arguments)
    if verb == "restore":
        assert answer("check", "--data", str(new))["drift"] == 0
    assert not (tmp_path / "backup.unfinished").exists()


def test_what_can_t_be_done_is_said_with_the_remedy(data: Path, tmp_path: Path) -> None:
    def refusal(*arguments: str) -> str:
        run = signet(*arguments)
        assert run.returncode == 1
        return run.stderr

    backup = tmp_path / "backup"
    assert "no engine has run on" in refusal("backup", str(backup), "--data", str(tmp_path / "nowhere"))
    assert "is no backup" in refusal("restore", str(tmp_path), "--data", str(tmp_path / "new"))
    answer("backup", str(backup), "--data", str(data))
    assert "exists already: name a new folder" in refusal("backup", str(backup), "--data", str(data))
    assert "is not empty" in refusal("restore", str(backup), "--data", str(data))
    manifest = json.loads((backup / "backup.json").read_text())
    (backup / "backup.json").write_text(json.dumps({**manifest, "format": 99}))
    assert "has the format 99" in refusal("restore", str(backup), "--data", str(tmp_path / "new"))


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_the_log_of_another_server_is_left_alone(store: str, data: Path, tmp_path: Path) -> None:
    """Also where only the environment names it."""
    backup, new, other = tmp_path / "backup", tmp_path / "new", tmp_path / "other"
    answer("backup", str(backup), "--data", str(data))
    url = f"sqlite:///{other / 'log.db'}"
    if store == "postgres":
        url = postgres.shared(18).url(postgres.shared(18).new_database())
    asyncio.run(say_something(url, other))
    before = asyncio.run(events_of(url))
    run = signet("restore", str(backup), "--data", str(new), "--events", url)
    assert asyncio.run(events_of(url)) == before
    assert (run.returncode, "is not empty, and nothing was changed" in run.stderr) == (1, True)
    answer("restore", str(backup), "--data", str(new))


def test_rows_that_have_outlived_their_log_are_made_anew(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in PostgreSQL, and know of events that the backup doesn't have."""
    monkeypatch.setenv("SIGNET_READMODELS", postgres.shared(18).url(postgres.shared(18).new_database()))
    backup, new = tmp_path / "backup", tmp_path / "new"
    answer("backup", str(backup), "--data", str(data))
    asyncio.run(say_something(f"sqlite:///{data / 'log.db'}", data))
    answer("rebuild", "inbox", "--data", str(data))
    answer("restore", str(backup), "--data", str(new))
    assert answer("check", "--data", str(new))["drift"] == 0


async def say_something(url: str, data: Path) -> None:
    async with write_side(load_settings(data, events=url)) as side:
        await Historian(side, accounts=3, directs=2, groups=0).write(20, lambda events: None)


async def events_of(url: str) -> list[bytes]:
    log = open_log(url, read_only=True)
    events = [event.data for event in await log.read_all(after=START, limit=1_000)]
    await log.close()
    return events


def test_killed_before_it_has_begun_it_begins_anew(data: Path, tmp_path: Path) -> None:
    backup, new = tmp_path / "backup", tmp_path / "new"
    answer("backup", str(backup), "--data", str(data))
    new.mkdir()
    (new / "restoring.new").write_bytes(b"{")
    answer("restore", str(backup), "--data", str(new))


@pytest.mark.parametrize("store", ["postgres", "kurrentdb"])
def test_into_another_store_and_back(store: str, data: Path, tmp_path: Path) -> None:
    made = answer("backup", str(tmp_path / "one"), "--data", str(data))
    with Node(tmp_path / "node") as node:
        if store == "kurrentdb":
            node.start()
            url = node.uri
        else:
            url = postgres.shared(18).url(postgres.shared(18).new_database())
        new = tmp_path / "new"
        answer("restore", str(tmp_path / "one"), "--data", str(new), "--events", url)
        (new / "signet.toml").write_text(f'events = "{url}"\n')
        again: Any = answer("backup", str(tmp_path / "two"), "--data", str(new))
        assert again["manifest"]["digest"] == made["manifest"]["digest"]
        assert answer("check", "inbox", "--data", str(new))["drift"] == 0
