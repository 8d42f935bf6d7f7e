"""The examples of the AsyncAPI document: the story of the OpenAPI document's, over the live protocol."""

from typing import Any, Final

from gateways.api import keyexamples
from gateways.api.examples import ANNA, BEN, CHALLENGE, CONVERSATIONS, GROUP, PAGE, POST
from signet_client import matrix, wire
from signet_client.codes import REPLIES

_ID: Final = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"
_AT: Final = 1_764_072_000_000_000
_SIGNATURE: Final = POST.signature or ""
_REFUSAL: Final = REPLIES["not_a_member"]

FRAMES: Final[dict[type[Any], Any]] = {
    type(frame): frame
    for frame in (
        wire.Challenge(nonce=CHALLENGE.nonce, server=CHALLENGE.server, frame_bytes_max=262_144, body_bytes_max=65_536),
        wire.Hello(account=ANNA, device="laptop", signature=_SIGNATURE, cursors={GROUP: 3}),
        wire.Welcome(conversations=CONVERSATIONS.conversations),
        PAGE,
        wire.Live(),
        wire.Send(header=POST.header, body=POST.body, signature=_SIGNATURE, read=4),
        wire.Accepted(id=_ID, c=GROUP, seq=5, at=_AT),
        wire.Refused(id=_ID, code=_REFUSAL.code, text=_REFUSAL.text, retry=_REFUSAL.retry, c=GROUP),
        wire.Message(
            c=GROUP, seq=5, at=_AT, ordinal=2, own=1, header=POST.header, body=POST.body, signature=_SIGNATURE
        ),
        wire.Change(c=GROUP, seq=6, at=_AT, what="role", by=ANNA, id=_ID, accounts=[BEN], roles=["admin"]),
        wire.Ack(c=GROUP, upto=5),
        wire.Read(c=GROUP, upto=5),
        wire.Receipt(c=GROUP, delivered=5, read=3),
        wire.Mark(c=GROUP, read=5),
        wire.Fetch(id="f1", c=GROUP, after=3),
        wire.Mail(
            n=_AT,
            type="m.room.encrypted",
            sender=matrix.user_id(BEN, CHALLENGE.server),
            content=matrix.canonical(next(iter(keyexamples.TO_DEVICE.messages.values()))["phone"]),
        ),
        wire.Took(upto=_AT),
        wire.KeyCounts(left=49),
        wire.DeviceLists(accounts=[BEN]),
        wire.Resync(),
        wire.Ping(id="1"),
        wire.Pong(id="1"),
    )
}
"""By the type of the frame."""
