"""One HTML file that asks nobody for anything: plotly, the figures and the looks are in it.

Names and titles come from strangers. They are escaped wherever they stand, and the page's own policy lets the browser
run only two scripts, by their hashes, and reach no address.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import msgspec
from plotly.offline import get_plotlyjs

from ops.analytics.reporting.labels import Labels
from ops.analytics.reporting.sections import Section
from ops.analytics.reporting.words import counted

ROWS_MAX: Final = 400
"""Of a table in the page; who wants all asks the question."""
_STYLE: Final = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
_SCRIPT: Final = Path(__file__).with_name("page.js").read_text(encoding="utf-8")


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What is told before the sections."""

    title: str
    sentences: Sequence[str]
    totals: Mapping[str, int]
    """By what they count."""
    made: str


def page(head: Head, sections: Sequence[Section], labels: Labels) -> str:
    library = get_plotlyjs()
    figures = {_place(each): _figure(each) for each in sections if each.figure is not None}
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(library, _SCRIPT)}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(head.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(head.title)}</h1>
{"".join(f"<p>{escape(sentence)}</p>" for sentence in head.sentences)}
<dl>{"".join(f"<div><dt>{escape(name)}</dt><dd>{number:,}</dd></div>" for name, number in head.totals.items())}</dl>
<noscript><p>The plots need JavaScript; the sentences and the tables don't.</p></noscript>
</header>
<main>
{"".join(_section(each, labels) for each in sections)}
</main>
<footer>{escape(head.made)}</footer>
<script type="application/json" id="plots">{_json(figures)}</script>
<script>{library}</script>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _policy(*scripts: str) -> str:
    hashes = " ".join(f"'sha256-{_digest(each)}'" for each in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _figure(section: Section) -> dict[str, Any]:
    """The looks are the page's."""
    assert section.figure is not None
    figure: dict[str, Any] = section.figure.to_plotly_json()
    figure["layout"].pop("template", None)
    return figure


def _json(value: Any) -> str:
    """No tag can begin or end in it."""
    return msgspec.json.encode(value).decode().replace("<", "\\u003c")


def _place(section: Section) -> str:
    return f"plot-{section.question}"


def _section(section: Section, labels: Labels) -> str:
    sentence = escape(section.sentence)
    plot = (
        f'<div id="{_place(section)}" class="plot" role="img" aria-label="{escape(section.heading)}: {sentence}"></div>'
    )
    return f"""<section id="{section.question}" aria-labelledby="heading-{section.question}">
<h2 id="heading-{section.question}">{escape(section.heading)}</h2>
<p>{sentence}</p>
{plot if section.figure is not None else ""}
{_table(section, labels) if section.answer.data else ""}
</section>
"""


def _table(section: Section, labels: Labels) -> str:
    rows = section.answer.data
    shown = counted(len(rows), "row")
    if len(rows) > ROWS_MAX:
        shown = f"the last {ROWS_MAX} of {shown}; all by: signet analytics query {section.question} --json"
    kinds = [field.type for field in section.answer.meta]
    heads = "".join(
        f'<th scope="col"{_right(kind)}>{_title(field.name)}</th>'
        for field, kind in zip(section.answer.meta, kinds, strict=True)
    )
    return f"""<details>
<summary>Table: {escape(shown)}</summary>
<div class="rows" tabindex="0" role="region" aria-label="Table of {escape(section.heading)}"><table>
<thead><tr>{heads}</tr></thead>
<tbody>
{"".join(_row(row, kinds, labels) for row in rows[-ROWS_MAX:])}</tbody>
</table></div>
</details>"""


def _row(row: Sequence[Any], kinds: Sequence[str], labels: Labels) -> str:
    cells = (_cell(value, kind, labels) for value, kind in zip(row, kinds, strict=True))
    return f"<tr>{''.join(cells)}</tr>\n"


def _cell(value: Any, kind: str, labels: Labels) -> str:
    if kind == "UUID":
        return f'<td title="{escape(value)}">{escape(labels.label(value))}</td>'
    if isinstance(value, str):
        return f"<td>{escape(value.removesuffix('.000000'))}</td>"
    return f"<td{_right(kind)}>{value:,}</td>"


def _right(kind: str) -> str:
    return ' class="number"' if kind.startswith(("UInt", "Int", "Float")) else ""


def _title(column: str) -> str:
    """`p50_s` is seconds."""
    if column == "weekday":
        return "weekday (1 is Monday)"
    return escape(f"{column[:-2]} (s)" if column.endswith("_s") else column.replace("_", " "))
