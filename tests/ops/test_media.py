"""`signet media`: who has how much, and whether all of it is there, beside an engine and without one."""

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
from typer.testing import CliRunner, Result

from gateways.media.objects import ObjectStore, folder_of
from ops.child import free_port
from ops.cli import command_line
from ops.errors import OpsError
from ops.media.usage import Amount, Used
from ops.media.verifier import Fault, Verifier
from ops.node import Node
from ops.settings import load_settings
from signet_client import Client
from signet_client.payloads import to_base64
from signet_client.records import UploadFile
from tests import postgres
from tests.gateways.engine import Engine, Person, sqlite_engine
from tests.gateways.uploads import put, reservation, upload
from tests.s3 import Server

STOP_MAX_S = 30
SIZES = (1_000, 70_000, 200_000)
STRAY = "101106d6-8da2-59d5-9203-5191ebed6b7f"


@asynccontextmanager
async def engine(data: Path) -> AsyncIterator[Node]:
    async with Node.open(load_settings(data, port=0)) as node:
        run = asyncio.create_task(node.run())
        await node.started()
        yield node
        node.stop()
        await asyncio.wait_for(run, STOP_MAX_S)


class Terminal:
    """The verbs, in a thread of their own: they have loops of their own."""

    def __init__(self, data: Path) -> None:
        self._data = data

    async def run(self, *arguments: str) -> Result:
        command = ["media", *arguments, "--data", str(self._data)]
        return await asyncio.to_thread(lambda: CliRunner().invoke(command_line(["media"]), command))

    async def text(self, *arguments: str, code: int = 0) -> str:
        result = await self.run(*arguments)
        assert result.exit_code == code, result.output
        return result.stdout

    async def report(self, *arguments: str, code: int = 0) -> Any:
        return msgspec.json.decode(await self.text(*arguments, "--json", code=code))

    async def refused(self, *arguments: str) -> str:
        error = (await self.run(*arguments)).exception
        assert isinstance(error, OpsError)
        return str(error)


async def send_files(anna: Client, ben: Client, folder: Path) -> dict[str, int]:
    """The seqs of the messages, by media."""
    talk = await anna.start_direct(ben.account)
    for number, size in enumerate(SIZES):
        path = folder / f"{number}.bin"
        path.write_bytes(os.urandom(size))
        await anna.send_file(talk, path)
    shown = {each.attachment.file.media: each.seq for each in anna.messages(talk) if each.attachment is not None}
    assert len(shown) == len(SIZES)
    return shown


async def put_by_hand(client: Client, content: bytes, *, complete: bool) -> str:
    digest = to_base64(hashlib.sha256(content).digest())
    file = UploadFile(command=str(uuid4()), media="", kind="file", size=len(content), digest=digest)
    reserved = await client._api.reserve_media(file)
    if complete:
        assert reserved.upload is not None
        async with httpx.AsyncClient(trust_env=False) as http:
            await http.put(reserved.upload.url, content=content, headers=reserved.upload.headers)
        await client._api.complete_media(reserved.media)
    return reserved.media


def damage(bucket: Path, media: list[str]) -> Callable[[], None]:
    """One is gone, one cut, one changed; and there is a stray. Gives what brings them back."""
    files = [bucket / folder_of(name) / name for name in media]
    before = {file: file.read_bytes() for file in files}
    gone, cut, changed = files
    gone.unlink()
    cut.write_bytes(before[cut][:-1])
    changed.write_bytes(before[changed][:-1] + bytes([before[changed][-1] ^ 1]))
    stray = leave_stray(bucket)
    (bucket / "objects/README").write_text("no object at all")

    def restore() -> None:
        for file, content in before.items():
            file.write_bytes(content)
        stray.unlink()

    return restore


def leave_stray(bucket: Path) -> Path:
    file = bucket / folder_of(STRAY) / STRAY
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"stray")
    return file


def faults(report: Any) -> dict[str, tuple[str, int | None]]:
    return {each["media"]: (each["fault"], each["found"]) for each in report["faults"]}


async def test_usage_and_verify_in_the_data_folder(tmp_path: Path) -> None:
    data, terminal = tmp_path / "data", Terminal(tmp_path / "data")
    async with engine(data) as node:
        assert "there are no media" in await terminal.text("usage")
        assert (await terminal.report("verify"))["looked"] == 0
        anna = await Client.register(node.url, "[b]Anna[/]", tmp_path / "anna.db")
        ben = await Client.register(node.url, "Ben", tmp_path / "ben.db")
        async with anna, ben:
            shown = await send_files(anna, ben, tmp_path)
            await put_by_hand(ben, b"named by nobody", complete=True)
            await put_by_hand(ben, b"never uploaded", complete=False)
            await _check_usage(terminal, anna.account, ben.account)
            beside = await terminal.report("verify", "--read")
            assert (beside["looked"], beside["wrong"], beside["strays"]) == (4, 0, 0)
            restore = damage(data / "media/signet", list(shown))
            await _check_faults(terminal, anna.account, shown)
    await _check_faults(terminal, anna.account, shown)
    restore()
    assert "4 media of 271.2 kB read, all as the log says" in await terminal.text("verify", "--read")


async def _check_usage(terminal: Terminal, anna: str, ben: str) -> None:
    report = await terminal.report("usage")
    assert report["readmodel"] == {"behind": False, "lacking": 0}
    assert [each["account"] for each in report["accounts"]] == [anna, ben]
    annas, bens = (each["used"] for each in report["accounts"])
    none = {"count": 0, "bytes": 0}
    assert annas["stored"]["count"] == len(SIZES)
    assert annas["stored"]["bytes"] > sum(SIZES)
    assert annas["unnamed"] == annas["reserved"] == annas["expired"] == none
    assert bens["stored"] == bens["unnamed"] == {"count": 1, "bytes": len("named by nobody")}
    assert bens["reserved"] == {"count": 1, "bytes": len("never uploaded")}
    assert report["total"]["stored"]["count"] == len(SIZES) + 1
    text = await terminal.text("usage")
    assert "[b]Anna[/]" in text
    assert "Ben" in text


async def _check_faults(terminal: Terminal, account: str, shown: dict[str, int]) -> None:
    gone, cut, changed = shown
    report = await terminal.report("verify", code=1)
    assert (report["wrong"], report["strays"], report["stray_objects"]) == (2, 1, [{"media": STRAY, "size": 5}])
    sizes = {each["media"]: each["size"] for each in report["faults"]}
    expected: dict[str, tuple[str, int | None]] = {gone: ("missing", None), cut: ("wrong_size", sizes[cut] - 1)}
    assert faults(report) == expected
    assert {each["media"]: [named["seq"] for named in each["named"]] for each in report["faults"]} == {
        media: [shown[media]] for media in (gone, cut)
    }
    assert {each["account"] for each in report["faults"]} == {account}
    read = await terminal.report("verify", "--read", code=1)
    assert {media: fault for media, (fault, _) in faults(read).items()} == {
        gone: "missing", cut: "wrong_size", changed: "wrong_digest"
    }  # fmt: skip
    text = await terminal.text("verify", code=1)
    assert "2 MISSING OR WRONG" in text
    assert f"{gone} is missing" in text
    assert f"seq {shown[gone]}" in text
    assert "bring the objects back from a backup" in text
    assert f"{STRAY}, 5 bytes" in text


async def test_strays_alone_are_a_notice(tmp_path: Path) -> None:
    async with engine(tmp_path / "data"):
        pass
    leave_stray(tmp_path / "data/media/signet")
    assert "strays: 1 objects of 5 bytes" in await Terminal(tmp_path / "data").text("verify")


async def test_rows_that_are_behind_or_lack_events_are_told(tmp_path: Path) -> None:
    async with engine(tmp_path / "data") as node:
        await (await Client.register(node.url, "Anna", tmp_path / "anna.db")).close()
    [file] = (tmp_path / "data/readmodels").glob("media-*.db")
    with closing(sqlite3.connect(file)) as rows, rows:
        rows.execute("UPDATE readmodel SET position = 0")
        rows.execute("INSERT INTO skipped VALUES ('media-x', 0, 1, 'MediaStored', NULL, 'poison', 0, 0)")
    for verb in ("usage", "verify"):
        assert (await Terminal(tmp_path / "data").report(verb))["readmodel"] == {"behind": True, "lacking": 1}
        text = await Terminal(tmp_path / "data").text(verb)
        assert "is behind the log" in text
        assert "lacks events of 1 streams" in text


def test_what_has_expired_and_is_shown_all_the_same_counts_as_stored() -> None:
    used = Used()
    used.add("expired", 2, 20, shown=True)
    used.add("expired", 1, 3, shown=False)
    assert (used.stored, used.unnamed, used.expired) == (
        Amount(count=2, bytes=20), Amount(), Amount(count=1, bytes=3)
    )  # fmt: skip
    assert used.bytes == 23


async def test_an_s3_and_read_models_in_postgresql(tmp_path: Path, s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    database = postgres.shared(18)
    monkeypatch.setenv("SIGNET_READMODELS", database.url(database.new_database()))
    data, terminal = tmp_path / "data", Terminal(tmp_path / "data")
    prefix = str(uuid4())
    url = s3.url.replace("a/b", prefix)
    monkeypatch.setenv("SIGNET_MEDIA", url)
    async with engine(data) as node:
        anna = await Client.register(node.url, "Anna", tmp_path / "anna.db")
        async with anna:
            media = [await put_by_hand(anna, os.urandom(9), complete=True) for _ in range(3)]
        assert (await terminal.report("verify", "--read"))["looked"] == 3
        assert (await terminal.report("usage"))["total"]["unnamed"] == {"count": 3, "bytes": 27}
        damage(s3.folder / "media" / prefix, media)
        # It remembers its folder otherwise.
        s3.kill()
        s3.restart()
    report = await terminal.report("verify", "--read", code=1)
    assert sorted(fault for fault, _ in faults(report).values()) == ["missing", "wrong_digest", "wrong_size"]
    assert report["stray_objects"] == [{"media": STRAY, "size": 5}]
    monkeypatch.setenv("SIGNET_MEDIA", url.replace("correct-horse", "battery-staple"))
    assert "KEY:SECRET in the URL" in await terminal.refused("verify")
    monkeypatch.setenv("SIGNET_MEDIA", url.replace("@media", "@elsewhere"))
    assert "make the bucket, or correct its name" in await terminal.refused("verify")
    assert not (s3.folder / "elsewhere").exists(), "who only looks makes nothing"
    monkeypatch.setenv("SIGNET_MEDIA", url.replace(str(s3.port), str(free_port())))
    assert "look whether it runs" in await terminal.refused("verify")


async def test_a_folder_where_no_engine_was(tmp_path: Path) -> None:
    for verb in ("usage", "verify"):
        assert "no engine has run on" in await Terminal(tmp_path).refused(verb)


# What happens while it looks

GRACE_S, HOLD_S = 3_600, 600


class Meanwhile:
    """An object store where something happens once, between two questions."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.after_listing: Callable[[], Awaitable[None]] = _nothing
        self.before_looking: Callable[[], Awaitable[None]] = _nothing

    async def head(self, media: str) -> int | None:
        happens, self.before_looking = self.before_looking, _nothing
        await happens()
        return await self._store.head(media)

    async def digest(self, media: str) -> str | None:
        return await self._store.digest(media)

    async def objects(self) -> AsyncIterator[tuple[str, int]]:
        async for each in self._store.objects():
            yield each
        await self.after_listing()


async def _nothing() -> None:
    pass


@pytest.fixture
async def busy(tmp_path: Path, s3: Server) -> AsyncIterator[Engine]:
    async with sqlite_engine(tmp_path, bucket=msgspec.structs.replace(s3.place, prefix=str(uuid4()))) as engine:
        yield engine


@pytest.fixture
async def anna(busy: Engine) -> Person:
    return await busy.person("Anna")


@pytest.fixture
async def meanwhile(busy: Engine) -> Meanwhile:
    return Meanwhile(await busy.services.objects.store())


async def verified(busy: Engine, meanwhile: Meanwhile, *, read: bool = False) -> tuple[list[Fault], int]:
    """What is wrong, and how many strays there are."""
    services = busy.services
    verifier = Verifier(
        rows=services.media.db, log=services.log, objects=meanwhile, read=read, moved=lambda size: None
    )  # fmt: skip
    await verifier.run()
    return verifier.faults, verifier.strays


async def sweep_all(busy: Engine) -> None:
    """Whatever nobody names expires, and is deleted."""
    sweeper = busy.sweeper(grace_s=GRACE_S, hold_s=HOLD_S)
    for pause_s in (GRACE_S + 1, HOLD_S + 1):
        busy.clock.forward(pause_s)
        await sweeper.sweep()


@pytest.mark.parametrize("read", [False, True])
async def test_what_is_deleted_while_it_is_looked_for_is_not_missed(
    busy: Engine, anna: Person, meanwhile: Meanwhile, read: bool
) -> None:
    media = await upload(anna, b"named by nobody")
    store = await busy.services.objects.store()
    await store.discard(media)
    [fault], _ = await verified(busy, meanwhile, read=read)
    assert (fault.media, fault.fault, fault.named) == (media, "missing", [])
    meanwhile.before_looking = partial(sweep_all, busy)
    assert await verified(busy, meanwhile, read=read) == ([], 0)


async def test_what_is_stored_after_the_listing_is_not_missed(busy: Engine, anna: Person, meanwhile: Meanwhile) -> None:
    async def store() -> None:
        await upload(anna, b"just come")

    meanwhile.after_listing = store
    assert await verified(busy, meanwhile) == ([], 0)


async def test_an_object_whose_storing_is_yet_to_be_recorded_is_no_stray(
    busy: Engine, anna: Person, meanwhile: Meanwhile
) -> None:
    content = b"copied, but not recorded"
    reserved = await anna.do("POST", "/media", reservation(content))
    await put(reserved["upload"], content)
    await (await busy.services.objects.store()).settle(reserved["media"], len(content))
    assert await verified(busy, meanwhile) == ([], 0)


async def test_an_object_that_is_deleted_after_the_listing_is_no_stray(
    busy: Engine, anna: Person, meanwhile: Meanwhile
) -> None:
    media = await upload(anna, b"named by nobody")
    meanwhile.after_listing = partial(sweep_all, busy)
    assert await verified(busy, meanwhile) == ([], 0)
    assert await meanwhile.head(media) is None
