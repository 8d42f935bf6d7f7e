"""Hypothesis profiles: in CI the same examples each time, by hand new ones; no deadlines on shared machines."""

import os
import sys

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("hand", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "hand")

# asyncio's debug mode keeps the stack of every future that is made. CPython 3.11 sometimes makes a ring of the frames
# where gRPC's coroutines resume them, and without a limit the walk around it never ends.
sys.tracebacklimit = 100
