"""The command line. One table says which function serves which verb; its module is imported only to run it."""

import importlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import typer

from ops.errors import OpsError

GUIDE = """Signet: messaging on one append-only log, from which all else is derived.

`signet VERB --help` tells more about a verb. Exit code 0 means success, 1 that it failed (the reason goes to stderr),
2 that the command was not understood, 130 that it was interrupted.
"""


class Verb(NamedTuple):
    """A verb's place in the code and its line in `signet --help`."""

    name: str
    target: str
    """`module:attribute`; a function with typer's annotations, or a `typer.Typer` for a verb with verbs of its own."""
    line: str


VERBS = (
    # In the order in which somebody meets them.
    Verb("up", "ops.up:up", "Run the engine; prints its URL. Ctrl-C or SIGTERM stops it."),
    Verb("chat", "ops.chat:chat", "Chat in the terminal; start it twice to try it with two people."),
    Verb("tail", "ops.tail:tail", "Show the log as it grows, one readable line an event."),
    Verb("conversations", "ops.history.listing:conversations", "List the conversations with their ids, or find some."),
    Verb("accounts", "ops.history.listing:accounts", "List the accounts with their ids, or find some."),
    Verb("replay", "ops.history.replay:replay", "Print the history of a conversation or an account, for auditors."),
    Verb("statistics", "ops.history.statistics:statistics", "Messages by day and member, and who answers whom."),
    Verb(
        "analytics",
        "ops.analytics.verb:app",
        "Ask ClickHouse about messages, people and delays; it ties out with the log.",
    ),
    Verb("doctor", "ops.doctor:doctor", "Check what the engine needs, and say what to do where something is amiss."),
    Verb("media", "ops.media.verb:app", "Pictures and other files: who has how much, and is it all there."),
    Verb("keyring", "ops.keyring:app", "The keys that seal personal texts: back them up, and check them."),
    Verb("backup", "ops.backup:backup", "Copy a server into a new folder, while its engine runs."),
    Verb("restore", "ops.restore:restore", "Make a server of a backup."),
    Verb("invite", "ops.invite:app", "Let people register where registration is not open: make, list, revoke."),
    Verb("parked", "ops.parked:app", "Events that a read model could not apply: list, show, retry, skip."),
    Verb("check", "ops.check:check", "Compare every row of the read models with what the log says."),
    Verb("rebuild", "ops.rebuilding.verb:rebuild_verb", "Make read models anew from the log, while the engine runs."),
    Verb("rollback", "ops.rebuilding.verb:rollback", "Go back to the read model that served before the last one."),
    Verb("import", "ops.importing.verb:app", "Put chat from elsewhere into the log: IRC logs."),
    Verb("play", "ops.play:app", "Play a day of real chat through real clients, and check what came of it."),
    Verb("bench", "ops.bench.verb:bench", "Measure what a message costs, by load from another process."),
    Verb("test", "ops.verify:verify", "Check the code as CI does: style, types, imports, tests, coverage, locks."),
)


def main() -> None:
    """Run the verb that the arguments name."""
    try:
        command_line(sys.argv[1:2])(prog_name="signet")
    except OpsError as error:
        print(f"signet: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def command_line(chosen: list[str]) -> typer.Typer:
    """All verbs with their lines, and behind the chosen one its code."""
    app = typer.Typer(
        help=GUIDE,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(lambda: None)  # so that a single verb is still named on the command line
    for verb in VERBS:
        add(app, verb, load(verb) if verb.name in chosen else lambda: None)
    return app


def add(app: typer.Typer, verb: Verb, code: Callable[..., Any] | typer.Typer) -> None:
    if isinstance(code, typer.Typer):
        app.add_typer(code, name=verb.name)
    else:
        app.command(verb.name, short_help=verb.line)(code)


def load(verb: Verb) -> Callable[..., Any] | typer.Typer:
    module, attribute = verb.target.split(":")
    code: Callable[..., Any] | typer.Typer = getattr(importlib.import_module(module), attribute)
    return code


if __name__ == "__main__":
    main()
