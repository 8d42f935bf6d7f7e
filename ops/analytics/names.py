"""Names of accounts and titles of conversations beside their ids. ClickHouse never sees them: they are unsealed here,
from the read models, for who has the keyring."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from domain.entry import Sealed
from ops.analytics.warehouse import Answer, Field
from ops.history.listing import NAME, TITLE, Unseal, name_of, opened
from ops.settings import Settings
from projections.database import Database

ACCOUNT_COLUMNS: Final = frozenset({"account", "author", "by", "answering", "answered"})
CONVERSATION_COLUMNS: Final = frozenset({"conversation"})


class Names:
    def __init__(self, unseal: Unseal, inbox: Database, directory: Database) -> None:
        self._unseal = unseal
        self._inbox = inbox
        self._directory = directory

    @classmethod
    @contextmanager
    def opened(cls, settings: Settings) -> Iterator["Names"]:
        """Raises OpsError."""
        with opened(settings, "inbox", "directory") as (unseal, (inbox, directory)):
            yield cls(unseal, inbox, directory)

    def accounts(self, ids: Collection[str]) -> Mapping[str, str]:
        every = sorted(ids)
        found = self._directory.query_each(NAME, [(account,) for account in every])
        return {account: name_of(self._unseal, account, rows) for account, rows in zip(every, found, strict=True)}

    def conversations(self, ids: Collection[str]) -> Mapping[str, str]:
        """A title, or nothing where there is none."""
        every = sorted(ids)
        found = self._inbox.query_each(TITLE, [(conversation,) for conversation in every])
        return {
            conversation: self._unseal(Sealed(key=rows[0][0], box=rows[0][1])) if rows else ""
            for conversation, rows in zip(every, found, strict=True)
        }


def with_names(answer: Answer, names: Names) -> Answer:
    """A column of names after each column of ids."""
    meta: list[Field] = []
    columns: list[Sequence[Any]] = []
    for index, field in enumerate(answer.meta):
        column = [row[index] for row in answer.data]
        meta.append(field)
        columns.append(column)
        if field.type == "UUID" and field.name in ACCOUNT_COLUMNS | CONVERSATION_COLUMNS:
            told = (names.conversations if field.name in CONVERSATION_COLUMNS else names.accounts)(set(column))
            meta.append(Field(f"{field.name}_name", "String"))
            columns.append([told[each] for each in column])
    return Answer(meta, [list(row) for row in zip(*columns, strict=True)])
