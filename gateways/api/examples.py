"""The examples of the OpenAPI document: one small story of Anna, Ben and their group."""

from typing import Final

from domain.ids import AccountId
from gateways import models
from signet_client import payloads, wire

ANNA: Final = AccountId("7d9a3c0e-5b1f-5f0a-9c43-0d1b7a8e2f11")
BEN: Final = AccountId("2f6c1b7e-90ad-5d3e-8a77-6a5d4c3b2a10")
GROUP: Final = "c4a8e1d2-3b5f-5a6c-b7d8-9e0f1a2b3c4d"
_ID: Final = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"
_KEY: Final = payloads.to_base64(bytes(range(32)))
_SIGNATURE: Final = payloads.to_base64(bytes(range(64)))
_NONCE: Final = payloads.to_base64(bytes(range(40)))
_AT: Final = 1_764_072_000_000_000

READY: Final = models.Ready(ready=True, checks=[models.Check(name="log", ok=True)])
NOT_READY: Final = models.Ready(
    ready=False,
    checks=[models.Check(name="log", ok=False, detail="an append failed 3 s ago: database or disk is full")],
)

CHALLENGE: Final = models.Challenge(nonce=_NONCE, server="signet.example")
REGISTER: Final = models.Register(id=_ID, nonce=_NONCE, name="Anna", device="laptop", key=_KEY, signature=_SIGNATURE)
LOG_IN: Final = models.LogIn(nonce=_NONCE, account=ANNA, device="laptop", signature=_SIGNATURE)
TOKEN: Final = models.Token(token="q8V0…", account=ANNA, device="laptop", expires_at=_AT + 3_600_000_000)
RENAME: Final = models.Rename(id=_ID, name="Anna B.")
ACCOUNT_CHANGED: Final = models.AccountChanged(id=_ID, account=ANNA, at=_AT)
ACCOUNT_SHOWN: Final = models.AccountShown(account=ANNA, name="Anna")

LINK: Final = models.Link(id=_ID, device="phone", key=_KEY, signature=_SIGNATURE)
DEVICES: Final = models.Devices(
    account=ANNA,
    devices=[
        models.DeviceShown(device="laptop", key=_KEY, active=True, linked_at=_AT, by=None),
        models.DeviceShown(device="phone", key=_KEY, active=False, linked_at=_AT + 5_000_000, by="laptop"),
    ],
)

START: Final = models.Start(id=_ID, kind="group", members=[BEN], title="Rowing")
ADD_PEOPLE: Final = models.AddPeople(id=_ID, after=4, accounts=[BEN])
PLAIN: Final = models.Plain(id=_ID, after=4)
SET_ROLE: Final = models.SetRole(id=_ID, after=4, role="admin")
RETITLE: Final = models.Retitle(id=_ID, after=4, title="Rowing on Sundays")
CHANGED: Final = models.Changed(id=_ID, conversation=GROUP, seq=5, at=_AT)

_OVERVIEW: Final = wire.Overview(
    c=GROUP,
    kind="group",
    protection="none",
    title="Rowing",
    role="owner",
    visible=[[1, 0]],
    head=5,
    at=_AT,
    unread=2,
    read=3,
    ticks=wire.Ticks(delivered=5, read=3),
)
CONVERSATIONS: Final = models.Conversations(conversations=[_OVERVIEW])
CONVERSATION: Final = models.ConversationShown(overview=_OVERVIEW, members={ANNA: "owner", BEN: "member"})

_BODY: Final = '{"text":"Sunday at nine?","salt":"Zm9vYmFyYmF6cXV4cXV1eA"}'
_HEADER: Final = payloads.encode_header(
    payloads.Header(id=_ID, conversation=GROUP, sender=ANNA, device="laptop", after=4, digest=payloads.digest_of(_BODY))
)
POST: Final = models.Post(header=_HEADER, body=_BODY, signature=_SIGNATURE, signer="laptop")
PAGE: Final = wire.Page(
    c=GROUP,
    items=[
        wire.Change(
            c=GROUP,
            seq=4,
            at=_AT,
            what="role",
            by=ANNA,
            id=_ID,
            accounts=[BEN],
            roles=["admin"],
        ),
        wire.Message(c=GROUP, seq=5, at=_AT, ordinal=2, own=1, header=_HEADER, body=_BODY, signature=_SIGNATURE),
    ],
    head=5,
    upto=5,
)
RECEIPTS: Final = models.Receipts(
    conversation=GROUP,
    members={
        ANNA: models.MemberMarks(delivered=5, read=5),
        BEN: models.MemberMarks(delivered=5, read=3, undelivered=[2]),
    },
)
UNDELIVERED: Final = models.Undelivered(conversation=GROUP, seqs=[2, 5], before=0)

INDEX: Final = models.Index(
    server="signet.example",
    version="0.1.0",
    description="/openapi.json",
    live="/v1/live",
    live_description="/asyncapi.json",
    subprotocol=wire.SUBPROTOCOL,
    registration="open",
)
