"""The logs that the paths on the command line mean: raw logs, folders of them, and tar archives."""

import lzma
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

from ops.errors import OpsError
from ops.importing.links import Links, parse_links

RAW: Final = ".raw.txt"
ANNOTATION: Final = ".annotation.txt"

_DATE: Final = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)")
_DAMAGED: Final = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError)


class DayLog(msgspec.Struct, frozen=True, kw_only=True):
    """A raw log, and what is known beside it of who answers whom."""

    name: str
    """The file's name, without its folder: by it a later run knows the file again."""
    date: date
    """Of its first line."""
    raw: Path
    annotation: Path | None

    def text(self) -> str:
        return _read(self.raw)

    def links(self) -> Links:
        """Raises OpsError."""
        if self.annotation is None:
            return {}
        return parse_links(_read(self.annotation), f"the annotations of {self.name}")


@contextmanager
def day_logs(paths: Sequence[Path]) -> Iterator[list[DayLog]]:
    """Those of all paths in their order, within each by name. Archives are unpacked into a temporary folder meanwhile.
    Raises OpsError."""
    with tempfile.TemporaryDirectory(prefix="signet-import-") as temporary:
        logs: list[DayLog] = []
        for number, path in enumerate(paths):
            logs += _logs_of(path, Path(temporary, str(number)))
        _check_names(logs)
        yield logs


def _logs_of(path: Path, temporary: Path) -> list[DayLog]:
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
        return _paired(files, path)
    try:
        if tarfile.is_tarfile(path):
            return _paired(_unpack(path, temporary), path)
    except _DAMAGED as error:
        raise OpsError(f"{path} can't be read: {error}. Is it whole?") from error
    beside = path.with_name(path.name.removesuffix(RAW) + ANNOTATION)
    return [_day_log(path.name, path, beside if path.name.endswith(RAW) and beside.exists() else None)]


def _unpack(archive: Path, temporary: Path) -> dict[str, Path]:
    """The archive's logs and annotations, by their names in it. The files get names of our own: what an archive says
    of paths is not followed."""
    temporary.mkdir()
    files: dict[str, Path] = {}
    # As a stream: to go back in what is compressed is to begin anew.
    with tarfile.open(archive, "r|*") as stream:
        for member in stream:
            source = stream.extractfile(member) if member.isfile() and member.name.endswith((RAW, ANNOTATION)) else None
            if source is not None:
                files[member.name] = temporary / str(len(files))
                with files[member.name].open("wb") as target:
                    shutil.copyfileobj(source, target)
    return files


def _paired(files: dict[str, Path], where: Path) -> list[DayLog]:
    logs = [
        _day_log(name.rpartition("/")[2], file, files.get(name.removesuffix(RAW) + ANNOTATION))
        for name, file in sorted(files.items())
        if name.endswith(RAW)
    ]
    if not logs:
        raise OpsError(f"there are no raw logs in {where}: their names begin with a date, and end with {RAW}")
    return logs


def _day_log(name: str, raw: Path, annotation: Path | None) -> DayLog:
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


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError as error:
        raise OpsError(f"{path} can't be read: {error}") from error
