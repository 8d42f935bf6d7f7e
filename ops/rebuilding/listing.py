"""What serves, and what is kept to go back to."""

from contextlib import closing
from pathlib import Path

import msgspec

from ops.errors import OpsError
from ops.settings import Settings
from projections.building import position_of
from projections.catalogue import Build, exists, find_serving, serving_kind
from projections.database import DATABASE_ERRORS
from projections.models import MODELS, newest
from projections.readmodel import ReadModelError


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One read model."""

    name: str
    serving: Build
    position: int | None
    """Up to which events are in its rows; None where no engine has made it yet."""
    size_bytes: int | None
    """Of its file; None in PostgreSQL."""
    newest_version: int
    """That this release knows."""
    earlier: Build | None
    """To go back to."""
    held: bool
    """Somebody went back to it: no newer version takes its place by itself."""


def listed(settings: Settings) -> list[Listed]:
    """All that this release knows. Raises OpsError."""
    try:
        return [_listed(settings.readmodels_place, name) for name in MODELS]
    except ReadModelError as error:
        raise OpsError(str(error)) from error
    except DATABASE_ERRORS as error:
        raise OpsError(f"the read models can't be read: {error}. See to their disk or server.") from error


def _listed(place: Path | str, name: str) -> Listed:
    serving = find_serving(place, name)
    kind, number = serving_kind(serving), serving.build.number
    position = size = None
    if exists(place, kind, number):
        with closing(kind.database(place, number, read_only=True)) as db:
            position = position_of(db) if db.has_table("readmodel") else None
        size = kind.file_in(place, number).stat().st_size if isinstance(place, Path) else None
    return Listed(
        name=name, serving=serving.build, position=position, size_bytes=size, newest_version=newest(name).version,
        earlier=serving.earlier, held=serving.held,
    )  # fmt: skip
