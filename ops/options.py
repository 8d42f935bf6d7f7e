"""Options that many verbs have. It imports nothing of the engine, so that a verb starts with no more than it needs."""

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object")]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the server [default: SIGNET_DATA, else `.data` in the checkout]"),
]
