"""Where calls meet their faults."""

import asyncio
import os
import signal
import socket
from typing import Any, Final, assert_never

import grpc

from tests.kurrentdb.faults import Call, Cut, Delay, Error, Fail, Faults, Hang, Kill, NotLeader, Point, Refuse

_STATUSES: Final[dict[Error, tuple[grpc.StatusCode, str]]] = {
    "not_ready": (grpc.StatusCode.UNAVAILABLE, "Server Is Not Ready"),
    "too_busy": (grpc.StatusCode.UNAVAILABLE, "Server Is Too Busy"),
    "timeout": (grpc.StatusCode.ABORTED, "Operation timed out: "),
    "access_denied": (grpc.StatusCode.PERMISSION_DENIED, "Access Denied"),
    "bad_request": (grpc.StatusCode.INVALID_ARGUMENT, "Bad Request"),
    "invalid_transaction": (grpc.StatusCode.INVALID_ARGUMENT, "Invalid Transaction"),
    "unknown": (grpc.StatusCode.UNKNOWN, "Unknown"),
}


class Refused(Exception):
    """A fault refuses an append in a way that the reply tells."""

    def __init__(self, error: Error) -> None:
        super().__init__(error)
        self.error = error


async def reach(faults: Faults, point: Point, call: Call, sent: int = 0) -> None:
    """Passes a point of a call, or not. Refused only where the call is an append."""
    match faults.hit(point, call, sent):
        case None:
            pass
        case Delay(seconds=seconds):
            await asyncio.sleep(seconds)
        case Hang():
            await faults.until_cleared()
        case Cut():
            cut(call.context.peer())
            await forever()
        case Kill():
            os.kill(os.getpid(), signal.SIGKILL)
        case Fail(code=code, details=details, trailers=trailers):
            await call.context.abort(grpc.StatusCode[code], details, tuple(trailers.items()))
        case NotLeader(host=host, port=port):
            await abort_not_leader(call.context, host, port)
        case Refuse(error=error):
            if call.kind == "append":
                raise Refused(error)
            await call.context.abort(*_STATUSES[error])
        case other:
            assert_never(other)


async def forever() -> None:
    """Until the call is cancelled."""
    await asyncio.get_running_loop().create_future()


async def abort_not_leader(context: Any, host: str, port: int) -> None:
    trailers = (("exception", "not-leader"), ("leader-endpoint-host", host), ("leader-endpoint-port", str(port)))
    await context.abort(grpc.StatusCode.NOT_FOUND, "Leader info available", trailers)


async def abort_refused(context: Any, error: Error) -> None:
    await context.abort(*_STATUSES[error])


def cut(peer: str) -> None:
    """Closes the connection by which this peer of a call came. gRPC has no way to say so: it is found among the
    sockets of this process."""
    port = int(peer.rpartition(":")[2])
    for name in os.listdir("/dev/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getpeername()[1] == port:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
        except OSError:
            continue  # no socket, or not connected
    raise AssertionError(f"no connection from {peer}")
