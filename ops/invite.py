"""`signet invite`: who may register where registration is not open to all."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from gateways.invitations import Invitation, Invitations, InvitationsError
from ops.clock import clock
from ops.datafolder import read_server_file
from ops.errors import OpsError
from ops.options import DataOption
from ops.settings import Settings, load_settings

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    help="Let people register where registration is not open: make invitations, list them, revoke them.\n\n"
    "It works beside the running engine, and without one. A code is shown once; what is kept of it is a hash.",
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]

_UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400}
LIFE_MAX_D: Final = 366


@app.command("make")
def make(
    uses: Annotated[int, typer.Option(min=1, max=100_000, help="How many accounts it is good for")] = 1,
    expires: Annotated[str, typer.Option(help="After how long it ends: 30m, 12h, 7d")] = "7d",
    note: Annotated[str, typer.Option(help="Whom or what it is for; shown by `list`")] = "",
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Make an invitation, and print its code.

    Examples: `signet invite make` · `signet invite make --uses 20 --expires 12h --note "rowing club"`
    """
    settings, invitations = _open(data)
    life_s = _seconds(expires)
    code, made = _try(lambda: invitations.make(uses=uses, life_s=life_s, note=note))
    if json:
        print(msgspec.json.encode({"code": code, **_shown(made)}).decode())
        return
    print(f"{code}\n")
    print(f"Invitation {made.id}: good for {uses} account{'' if uses == 1 else 's'}, until {_time(made.expires_at)}.")
    server = read_server_file(settings.data)
    url = settings.public_url or (server and server.url) or "URL"
    print(f"Use it: ./signet chat NAME --url {url} --invitation {code}")
    if settings.who_registers != "invited":
        print(f"Nobody is asked for it now: registration is {settings.who_registers} on this server.")


@app.command("list")
def show(data: DataOption = None, json: JsonOption = False) -> None:
    """List all invitations: which are open, and how often each was used."""
    _, invitations = _open(data)
    found = _try(invitations.list)
    if json:
        print(msgspec.json.encode([_shown(each) for each in found]).decode())
        return
    table = Table("id", "state", "used", "expires", "note")
    for each in found:
        used = f"{each.used} of {each.uses_max}"
        table.add_row(each.id, each.state(clock()), used, _time(each.expires_at), each.note)
    Console().print(table)


@app.command("revoke")
def revoke(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it")],
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Revoke an invitation: from now on nobody can use it. Accounts that were made with it stay."""
    _, invitations = _open(data)
    revoked = _try(lambda: invitations.revoke(id_))
    if revoked is None:
        raise OpsError(f"there is no invitation {id_}; `signet invite list` shows all")
    print(msgspec.json.encode(_shown(revoked)).decode() if json else f"Invitation {id_} is revoked.")


def _open(data: Path | None) -> tuple[Settings, Invitations]:
    settings = load_settings(data)
    if read_server_file(settings.data) is None:
        raise OpsError(f"there is no server in {settings.data} yet; start one: ./signet up --data {settings.data}")
    return settings, Invitations(settings.data / "invitations.db", clock)


def _try(work: Callable[[], T]) -> T:
    try:
        return work()
    except InvitationsError as error:
        raise OpsError(str(error)) from error


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= LIFE_MAX_D * _UNITS["d"]:
        raise OpsError(f"--expires {text!r}: write minutes, hours or days, such as 30m, 12h or 7d; a year at most")
    return seconds


def _shown(invitation: Invitation) -> dict[str, object]:
    return {**msgspec.structs.asdict(invitation), "state": invitation.state(clock())}


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
