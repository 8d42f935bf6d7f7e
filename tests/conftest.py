"""What holds for all tests.

Hypothesis profiles: in CI the same examples each time, by hand new ones; no deadlines on shared machines.
"""

import asyncio.constants
import importlib.util
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.s3 import Server

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("hand", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "hand")

# asyncio's debug mode keeps the stack of every future that is made. CPython 3.11 sometimes makes a ring of the frames
# where gRPC's coroutines resume them, and without a limit the walk around it never ends.
sys.tracebacklimit = 100

# It keeps it for each callback, too. Ten frames, as is the default, took a third of the time of tests that use sockets;
# three tell who made a future that nobody awaited.
setattr(asyncio.constants, "DEBUG_STACK_DEPTH", 3)  # noqa: B010 - a constant of its

# To start a server as another user Python forks, and with that gRPC's handlers would run in the child: where a thread
# was in gRPC at that moment, the child has died before it became PostgreSQL.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# httpcore looks for it anew at each request, in every folder of the path.
if importlib.util.find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The scenarios come first: they take longest, and at the end the workers share best what is short."""
    items.sort(key=lambda item: "scenarios" not in item.path.parts)


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """An S3 server of each worker's own; whoever kills it starts it again."""
    with Server() as server:
        yield server
