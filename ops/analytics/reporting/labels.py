"""What a page of plots calls people and conversations: the beginnings of their ids, or their names."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from html import escape
from typing import Final

from ops.analytics.names import ACCOUNT_COLUMNS, CONVERSATION_COLUMNS, Names
from ops.analytics.warehouse import Answer
from ops.terminal import printable

ID_CHARS: Final = 8
NAME_CHARS: Final = 22
"""Longer names are cut in plots, where a telephone would have no room left for the bars."""
_TWIN_CHARS: Final = 4


class Labels:
    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        """`names`: by id; where it has none, the beginning of the id stands in."""
        self._names = {id_: printable(name).strip() for id_, name in (names or {}).items()}
        self._times = Counter(self._names.values())

    @classmethod
    def known(cls, names: Names, answers: Collection[Answer], conversations: Collection[str]) -> "Labels":
        """Those of all ids in the answers, and of the conversations."""
        titled = ids_of(answers, CONVERSATION_COLUMNS).union(conversations)
        return cls({**names.accounts(ids_of(answers, ACCOUNT_COLUMNS)), **names.conversations(titled)})

    def label(self, id_: str) -> str:
        """As it is: what shows it must escape it. A name that several have is followed by a bit of the id."""
        return self._label(id_, None)

    def drawn(self, id_: str, chars: int = NAME_CHARS) -> str:
        """For plotly, which reads tags and entities in every text."""
        return escape(self._label(id_, chars), quote=False)

    def _label(self, id_: str, chars: int | None) -> str:
        name = self._names.get(id_)
        if not name:
            return id_[:ID_CHARS]
        shown = name if chars is None or len(name) <= chars else f"{name[: chars - 1]}…"
        return f"{shown} ({id_[:_TWIN_CHARS]})" if self._times[name] > 1 else shown


def ids_of(answers: Iterable[Answer], columns: Collection[str]) -> set[str]:
    return {
        row[index]
        for answer in answers
        for index, field in enumerate(answer.meta)
        if field.name in columns and field.type == "UUID"
        for row in answer.data
    }
