"""Imports, and is killed at its nth append: before it where n is even, after it where n is odd.

python -P -m tests.ops.dying N PATH…    with SIGNET_DATA
"""

import os
import signal
import sys
from collections.abc import Sequence

from commands.stores.sqlite import SqliteLog
from domain.log import Append, Outcome
from ops.importing.verb import app

_append = SqliteLog.append
_left = int(sys.argv.pop(1))
_after = _left % 2 == 1


async def append(log: SqliteLog, batch: Sequence[Append]) -> list[Outcome]:
    global _left
    _left -= 1
    if not _left and not _after:
        os.kill(os.getpid(), signal.SIGKILL)
    outcomes = await _append(log, batch)
    if not _left:
        os.kill(os.getpid(), signal.SIGKILL)
    return outcomes


if __name__ == "__main__":
    SqliteLog.append = append  # type: ignore[method-assign,assignment]
    sys.argv.insert(1, "irc")
    app()
