"""The Python client of Signet: one device that sends, receives in order, and keeps what it holds in its store."""

from signet_client.client import Client, Tick
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
    Event,
    Events,
    Lost,
    ReadMarkMoved,
    Received,
    Retracted,
    SendRefused,
    TickMoved,
)
from signet_client.messages import Change, Message
from signet_client.outbox import Sent
from signet_client.store import Conversation, Marks, Outgoing

__all__ = [
    "Change",
    "Client",
    "ClientClosed",
    "Connected",
    "Conversation",
    "Disconnected",
    "Event",
    "Events",
    "EventsMissed",
    "Lost",
    "Marks",
    "Message",
    "NoDevice",
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
]
