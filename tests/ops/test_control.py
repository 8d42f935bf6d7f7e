"""The control socket: for the folder's owner alone, and an answer to everything."""

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ops import control
from ops.control import ControlVerb, NoEngine, ask, serve
from ops.errors import OpsError

TIMEOUT_S = 20


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    numbers: list[int]


class Total(msgspec.Struct, frozen=True, kw_only=True):
    total: int


async def add(arguments: Sum) -> Total:
    return Total(total=sum(arguments.numbers))


async def refuse(arguments: Sum) -> None:
    raise OpsError("the numbers are too odd: take others")


async def fail(arguments: Sum) -> None:
    raise ZeroDivisionError


async def hang(arguments: Sum) -> None:
    await asyncio.Event().wait()


VERBS = {name.__name__: ControlVerb(Sum, name) for name in (add, refuse, fail, hang)}


@asynccontextmanager
async def talking(folder: Path) -> AsyncIterator[Any]:
    """Sends lines as they are, and gives the answers."""
    with control.address_of(folder / control.FILE_NAME) as address:
        reader, writer = await asyncio.open_unix_connection(address)

    async def say(line: bytes) -> Any:
        writer.write(line)
        answer = await asyncio.wait_for(reader.readline(), TIMEOUT_S)
        return json.loads(answer) if answer else None

    yield say
    writer.close()


async def asked(folder: Path, verb: str, *numbers: int) -> int:
    total = await asyncio.to_thread(ask, folder, verb, Sum(numbers=list(numbers)), Total)
    return total.total


async def test_a_request_is_answered(tmp_path: Path) -> None:
    async with serve(tmp_path, VERBS):
        assert await asked(tmp_path, "add", 2, 3) == 5
        async with talking(tmp_path) as say:
            for _ in range(2):
                line = b'{"verb": "add", "arguments": {"numbers": [1, 2]}}\n'
                assert await say(line) == {"result": {"total": 3}}


async def test_nobody_but_the_owner_may_open_it(tmp_path: Path) -> None:
    """I12"""
    async with serve(tmp_path, VERBS):
        assert stat.S_IMODE((tmp_path / control.FILE_NAME).stat().st_mode) == 0o600


async def test_what_goes_wrong_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serve(tmp_path, VERBS):
        with pytest.raises(OpsError, match="too odd"):
            await asked(tmp_path, "refuse")
        with pytest.raises(OpsError, match=r"fail failed, .*ZeroDivisionError"):
            await asked(tmp_path, "fail")
        assert "Traceback" in caplog.text
        with pytest.raises(OpsError, match="knows no 'fly'"):
            await asked(tmp_path, "fly")
        async with talking(tmp_path) as say:
            for line in (b"no json\n", b"{}\n", b'{"verb": "add", "arguments": {"numbers": 7}}\n'):
                assert "does not understand" in (await say(line))["error"]


async def test_a_line_without_end_ends_the_connection_alone(tmp_path: Path) -> None:
    """I11"""
    async with serve(tmp_path, VERBS):
        async with talking(tmp_path) as say:
            assert await say(b"x" * (2 * control.LINE_BYTES_MAX)) is None
        assert await asked(tmp_path, "add", 1) == 1


async def test_a_stop_waits_for_nobody(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def hang_once_begun(arguments: Sum) -> None:
        begun.set()
        await hang(arguments)

    async with asyncio.timeout(TIMEOUT_S):
        async with serve(tmp_path, {**VERBS, "hang": ControlVerb(Sum, hang_once_begun)}), talking(tmp_path) as say:
            waiting = asyncio.create_task(asked(tmp_path, "hang"))
            assert await say(b'{"verb": "add", "arguments": {"numbers": []}}\n') == {"result": {"total": 0}}
            await begun.wait()
        with pytest.raises(OpsError, match="stopped before it answered"):
            await waiting
    assert not (tmp_path / control.FILE_NAME).exists()


@pytest.mark.parametrize("turns", range(1, 9))
async def test_a_stop_ends_whoever_was_let_in_at_the_last_moment(tmp_path: Path, turns: int) -> None:
    """Not before the first turn: a socket that asyncio's own loop accepts in the turn of the close it closes never."""
    async with serve(tmp_path, VERBS):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / control.FILE_NAME))
        writer.write(b'{"verb": "hang", "arguments": {"numbers": []}}\n')
        for _ in range(turns):
            await asyncio.sleep(0)
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), TIMEOUT_S) == b""
    writer.close()


async def test_a_stop_before_the_request_is_read(tmp_path: Path) -> None:
    with control.bind(tmp_path / control.FILE_NAME) as bound:
        bound.listen()
        waiting = asyncio.create_task(asked(tmp_path, "add"))
        connection, _ = await asyncio.to_thread(bound.accept)
        await asyncio.to_thread(connection.recv, 1, socket.MSG_PEEK)
        connection.close()  # with the request in it: the kernel says that it was reset
        with pytest.raises(OpsError, match="stopped before it answered"):
            await waiting


async def test_where_no_engine_runs(tmp_path: Path) -> None:
    with pytest.raises(NoEngine, match="no engine runs"):
        await asked(tmp_path, "add")
    bound = control.bind(tmp_path / control.FILE_NAME)  # as one that was killed leaves it
    bound.close()
    with pytest.raises(NoEngine):
        await asked(tmp_path, "add")
    async with serve(tmp_path, VERBS):
        assert await asked(tmp_path, "add", 1) == 1


async def test_a_folder_with_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    open_files = len(os.listdir("/proc/self/fd"))
    async with serve(folder, VERBS):
        assert await asked(folder, "add", 1) == 1
    assert len(os.listdir("/proc/self/fd")) == open_files


async def test_a_folder_where_no_socket_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"can't be made: .*--data"):
        async with serve(tmp_path / "nowhere", VERBS):
            pass
