"""The verb itself."""

import typer

from ops.media.usage import usage
from ops.media.verify import verify

HELP = """Pictures and other files: how much each account has, and whether the object store has all of it.

They lie outside the log: in the folder `media` of the data folder, or in the S3 that the setting `media` names.
`signet backup` does not copy them; docs/media.md says what does. The verbs read beside the running engine, and without
one, and change nothing.
"""

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="markdown")
app.command()(usage)
app.command()(verify)
