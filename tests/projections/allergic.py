"""Read models that fail where a test wants them to, and what a runner makes of them."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import apsw

from domain.codec import Event
from domain.log import EventLog
from projections.database import Database
from projections.directory import Directory
from projections.feed import Feed
from projections.inbox import Inbox
from projections.messages import Messages
from projections.postgres_session import Refused
from projections.readmodel import ReadModel, Table
from projections.receipts import Receipts
from projections.runner import Runner
from projections.sqlite import SqliteDatabase

TIMEOUT_S = 20
NOW = 1_800_000_000_000_000

Where = tuple[str, int]
"""An event, by stream and version."""


class Allergic(ReadModel):
    """Fails at the events of `poison`, after it has written the rows of its batch."""

    poison: ClassVar[set[Where]] = set()

    def apply(self, events: Sequence[Event]) -> None:
        super().apply(events)  # type: ignore[safe-super]  # what stands beside it in the class
        for event in events:
            if (event.stream, event.version) in self.poison:
                raise ValueError(f"no row can be made of {event.stream} {event.version}")


class AllergicMessages(Allergic, Messages):
    pass


class AllergicInbox(Allergic, Inbox):
    pass


class AllergicReceipts(Allergic, Receipts):
    pass


class AllergicDirectory(Allergic, Directory):
    pass


class Ledger(ReadModel):
    """A row for each event."""

    name = "ledger"
    version = 1
    schema = "CREATE TABLE ledger (position BIGINT PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL);"
    tables = (Table("ledger", ("stream", "version")),)

    def apply(self, events: Sequence[Event]) -> None:
        rows = [(event.position, event.stream, event.version) for event in events]
        self.db.executemany("INSERT INTO ledger VALUES (?, ?, ?)", rows)

    def stored(self) -> list[Where]:
        return self.db.query("SELECT stream, version FROM ledger ORDER BY position")


class AllergicLedger(Allergic, Ledger):
    pass


ALLERGIC: dict[type[Allergic], type[ReadModel]] = {
    AllergicMessages: Messages,
    AllergicInbox: Inbox,
    AllergicReceipts: Receipts,
    AllergicDirectory: Directory,
    AllergicLedger: Ledger,
}


def where(event: Event) -> Where:
    return event.stream, event.version


def free_of(events: Sequence[Event], poison: Collection[Where]) -> tuple[list[Event], dict[str, tuple[int, int]]]:
    """What is to be in the rows, and the parked streams with the versions from and up to which they are held back."""
    free, parked = [], dict[str, tuple[int, int]]()
    for event in events:
        stream, talk = event.stream, event.stream.replace("receipts-", "conversation-")
        if stream in parked:
            parked[stream] = (parked[stream][0], event.version)
        elif talk in parked or where(event) in poison:
            parked[stream] = (event.version, event.version)
        else:
            free.append(event)
    return free, parked


async def runner_on(log: EventLog, model: ReadModel, batch_max: int = 500) -> Runner:
    feed = Feed(log)
    await feed.start()
    return Runner(feed, model, batch_max=batch_max, clock=lambda: NOW)


async def run(runner: Runner, position: int) -> None:
    """Runs it until it is there, as if the process ended then."""
    task = asyncio.create_task(runner.run())
    try:
        await asyncio.wait_for(runner.wait(position), TIMEOUT_S)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def run_through(runner: Runner, position: int) -> None:
    """The same, however often it stands still on the way."""
    task = asyncio.create_task(runner.run())
    async with asyncio.timeout(TIMEOUT_S):
        while runner.position < position:  # noqa: ASYNC110  # it has delays of its own
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


def held(model: ReadModel) -> dict[str, tuple[int, int]]:
    return {each.stream: (each.version, each.upto) for each in model.parking.all()}


async def retry_all(runner: Runner, model: ReadModel) -> None:
    """As an operator would: first what rests on nothing else."""
    for stream in sorted(held(model)):
        if model.parking.get(stream) is not None:
            await runner.retry(stream)


class Failing:
    """Makes the first statement of this kind fail once, as a full disk does; `heal`: no longer."""

    def __init__(self, db: Database, statement: str) -> None:
        self.happened = asyncio.Event()
        self._statement = statement
        self._db: Any = db
        self._name = "_connection" if isinstance(db, SqliteDatabase) else "_session"
        self._connection = getattr(self._db, self._name)
        self._put(self)

    def heal(self) -> None:
        self._put(self._connection)

    def execute(self, sql: str, params: Sequence[object] = ()) -> apsw.Cursor:
        """SQLite's."""
        if self._strikes(sql):
            raise apsw.FullError("database or disk is full")
        cursor: apsw.Cursor = self._connection.execute(sql, params)
        return cursor

    def send(self, sql: str, params: Sequence[object] = ()) -> None:
        """PostgreSQL's."""
        if self._strikes(sql):
            raise Refused("No space left on device", "53100")
        self._connection.send(sql, params)

    def _strikes(self, sql: str) -> bool:
        if not sql.startswith(self._statement) or self.happened.is_set():
            return False
        self.happened.set()
        return True

    def _put(self, connection: object) -> None:
        setattr(self._db, self._name, connection)

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)
