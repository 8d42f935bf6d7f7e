"""What each account may see of a conversation, as rows: one [first, last] interval for each time it was a member (I8).

No read model reads another's tables, so each that needs these rows keeps its own: it puts `SCHEMA` and `TABLE` to its
own and hands the membership events of a batch to `Intervals`.
"""

from collections.abc import Iterable
from typing import Final

from domain.codec import DomainEvent
from domain.conversation import ConversationStarted, MemberLeft, MemberRemoved, MembersAdded
from domain.ids import AccountId, ConversationId
from projections.database import Database
from projections.readmodel import Table

SCHEMA: Final = """
CREATE TABLE visible (
    conversation TEXT NOT NULL,
    account TEXT NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL, -- 0: and on, for one who is a member now
    PRIMARY KEY (conversation, account, first)
) WITHOUT ROWID;
CREATE INDEX visible_account ON visible (account, conversation, first, last);
"""

TABLE: Final = Table("visible", ("conversation", "account", "first"))

_OPEN: Final = """
INSERT INTO visible (conversation, account, first, last) VALUES (?, ?, ?, ?)
ON CONFLICT (conversation, account, first) DO NOTHING
"""
_CLOSE: Final = "UPDATE visible SET last = ? WHERE conversation = ? AND account = ? AND last = 0 AND first <= ?"


class Intervals:
    """The intervals that a batch of events opens and closes."""

    def __init__(self) -> None:
        self._opened: dict[tuple[ConversationId, AccountId], list[list[int]]] = {}
        self._closed: list[tuple[int, ConversationId, AccountId, int]] = []

    def fold(self, conversation: ConversationId, seq: int, event: DomainEvent) -> None:
        """Other events than those of membership change nothing."""
        match event:
            case ConversationStarted():
                self._open(conversation, event.members, seq)
            case MembersAdded():
                self._open(conversation, event.accounts, event.visible_from)
            case MemberRemoved():
                self._close(conversation, event.account, seq)
            case MemberLeft():
                self._close(conversation, event.by, seq)
            case _:
                pass

    @property
    def touched(self) -> set[ConversationId]:
        return {conversation for conversation, _ in self._opened} | {closed[1] for closed in self._closed}

    def write(self, db: Database) -> None:
        opened = [(*key, first, last) for key, intervals in self._opened.items() for first, last in intervals]
        if opened:
            db.executemany(_OPEN, opened)
        if self._closed:
            db.executemany(_CLOSE, self._closed)

    def _open(self, conversation: ConversationId, accounts: Iterable[AccountId], first: int) -> None:
        for account in accounts:
            self._opened.setdefault((conversation, account), []).append([first, 0])

    def _close(self, conversation: ConversationId, account: AccountId, seq: int) -> None:
        # Whoever leaves sees its own leaving.
        opened = self._opened.get((conversation, account))
        if opened:
            opened[-1][1] = seq
        else:
            self._closed.append((seq, conversation, account, seq))


def sees(intervals: Iterable[Iterable[int]], seq: int) -> bool:
    """Whether the seq lies in one of the [first, last] intervals; a last of 0 means "and on"."""
    return any(first <= seq and (last == 0 or seq <= last) for first, last in intervals)
