"""The read model `statistics`: of each conversation the messages by day and member, and who answers whom how often.

A day is one of UTC, by `occurred_at` where an importer claimed it. Edits, reactions and votes (`counts` is false) are
no messages; one that was retracted later was sent all the same. Whom a message answers, its header's field `b` says by
a seq. docs/read-models.md is about this model.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from domain.codec import Event
from domain.conversation import MessageSent
from projections.answered import answered_seq
from projections.readmodel import ReadModel, Table

DAY_US: Final = 86_400_000_000

_SCHEMA: Final = """
CREATE TABLE days (
    conversation TEXT NOT NULL, day INTEGER NOT NULL, member TEXT NOT NULL, messages BIGINT NOT NULL,
    PRIMARY KEY (conversation, day, member)
) WITHOUT ROWID;
CREATE TABLE answers (
    conversation TEXT NOT NULL, answering TEXT NOT NULL, answered TEXT NOT NULL, times BIGINT NOT NULL,
    PRIMARY KEY (conversation, answering, answered)
) WITHOUT ROWID;
CREATE TABLE authors (
    conversation TEXT NOT NULL, seq BIGINT NOT NULL, author TEXT NOT NULL, PRIMARY KEY (conversation, seq)
) WITHOUT ROWID;
"""
_ADD_DAY: Final = """
INSERT INTO days VALUES (?, ?, ?, ?)
ON CONFLICT (conversation, day, member) DO UPDATE SET messages = days.messages + excluded.messages
"""
_ADD_ANSWER: Final = """
INSERT INTO answers VALUES (?, ?, ?, ?)
ON CONFLICT (conversation, answering, answered) DO UPDATE SET times = answers.times + excluded.times
"""
_ADD_AUTHOR: Final = "INSERT INTO authors VALUES (?, ?, ?)"
DAYS: Final = "SELECT day, member, messages FROM days WHERE conversation = ? ORDER BY 1, 2"
"""A day is a number, counted from 1970-01-01."""
ANSWERS: Final = "SELECT answering, answered, times FROM answers WHERE conversation = ? ORDER BY times DESC, 1, 2"
_AUTHOR: Final = "SELECT author FROM authors WHERE conversation = ? AND seq = ?"


class Statistics(ReadModel):
    name = "statistics"
    version = 1
    schema = _SCHEMA
    tables = (
        Table("days", ("conversation", "day", "member")),
        Table("answers", ("conversation", "answering", "answered")),
        Table("authors", ("conversation", "seq")),
    )

    def apply(self, events: Sequence[Event]) -> None:
        days: Counter[tuple[str, int, str]] = Counter()
        authors: list[tuple[str, int, str]] = []
        answers: list[tuple[str, str, int]] = []
        for event in events:
            fact = event.entry.e
            if not isinstance(fact, MessageSent) or not fact.counts:
                continue
            conversation, seq = event.stream.removeprefix("conversation-"), event.version + 1
            at = event.entry.at if event.entry.occ is None else event.entry.occ
            days[conversation, at // DAY_US, fact.by] += 1
            authors.append((conversation, seq, fact.by))
            about = answered_seq(fact.header, seq)
            if about is not None:
                answers.append((conversation, fact.by, about))
        self.db.executemany(_ADD_AUTHOR, sorted(authors))
        self.db.executemany(_ADD_DAY, [(*key, count) for key, count in sorted(days.items())])
        self._add_answers(answers)

    def _add_answers(self, answers: list[tuple[str, str, int]]) -> None:
        found = self.db.query_each(_AUTHOR, [(conversation, about) for conversation, _, about in answers])
        times = Counter(
            (conversation, by, rows[0][0]) for (conversation, by, _), rows in zip(answers, found, strict=True) if rows
        )
        self.db.executemany(_ADD_ANSWER, [(*key, count) for key, count in sorted(times.items())])
