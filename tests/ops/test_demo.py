"""`signet up --demo`: what it plays, once, and what its log-in links let in."""

import asyncio
import signal
import sqlite3
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import httpx
import msgspec
import pytest

from ops.demo.stretch import PAIR, TITLE, read_stretch
from ops.errors import OpsError
from signet_client import Client
from tests.ops.demo_engine import DemoEngine, demo_engine, said_on_stderr, start
from tests.scenarios.stage import Heard

PATIENCE_S = 30
ASIDE = [line.text for line in read_stretch() if line.aside]
GROUP = [line.text for line in read_stretch() if not line.aside]


async def post(engine: DemoEngine, path: str, **content: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.post(f"{engine.url}/v1/demo/{path}", json=content)


async def new_device(engine: DemoEngine, name: str, path: Path) -> Client:
    """A further device that came in by a link, as a browser does."""
    shown = (await post(engine, "links", secret=engine.secret(name))).json()
    assert shown["name"] == name
    client = Client.prepare(engine.url, shown["account"], path)
    entered = await post(engine, "devices", secret=engine.secret(name), device=client.device, key=client.key)
    assert entered.json() == {"account": shown["account"]}
    return client


def texts_by_kind(client: Client) -> dict[str, list[str | None]]:
    return {each.kind: [item.text for item in client.messages(each.conversation)] for each in client.conversations()}


def reads_all(client: Client) -> bool:
    return texts_by_kind(client) == {"group": GROUP, "direct": ASIDE}


async def unread(client: Client) -> dict[str, int]:
    return {each.kind: each.unread for each in await client.overviews()}


def test_the_stretch_is_small_enough_to_start_quickly() -> None:
    nicks = {line.nick for line in read_stretch()}
    assert len(read_stretch()) <= 80
    assert len(nicks) <= 6
    assert nicks >= set(PAIR)
    assert {line.nick for line in read_stretch() if line.aside} == set(PAIR)


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"the demo plays a part of .*gone\.txt, which can't be read"):
        read_stretch(tmp_path / "gone.txt")


async def test_a_device_that_comes_by_a_link_reads_what_was_said(tmp_path: Path) -> None:
    async with demo_engine(tmp_path / "data") as engine:
        one = await new_device(engine, PAIR[0], tmp_path / "one.db")
        other = await new_device(engine, PAIR[1], tmp_path / "other.db")
        async with one, other:
            for client in (one, other):
                # The keys of what was said before it came are asked for.
                await Heard(client).until(partial(reads_all, client))
                assert {each.protection for each in client.conversations()} == {"end_to_end"}
                assert TITLE in {each.title for each in client.conversations()}
            assert (await unread(one))["group"] > 0
            assert (await unread(one))["direct"] > 0
            assert (await unread(other))["group"] > 0


async def test_a_link_lets_one_device_in_and_a_wrong_one_none(tmp_path: Path) -> None:
    async with demo_engine(tmp_path / "data") as engine:
        secret = engine.secret(PAIR[0])
        client = await new_device(engine, PAIR[0], tmp_path / "one.db")
        again = await post(engine, "devices", secret=secret, device=client.device, key=client.key)
        assert again.status_code == 200, "its answer may have been lost"
        stranger = Client.prepare(engine.url, client.account, tmp_path / "stranger.db")
        used = await post(engine, "devices", secret=secret, device=stranger.device, key=stranger.key)
        assert (used.status_code, used.json()["code"]) == (401, "not_authenticated")
        assert "was used" in used.json()["text"]
        assert (await post(engine, "links", secret=secret)).status_code == 401
        for wrong in ("", "x" * 43, engine.secret(PAIR[1])[:-1]):
            response = await post(engine, "devices", secret=wrong, device=stranger.device, key=stranger.key)
            assert response.status_code == 401
        # What can't be linked leaves a link good.
        secret = engine.secret(PAIR[1])
        bad = await post(engine, "devices", secret=secret, device="web", key="no key")
        assert (bad.status_code, bad.json()["code"]) == (400, "bad_frame")
        taken = await post(engine, "devices", secret=secret, device="demo", key=stranger.key)
        assert (taken.status_code, taken.json()["code"]) == (409, "device_exists")
        other = await new_device(engine, PAIR[1], tmp_path / "other.db")
        for each in (client, stranger, other):
            await each.close()


async def test_a_second_start_plays_nothing_again_and_gives_fresh_links(tmp_path: Path) -> None:
    async with demo_engine(tmp_path / "data") as first:
        client = await new_device(first, PAIR[0], tmp_path / "one.db")
        async with client:
            await client.caught_up()
            talk = next(each.conversation for each in client.conversations() if each.kind == "group")
            await client.send(talk, "said by hand")
        old = first.secret(PAIR[1])
    async with demo_engine(tmp_path / "data") as second:
        assert (await post(second, "links", secret=old)).status_code == 401
        async with await new_device(second, PAIR[1], tmp_path / "other.db") as other:
            await other.caught_up()
            assert texts_by_kind(other) == {"group": [*GROUP, "said by hand"], "direct": ASIDE}


async def recorded(data: Path, events: int) -> None:
    """Returns when the engine has that many events on disk."""
    while True:
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{data}/log.db?mode=ro", uri=True)) as log:
            if log.execute("SELECT count(*) FROM stored_events").fetchone()[0] >= events:
                return
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("events", [5, 13, 50], ids=["while they register", "when the group begins", "while they talk"])
async def test_a_start_that_was_killed_is_gone_on_with(tmp_path: Path, events: int) -> None:
    data = tmp_path / "data"
    async with start(data, "--demo") as process:
        async with asyncio.timeout(PATIENCE_S):
            await recorded(data, events)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
    async with (
        demo_engine(data) as engine,
        await new_device(engine, PAIR[0], tmp_path / "one.db") as client,
    ):
        await client.caught_up()
        assert texts_by_kind(client) == {"group": GROUP, "direct": ASIDE}


async def test_a_server_of_real_people_is_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with start(data) as process:
        assert process.stdout is not None
        url = msgspec.json.decode(await process.stdout.readline())["url"]
        await (await Client.register(url, "Anna", tmp_path / "anna.db")).close()
        async with httpx.AsyncClient(trust_env=False) as http:
            response = await http.post(f"{url}/v1/demo/links", json={"secret": "x"})
        assert response.status_code == 404, "without --demo there is no such route"
    async with start(data, "--demo") as process:
        assert await process.wait() == 1
    assert f"give it a folder of its own, ./signet up --demo --data {data}-demo" in said_on_stderr(data)
    assert "Traceback" not in said_on_stderr(data)


async def test_where_people_need_invitations_there_is_no_demo(tmp_path: Path) -> None:
    tmp_path.joinpath("data").mkdir()
    tmp_path.joinpath("data/signet.toml").write_text('registration = "invited"')
    async with start(tmp_path / "data", "--demo") as process:
        assert await process.wait() == 1
    assert "registration is invited here; leave out --demo" in said_on_stderr(tmp_path / "data")


async def test_no_secret_is_kept_or_told(tmp_path: Path) -> None:
    async with demo_engine(tmp_path / "data") as engine:
        secrets = [engine.secret(name).encode() for name in PAIR]
        await (await new_device(engine, PAIR[0], tmp_path / "one.db")).close()
    told = [tmp_path / "data.stderr", *(path for path in (tmp_path / "data").rglob("*") if path.is_file())]
    assert not [path for path in told if any(secret in path.read_bytes() for secret in secrets)]
