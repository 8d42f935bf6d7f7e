"""HTTP over real sockets: peers that send too little, too much, or read nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from gateways.httpsocket import HEAD_BYTES_MAX, HEADERS_MAX, PIPELINED_MAX, HttpTimeouts
from signet_client import wire
from tests.gateways.live import WAIT_S, LiveServer, live_server
from tests.gateways.raw import nobody_is_left, raw_connection, small_socket, until

QUICK = HttpTimeouts(head=0.3, body=0.5, answer=0.5, tick=0.05)
GET = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


@pytest.fixture
async def quick() -> AsyncIterator[LiveServer]:
    async with live_server(http_timeouts=QUICK) as server:
        yield server


@pytest.fixture
async def server() -> AsyncIterator[LiveServer]:
    async with live_server() as server:
        yield server


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Status and code of a refusal, which is the last of the connection."""
    async with asyncio.timeout(WAIT_S):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /heal",
        GET[:-2],
        b"\r\n",
        b"POST /v1/token HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 10\r\n\r\n{",
        b"POST /v1/token HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
@pytest.mark.parametrize("first", [b"", GET], ids=["at once", "after a request"])
async def test_a_request_that_is_never_whole_is_not_waited_for(quick: LiveServer, begun: bytes, first: bytes) -> None:
    """I11: half-open connections would use up all files that a process may hold."""
    async with raw_connection(quick) as (reader, writer):
        writer.write(first)
        if first:
            await reader.readuntil(b'{"status":"ok"}')
        writer.write(begun)
        await nobody_is_left(quick)


async def test_bytes_that_trickle_don_t_put_the_deadline_off(quick: LiveServer) -> None:
    """I11"""
    async with raw_connection(quick) as (_, writer):
        trickling = asyncio.create_task(_trickle_for_ever(writer))
        await nobody_is_left(quick)
        trickling.cancel()


async def test_an_answer_that_nobody_reads_is_not_kept(quick: LiveServer) -> None:
    """I11"""
    async with raw_connection(quick, small_socket(quick.port)) as (_, writer):
        for _ in range(200):
            writer.write(b"GET /openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * PIPELINED_MAX)
        await nobody_is_left(quick)


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"hello\r\n\r\n", (400, "bad_frame")),
        (b"GET / HTTP/9.9\r\n\r\n", (400, "bad_frame")),
        (b"\x16\x03\x01\x02\x00\x01\x00", (400, "bad_frame")),
        (GET[:-2] + b"a: b\r\n" * HEADERS_MAX + b"\r\n", (431, "too_large")),
        (GET[:-2] + b"a: " + b"b" * HEAD_BYTES_MAX, (431, "too_large")),
        (b"GET /" + b"b" * 3 * HEAD_BYTES_MAX, (431, "too_large")),
        (b"\r\n" * HEAD_BYTES_MAX, (431, "too_large")),
    ],
)
async def test_what_is_no_request_is_refused_with_a_code(
    server: LiveServer, raw: bytes, answer: tuple[int, str]
) -> None:
    """I11"""
    async with raw_connection(server) as (reader, writer):
        writer.write(raw)
        assert await answer_of(reader) == answer


async def test_pipelined_requests_are_answered_in_order(server: LiveServer) -> None:
    paths = ["/healthz", "/v1/", "/nothing", "/v1/challenge"]
    async with raw_connection(server) as (reader, writer):
        writer.write(b"".join(GET.replace(b"/healthz", path.encode()) for path in paths))
        for expected in ('"status"', '"subprotocol"', '"no_such_route"', '"nonce"'):
            async with asyncio.timeout(WAIT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                assert expected in (await reader.readexactly(length)).decode()


async def test_each_pipelined_request_waits_for_its_own_turn(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I11: a packet of many requests is not one that goes through as one."""
    waiting: list[Callable[[], object]] = []
    async with raw_connection(server) as (reader, writer):
        monkeypatch.setattr(server.engine.services.turnstiles.strangers, "wait", waiting.append)
        writer.write(GET * 3)
        for _ in range(2):
            async with asyncio.timeout(WAIT_S):
                await reader.readuntil(b'{"status":"ok"}')
            await until(lambda: len(waiting) == 1)
            waiting.pop()()
        async with asyncio.timeout(WAIT_S):
            await reader.readuntil(b'{"status":"ok"}')
        assert not waiting


@pytest.mark.parametrize("flood", ["requests", "chunks"])
async def test_a_flood_in_one_packet_leaves_the_loop_to_others(server: LiveServer, flood: str) -> None:
    """I11: some 250 kB of tiny requests, or of tiny chunks."""
    ann = await server.engine.person("Ann")
    chunked = b"POST /v1/token HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n"
    raw = GET * 6_000 if flood == "requests" else chunked + b"1\r\nx\r\n" * 40_000
    async with server.device(ann) as device, raw_connection(server) as (reader, writer):
        writer.write(raw)
        await device.say(wire.Ping(id="1"))
        assert (await device.next(wire.Pong)).id == "1"
        if flood == "chunks":
            writer.write(b"0\r\n\r\n")
            async with asyncio.timeout(WAIT_S):
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 400 ")
        else:
            writer.close()


async def _trickle_for_ever(writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)
