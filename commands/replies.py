"""What a command is answered with."""

from collections.abc import Callable

import msgspec


class Accepted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The command is on disk, or was there before, or had nothing to change."""

    seq: int
    """Stream version + 1 of the command's event; where it had nothing to change, that of the stream's last one."""
    at: int
    """When that event was recorded, microseconds."""
    position: int
    """A read model that has come this far shows it."""


class Refused(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Nothing of the command was stored."""

    code: str
    """One of `signet_client.codes.REPLIES`."""


Reply = Accepted | Refused
ReplyTo = Callable[[Reply], None]
