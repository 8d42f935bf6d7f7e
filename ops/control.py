"""The control socket: how a verb that changes something asks the engine that owns the data folder.

It is `control.sock` in the folder, and only the folder's owner may open it (mode 0600). A request is one JSON line,
`{"verb": "parked.retry", "arguments": {…}}`, and so is its answer: `{"result": …}`, or `{"error": "what is wrong and
what to do"}`. A connection may ask one after the other. An engine that stops drops what it has not answered.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from ops.errors import OpsError

_log = logging.getLogger("signet.control")

FILE_NAME: Final = "control.sock"
LINE_BYTES_MAX: Final = 65_536
"""Of a request; a longer one ends the connection."""
_ADDRESS_BYTES_MAX: Final = 100
"""The address of a socket holds 108 bytes, on macOS 104."""

T = TypeVar("T")


class ControlVerb(NamedTuple):
    """What the engine can be asked for."""

    arguments: type[msgspec.Struct]
    run: Callable[[Any], Awaitable[Any]]
    """Gets the arguments; gives anything that msgspec encodes. An OpsError of it becomes the answer's `error`."""


class NoEngine(OpsError):
    """No engine listens on this folder."""


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    verb: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None


@asynccontextmanager
async def serve(folder: Path, verbs: Mapping[str, ControlVerb]) -> AsyncIterator[None]:
    """Answers on the folder's socket; the folder is owned by this process. Raises OpsError."""
    talks: set[asyncio.Task[Any]] = set()
    stopping = False

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if stopping:  # It was let in at the last moment: the others have been ended.
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            # A cancellation is this module's own, and ends here.
            with contextlib.suppress(OSError, ValueError, asyncio.CancelledError):
                await _talk(reader, writer, verbs)
        finally:
            talks.discard(task)
            writer.close()

    path = folder / FILE_NAME
    server = await asyncio.start_unix_server(talk, sock=bind(path), limit=LINE_BYTES_MAX)
    try:
        yield
    finally:
        stopping = True
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        path.unlink(missing_ok=True)


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, verbs: Mapping[str, ControlVerb]) -> None:
    while line := await reader.readline():
        writer.write(msgspec.json.encode(await _answer(line, verbs)) + b"\n")
        await writer.drain()


async def _answer(line: bytes, verbs: Mapping[str, ControlVerb]) -> _Answer:
    try:
        request = msgspec.json.decode(line, type=_Request)
        verb = verbs.get(request.verb)
        if verb is None:
            return _Answer(error=f"this engine knows no {request.verb!r}; is it of an older release? Restart it.")
        arguments = msgspec.json.decode(request.arguments, type=verb.arguments)
    except msgspec.MsgspecError as error:
        return _Answer(error=f"the engine does not understand the request: {error}")
    try:
        _log.info("asked for %s: %s", request.verb, arguments)
        return _Answer(result=msgspec.Raw(msgspec.json.encode(await verb.run(arguments))))
    except OpsError as error:
        return _Answer(error=str(error))
    except Exception as error:
        _log.exception("%s failed", request.verb)
        return _Answer(error=f"{request.verb} failed, and the engine's log says where: {error!r}")


def ask(folder: Path, verb: str, arguments: msgspec.Struct, result: type[T]) -> T:
    """The engine's answer. Raises NoEngine, and OpsError with what the engine says."""
    # Two steps: `msgspec.Raw` fields are references into what was decoded.
    request = _Request(verb=verb, arguments=msgspec.Raw(msgspec.json.encode(arguments)))
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            with address_of(folder / FILE_NAME) as address:
                sock.connect(address)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoEngine(f"no engine runs on {folder}") from error
        except OSError as error:
            raise OpsError(
                f"the engine on {folder} can't be asked: {error}. Ask as the user that it runs as."
            ) from error
        line = b""
        with contextlib.suppress(ConnectionError), sock.makefile("rb") as lines:
            sock.sendall(msgspec.json.encode(request) + b"\n")
            line = lines.readline()
    if not line:
        raise OpsError(f"the engine on {folder} stopped before it answered; look what came of it, and ask again")
    answer = msgspec.json.decode(line, type=_Answer)
    if answer.error is not None:
        raise OpsError(answer.error)
    return msgspec.json.decode(answer.result, type=result)


def bind(path: Path) -> socket.socket:
    """For this user alone. Raises OpsError."""
    path.unlink(missing_ok=True)  # that of an engine which was killed
    sock = socket.socket(socket.AF_UNIX)
    try:
        with address_of(path) as address:
            sock.bind(address)
        # Before `listen`, so that nobody can connect in between.
        path.chmod(0o600)
    except OSError as error:
        sock.close()
        raise OpsError(f"the socket {path} can't be made: {error}. Name another folder by --data.") from error
    return sock


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """The path as the address of a socket, also where it is longer than one may be (Linux only)."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
