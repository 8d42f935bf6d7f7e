"""Sections of answers that a small server doesn't give."""

import pytest

from ops.analytics.reporting.labels import Labels
from ops.analytics.reporting.page import ROWS_MAX, Head, page
from ops.analytics.reporting.sections import PARTS, Section, section
from ops.analytics.warehouse import Answer, Field

DEVICES = ("linked", "revoked", "keys_published", "keys_claimed")


def seen(question: str, answer: Answer) -> Section:
    [part] = [part for part in PARTS if part.question == question]
    return section(part, answer, Labels(), "UTC")


def devices(*numbers: int) -> Answer:
    return Answer([Field("day", "Date"), *(Field(name, "UInt64") for name in DEVICES)], [["2005-02-08", *numbers]])


def test_what_has_nothing_to_draw_is_a_sentence() -> None:
    found = seen("devices-by-day", devices(0, 0, 50, 3))
    assert found.figure is None
    assert found.sentence.startswith("0 devices linked (bars up) and 0 revoked (bars down). They published 50 keys")


def test_what_goes_is_drawn_downwards() -> None:
    figure = seen("devices-by-day", devices(3, 2, 0, 0)).figure
    assert figure is not None
    assert [(trace.name, list(trace.y)) for trace in figure.data] == [("linked", [3]), ("revoked", [-2])]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([["longer", 4, 100.0]], "Of 4 answers to others, 100.0 % took longer than a day."),
        ([["5 minutes", 3, 75.0], ["longer", 1, 25.0]], "Of 4 answers to others, 75.0 % came within 5 minutes."),
    ],
)
def test_answers_are_told_by_the_soonest(rows: list[list[object]], told: str) -> None:
    fields = [Field("within", "String"), Field("answers", "UInt64"), Field("percent", "Float64")]
    found = seen("answer-times", Answer(fields, rows))
    assert found.sentence == told
    assert found.figure is not None
    assert sum(found.figure.data[0].y) == 100


def test_zero_has_a_place_on_the_log_axis() -> None:
    fields = [Field("day", "Date"), Field("messages", "UInt64")]
    fields += [Field(name, "Float64") for name in ("p50_s", "p90_s", "p99_s", "longest_s")]
    figure = seen("delivery-delays", Answer(fields, [["2005-02-08", 9, 0, 0.02, 5e6, 9e7]])).figure
    assert figure is not None
    assert [trace.y[0] for trace in figure.data] == [0.001, 0.02, 5e6, 9e7]
    low, high = figure.layout.yaxis.range
    assert low <= -3
    assert high >= 7.9


def test_a_long_table_is_cut_and_tells_how_to_have_all() -> None:
    fields = [Field(name, "UInt64") for name in ("hour", "messages", "people")]
    answer = Answer(fields, [[hour % 24, 1, 1] for hour in range(ROWS_MAX + 1)])
    html = page(Head(title="", sentences=[], totals={}, made=""), [seen("messages-by-hour", answer)], Labels())
    assert f"the last {ROWS_MAX} of {ROWS_MAX + 1} rows; all by: signet analytics query messages-by-hour --json" in html
    assert html.count("<tr>") == 1 + ROWS_MAX
