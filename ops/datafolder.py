"""The data folder: everything of one server, with one owner at a time.

lock            held by the owner for as long as it lives
server.json     the server's name, set at the first start, and its epoch; its URL while it runs
log.db          the event log, where it is SQLite
mailbox.db      what waits for devices that have not taken it yet
invitations.db  with what accounts may be registered where that is not open to all
keyring.db      the keys that seal personal texts: back it up apart from the log
keyring.backup.json   where its last backup lies
control.sock    where the running engine is asked for changes; for the folder's owner alone
snapshots.db    the writer's states, so that they are not read from the log's beginning; may be thrown away
analytics/      the tables of `signet analytics`, where they are embedded; may be thrown away
media/          pictures and other files, as ciphertext, and the S3 server that serves them; not in `signet backup`
demo/           the clients of `signet up --demo`, with their keys: they vouch for the browsers
restoring.json  while `signet restore` is at work, or was broken off
rebuild-*.lock  held by whoever rebuilds a read model
readmodels/     where they are in SQLite; may be thrown away; each version of a read model is a file of its own
"""

import fcntl
import os
import shutil
from pathlib import Path
from typing import Final

import msgspec

from commands.ids import new_uuid
from ops.errors import OpsError

KEYRING: Final = "keyring.db"
MAILBOX: Final = "mailbox.db"
MEDIA: Final = "media"
ANALYTICS: Final = "analytics"
DEFAULT_NAME: Final = "localhost"
DISK_MIN_BYTES: Final = 64_000_000
"""With less room the log may be full within minutes."""


RESTORING: Final = "restoring.json"
"""While it is there, the folder holds half a restored server."""


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """That the log was restored from a backup: what was accepted after it is gone."""

    before: str
    """The epoch of the server that was backed up."""
    position: int
    """Up to which the log is what it was before."""
    at: int = 0
    """When that was, microseconds since 1970, UTC."""


class ServerFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    epoch: str = ""
    """Another one after each restore: devices compare it with the one that they know."""
    restored: Restored | None = None
    url: str | None = None
    """Where the running server is reached."""
    pid: int | None = None


class DataFolder:
    """The folder, owned by this process until `close`. Raises OpsError where another process owns it."""

    def __init__(self, path: Path, *, restoring: bool = False) -> None:
        """`restoring`: it may hold half a restored server."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OpsError(f"the data folder {path} can't be used: {error}. Name another one by --data.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            server = read_server_file(path)
            where = f" (pid {server.pid}, {server.url})" if server is not None and server.pid else ""
            raise OpsError(
                f"the data folder {path} belongs to an engine that runs already{where}. Stop it, or name another "
                "folder by --data."
            ) from error
        if not restoring and (path / RESTORING).exists():
            os.close(self._lock)
            raise OpsError(
                f"the data folder {path} holds half a restored server: call the same `signet restore` again, which goes"
                " on with it"
            )

    def server(self, wanted: str | None) -> ServerFile:
        """What the server is called for ever, and its epoch; set now where it has none yet."""
        server = read_server_file(self.path)
        if server is None or not server.epoch:
            name = server.name if server is not None else wanted or DEFAULT_NAME
            server = ServerFile(name=name, epoch=new_uuid())
            self.write(server)
        if wanted is not None and wanted != server.name:
            raise OpsError(
                f"this server is called {server.name!r} since its first start, and devices have signed that name; "
                f"take server_name = {wanted!r} out of the settings, or start anew in another folder"
            )
        return server

    def announce(self, url: str | None) -> None:
        """Says where the running server is reached; None: it runs no more."""
        server = self.server(None)
        self.write(msgspec.structs.replace(server, url=url, pid=os.getpid() if url else None))

    def close(self) -> None:
        os.close(self._lock)

    def write(self, server: ServerFile) -> None:
        """On disk when it returns."""
        target = self.path / "server.json"
        draft = target.with_suffix(".new")
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(server)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)


def read_server_file(path: Path) -> ServerFile | None:
    """What stands in the folder about its server; None where there never was one. Raises OpsError."""
    file = path / "server.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=ServerFile)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise OpsError(f"{file} can't be read: {error}. Restore it from a backup of the folder.") from error


def free_bytes(path: Path) -> int:
    """How much room is left on the folder's file system for this user."""
    return shutil.disk_usage(path).free


def running_url(path: Path) -> str:
    """The URL of the engine that runs on this folder. Raises OpsError where none does."""
    server = read_server_file(path)
    if server is None or server.url is None or not is_owned(path):
        raise OpsError(f"no engine runs on {path}. Start one: ./signet up --data {path}")
    return server.url


def is_owned(path: Path) -> bool:
    """Whether an engine runs on this folder."""
    try:
        with (path / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # a copy of the folder may lack it
        return False
    return False
