"""Numbers in sentences, and what people are called in plots."""

import pytest

from ops.analytics.reporting.labels import NAME_CHARS, Labels
from ops.analytics.reporting.words import counted, duration

ONE, OTHER = "aaaaaaaa-0000-4000-8000-000000000000", "bbbbbbbb-0000-4000-8000-000000000000"


def test_one_is_singular() -> None:
    assert (counted(1, "message"), counted(2_165, "message")) == ("1 message", "2,165 messages")
    assert counted(0, "person", "people") == "0 people"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"), (0.0001, "1 ms"), (0.011, "11 ms"), (1, "1 s"), (4.25, "4.2 s"), (60, "60 s"), (120, "2 min"),
        (5_400, "90 min"), (7_200, "2 h"), (172_800, "2 days"), (8_640_000, "100 days"),
    ],
)  # fmt: skip
def test_durations_have_a_unit_that_fits(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_who_has_no_name_goes_by_the_beginning_of_the_id() -> None:
    assert Labels().label(ONE) == "aaaaaaaa"
    assert Labels({ONE: " "}).label(ONE) == "aaaaaaaa"


def test_those_of_one_name_are_told_apart() -> None:
    labels = Labels({ONE: "Anna", OTHER: "Anna"})
    assert (labels.label(ONE), labels.drawn(OTHER)) == ("Anna (aaaa)", "Anna (bbbb)")


def test_names_in_plots_are_short_and_escaped() -> None:
    labels = Labels({ONE: "<b>&" + "x" * NAME_CHARS, OTHER: "a\u202eb\n"})
    assert labels.drawn(ONE) == "&lt;b&gt;&amp;" + "x" * (NAME_CHARS - 5) + "…"
    assert labels.label(OTHER) == "a\N{REPLACEMENT CHARACTER}b"
