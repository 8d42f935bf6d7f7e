"""The cutting proxy cuts where it is told to, and lets everything before through."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from websockets.frames import Frame, Opcode

from tests.proxy import Fault, How, Meter, Proxy, Side

WAIT_S: Final = 20
HANDSHAKE: Final = b"GET /v1/live HTTP/1.1\r\nHost: x\r\n\r\n"
FRAMES: Final = [
    Frame(Opcode.TEXT, bytes(length)).serialize(mask=mask)
    for length in (0, 1, 125, 126, 300, 70_000)
    for mask in (True, False)
]


class Server:
    """Keeps what comes; answers nothing by itself."""

    def __init__(self) -> None:
        self.port = 0
        self.joined: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(
        lambda reader, writer: server.joined.put_nowait((reader, writer)), "127.0.0.1", 0
    )
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


class Line:
    """Both ends of one connection through a proxy."""

    def __init__(self, proxy: Proxy, client: "End", server: "End") -> None:
        self.proxy = proxy
        self.client = client
        self.server = server


class End:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reset(self) -> bytes:
        """What has come before a reset."""
        came = bytearray()
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionResetError):
                while more := await self.reader.read(65_536):
                    came += more
                raise AssertionError("it ended by a FIN")
        return bytes(came)

    async def expect(self, data: bytes) -> None:
        async with asyncio.timeout(WAIT_S):
            assert await self.reader.readexactly(len(data)) == data


@asynccontextmanager
async def line(fault: Fault) -> AsyncIterator[Line]:
    async with serving() as server, Proxy.to(server.port, fault) as proxy:
        client = End(*await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2])))
        at_server = End(*await server.joined.get())
        try:
            yield Line(proxy, client, at_server)
        finally:
            client.writer.close()
            at_server.writer.close()


def test_frames_are_counted_however_their_bytes_come() -> None:
    rng = random.Random(1)
    stream, ends = HANDSHAKE + b"".join(FRAMES), []
    meter, at = Meter(), 0
    while at < len(stream):
        piece = stream[at : at + rng.choice([1, 2, 7, 300, 50_000])]
        ends += [at + offset for offset in meter.boundaries(piece)]
        at += len(piece)
    lengths = [len(HANDSHAKE), *(len(frame) for frame in FRAMES)]
    assert ends == [sum(lengths[: count + 1]) for count in range(len(lengths))]
    assert (meter.frames, meter.bytes) == (len(FRAMES), len(stream))


@pytest.mark.parametrize("frames", [0, 1, 3])
async def test_a_cut_comes_right_behind_a_frame(frames: int) -> None:
    async with line(Fault(side=Side.CLIENT, how=How.RESET, frames=frames)) as cut:
        cut.client.writer.write(HANDSHAKE + b"".join(FRAMES[:5]))
        await cut.server.reset()
        await cut.client.reset()
        assert cut.proxy.fired.is_set()
        [meters] = cut.proxy.lives
        assert meters[Side.SERVER].bytes == 0


@pytest.mark.parametrize("at", [20, len(HANDSHAKE), len(HANDSHAKE) + 1, len(HANDSHAKE) + 9])
async def test_everything_before_the_byte_arrives_and_nothing_after(at: int) -> None:
    async with line(Fault(side=Side.CLIENT, how=How.DROP, bytes=at)) as cut:
        stream = HANDSHAKE + b"".join(FRAMES[:4])
        cut.client.writer.write(stream)
        await cut.server.expect(stream[:at])
        cut.server.writer.write(b"the other way it still works")
        await cut.client.expect(b"the other way it still works")
        cut.proxy.cut()
        assert await cut.server.reset() == b""


async def test_half_a_cut_is_heard_of_by_one_side() -> None:
    async with line(Fault(side=Side.CLIENT, how=How.HALF, frames=0)) as cut:
        cut.client.writer.write(HANDSHAKE)
        await cut.client.reset()
        await cut.server.expect(HANDSHAKE)
        cut.server.writer.write(b"is anybody there?")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await cut.server.reader.read(1)


async def test_after_a_silence_nobody_hears_that_the_other_has_gone() -> None:
    async with line(Fault(side=Side.SERVER, how=How.SILENCE, bytes=3)) as cut:
        cut.client.writer.write(HANDSHAKE)
        await cut.server.expect(HANDSHAKE)
        cut.server.writer.write(b"HTTP")
        await cut.client.expect(b"HTT")
        cut.server.writer.close()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await cut.client.reader.read(1)


async def test_what_is_delayed_comes_later_whole_and_in_order() -> None:
    async with line(Fault(side=Side.CLIENT, how=How.DELAY, bytes=10, delay_s=0.1)) as cut:
        cut.client.writer.write(HANDSHAKE)
        await cut.server.expect(HANDSHAKE[:10])
        cut.client.writer.write(FRAMES[0])
        await cut.server.expect(HANDSHAKE[10:] + FRAMES[0])


async def test_a_fault_that_has_not_come_waits_for_the_next_live_connection() -> None:
    fault = Fault(side=Side.CLIENT, how=How.RESET, frames=1)
    async with serving() as server, Proxy.to(server.port, fault) as proxy:
        port = int(proxy.url.rpartition(":")[2])
        for frames in (FRAMES[:0], FRAMES[:1]):
            client = End(*await asyncio.open_connection("127.0.0.1", port))
            client.writer.write(HANDSHAKE + b"".join(frames))
            at_server = End(*await server.joined.get())
            if frames:
                await at_server.reset()
            else:
                await at_server.expect(HANDSHAKE)
                client.writer.close()
                assert await at_server.reader.read() == b""
            client.writer.close()
            at_server.writer.close()
        assert proxy.fired.is_set()
