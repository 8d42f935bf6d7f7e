"""What the flush in progress gathers: what it stores, tells and sends, in this order."""

from dataclasses import dataclass, field

from signet_client import wire
from signet_client.errors import Refused
from signet_client.events import Event
from signet_client.outbox import Sent, Waiting
from signet_client.records import Batch


@dataclass(slots=True)
class Gathered:
    """One for a device; the parts of its live path fill it, each flush empties it."""

    batch: Batch = field(default_factory=Batch)
    answers: list[tuple[Waiting, Sent | Refused]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    acks: set[str] = field(default_factory=set)
    """Conversations whose cursor is to be acknowledged."""
    reads: set[str] = field(default_factory=set)
    """Conversations whose read mark is to be said."""
    frames: list[wire.ClientFrame] = field(default_factory=list)
    mail: int = 0
    """Up to which number the mail is taken; 0: nothing new was."""
