"""`signet doctor`: is everything as it should be, and what to do where it isn't."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from ops.checkup import look
from ops.errors import OpsError
from ops.findings import Finding
from ops.options import DataOption, JsonOption
from ops.settings import load_settings

_MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}


def doctor(
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Check what the engine needs, beside a running one or before the first start: Python and SQLite, the data folder
    with its rights, the disk and its fsync, open files, log and keyring, name, port, clock, who reaches it, and media.

    Each line is ok, warn or FAIL with what to do. The exit code is 1 where something fails.
    """
    found = list(_look(data))
    failed = any(finding.level == "fail" for finding in found)
    if json:
        print(msgspec.json.encode({"ok": not failed, "findings": found}).decode())
    else:
        for finding in found:
            _show(finding)
    if failed:
        raise typer.Exit(1)


def _look(data: Path | None) -> Iterator[Finding]:
    try:
        settings = load_settings(data)
    except OpsError as error:
        yield Finding(name="settings", level="fail", text=str(error), remedy="mend them; the rest is looked at then")
        return
    yield Finding(name="settings", level="ok", text=f"those of {settings.data}")
    yield from look(settings)


def _show(finding: Finding) -> None:
    mark, style = _MARKS[finding.level]
    console = Console(soft_wrap=True, highlight=False)
    console.print(Text.assemble((mark, style), f"  {finding.name}: {finding.text}"))
    if finding.remedy:
        console.print(Text(f"      → {finding.remedy}"))
