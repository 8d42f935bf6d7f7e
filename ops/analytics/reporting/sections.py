"""What the page of plots shows: for each ready question that it asks, one sentence with the main figure, and a plot."""

from typing import Final

import msgspec
import plotly.graph_objects as go

from ops.analytics.reporting import seen
from ops.analytics.reporting.labels import Labels
from ops.analytics.warehouse import Answer


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A section before anything was asked."""

    question: str
    heading: str
    nothing: str
    """The sentence where there is nothing to see."""
    see: seen.See
    limit: int | None = None
    """How many rows, where the question takes that."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    question: str
    heading: str
    sentence: str
    figure: go.Figure | None
    answer: Answer


def section(part: Part, answer: Answer, labels: Labels, zone: str) -> Section:
    columns = {name: [row[index] for row in answer.data] for index, name in enumerate(answer.names)}
    sentence, figure = part.see(columns, labels, zone) if answer.data else (part.nothing, None)
    if figure is not None and not figure.data:
        figure = None
    return Section(question=part.question, heading=part.heading, sentence=sentence, figure=figure, answer=answer)


_NO_MESSAGES: Final = "Nobody wrote a message in this span."
_NO_ANSWERS: Final = (
    "No answers to others are known in this span: where messages are encrypted, only their readers see them."
)
PARTS: Final = (
    Part(question="messages-by-day", heading="Messages", nothing=_NO_MESSAGES, see=seen.messages),
    Part(question="active-people", heading="Active people", nothing=_NO_MESSAGES, see=seen.people),
    Part(question="messages-by-weekday-and-hour", heading="Hours of the week", nothing=_NO_MESSAGES, see=seen.week),
    Part(question="messages-by-hour", heading="Hours of the day", nothing=_NO_MESSAGES, see=seen.hours),
    Part(
        question="busiest-conversations", heading="Busiest conversations", limit=15, nothing=_NO_MESSAGES,
        see=seen.conversations,
    ),
    Part(question="busiest-people", heading="Busiest people", limit=20, nothing=_NO_MESSAGES, see=seen.writers),
    Part(
        question="delivery-delays", heading="How long delivery takes", see=seen.delays("delivery", "deliveries"),
        nothing="No device has told of a delivery in this span, as after an import; so there are no delays to show.",
    ),
    Part(
        question="reading-delays", heading="How long reading takes", see=seen.delays("reading", "readings"),
        nothing="No device has told that somebody read a message in this span; so there are no delays to show.",
    ),
    Part(question="answer-times", heading="How long answers take", nothing=_NO_ANSWERS, see=seen.answer_times),
    Part(question="who-answers-whom", heading="Who answers whom", limit=15, nothing=_NO_ANSWERS, see=seen.pairs),
    Part(
        question="group-sizes", heading="Group sizes", limit=8, nothing="No group changed in this span.",
        see=seen.groups,
    ),
    Part(
        question="comings-and-goings", heading="Comings and goings", see=seen.comings,
        nothing="Nobody came into a conversation or went in this span.",
    ),
    Part(
        question="devices-by-day", heading="Devices", see=seen.devices,
        nothing="Nothing happened to devices in this span.",
    ),
)  # fmt: skip
