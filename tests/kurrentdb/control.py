"""How a test tells a double what to do wrong: lines of JSON over TCP, each answered by one."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from tests.kurrentdb.faults import Fault, Faults

LINE_BYTES_MAX: Final = 1 << 16


class Inject(msgspec.Struct, frozen=True, tag="inject"):
    """Answered by the fault's number."""

    fault: Fault


class Clear(msgspec.Struct, frozen=True, tag="clear"):
    """No fault is set any more, and what hangs goes on."""


class UntilHit(msgspec.Struct, frozen=True, tag="until_hit"):
    """Answered once the fault has hit so often."""

    number: int
    times: int


class UntilAsked(msgspec.Struct, frozen=True, tag="until_asked"):
    """Answered once so many requests of the kind have come since the start."""

    kind: str
    times: int


class UntilOpen(msgspec.Struct, frozen=True, tag="until_open"):
    """Answered once exactly so many calls of the kind are open."""

    kind: str
    calls: int


Command = Inject | Clear | UntilHit | UntilAsked | UntilOpen


class Answer(msgspec.Struct, frozen=True):
    number: int = 0
    """Of the fault that was injected."""
    asked: dict[str, int] = {}
    """How many requests of each kind have come since the start."""
    open: dict[str, int] = {}
    """How many calls of each kind are open."""


async def serve(faults: Faults) -> asyncio.Server:
    """On a port of its own of 127.0.0.1."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                reply = await _do(faults, msgspec.json.decode(line, type=Command))
                writer.write(msgspec.json.encode(reply) + b"\n")
                await writer.drain()
        except OSError:
            pass  # the test has gone
        finally:
            writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0, limit=LINE_BYTES_MAX)


async def _do(faults: Faults, command: Command) -> Answer:
    number = 0
    match command:
        case Inject(fault=fault):
            number = faults.add(fault)
        case Clear():
            faults.clear()
        case UntilHit(number=number, times=times):
            await _until(faults, lambda: faults.hits[number] >= times)
        case UntilAsked(kind=kind, times=times):
            await _until(faults, lambda: faults.asked[kind] >= times)
        case UntilOpen(kind=kind, calls=calls):
            await _until(faults, lambda: faults.open[kind] == calls)
    return Answer(number=number, asked=dict(faults.asked), open=dict(faults.open))


async def _until(faults: Faults, is_so: Callable[[], bool]) -> None:
    while not is_so():
        await faults.change()
