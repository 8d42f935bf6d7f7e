"""A server of ours in a process of its own, which ends with this one, however this one ends."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

STOP_MAX_S: Final = 5.0
"""After SIGTERM; then it is killed."""

_LAUNCHER: Final = """
import ctypes, os, sys
os.umask(0o077)
if sys.platform == "linux" and ctypes.CDLL(None).prctl(1, 9):  # PR_SET_PDEATHSIG, SIGKILL
    sys.exit("prctl refuses PR_SET_PDEATHSIG")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the engine is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Becomes the program. What subprocess would run between fork and exec may hang where there are threads."""


async def start_child(
    command: Sequence[str], environment: Mapping[str, str], pid_file: Path
) -> asyncio.subprocess.Process:
    """With nothing else in its environment, and a pipe for its stderr. On Linux the kernel kills it when the thread
    that calls this ends; elsewhere `end_leftover` does, the next time. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the engine, which ends it in its turn
    )
    _note(pid_file, process.pid)
    return process


async def end_child(process: asyncio.subprocess.Process, pid_file: Path) -> None:
    """Also where it has ended by itself."""
    await stop_process(process, STOP_MAX_S)
    _note(pid_file, None)


async def stop_process(process: asyncio.subprocess.Process, patience_s: float) -> None:
    """By SIGTERM, and by SIGKILL where that takes longer. Also where it has ended by itself."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), patience_s)
    except TimeoutError:
        process.kill()
        await process.wait()


async def next_line(stream: asyncio.StreamReader) -> str:
    """Of what a child says. Empty at the end; what is longer than any line of a log is skipped."""
    while True:
        try:
            return (await stream.readline()).decode(errors="replace")
        except ValueError:
            continue


def end_leftover(pid_file: Path, sign: str) -> None:
    """Kills what `start_child` has started last, if it outlived its engine. Its command line must hold `sign`: the pid
    may be another's by now. Blocks until it is gone."""
    try:
        pid = int(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return
    deadline = time.monotonic() + STOP_MAX_S
    while sign in _command_line(pid) and time.monotonic() < deadline:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)  # It is no child of ours: nothing tells when it is gone.


def _note(pid_file: Path, pid: int | None) -> None:
    if pid is None:
        pid_file.unlink(missing_ok=True)
    else:
        pid_file.write_text(str(pid))


def _command_line(pid: int) -> str:
    """What this process was started as, its arguments parted by spaces; empty where there is no such process."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            return ""
    listed = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], stdout=subprocess.PIPE, text=True)
    return listed.stdout


def free_port() -> int:
    """Below those that the system gives to clients, so that it stays free while the server is dead."""
    while True:
        port = random.randrange(20_000, 32_000)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        # As servers do: connections of the one that died are no obstacle.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
