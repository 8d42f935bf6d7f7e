"""What the verbs read beside the running engine: the rows of the read model, and how far they are to be believed."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from commands.stores import open_log
from domain.log import StoreError
from gateways.media.objects import ObjectsUnavailable
from ops.datafolder import is_owned, read_server_file
from ops.errors import OpsError
from ops.history.listing import NAME, Unseal, name_of, opened
from ops.settings import Settings, load_settings
from projections.building import BEHIND_MAX_S, position_of
from projections.database import Database
from projections.parking import Parking

_POLL_S: Final = 0.05


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """How far the read model is to be believed."""

    behind: bool
    """The log has more than the rows are made of."""
    lacking: int
    """Of so many streams events are parked, or were skipped."""

    def doubts(self) -> Iterator[str]:
        if self.behind:
            yield (
                "The read model is behind the log: what came last is not in these figures. An engine that runs brings "
                "it up to date."
            )
        if self.lacking:
            yield (
                f"The read model lacks events of {self.lacking} streams, and these figures with it: see `signet parked "
                "list`."
            )


class Reading:
    """The read models `media` and `directory`."""

    def __init__(self, settings: Settings, unseal: Unseal, rows: Database, directory: Database) -> None:
        self.settings = settings
        self.rows = rows
        self._unseal = unseal
        self._directory = directory

    def names(self, accounts: Sequence[str]) -> dict[str, str]:
        found = self._directory.query_each(NAME, [(account,) for account in accounts])
        return {account: name_of(self._unseal, account, rows) for account, rows in zip(accounts, found, strict=True)}

    async def whole(self) -> Whole:
        """Where an engine runs, it gets a moment to bring the rows up to date."""
        log = open_log(self.settings.events_url, read_only=True)
        try:
            head = await log.head()
        finally:
            await log.close()
        return Whole(behind=not await self._reaches(head), lacking=len(Parking(self.rows).lacking()))

    async def _reaches(self, position: int) -> bool:
        give_up = time.monotonic() + (BEHIND_MAX_S if is_owned(self.settings.data) else 0)
        while position_of(self.rows) < position:
            if time.monotonic() >= give_up:
                return False
            await asyncio.sleep(_POLL_S)
        return True


@contextmanager
def reading(data: Path | None) -> Iterator[Reading]:
    """Also explains what may be raised meanwhile. Raises OpsError."""
    settings = load_settings(data)
    if read_server_file(settings.data) is None:
        raise OpsError(f"no engine has run on {settings.data} yet; name the folder of your server by --data")
    try:
        with opened(settings, "media", "directory") as (unseal, (rows, directory)):
            yield Reading(settings, unseal, rows, directory)
    except (ObjectsUnavailable, StoreError) as error:
        raise OpsError(str(error)) from error
