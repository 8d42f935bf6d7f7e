"""What a large group costs, counted in the log and in the rows of every read model."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from commands.stores import open_log
from commands.writer import Accepted
from domain.codec import Event
from domain.ids import AccountId, CommandId, ConversationId, conversation_stream, receipts_stream
from domain.receipts import AdvanceReceipts, Receipt
from projections.directory import Directory
from projections.inbox import Inbox
from projections.messages import Messages
from projections.readmodel import ReadModel
from projections.receipts import Receipts
from tests.commands.helpers import PHONE, Desk, new_id, read, send, writing

MESSAGES: Final = 1_000
ROUNDS: Final = 10
"""So often everybody reads all that has come."""
BATCH: Final = 500


class Books:
    """A group, the read models behind it, and how much there is of each."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk = desk
        self.members: list[AccountId] = []
        self.talk = ConversationId("")
        self.inbox, self.receipts = Inbox.open(folder), Receipts.open(folder)
        self._models: list[ReadModel] = [self.inbox, self.receipts, Messages.open(folder), Directory.open(folder)]
        self._applied = 0

    async def open_group(self, size: int) -> None:
        self.members = [AccountId(f"member-{number}") for number in range(size)]
        self.talk = await self.desk.talk(*self.members)

    async def say(self, count: int) -> None:
        for start in range(0, count, BATCH):
            by = [self.members[number % len(self.members)] for number in range(start, min(start + BATCH, count))]
            replies = await self.desk.all(*[send(self.talk, account) for account in by])
            assert all(isinstance(reply, Accepted) for reply in replies)

    async def all_read(self, seq: int) -> None:
        """Each device for itself, as if none came within the same few milliseconds."""
        replies = await self.desk.all(*[self._receipt(account, seq) for account in self.members])
        assert all(isinstance(reply, Accepted) for reply in replies)

    def _receipt(self, account: AccountId, seq: int) -> AdvanceReceipts:
        receipt = Receipt(account=account, device=PHONE, delivered=seq, read=seq)
        return AdvanceReceipts(id=CommandId(new_id()), conversation=self.talk, receipts=[receipt])

    def rows(self) -> dict[str, int]:
        """By read model and table, after everything that was handed over."""
        events: list[Event] = self.desk.handed[self._applied :]
        self._applied += len(events)
        for model in self._models:
            for start in range(0, len(events), BATCH):
                model.advance(events[start : start + BATCH])
        return {
            f"{model.name}.{table}": model.db.query(f"SELECT count(*) FROM {table}")[0][0]
            for model in self._models
            for (table,) in model.db.query("SELECT name FROM sqlite_master WHERE type = 'table'")
        }

    async def events(self) -> tuple[int, int]:
        """In the conversation's stream, and in that of its receipts."""
        streams = conversation_stream(self.talk), receipts_stream(self.talk)
        talk, receipts = [len(await read(self.desk.log, stream)) for stream in streams]
        return talk, receipts

    def close(self) -> None:
        for model in self._models:
            model.close()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    log = open_log(f"sqlite:///{tmp_path / 'log.db'}")
    async with writing(log) as desk:
        yield desk
    await log.close()


@pytest.fixture
async def books(desk: Desk, tmp_path: Path) -> AsyncIterator[Books]:
    books = Books(desk, tmp_path / "readmodels")
    yield books
    books.close()


async def test_a_message_costs_one_event_and_as_many_rows_in_a_large_group_as_in_a_small_one(books: Books) -> None:
    """I6: sent, before anybody has received it."""
    costs = []
    for size in (2, 100):
        await books.open_group(size)
        before = books.rows()
        await books.say(MESSAGES)
        assert await books.events() == (1 + MESSAGES, 0)
        costs.append({table: count - before[table] for table, count in books.rows().items()})
    small, large = costs
    assert large == small
    assert sum(large.values()) <= 3 * MESSAGES  # the message, its place in the count, its command id


async def test_receipts_cost_a_row_a_device_however_many_messages_they_cover(books: Books) -> None:
    """I6: 100 members, 1,000 messages, all read."""
    await books.open_group(100)
    for number in range(1, ROUNDS + 1):
        await books.say(MESSAGES // ROUNDS)
        before = books.rows()
        await books.all_read(1 + number * MESSAGES // ROUNDS)
        added = {table: count - before[table] for table, count in books.rows().items() if count != before[table]}
        assert added == ({"receipts.marks": 100} if number == 1 else {})
    talk, receipts = await books.events()
    assert talk == 1 + MESSAGES
    assert receipts == 100 * ROUNDS  # at most: what comes within a few milliseconds is one event
    rows = books.rows()
    assert sum(count for table, count in rows.items() if table.startswith("receipts.")) <= 2 * 100 + 1
    for account in (books.members[0], books.members[99]):
        [row] = await books.inbox.conversations(account)
        assert (row.unread, row.read, row.head) == (0, 1 + MESSAGES, 1 + MESSAGES)
        ticks = await books.receipts.ticks(books.talk, account)
        assert (ticks.delivered, ticks.read) == (1 + MESSAGES, 1 + MESSAGES)
