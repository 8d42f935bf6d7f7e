"""`signet import irc`: every line is in the log once or accounted for, however often it is run and killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from nacl.signing import SigningKey

from commands.ids import new_uuid
from commands.replies import Accepted
from commands.stores import open_log
from domain.conversation import SetTitle
from domain.ids import CommandId, conversation_stream
from ops.errors import OpsError
from ops.importing import importer
from ops.importing.ids import DEVICE, ChannelIds
from ops.importing.run import Imported
from ops.irc.script import Person
from ops.node import Node
from ops.settings import HOME, Settings, load_settings
from ops.writing import write_side
from signet_client import payloads
from tests.corpus import ARCHIVE, DAYS, needs_corpus
from tests.kurrentdb.double import Node as Double
from tests.ops.imports import import_files, streams
from tests.postgres import shared

PATIENCE_S = 60
IDS = ChannelIds("#ubuntu")
STREAM = conversation_stream(IDS.conversation)

DAY = """\
[23:58] <ann> hello
=== ben [~b@example.org]  has joined #ubuntu
[23:59] <ben> hello ann
[00:01]  * ann waves
=== ann is now known as ann_away
=== ben [~b@example.org]  has left #ubuntu []
=== mode/#ubuntu [+o ann_away] by ChanServ
[00:02] <ben> I forgot something
"""
LINKS = "0 0 -\n0 2 -\n2 3 -\n0 3 -\n1 7 -\n"


def day(folder: Path, text: str = DAY, *, name: str = "2012-05-04") -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.raw.txt"
    file.write_text(text)
    (folder / f"{name}.annotation.txt").write_text(LINKS)
    return file


def signet(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "ops.cli", "import", "irc", *map(str, arguments)],
        capture_output=True, text=True, cwd=HOME,
    )  # fmt: skip


def accounted(imported: Imported | dict[str, Any]) -> bool:
    told = (
        imported
        if isinstance(imported, dict)
        else {name: getattr(imported, name) for name in imported.__struct_fields__}
    )
    return bool(told["lines"] == told["messages"] + told["changes"] + sum(told["skipped"].values()))


# What comes of a day


async def test_a_day_becomes_a_group_with_its_people(tmp_path: Path) -> None:
    settings = load_settings(tmp_path / "data")
    imported = await import_files(settings, day(tmp_path / "days"))
    assert (imported.lines, imported.messages, imported.changes, imported.skipped) == (8, 4, 3, {"mode": 1})
    assert (imported.persons, imported.replies, imported.added) == (2, 2, 4)
    assert imported.links_dropped == {"no_message": 1, "not_the_nearest": 1}
    assert accounted(imported)
    found = await streams(settings)
    assert imported.events == sum(map(len, found.values()))
    ann, ben = (IDS.account(Person(name)) for name in ("ann", "ben"))
    started, *rest = found[STREAM]
    assert (started[3]["members"], started[3]["title"], started[3]["members_max"]) == (
        {IDS.owner: "owner"}, "#ubuntu", 100_000,
    )  # fmt: skip
    assert (started[3]["kind"], started[3]["protection"]) == ("group", "none")
    minutes = [(occ - started[2]) // 60_000_000 for _, _, occ, _ in rest]
    assert started[2] == 1_336_175_880_000_000  # 2012-05-04 23:58
    told = [
        (topic, facts.get("accounts") or facts["by"], facts.get("body"), facts.get("header", {}).get("b"))
        for topic, _, _, facts in rest
    ]
    assert list(zip(minutes, told, strict=True)) == [
        (0, ("MembersAdded", [ann], None, None)),
        (0, ("MessageSent", ann, {"kind": "text", "text": "hello"}, None)),
        (0, ("MembersAdded", [ben], None, None)),
        (1, ("MessageSent", ben, {"kind": "text", "text": "hello ann", "reply_to": 3}, 3)),
        (3, ("MessageSent", ann, {"kind": "action", "text": "waves", "reply_to": 5}, 5)),
        (3, ("MemberLeft", ben, None, None)),
        (4, ("MembersAdded", [ben], None, None)),
        (4, ("MessageSent", ben, {"kind": "text", "text": "I forgot something"}, None)),
    ]
    assert [(topic, facts.get("name"), occ - started[2]) for topic, _, occ, facts in found[f"account-{ann}"]] == [
        ("AccountRegistered", "ann", 0), ("DeviceLinked", None, 0), ("ProfileChanged", "ann_away", 180_000_000),
    ]  # fmt: skip


async def test_who_renames_itself_while_it_is_out_comes_in_under_the_new_name(tmp_path: Path) -> None:
    settings = load_settings(tmp_path / "data")
    log = "[01:00] <ann> x\n=== ann [a@b]  has left #ubuntu []\n=== ann is now known as anne\n[01:02] <anne> y\n"
    imported = await import_files(settings, day(tmp_path, log))
    assert (imported.persons, imported.skipped) == (1, {"rename_while_out": 1})
    names = [facts.get("name") for _, _, _, facts in (await streams(settings))[f"account-{IDS.account(Person('ann'))}"]]
    assert names == ["ann", None, "anne"]


@pytest.mark.parametrize("store", ["sqlite", "postgres", "kurrentdb"])
async def test_every_store_gets_the_same(tmp_path: Path, store: str) -> None:
    asyncio.get_running_loop().set_debug(False)
    with Double(tmp_path / "node") as node:  # an empty one
        urls: dict[str, Callable[[], str]] = {"postgres": _new_postgres, "kurrentdb": lambda: started(node)}
        await check_the_same(tmp_path, urls[store]() if store in urls else "")


def started(node: Double) -> str:
    node.start()
    return node.uri


async def check_the_same(tmp_path: Path, url: str) -> None:
    file = day(tmp_path / "days", "".join(DAYS[0].read_text().splitlines(keepends=True)[:300]), name="2005-02-08")
    here = Settings(data=tmp_path / "here")
    other = Settings(data=tmp_path / "other", events=url)
    first, second = await import_files(here, file), await import_files(other, file)
    assert (first.messages, first.events, accounted(second)) == (second.messages, second.events, True)
    again = await import_files(other, file)
    assert (again.events, again.added, again.messages) == (0, 0, second.messages)
    expected, found = await streams(here), await streams(other)
    assert expected == {stream: events for stream, events in found.items() if stream in expected}


def _new_postgres() -> str:
    server = shared(18)
    return server.url(server.new_database())


# Refused, again, and further


async def test_a_refusal_ends_the_import_and_names_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(tmp_path / "data")
    monkeypatch.setattr(importer, "MEMBERS_MAX", 2)
    first = day(tmp_path / "days", "[01:00] <ann> x\n")
    await import_files(settings, first)
    second = day(tmp_path / "days", "[01:00] <ann> y\n[01:01] <ben> z\n", name="2012-05-05")
    with pytest.raises(OpsError, match=r"ends at 2012-05-05\.raw\.txt, line 2: .*AddMembers: too_many_members.*again"):
        await import_files(settings, first, second)
    assert [topic for topic, *_ in (await streams(settings))[STREAM]].count("MessageSent") == 2


async def test_it_goes_on_behind_what_was_not_imported(tmp_path: Path) -> None:
    settings = load_settings(tmp_path / "data")
    first = day(tmp_path / "days", "[01:00] <ann> x\n")
    await import_files(settings, first)
    async with write_side(settings) as side:
        title = SetTitle(
            id=CommandId(new_uuid()), conversation=IDS.conversation, by=IDS.owner, device=DEVICE, after=3,
            title=side.sealer.seal(IDS.owner, "another"),
        )  # fmt: skip
        assert isinstance(await side.writer.execute(title, turn=None), Accepted)
    second = day(tmp_path / "days", "[01:00] <ann> y\n", name="2012-05-05")
    assert (await import_files(settings, first, second)).added == 1
    assert [topic for topic, *_ in (await streams(settings))[STREAM]][2:] == ["MessageSent", "TitleSet", "MessageSent"]


async def test_a_day_more_is_added_and_what_was_there_stays(tmp_path: Path) -> None:
    one, all_at_once = Settings(data=tmp_path / "one"), Settings(data=tmp_path / "all")
    await import_files(one, *DAYS[:1])
    before = await streams(one)
    more = await import_files(one, *DAYS)
    assert accounted(more)
    whole = await import_files(all_at_once, *DAYS)
    assert (more.lines, more.messages, more.skipped) == (whole.lines, whole.messages, whole.skipped)
    assert more.events == whole.events - sum(map(len, before.values()))
    after = await streams(one)
    assert after == await streams(all_at_once)
    assert all(after[stream][: len(events)] == events for stream, events in before.items())


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, dict[str, list[Any]]]:
    settings = Settings(data=tmp_path_factory.mktemp("unkilled"))
    asyncio.run(import_files(settings, *DAYS))
    return settings, asyncio.run(streams(settings))


@pytest.mark.parametrize("appends", [(1, 2, 3, 4, 2), (3, 1, 2, 5, 2)], ids=str)
async def test_killed_five_times_it_ends_the_same(
    tmp_path: Path, unkilled: tuple[Settings, dict[str, list[Any]]], appends: tuple[int, ...]
) -> None:
    """I1, I2: by kill -9, right before an append or after it."""
    settings, days = Settings(data=tmp_path), [str(path) for path in DAYS]
    heads = []
    for number in appends:
        await asyncio.to_thread(_die, number, days, tmp_path)
        heads.append(sum(map(len, (await streams(settings)).values())))
    assert heads == sorted(heads)
    told = json.loads((await asyncio.to_thread(signet, *days, "--data", tmp_path, "--json")).stdout)
    assert accounted(told)
    expected = unkilled[1]
    assert told["events"] == sum(map(len, expected.values())) - heads[-1]
    assert await streams(settings) == expected


def _die(number: int, days: list[str], data: Path) -> None:
    command = [sys.executable, "-P", "-m", "tests.ops.dying", str(number), *days]
    run = subprocess.run(command, cwd=HOME, env={**os.environ, "SIGNET_DATA": str(data)}, capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr


# The verb


def test_the_verb_tells_what_came_of_it_and_again_adds_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = json.loads(signet(DAYS[0].parent, "--data", data, "--json").stdout)
    assert {"lines", "messages", "events", "skipped", "messages_per_s"} <= set(first)
    assert first["lines"] == sum(len(path.read_bytes().splitlines()) for path in DAYS)
    assert accounted(first)
    second = signet(DAYS[0].parent, "--data", data)
    assert "added 0 events" in second.stdout
    assert f"the conversation is {first['conversation']}" in second.stdout
    third = json.loads(signet(DAYS[0].parent, "--data", data, "--json").stdout)
    assert (third["events"], third["added"], third["messages_per_s"]) == (0, 0, 0)
    changing = ("events", "added", "seconds", "messages_per_s", "readmodels_s")
    assert {k: v for k, v in third.items() if k not in changing} == {
        k: v for k, v in first.items() if k not in changing
    }


def test_what_can_not_be_imported_is_refused_with_the_remedy(tmp_path: Path) -> None:
    nameless = tmp_path / "log.txt"
    nameless.write_text("[01:00] <ann> x\n")
    refused = signet(nameless, "--data", tmp_path / "data")
    assert (refused.returncode, "does not tell its day" in refused.stderr) == (1, True)
    refused = signet(day(tmp_path), "--channel", "", "--data", tmp_path / "data")
    assert (refused.returncode, "by --channel" in refused.stderr) == (1, True)
    assert signet(tmp_path / "nowhere", "--data", tmp_path / "data").returncode == 2


async def test_the_engine_serves_what_was_imported_and_runs_beside_no_import(tmp_path: Path) -> None:
    """I12: nobody logs in as somebody who was imported."""
    days = tmp_path / "days"
    imported = await import_files(load_settings(tmp_path), day(days))
    async with Node.open(load_settings(tmp_path, port=0)) as node:
        run = asyncio.create_task(node.run())
        await asyncio.wait_for(node.started(), PATIENCE_S)
        services = node.services
        assert {runner.position for runner in services.runners.values()} == {services.feed.head}
        ann, ben = (IDS.account(Person(name)) for name in ("ann", "ben"))
        assert await services.inbox.members(imported.conversation) == {IDS.owner: "owner", ann: "member", ben: "member"}
        page = await services.served.messages.page(imported.conversation, intervals=[[1, 0]], after=0, limit=100)
        assert [isinstance(getattr(item, "occurred", None), int) for item in page] == [True] * 9
        refused = await asyncio.to_thread(signet, days, "--data", tmp_path)
        assert (refused.returncode, "belongs to an engine that runs" in refused.stderr) == (1, True)
        async with httpx.AsyncClient(base_url=node.url) as http:
            assert (await _log_in(http, ann)).status_code == 401
        node.stop()
        await asyncio.wait_for(run, PATIENCE_S)


async def _log_in(http: httpx.AsyncClient, account: str) -> httpx.Response:
    challenge = (await http.get("/v1/challenge")).json()
    payload = payloads.hello_payload(
        nonce=challenge["nonce"], server=challenge["server"], account=account, device=DEVICE
    )
    signature = payloads.to_base64(SigningKey.generate().sign(payload).signature)
    content = {"nonce": challenge["nonce"], "account": account, "device": DEVICE, "signature": signature}
    return await http.post("/v1/token", json=content)


# The corpus


@needs_corpus
@pytest.mark.soak
def test_the_whole_corpus_is_imported(tmp_path: Path) -> None:
    told = json.loads(signet(ARCHIVE, "--data", tmp_path, "--json").stdout)
    assert (told["lines"], told["messages"]) == (220_463, 196_127 + 452)
    assert accounted(told)
    assert told["replies"] + sum(told["links_dropped"].values()) == 52_641
    again = json.loads(signet(ARCHIVE, "--data", tmp_path, "--json").stdout)
    assert (again["events"], again["messages"], again["skipped"]) == (0, told["messages"], told["skipped"])


@needs_corpus
@pytest.mark.soak
async def test_the_whole_corpus_is_imported_through_five_kills(tmp_path: Path) -> None:
    """I1, I2: by kill -9, wherever it is when the log has come so far."""
    asyncio.get_running_loop().set_debug(False)
    killed, unkilled = Settings(data=tmp_path / "killed"), Settings(data=tmp_path / "unkilled")
    await import_files(unkilled, ARCHIVE)
    killed.data.mkdir()
    await open_log(killed.events_url).close()
    log = open_log(killed.events_url, read_only=True)
    for events in (20_000, 60_000, 61_000, 150_000, 230_000):
        command = [sys.executable, "-P", "-m", "ops.cli", "import", "irc", str(ARCHIVE), "--data", str(killed.data)]
        process = await asyncio.create_subprocess_exec(*command, cwd=HOME, stderr=asyncio.subprocess.DEVNULL)
        async with aclosing(log.subscribe(after=await log.head())) as batches:
            async for batch in batches:
                if batch[-1].position >= events:
                    break
        process.kill()
        assert await process.wait() == -signal.SIGKILL
    await log.close()
    last = await import_files(killed, ARCHIVE)
    assert accounted(last)
    assert 0 < last.events < 35_000
    assert await streams(killed) == await streams(unkilled)
