"""From the answers to the page."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ops.analytics.names import Names
from ops.analytics.questions import QUESTIONS
from ops.analytics.reporting.labels import Labels
from ops.analytics.reporting.page import Head, page
from ops.analytics.reporting.sections import PARTS, section
from ops.analytics.schema import Mark
from ops.analytics.warehouse import Answer
from ops.datafolder import DEFAULT_NAME, read_server_file
from ops.settings import Settings

_TOTALS: Final = "totals"
_TOLD: Final = {
    "messages": "messages", "people": "people who wrote", "conversations": "conversations written in",
    "devices": "devices that sent", "days": "days with messages",
}  # fmt: skip


class Composed(msgspec.Struct, frozen=True, kw_only=True):
    html: str
    plots: dict[str, int]
    """By the question: how many rows its answer has."""


class Composer:
    def __init__(self, given: Mapping[str, str]) -> None:
        """`given`: parameters of the questions, as texts. Those that can't heed the conversation that is given are left
        out. Raises OpsError."""
        self._given = dict(given)
        self._parts = [part for part in PARTS if _heeds(part.question, given)]
        self._answers: dict[str, Answer] = {}

    @property
    def asks(self) -> Sequence[tuple[str, dict[str, Any]]]:
        """The names of the questions, and the values of their parameters."""
        limits = {part.question: part.limit for part in self._parts}
        return [(name, self._values(name, limits.get(name))) for name in (_TOTALS, *limits)]

    def take(self, question: str, answer: Answer) -> None:
        self._answers[question] = answer

    def compose(self, settings: Settings, mark: Mark, *, names: bool) -> Composed:
        """When all is answered. Raises OpsError where the names can't be read."""
        labels, zone = self._labels(settings, names=names), self._given.get("zone", "UTC")
        sections = [section(part, self._answers[part.question], labels, zone) for part in self._parts]
        return Composed(
            html=page(self._head(settings, mark, labels), sections, labels),
            plots={each.question: len(each.answer.data) for each in sections},
        )

    def _values(self, name: str, limit: int | None) -> dict[str, Any]:
        question = QUESTIONS[name]
        known = {each.name for each in question.parameters}
        values = question.values({name: text for name, text in self._given.items() if name in known})
        return values if limit is None else {**values, "limit": limit}

    def _labels(self, settings: Settings, *, names: bool) -> Labels:
        if not names:
            return Labels()
        with Names.opened(settings) as known:
            conversation = self._given.get("conversation")
            return Labels.known(known, self._answers.values(), [conversation] if conversation else [])

    def _head(self, settings: Settings, mark: Mark, labels: Labels) -> Head:
        totals = self._answers[_TOTALS]
        [counts] = [dict(zip(totals.names, row, strict=True)) for row in totals.data]
        server = read_server_file(settings.data)
        return Head(
            title=f"Signet analytics: {server.name if server else settings.server_name or DEFAULT_NAME}",
            sentences=self._sentences(mark, labels),
            totals={told: counts[name] for name, told in _TOLD.items()},
            made=f"Made by signet analytics report on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC.",
        )

    def _sentences(self, mark: Mark, labels: Labels) -> list[str]:
        days = [row[0] for row in self._answers["messages-by-day"].data]
        span = f"The messages are of {_span(days)}." if days else "There are no messages in this span."
        limits = [f"{name} {self._given[name]}" for name in ("from", "to") if name in self._given]
        sentences = [
            f"{span} Days and hours are those of {self._given.get('zone', 'UTC')}.",
            f"The figures are those of the server's log up to position {mark.position:,}, where it had {mark.events:,} "
            "events.",
        ]
        if limits:
            sentences.append(f"Only days {' '.join(limits)} are counted.")
        if conversation := self._given.get("conversation"):
            sentences.append(f"Only the conversation {labels.label(conversation)} ({conversation}) is counted.")
        return sentences


def _span(days: Sequence[str]) -> str:
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def _heeds(question: str, given: Mapping[str, str]) -> bool:
    return "conversation" not in given or any(each.name == "conversation" for each in QUESTIONS[question].parameters)
