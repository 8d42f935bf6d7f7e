"""The frames of the live protocol `signet.v1.json`: one JSON object a WebSocket text message, told apart by `t`.

    server                         client
    challenge  ------------------>
               <------------------ hello (signed; what the device already has)
    welcome    ------------------>          conversations with heads, marks and ticks
    page …     ------------------>          what the device lacks, piece by piece
    live       ------------------>          from here on every push comes as it happens
               <------------------ send, ack, read, fetch, took, ping
    accepted, refused, page, pong, message, change, receipt, mark, mail, keys, devices, resync

Field names on the wire are short where a frame is frequent. Unknown fields are ignored on both sides, so that a newer
peer may say more. Times are microseconds since 1970, UTC.
"""

from typing import Literal

import msgspec

SUBPROTOCOL = "signet.v1.json"

Role = Literal["owner", "admin", "member"]
Kind = Literal["direct", "group"]
Protection = Literal["end_to_end", "none"]
Unreadable = Literal["key_missing", "damaged"]
"""Why the server can't read a text that it has: its key is gone (destroyed, or lost), or text or key are damaged."""


class _Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="t"):
    pass


# What a client sends


class Hello(_Frame, frozen=True, kw_only=True, tag="hello"):
    """The answer to a challenge."""

    account: str
    device: str
    signature: str
    """Over `payloads.hello_payload`, with the device's Ed25519 key."""
    cursors: dict[str, int] = {}
    """Conversation → the last seq up to which this device holds everything. One that isn't named is served from the
    first event that the account may see."""
    partial: bool = False
    """The device holds more than a frame may name: of what isn't named no pages are to come. The welcome names all the
    heads, and the device fetches what it lacks."""
    epoch: str = ""
    """The server's, as the device knows it from the last welcome that it took in; empty: it knows none yet."""


class Send(_Frame, frozen=True, kw_only=True, tag="send"):
    """One message. Answered by `accepted` or `refused` with the header's id."""

    header: str
    """`payloads.Header` as JSON text: exactly these bytes are signed, stored and handed on."""
    body: str
    signature: str | None = None
    signer: str | None = None
    read: int | None = None
    """Also moves this device's read mark, which a send by itself never does."""


class Ack(_Frame, frozen=True, kw_only=True, tag="ack"):
    """This device has stored, and could read, everything up to `upto`. Not answered; refused only with cause. It may be
    lost with the connection: after a `welcome` compare `Overview.delivered`, and say it again."""

    c: str
    upto: int
    undecryptable: list[int] = []
    """Seqs up to `upto` that the device could not decrypt, at most 256. Whoever has more acknowledges in steps, oldest
    first, each up to the last seq that it names: what is not named counts as read."""
    repaired: list[int] = []
    """Seqs named `undecryptable` before that it can read now, at most 256."""
    read: int = 0
    """The person has seen everything up to here: what a frame `read` says, in the same statement; 0: nothing of it."""
    signature: str | None = None
    """By the device's key over `signet.receipt.v1`, conversation, account, device, `upto`, `read`, and the seqs in
    `undecryptable` and `repaired`, separated by commas; one a line."""


class Read(_Frame, frozen=True, kw_only=True, tag="read"):
    """The person has seen everything up to `upto`. Not answered; refused only with cause."""

    c: str
    upto: int
    signature: str | None = None
    """As that of `ack`, which has 0 for what has been stored."""


class Fetch(_Frame, frozen=True, kw_only=True, tag="fetch"):
    """Asks for a page of history; answered by `page` with the same id."""

    id: str
    c: str
    after: int
    """Events with a greater seq than this one, in order."""
    limit: int = 200


class Took(_Frame, frozen=True, kw_only=True, tag="took"):
    """The device has taken in its mail up to this number, and the server may delete it. Not answered."""

    upto: int


class Ping(_Frame, frozen=True, kw_only=True, tag="ping"):
    """Whether the server still answers. Answered by `pong` with the same id."""

    id: str = ""


ClientFrame = Hello | Send | Ack | Read | Fetch | Took | Ping


# What the server sends


class Challenge(_Frame, frozen=True, kw_only=True, tag="challenge"):
    """The first frame of a connection."""

    nonce: str
    server: str
    frame_bytes_max: int
    """A longer frame closes the connection."""
    body_bytes_max: int
    """A message with a longer body is refused."""
    epoch: str = ""
    """Another one after the server was restored from a backup: then it has lost what came after that."""


class Ticks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far an author's messages have come: every seq up to `delivered` is delivered to all, up to `read` read by
    all, but for those in `undelivered`, which some member could not decrypt."""

    delivered: int = 0
    read: int = 0
    undelivered: list[int] = []
    """Of anybody's messages, and also beyond `delivered`."""
    more: bool = False
    """There may be more undelivered ones, before those that are named: `GET /v1/conversations/{c}/undelivered` has
    all."""


class Overview(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One conversation as the list of conversations shows it."""

    c: str
    kind: Kind
    protection: Protection
    title: str | None = None
    peer: str | None = None
    """The other account of a direct conversation."""
    role: Role | None = None
    """None: no longer a member."""
    visible: list[list[int]]
    """What the account may see: [first, last] seqs; a last of 0 means "and on"."""
    head: int
    """The last seq that the account may see."""
    at: int
    """When the last event that the account may see was recorded."""
    unread: int = 0
    read: int = 0
    """The account's read mark."""
    delivered: int = 0
    """This device's delivered mark (0 over HTTP)."""
    ticks: Ticks = Ticks()
    kept: int | None = None
    """Only for a device whose hello names an earlier epoch: up to this seq the server has what the device may hold.
    What the device holds beyond it is lost there, and other events may have these seqs."""


class Welcome(_Frame, frozen=True, kw_only=True, tag="welcome"):
    """The hello was right. It comes again before `live` where so much happened while the pages were sent that there is
    another round of pages."""

    conversations: list[Overview]


class Message(_Frame, frozen=True, kw_only=True, tag="message"):
    """A message, pushed or in a page."""

    c: str
    seq: int
    at: int
    """When the server recorded it."""
    occurred: int | None = None
    """When it happened, as an importer claimed."""
    ordinal: int
    """How many counting messages the conversation has up to here."""
    own: int
    """How many of these are the sender's."""
    header: str
    body: str | None = None
    """None: retracted, or `unreadable`."""
    unreadable: Unreadable | None = None
    signature: str | None = None
    signer: str | None = None
    retracted: int | None = None
    """The seq of the retraction. Whoever has left is shown no later one, but the message as it was then."""


class Change(_Frame, frozen=True, kw_only=True, tag="change"):
    """Everything else that takes a seq in a conversation: membership, roles, title, retractions."""

    c: str
    seq: int
    at: int
    occurred: int | None = None
    what: Literal["started", "added", "removed", "left", "role", "title", "retracted"]
    by: str
    id: str
    """The command's id."""
    accounts: list[str] = []
    """Whom it concerns: the members at the start, those added, removed, or whose role changed."""
    roles: list[Role] = []
    """The roles of `accounts`, where it gives some."""
    kind: Kind | None = None
    protection: Protection | None = None
    title: str | None = None
    target: int | None = None
    """The seq of the message that was retracted."""


Item = Message | Change


class Page(_Frame, frozen=True, kw_only=True, tag="page"):
    """A run of a conversation's history, in order of seq and without a hole but those that `visible` explains."""

    c: str
    items: list[Item]
    head: int
    """The last seq that the account may see."""
    upto: int
    """The device holds everything that it may see up to here once it has stored this page."""
    id: str = ""
    """The fetch that it answers; empty while resuming."""
    retracted: list[list[int]] = []
    """[message, retraction]: seqs of messages before this page that were retracted while the account was no member. It
    is one again, so it is to forget their bodies; the retractions themselves it may not see."""


class Live(_Frame, frozen=True, kw_only=True, tag="live"):
    """The pages of a resume are done; from here on pushes come as they happen."""


class Accepted(_Frame, frozen=True, kw_only=True, tag="accepted"):
    """The command is on disk. The same id always gets the same answer."""

    id: str
    c: str
    seq: int
    at: int


class Refused(_Frame, frozen=True, kw_only=True, tag="refused"):
    """The command was refused and nothing of it is stored."""

    id: str
    """The header's or the fetch's; empty where the refused frame had none."""
    code: str
    text: str
    retry: bool
    c: str = ""
    """The conversation, where the refused frame named one."""
    retry_after_ms: int = 0
    """Sooner it is sure to be refused again; 0: nobody knows."""


class Receipt(_Frame, frozen=True, kw_only=True, tag="receipt"):
    """To an author, its ticks: how far its messages in this conversation have come. Marks only grow: keep the greater
    ones."""

    c: str
    delivered: int
    read: int
    undelivered: list[int] = []
    """Seqs that some member could not decrypt, beside those that were named before."""
    repaired: list[int] = []
    """Seqs named `undelivered` before that are so no more: decrypted after all, or the member has left."""
    more: bool = False
    """What is undelivered has changed in more than a frame may say: `GET /v1/conversations/{c}/undelivered` has all."""


class Mark(_Frame, frozen=True, kw_only=True, tag="mark"):
    """To a reader's own devices: how far the account has read."""

    c: str
    read: int


class Mail(_Frame, frozen=True, kw_only=True, tag="mail"):
    """Something from another device to this one alone, outside of all conversations: Matrix's to-device message. It
    comes again until the device has said `took`. After a welcome all mail that waits comes before the pages."""

    n: int
    """Grows from one to the next, with gaps."""
    type: str
    """Such as `m.room.encrypted`."""
    sender: str
    """Matrix's id of the account that sent it."""
    content: str
    """JSON text."""


class KeyCounts(_Frame, frozen=True, kw_only=True, tag="keys"):
    """What the device has left of its keys: after the welcome, and when one was claimed."""

    left: int
    """One-time keys."""
    fallback_used: bool = False
    """There is no fallback key that nobody was given yet: the device should publish one."""
    published: bool = True
    """The server has the device's identity keys."""


class DeviceLists(_Frame, frozen=True, kw_only=True, tag="devices"):
    """These accounts, with whom the account shares a conversation, have other devices than before. Only a hint: a
    device that connects asks anew."""

    accounts: list[str]


class Resync(_Frame, frozen=True, kw_only=True, tag="resync"):
    """Pushes were dropped because this connection read too slowly: get the list of conversations anew (by HTTP, or by
    connecting again), and fetch from your cursors."""


class Pong(_Frame, frozen=True, kw_only=True, tag="pong"):
    """The answer to a `ping`."""

    id: str = ""


ServerFrame = (
    Challenge
    | Welcome
    | Page
    | Live
    | Accepted
    | Refused
    | Message
    | Change
    | Receipt
    | Mark
    | Mail
    | KeyCounts
    | DeviceLists
    | Resync
    | Pong
)
