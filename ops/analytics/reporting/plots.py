"""The kinds of plots, as plotly draws them. Colours are the page's, which has a light and a dark side.

Texts that people wrote come here escaped (`Labels.drawn`): plotly reads tags in every text.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from math import log10
from typing import Any, Final

import plotly.graph_objects as go

from ops.analytics.reporting.grain import Grain

HEIGHT: Final = 340
_ROW: Final = 26
"""Pixels of a horizontal bar."""
_AROUND: Final = 80
"""Pixels for the axis beneath them."""
_ROWS_MIN: Final = 4
"""Where there are fewer bars, there is room around them."""
_BARS_MIN: Final = 8
"""Fewer bars are drawn as narrow as these would be."""
_MARKED_MAX: Final = 60
"""Days: more points make a line by themselves."""
_DAYS_TOLD_MAX: Final = 7
"""Over longer spans plotly finds good ticks; over shorter ones it would tell hours."""
_HOURS_TOLD: Final = 8
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WHOLE_MAX: Final = 5
_TICKS: Final = 6
"""Labels beside one another: as many as a telephone has room for."""
_DELAYS_S: Final = {
    0.001: "1 ms", 0.01: "10 ms", 0.1: "0.1 s", 1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3_600: "1 h",
    36_000: "10 h", 86_400: "1 day", 864_000: "10 days", 8_640_000: "100 days",
}  # fmt: skip
SHORTEST_S: Final = min(_DELAYS_S)
"""A logarithm has no zero: what took less is drawn here."""


def bars_over_time(grain: Grain, days: Sequence[date], series: Mapping[str, Sequence[int]], *, y: str) -> go.Figure:
    """Sums of each step; series that go down are negative."""
    labels = [grain.label(step) for step in grain.spread(days)]
    traces = [
        go.Bar(name=name, x=labels, y=(sums := grain.sums(days, numbers)), customdata=[abs(each) for each in sums],
               hovertemplate=f"%{{x}}: %{{customdata:,}} {name}<extra></extra>")
        for name, numbers in series.items()
        if any(numbers)
    ]  # fmt: skip
    room = max(0, _BARS_MIN - len(labels)) / 2
    figure = _figure(traces, x=_step_title(grain), y=y)
    figure.update_xaxes(type="category", range=[-0.5 - room, len(labels) - 0.5 + room], nticks=_TICKS)
    figure.update_yaxes(_whole(each for trace in traces for each in trace.y))
    return figure.update_layout(barmode="relative")


def bars(labels: Sequence[str], numbers: Sequence[float], hover: Sequence[str], *, x: str, y: str) -> go.Figure:
    figure = _figure([_bars(x=labels, y=numbers, hover=hover)], x=x, y=y)
    return figure.update_xaxes(type="category", nticks=_HOURS_TOLD).update_yaxes(_whole(numbers))


def ranking(labels: Sequence[str], numbers: Sequence[float], hover: Sequence[str], *, x: str, y: str) -> go.Figure:
    """Horizontal bars, the first on top. Labels may be equal: they are written beside places."""
    places = list(range(len(labels)))
    room = max(0, _ROWS_MIN - len(labels)) / 2
    figure = _figure([_bars(x=numbers, y=places, hover=hover, orientation="h")], x=x, y=y)
    figure.update_yaxes(
        tickmode="array", tickvals=places, ticktext=list(labels), range=[len(labels) - 0.5 + room, -0.5 - room],
        showgrid=False,
    )  # fmt: skip
    return figure.update_xaxes(_whole(numbers)).update_layout(height=_ROW * max(len(labels), _ROWS_MIN) + _AROUND)


def week(messages: Mapping[tuple[int, int], int], averages: Mapping[tuple[int, int], float], *, zone: str) -> go.Figure:
    """Hours of the week, Monday on top; by weekday from 1 on, and hour."""
    hours = range(24)
    cells = [[(weekday, hour) for hour in hours] for weekday in range(1, 8)]
    trace = go.Heatmap(
        x=list(hours), y=list(WEEKDAYS), z=[[messages.get(cell, 0) for cell in row] for row in cells],
        customdata=[[averages.get(cell, 0) for cell in row] for row in cells], xgap=1, ygap=1, zmin=0,
        hovertemplate="%{y}, %{x}:00–%{x}:59: %{z:,} messages, %{customdata} a day that has any<extra></extra>",
        autocolorscale=True,
        colorbar={
            "title": {"text": "messages", "side": "top"}, "orientation": "h", "x": 0, "xanchor": "left", "y": 1,
            "yanchor": "bottom", "len": 0.6, "thickness": 10, "outlinewidth": 0, "nticks": 4,
        },
    )  # fmt: skip
    figure = _figure([trace], x=f"hour of the day ({zone})", y="weekday")
    figure.update_layout(margin={"t": 64}).update_yaxes(autorange="reversed", showgrid=False)
    return figure.update_xaxes(tickvals=list(hours)[:: 24 // _HOURS_TOLD], showgrid=False)


def lines(
    series: Mapping[str, tuple[Sequence[date], Sequence[float]]], hover: str, *, y: str, connected: bool = True,
    steps: bool = False,
) -> go.Figure:  # fmt: skip
    """By day. `hover`: of a point, after its day; `connected`: False where most days in between are unknown. Points of
    later series are smaller, so that equal ones are all seen."""
    every = [day for days, _ in series.values() for day in days]
    traces = [
        go.Scatter(name=name, x=[str(day) for day in days], y=list(numbers), mode=_mode(days, connected=connected),
                   line={"shape": "hv" if steps else "linear"}, hovertemplate=f"%{{x|%Y-%m-%d}}: {hover}",
                   marker={"size": max(5, 11 - 3 * index)})
        for index, (name, (days, numbers)) in enumerate(series.items())
    ]  # fmt: skip
    figure = _figure(traces, x="day", y=y)
    first, last = min(every), max(every)
    if (last - first).days < _DAYS_TOLD_MAX:
        around = [f"{first - timedelta(days=1)} 12:00", f"{last} 12:00"]
        figure.update_xaxes(range=around, dtick=86_400_000, tick0=str(first), tickformat="%-d %b\n%Y")
    figure.update_yaxes(_whole(each for _, numbers in series.values() for each in numbers), rangemode="tozero")
    return figure.update_xaxes(type="date")


def delays(series: Mapping[str, tuple[Sequence[date], Sequence[float]]]) -> go.Figure:
    """Seconds by day, on a log axis."""
    drawn = {name: (days, [max(each, SHORTEST_S) for each in seconds]) for name, (days, seconds) in series.items()}
    figure = lines(drawn, "%{fullData.name} took up to %{y:,.3~f} s<extra></extra>", y="delay (log scale)")
    every = [each for _, seconds in drawn.values() for each in seconds]
    low = max(tick for tick in _DELAYS_S if tick <= min(every))
    high = min((tick for tick in _DELAYS_S if tick > max(every)), default=max(every))
    return figure.update_yaxes(
        type="log", dtick=None, range=[log10(low), log10(high)], tickmode="array", tickvals=list(_DELAYS_S),
        ticktext=list(_DELAYS_S.values()),
    )  # fmt: skip


def _whole(numbers: Iterable[float]) -> dict[str, int]:
    """For an axis of small counts: there are no halves of a message."""
    return {"dtick": 1} if max(map(abs, numbers), default=0) <= _WHOLE_MAX else {}


def _bars(*, hover: Sequence[str], **given: Any) -> go.Bar:
    """`hover`: of each bar, the whole text."""
    return go.Bar(**given, customdata=list(hover), hovertemplate="%{customdata}<extra></extra>")


def _mode(days: Sequence[date], *, connected: bool) -> str:
    if not connected:
        return "markers"
    return "lines+markers" if len(days) <= _MARKED_MAX else "lines"


def _step_title(grain: Grain) -> str:
    return "week (its Monday)" if grain.name == "week" else grain.name


def _figure(traces: Sequence[Any], *, x: str, y: str) -> go.Figure:
    several = len(traces) > 1
    return go.Figure(
        traces,
        {
            "template": None, "height": HEIGHT, "margin": {"l": 8, "r": 8, "t": 40 if several else 12, "b": 8},
            "showlegend": several, "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}, "dragmode": False,
        },
    )  # fmt: skip
