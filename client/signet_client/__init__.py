"""The Python client of Signet: one device that sends, receives in order, and keeps what it holds in its store."""

from typing import TYPE_CHECKING, Any

from signet_client.errors import (
    ClientClosed,
    Disconnected,
    EventsMissed,
    NoDevice,
    Refused,
    SignetError,
    StoreFailed,
    StoreInUse,
    Unreachable,
)
from signet_client.events import (
    Connected,
    Decrypted,
    Event,
    Events,
    Forged,
    Found,
    HistoryLost,
    Lost,
    NotDecrypted,
    ReadMarkMoved,
    Received,
    Retracted,
    SendRefused,
    TickMoved,
    Uploading,
)
from signet_client.media.attachment import Attachment
from signet_client.messages import Change, Message
from signet_client.outbox import Sent
from signet_client.records import Conversation, Marks, Outgoing

if TYPE_CHECKING:
    from signet_client.client import Client, Tick

__all__ = [
    "Attachment",
    "Change",
    "Client",
    "ClientClosed",
    "Connected",
    "Conversation",
    "Decrypted",
    "Disconnected",
    "Event",
    "Events",
    "EventsMissed",
    "Forged",
    "Found",
    "HistoryLost",
    "Lost",
    "Marks",
    "Message",
    "NoDevice",
    "NotDecrypted",
    "Outgoing",
    "ReadMarkMoved",
    "Received",
    "Refused",
    "Retracted",
    "SendRefused",
    "Sent",
    "SignetError",
    "StoreFailed",
    "StoreInUse",
    "Tick",
    "TickMoved",
    "Unreachable",
    "Uploading",
]


def __getattr__(name: str) -> Any:
    """Loads the client itself when it is first asked for: who needs the words of the protocol alone, as the server
    does, starts sooner without an HTTP client."""
    if name in ("Client", "Tick"):
        from signet_client import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
