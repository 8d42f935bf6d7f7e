"""The keyring's own backup: a copy that is whole while the engine runs, and a note beside the keyring that says where
the last one lies, for the day on which it is needed."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import apsw
import msgspec

from commands.sqlite_copy import copy_sqlite, sync_path

_NOTE: Final = ".backup.json"


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    at: str
    """When it was made, ISO 8601, UTC."""
    keys: int


class BackupFailed(Exception):
    """There is no backup: what is wrong and what to do."""


def back_up(keyring: Path, target: Path, *, kept_at: Path | None = None) -> Backup:
    """Copies the keyring into a new file, beside the process that owns it. It is on disk, and was read back, before it
    gets its name. `kept_at`: where the copy will lie, if that is elsewhere. Raises BackupFailed."""
    if target.exists():
        # An emptied keyring must never take the place of the backup that could mend it.
        raise BackupFailed(f"{target} exists already: name a new file")
    draft = target.with_name(f"{target.name}.new")
    try:
        draft.unlink(missing_ok=True)
        keys = _copy(keyring, draft)
        draft.replace(target)
        sync_path(target.parent)
    except (apsw.Error, OSError) as error:
        draft.unlink(missing_ok=True)
        raise BackupFailed(f"the keyring {keyring} could not be copied to {target}: {error}") from error
    made = Backup(
        path=str((kept_at or target).absolute()), at=datetime.now(UTC).isoformat(timespec="seconds"), keys=keys
    )
    _note_of(keyring).write_bytes(msgspec.json.encode(made))
    return made


def remedy(keyring: Path) -> str:
    """What to do where the keyring is missing or damaged."""
    last = last_backup(keyring)
    where = "none was made by `signet keyring backup`" if last is None else f"the last one: {last.path}, {last.at}"
    return (
        f"restore it from its own backup ({where}): `signet keyring --help` says how. Without it the sealed texts can't"
        " be read; where it is lost for good, `signet keyring create` makes an empty one."
    )


def last_backup(keyring: Path) -> Backup | None:
    """The last one that was made; None where nobody made one, or where that is no longer known."""
    try:
        return msgspec.json.decode(_note_of(keyring).read_bytes(), type=Backup)
    except (OSError, msgspec.MsgspecError):
        return None


def _note_of(keyring: Path) -> Path:
    return keyring.with_name(f"{keyring.stem}{_NOTE}")


def _copy(keyring: Path, draft: Path) -> int:
    """How many keys were copied."""
    copy_sqlite(keyring, draft)
    with closing(apsw.Connection(str(draft), flags=apsw.SQLITE_OPEN_READONLY)) as copy:
        [[found]] = copy.execute("PRAGMA integrity_check(1)")
        if found != "ok":
            raise apsw.CorruptError(found)
        [[keys]] = copy.execute("SELECT count(*) FROM keys")
    return int(keys)
