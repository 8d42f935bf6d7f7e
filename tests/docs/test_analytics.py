"""What docs/analytics.md says is so: its answers, and its tables."""

import re

from ops.analytics.questions import QUESTIONS
from ops.settings import Settings
from projections.analytics.tables import TABLES
from tests.docs.analytics import PAGE, answered
from tests.ops.analytics.conftest import sample

__all__ = ["sample"]


def test_its_answers_are_those_of_the_sample_days(sample: Settings) -> None:
    """Where it differs: python -m tests.docs.analytics."""
    page = PAGE.read_text()
    assert answered(page, sample) == page
    assert page.count("$ ./signet analytics query") >= 10


def test_it_names_every_table_by_what_it_is_sorted() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| `([\w, ]+)` \|$", PAGE.read_text(), re.MULTILINE)
    assert dict(rows) == {name: ", ".join(table.order) for name, table in TABLES.items()}


def test_it_names_every_question() -> None:
    page = PAGE.read_text()
    assert [name for name in QUESTIONS if f"`{name}`" not in page and f"query {name}" not in page] == []
