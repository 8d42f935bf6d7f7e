"""The command line of a later release, which has a new version of the `inbox`: `python -m tests.scenarios.upgraded …`.

With SIGNET_TEST_SLOW_BUILD in the environment, builds take a second or two, as on a longer log.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar

from domain.codec import Event
from ops import cli
from projections import building
from projections.building import Builder
from projections.inbox import Inbox
from projections.models import MODELS
from projections.readmodel import Table


class NewInbox(Inbox):
    """It knows since when there is a conversation."""

    version: ClassVar[int] = Inbox.version + 1
    schema: ClassVar[str] = (
        Inbox.schema
        + """
CREATE TABLE beginnings (conversation TEXT NOT NULL PRIMARY KEY, at BIGINT NOT NULL) WITHOUT ROWID;
"""
    )
    tables: ClassVar[tuple[Table, ...]] = (*Inbox.tables, Table("beginnings", ("conversation",)))

    def apply(self, events: Sequence[Event]) -> None:
        super().apply(events)
        begun = [
            (event.stream.removeprefix("conversation-"), event.entry.at)
            for event in events
            if event.version == 0 and event.stream.startswith("conversation-")
        ]
        self.db.executemany("INSERT INTO beginnings VALUES (?, ?)", begun)


def main() -> None:
    MODELS["inbox"] = (Inbox, NewInbox)
    if "SIGNET_TEST_SLOW_BUILD" in os.environ:
        setattr(building, "BATCH_MAX", 100)  # noqa: B010  # a constant
        Builder._read = _slowly(Builder._read)  # type: ignore[method-assign]
    cli.main()


def _slowly(read: Callable[..., Coroutine[Any, Any, Sequence[Event]]]) -> Any:
    async def reading(self: Builder, upto: int, after: int, limit: int) -> Sequence[Event]:
        await asyncio.sleep(0.02)  # a slower machine
        return await read(self, upto, after, limit)

    return reading


if __name__ == "__main__":
    main()
