"""What the tables tell of conversations, for who goes on to load (`Past`)."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from ops.analytics.warehouse import Warehouse
from projections.analytics.conversation import Conversation
from projections.analytics.fold import SentMessage, Span

IDS_MAX: Final = 1_000
SPANS_MAX: Final = 100
"""In one query."""

_PROTECTIONS: Final = """
SELECT conversation, protection FROM conversations WHERE conversation IN {ids:Array(UUID)}
"""
_MEMBERS: Final = """
SELECT conversation, account, argMax(role, (position, number)), maxIf(seq, change = 'joined')
FROM membership WHERE conversation IN {ids:Array(UUID)}
GROUP BY conversation, account ORDER BY conversation, max((position, number))
"""
_MARKS: Final = """
SELECT conversation, account, device, max(delivered), max(read) FROM receipts
WHERE conversation IN {ids:Array(UUID)} AND (conversation, account) NOT IN (
    SELECT conversation, account FROM receipts
    WHERE conversation IN {ids:Array(UUID)} AND (notEmpty(undecryptable) OR notEmpty(repaired))
) GROUP BY conversation, account, device
"""
_STATEMENTS: Final = """
SELECT conversation, account, device, delivered, read, undecryptable, repaired FROM receipts
WHERE conversation IN {ids:Array(UUID)} AND (conversation, account) IN (
    SELECT conversation, account FROM receipts
    WHERE conversation IN {ids:Array(UUID)} AND (notEmpty(undecryptable) OR notEmpty(repaired))
) ORDER BY position, number
"""
"""Of those that ever named seqs: it matters what came before what."""
_LAST: Final = """
SELECT conversation, max(seq) FROM messages WHERE conversation IN {ids:Array(UUID)} AND counts
GROUP BY conversation
"""
_SENT: Final = """
SELECT conversation, seq, toUnixTimestamp64Micro(recorded_at), author FROM messages
WHERE counts AND ({spans}) ORDER BY conversation, seq
"""


class Recall:
    def __init__(self, warehouse: Warehouse, settle: Callable[[], None]) -> None:
        """`settle` returns when all that was loaded before is in the tables."""
        self._warehouse = warehouse
        self._settle = settle

    def conversations(self, ids: Collection[str]) -> Mapping[str, Conversation]:
        self._settle()
        found: defaultdict[str, Conversation] = defaultdict(Conversation)
        every = sorted(ids)
        for first in range(0, len(every), IDS_MAX):
            self._add(found, every[first : first + IDS_MAX])
        return found

    def messages(self, spans: Sequence[Span]) -> Iterable[SentMessage]:
        self._settle()
        for first in range(0, len(spans), SPANS_MAX):
            wanted = " OR ".join(
                f"(conversation = '{span.conversation}' AND seq BETWEEN {span.first} AND {span.last})"
                for span in spans[first : first + SPANS_MAX]
            )
            answer = self._warehouse.select(_SENT.format(spans=wanted))
            yield from (SentMessage(*row) for row in answer.data)

    def _add(self, found: defaultdict[str, Conversation], ids: Sequence[str]) -> None:
        for conversation, protection in self._of(_PROTECTIONS, ids):
            found[conversation].protection = protection
        for conversation, account, role, since in self._of(_MEMBERS, ids):
            found[conversation].recipient(account).since = since
            if role != "none":
                found[conversation].members[account] = role
        for conversation, account, device, delivered, read in self._of(_MARKS, ids):
            found[conversation].recipient(account).advance(device, delivered, read)
        for conversation, account, *stated in self._of(_STATEMENTS, ids):
            found[conversation].recipient(account).advance(*stated)
        for conversation, last in self._of(_LAST, ids):
            found[conversation].sent.known_from = last + 1

    def _of(self, sql: str, ids: Sequence[str]) -> list[list[Any]]:
        return self._warehouse.select(sql, {"ids": list(ids)}).data
