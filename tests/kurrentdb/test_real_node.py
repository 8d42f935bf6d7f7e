"""The tests of test_behaviour.py once more, on the real node that SIGNET_TEST_KURRENTDB names."""

import importlib.util
import os
from pathlib import Path

import pytest

# A real node comes as a container or from a registry of its own, which the machines of CI don't have.
if "SIGNET_TEST_KURRENTDB" not in os.environ:
    pytest.skip("SIGNET_TEST_KURRENTDB names no real node of KurrentDB", allow_module_level=True)

# Loaded anew: the other module of this name asks a double.
_spec = importlib.util.spec_from_file_location("real_behaviour", Path(__file__).with_name("test_behaviour.py"))
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
globals().update({name: each for name, each in vars(_module).items() if not name.startswith("__")})

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # its proxies are left open
