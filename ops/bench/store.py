"""The CPU of a store's server, where it runs on this machine: what a message costs there."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

from ops.engine import cpu_of

_LISTENS = "0A"
"""The state of a listening socket in /proc/net/tcp (proc(5))."""


class StoreServer:
    """The process that listens at the URL's port, and its children."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    @classmethod
    def at(cls, url: str) -> "StoreServer | None":
        """None where there is none on this machine, or where it is another user's."""
        parts = urlsplit(url)
        if parts.port is None or parts.hostname not in ("127.0.0.1", "localhost", "::1", socket.gethostname()):
            return None
        sockets = {f"socket:[{inode}]" for inode in _listening(parts.port)}
        for folder in Path("/proc").glob("[0-9]*"):
            if any(_target(each) in sockets for each in _files(folder)):
                return cls(int(folder.name))
        return None

    def cpu_s(self) -> float:
        return cpu_of(self.pid)


def _listening(port: int) -> set[str]:
    """The inodes of the sockets."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        fields = [line.split() for line in lines]
        found |= {each[9] for each in fields if each[3] == _LISTENS and int(each[1].rpartition(":")[2], 16) == port}
    return found


def _files(folder: Path) -> list[Path]:
    try:
        return list((folder / "fd").iterdir())
    except OSError:
        return []


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
