"""The Chromium that the tests of the web client look with: `signet test` brings it where a package manager can.

Only Debian's is known here. Where there is none, or no right to install, the tests themselves say what to do.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ops.installing import say

PACKAGES: Final = ("chromium", "fonts-dejavu-core", "fonts-noto-color-emoji", "fonts-vlgothic")
"""With fonts, as it brings none: without them screenshots show boxes for emoji and for Japanese."""
REMEDY: Final = (
    f"install one (Debian: apt-get install {' '.join(PACKAGES)}), or let the environment variable CHROMIUM name it"
)
TESTS: Final = "tests/web"
_WAITING: Final = ("-o", "DPkg::Lock::Timeout=300")
"""In seconds, while the system installs something of its own."""
_SHOWN_LINES: Final = 10


def find() -> str | None:
    """The path of the one that CHROMIUM names, else of the usual one."""
    return shutil.which(os.environ.get("CHROMIUM", "chromium"))


def bring() -> None:
    """Install it where it is missing and this may be done. Where it can't be, say so: the other tests need none."""
    if find() is not None:
        return
    apt = installer()
    if apt is None or "CHROMIUM" in os.environ:
        say(f"there is no Chromium, so the tests in {TESTS} will fail: {REMEDY}.")
        return
    say(f"installing Chromium and fonts, for the tests in {TESTS}: 100 MB, only once…")
    install = [*apt, *_WAITING, "install", "-y", "--no-install-recommends", *PACKAGES]
    # At first the list of packages is missing, as in a new container, or it is too old.
    if run(install) is not None and (failure := run([*apt, *_WAITING, "update"]) or run(install)) is not None:
        say(f"Chromium could not be installed, so the tests in {TESTS} will fail:\n{failure}\nsignet: {REMEDY}.")


def installer() -> Sequence[str] | None:
    """How apt-get is run by somebody who may; None where there is none, or a password would be asked for."""
    apt = shutil.which("apt-get")
    if apt is None:
        return None
    if os.geteuid() == 0:
        return (apt,)
    sudo = shutil.which("sudo")
    if sudo is None or subprocess.run([sudo, "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True).returncode:
        return None
    return (sudo, "-n", "DEBIAN_FRONTEND=noninteractive", apt)


def run(command: Sequence[str]) -> str | None:
    """None where it went well, else the end of what it said."""
    ran = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )  # fmt: skip
    return "\n".join(ran.stdout.strip().splitlines()[-_SHOWN_LINES:]) if ran.returncode else None


def is_for(paths: Sequence[str], home: Path, folder: Path) -> bool:
    """Whether tests that are named so include those that look. No path is all of them."""
    tests = home / TESTS
    named = [(folder / path.partition("::")[0]).resolve() for path in paths if not path.startswith("-")]
    return not named or any(tests.is_relative_to(path) or path.is_relative_to(tests) for path in named)
