"""A double of a node of KurrentDB: python -m tests.kurrentdb.node --db FOLDER --port N

It answers as EventStoreDB 24.6.0 does, as far as test_behaviour.py asks, and keeps its log in the folder. When it
serves it prints a line of JSON: its URI, its port, and the port by which tests tell it what to do wrong (control.py).
"""

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec

from tests.kurrentdb import control
from tests.kurrentdb.faults import Fault, Faults
from tests.kurrentdb.gossip import gossip_handler
from tests.kurrentdb.log import Log
from tests.kurrentdb.streams import Streams

HOST: Final = "127.0.0.1"
_OPTIONS: Final = (
    ("grpc.max_concurrent_streams", 100),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # However often clients ping.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 100),
)


class Serving(msgspec.Struct, frozen=True):
    """What it prints."""

    uri: str
    port: int
    control_port: int


async def serve(folder: Path, port: int, faults: list[Fault], ends_with_stdin: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopped.set)
    log, injected = Log(folder), Faults()
    for fault in faults:
        injected.add(fault)
    writing = asyncio.create_task(log.run())
    writing.add_done_callback(lambda _: stopped.set())
    server = grpc.aio.server(options=_OPTIONS)
    bound = server.add_insecure_port(f"{HOST}:{port}")
    server.add_generic_rpc_handlers((Streams(log, injected).handler(), gossip_handler(HOST, bound, injected)))
    controlled = await control.serve(injected)
    await server.start()
    serving = Serving(f"kdb://{HOST}:{bound}?Tls=false", bound, controlled.sockets[0].getsockname()[1])
    sys.stdout.buffer.write(msgspec.json.encode(serving) + b"\n")
    sys.stdout.buffer.flush()
    if ends_with_stdin:
        loop.add_reader(sys.stdin.fileno(), stopped.set)
    await stopped.wait()
    await server.stop(grace=None)
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing  # it ends by itself only by a fault of ours
    log.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kurrentdb.node", description=__doc__)
    parser.add_argument(
        "--db", type=Path, required=True, metavar="FOLDER", help="where the log is; made if it is missing"
    )
    parser.add_argument("--port", type=int, default=2113, help="of 127.0.0.1; 0: a free one")
    parser.add_argument(
        "--faults", default="[]", metavar="JSON", help="faults that are there from the start (faults.py)"
    )
    parser.add_argument("--ends-with-stdin", action="store_true", help="stop at the end of the input")
    given: Any = parser.parse_args()
    if given.port and _is_taken(given.port):
        sys.exit(f"another server listens at port {given.port}")
    faults = msgspec.json.decode(given.faults, type=list[Fault])
    asyncio.run(serve(given.db, given.port, faults, given.ends_with_stdin))


def _is_taken(port: int) -> bool:
    """gRPC would share it."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


if __name__ == "__main__":
    main()
