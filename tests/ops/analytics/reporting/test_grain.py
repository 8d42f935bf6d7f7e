"""In what steps a span of days is drawn."""

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.analytics.reporting.grain import GRAINS, SLOTS_MAX, Grain, grain_of

FIRST = date(2004, 12, 25)


@pytest.mark.parametrize(
    ("days", "name"),
    [(1, "day"), (SLOTS_MAX, "day"), (SLOTS_MAX + 1, "week"), (700, "month"), (4_800, "quarter"), (20_000, "year")],
)
def test_the_finest_is_taken_whose_bars_can_be_seen(days: int, name: str) -> None:
    grain = grain_of([FIRST, FIRST + timedelta(days=days - 1)])
    assert grain.name == name
    assert len(grain.spread([FIRST, FIRST + timedelta(days=days - 1)])) <= SLOTS_MAX


@pytest.mark.parametrize(
    ("grain", "label"),
    list(zip(GRAINS, ["2004-12-25", "2004-12-20", "2004-12", "2004 Q4", "2004"], strict=True)),
    ids=[grain.name for grain in GRAINS],
)
def test_steps_are_called_by_their_first_day(grain: Grain, label: str) -> None:
    assert grain.label(grain.begin(FIRST)) == label


@given(
    st.lists(st.dates(date(1970, 1, 1), date(2100, 1, 1)), min_size=1, max_size=20, unique=True).map(sorted),
    st.sampled_from(GRAINS[2:]),
)
@example([date(2004, 12, 31), date(2005, 1, 1)], GRAINS[1])
def test_each_day_is_counted_in_one_step_and_no_step_is_left_out(days: list[date], grain: Grain) -> None:
    steps = grain.spread(days)
    assert sum(grain.sums(days, [1] * len(days))) == len(days)
    assert steps == sorted(set(steps))
    assert all(grain.begin(later - timedelta(days=1)) == earlier for earlier, later in pairwise(steps))
