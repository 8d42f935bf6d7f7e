"""The AsyncAPI document of the live protocol, made from the wire structs, the code tables and the limits in force.

It describes the server: what a client sends is an operation with the action `receive`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, get_args

import msgspec

from gateways import live_examples
from gateways.live_schemas import Schema, live_schemas
from gateways.protocol import PATH
from gateways.services import EdgeSettings
from signet_client import wire
from signet_client.codes import DISCONNECTS, REPLIES

CLIENT_FRAMES: Final[tuple[type[msgspec.Struct], ...]] = get_args(wire.ClientFrame)
SERVER_FRAMES: Final[tuple[type[msgspec.Struct], ...]] = get_args(wire.ServerFrame)

_CHANNEL: Final = {"$ref": "#/channels/live"}

_DESCRIPTION: Final = f"""
The live path of Signet: one WebSocket for each device, subprotocol `{wire.SUBPROTOCOL}`, one JSON object a text
message, told apart by `t`. The server speaks first. Unknown fields are to be ignored; fields at their default are left
out. Times are microseconds since 1970, UTC; keys and signatures are unpadded base64; a `seq` counts the events of a
conversation from 1, without gaps, the same for everybody.

Everything else (registering, groups, devices) goes by HTTP: see `/openapi.json`. `docs/protocol.md` tells step by step
how a client is written.
"""

# Messages and operations


class _Operation(NamedTuple):
    frames: tuple[type[msgspec.Struct], ...]
    summary: str
    replies: tuple[type[msgspec.Struct], ...] = ()


_RECEIVED: Final = {
    "logIn": _Operation((wire.Hello,), "A device logs in and resumes.", (wire.Welcome,)),
    "send": _Operation((wire.Send,), "A device sends a message.", (wire.Accepted, wire.Refused)),
    "acknowledge": _Operation((wire.Ack,), "A device has stored what came.", (wire.Refused,)),
    "read": _Operation((wire.Read,), "A person has seen what came.", (wire.Refused,)),
    "fetch": _Operation((wire.Fetch,), "A device asks for history.", (wire.Page, wire.Refused)),
    "takeMail": _Operation((wire.Took,), "A device has taken in its mail."),
    "ping": _Operation((wire.Ping,), "A device asks whether the server answers.", (wire.Pong,)),
}
"""What a client says; each has its answers. A refused hello is answered by a close."""

_SENT: Final = {
    "challenge": _Operation((wire.Challenge,), "The server speaks first."),
    "resume": _Operation((wire.Welcome, wire.Page, wire.Live), "What the device lacks, before the pushes begin."),
    "push": _Operation((wire.Message, wire.Change), "Something was recorded in a conversation."),
    "tick": _Operation((wire.Receipt, wire.Mark), "A mark has moved."),
    "mail": _Operation((wire.Mail,), "Another device has sent something to this one."),
    "keys": _Operation((wire.KeyCounts, wire.DeviceLists), "The keys of this device, or the devices of others."),
    "resync": _Operation((wire.Resync,), "The device read too slowly, and pushes were dropped."),
}
"""What the server says without being asked."""


def _message(frame: type[msgspec.Struct]) -> Schema:
    text = " ".join((frame.__doc__ or frame.__name__).split())
    summary, _, _ = text.partition(". ")
    return {
        "name": _tag(frame),
        "title": frame.__name__,
        "summary": summary.removesuffix(".") + ".",
        "description": text,
        "payload": {"$ref": f"#/components/schemas/{frame.__name__}"},
        "examples": [{"payload": msgspec.to_builtins(live_examples.FRAMES[frame])}],
    }


def _operation(action: str, described: _Operation) -> Schema:
    operation = {
        "action": action,
        "channel": _CHANNEL,
        "summary": described.summary,
        "messages": _messages_of(described.frames),
    }
    if described.replies:
        operation["reply"] = {"channel": _CHANNEL, "messages": _messages_of(described.replies)}
    return operation


def _messages_of(frames: Iterable[type[msgspec.Struct]]) -> list[Schema]:
    return [{"$ref": f"#/channels/live/messages/{_tag(frame)}"} for frame in frames]


def _tag(frame: type[msgspec.Struct]) -> str:
    return str(frame.__struct_config__.tag)


# The whole


def describe(settings: EdgeSettings, *, version: str) -> dict[str, Any]:
    """The document of a server with these limits."""
    frames = [*CLIENT_FRAMES, *SERVER_FRAMES]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Signet, live",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": _server("ws", "127.0.0.1:8700", "As `signet up` prints it."),
            "public": _server("wss", "signet.example", "Behind a proxy that ends TLS."),
        },
        "channels": {"live": _channel(frames, settings)},
        "operations": {
            **{name: _operation("receive", described) for name, described in _RECEIVED.items()},
            **{name: _operation("send", described) for name, described in _SENT.items()},
        },
        "components": {
            "messages": {_tag(frame): _message(frame) for frame in frames},
            "schemas": live_schemas(frames, settings),
        },
    }


def _server(protocol: str, host: str, description: str) -> Schema:
    return {
        "host": "{host}",
        "protocol": protocol,
        "description": description,
        "variables": {"host": {"default": host, "description": "Host and port of the server's URL."}},
    }


def _channel(frames: Sequence[type[msgspec.Struct]], settings: EdgeSettings) -> Schema:
    return {
        "address": PATH,
        "title": "Live",
        "description": f"{_CODES_INTRODUCTION}\n\n{_closes()}\n\n{_replies()}",
        "messages": {_tag(frame): {"$ref": f"#/components/messages/{_tag(frame)}"} for frame in frames},
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
        "x-subprotocol": wire.SUBPROTOCOL,
        "x-frame-bytes-max": settings.frame_bytes_max,
        "x-close-codes": [
            {"number": each.number, "code": each.code, "text": each.text, "reconnect": each.reconnect}
            for each in DISCONNECTS.values()
        ],
        "x-reply-codes": [
            {"code": each.code, "text": each.text, "retry": each.retry, "status": each.status}
            for each in REPLIES.values()
        ],
    }


_CODES_INTRODUCTION: Final = """
Ask for the subprotocol in the handshake. The server closes with one of the numbers below, or with one of WebSocket's
own (1002, 1003, 1007, 1009: what was sent is at fault, and would be again). Numbers from 4500 to 4999 mean "not again
until something has changed"; after all others, and after a connection that just broke, connect again.
""".strip()


def _closes() -> str:
    rows = [f"| {each.number} | `{each.code}` | {each.text} |" for each in DISCONNECTS.values()]
    return "\n".join(["| close | code | |", "|---|---|---|", *rows])


def _replies() -> str:
    rows = [f"| `{each.code}` | {'yes' if each.retry else 'no'} | {each.text} |" for each in REPLIES.values()]
    return "\n".join(["| refused | retry | |", "|---|---|---|", *rows])
