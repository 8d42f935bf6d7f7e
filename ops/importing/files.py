"""The logs that the paths on the command line mean: raw logs, folders of them, and tar archives."""

import lzma
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import IO, Final

import msgspec

from ops.errors import OpsError
from ops.importing.links import Links, parse_links

RAW: Final = ".raw.txt"
ANNOTATION: Final = ".annotation.txt"

_DATE: Final = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)")
_DAMAGED: Final = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError)


Source = Callable[[], bytes]
"""What stands in a file, as long as `day_logs` has it open. Raises OSError."""


class DayLog(msgspec.Struct, frozen=True, kw_only=True):
    """A raw log, and what is known beside it of who answers whom."""

    name: str
    """The file's name, without its folder: by it a later run knows the file again."""
    date: date
    """Of its first line."""
    raw: Source
    annotation: Source | None

    def text(self) -> str:
        """Raises OpsError."""
        return _read(self.raw, self.name)

    def links(self) -> Links:
        """Raises OpsError."""
        if self.annotation is None:
            return {}
        what = f"the annotations of {self.name}"
        return parse_links(_read(self.annotation, what), what)


@contextmanager
def day_logs(paths: Sequence[Path]) -> Iterator[list[DayLog]]:
    """Those of all paths in their order, within each by name. Raises OpsError."""
    with tempfile.TemporaryFile() as unpacked:
        logs: list[DayLog] = []
        for path in paths:
            logs += _logs_of(path, unpacked)
        _check_names(logs)
        yield logs


def _logs_of(path: Path, unpacked: IO[bytes]) -> list[DayLog]:
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): file.read_bytes for file in path.rglob("*") if file.is_file()}
        return _paired(files, path)
    try:
        if tarfile.is_tarfile(path):
            return _paired(_unpack(path, unpacked), path)
    except _DAMAGED as error:
        raise OpsError(f"{path} can't be read: {error}. Is it whole?") from error
    beside = path.with_name(path.name.removesuffix(RAW) + ANNOTATION)
    has_annotation = path.name.endswith(RAW) and beside.exists()
    return [_day_log(path.name, path.read_bytes, beside.read_bytes if has_annotation else None)]


def _unpack(archive: Path, unpacked: IO[bytes]) -> dict[str, Source]:
    """The archive's logs and annotations, by their names in it, one after the other in `unpacked`, which has no name on
    the disk: what an archive says of paths is not followed, and whoever is killed leaves nothing behind."""
    files: dict[str, Source] = {}
    # As a stream: to go back in what is compressed is to begin anew.
    with tarfile.open(archive, "r|*") as stream:
        for member in stream:
            source = stream.extractfile(member) if member.isfile() and member.name.endswith((RAW, ANNOTATION)) else None
            if source is not None:
                files[member.name] = partial(os.pread, unpacked.fileno(), member.size, unpacked.tell())
                shutil.copyfileobj(source, unpacked)
    unpacked.flush()
    return files


def _paired(files: Mapping[str, Source], where: Path) -> list[DayLog]:
    logs = [
        _day_log(name.rpartition("/")[2], file, files.get(name.removesuffix(RAW) + ANNOTATION))
        for name, file in sorted(files.items())
        if name.endswith(RAW)
    ]
    if not logs:
        raise OpsError(f"there are no raw logs in {where}: their names begin with a date, and end with {RAW}")
    return logs


def _day_log(name: str, raw: Source, annotation: Source | None) -> DayLog:
    return DayLog(name=name, date=_date_in(name), raw=raw, annotation=annotation)


def _date_in(name: str) -> date:
    found = _DATE.search(name)
    try:
        return date.fromisoformat(found[0] if found else "")
    except ValueError as error:
        raise OpsError(
            f"the name of {name!r} does not tell its day: rename it to something like 2005-02-08{RAW}"
        ) from error


def _check_names(logs: Iterable[DayLog]) -> None:
    """A line is known again by the name of its file."""
    known: dict[str, DayLog] = {}
    for log in logs:
        if known.setdefault(log.name, log) is not log:
            raise OpsError(f"two logs have the name {log.name}: name each once, or rename one of them")


def _read(source: Source, what: str) -> str:
    try:
        return source().decode(errors="replace")
    except OSError as error:
        raise OpsError(f"{what} can't be read: {error}") from error
