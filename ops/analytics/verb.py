"""The verbs."""

import typer

from ops.analytics.asking import query, sql, tables
from ops.analytics.checking import status, verify
from ops.analytics.loading import load
from ops.analytics.reporting.report import report

HELP = """Ask ClickHouse about messages, people, delays and groups; and show that its figures are the log's.

First `signet analytics load`, which may be repeated, or goes on by --follow; then ask. ClickHouse is embedded in the
data folder, or a server that the setting `analytics` names. It has ids, times, sizes and counts: no text, no names.
docs/analytics.md has the tables, and questions with their answers.
"""

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="markdown")
for verb in (load, status, verify, query, sql, tables, report):
    app.command()(verb)
