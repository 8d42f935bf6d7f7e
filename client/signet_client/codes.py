"""The two code tables of the protocol, as data: why a command was refused, and why a connection was closed.

A client decides by the range alone, so it copes with codes that it has never heard of:

- replies: `Reply.retry` says whether the very same command may succeed later;
- disconnects: 4500 to 4999 mean "do not connect again, until something has changed"; all others, and a connection that
  just breaks, mean "connect again", but for those of WebSocket itself that blame what the client sent.
"""

from typing import Final, NamedTuple


class Reply(NamedTuple):
    """One way in which a command is refused."""

    code: str
    text: str
    """What went wrong and what to do, for a person."""
    retry: bool
    """True: the same command, with the same id, may succeed later."""
    status: int
    """The HTTP status that carries it where the command came by HTTP."""


class Disconnect(NamedTuple):
    """One way in which the server closes a WebSocket."""

    number: int
    code: str
    text: str

    @property
    def reconnect(self) -> bool:
        return may_reconnect(self.number)


_REPLIES: Final = (
    # What the sender did wrong: the same command is refused for ever.
    Reply("bad_frame", "This is no frame of the protocol; see the description of the API.", False, 400),
    Reply("bad_header", "The header is not what the connection, the body or the conversation says.", False, 400),
    Reply("bad_digest", "The digest in the header is not the SHA-256 of the body.", False, 400),
    Reply("bad_signature", "The signature does not fit the key of the device that it names.", False, 401),
    Reply("too_large", "It is larger than the server takes.", False, 413),
    Reply("not_authenticated", "Log in first: the token or challenge is missing, wrong or expired.", False, 401),
    Reply("device_revoked", "This device was revoked or never linked; link it again.", False, 401),
    Reply("registration_closed", "This server takes no registrations.", False, 403),
    Reply("invitation_needed", "Accounts are made by invitation here: register with one.", False, 403),
    Reply("bad_invitation", "This invitation is not valid; ask for another one.", False, 403),
    Reply("wrong_host", "This server does not go by that name; its operator may set `hosts`.", False, 421),
    Reply("wrong_origin", "Web pages from there may not connect; see the setting `public_url`.", False, 403),
    Reply("no_such_account", "There is no such account.", False, 404),
    Reply("no_such_device", "There is no such device.", False, 404),
    Reply("no_such_conversation", "There is no such conversation, or it is not for you.", False, 404),
    Reply("no_such_message", "There is no message with this seq.", False, 404),
    Reply("no_such_route", "There is nothing at this address, or not with this method; see /openapi.json.", False, 404),
    Reply("device_exists", "A device with this name has another key.", False, 409),
    Reply("id_taken", "This command id was used for something else; make a new one.", False, 409),
    Reply("not_a_member", "Only members of the conversation may do this.", False, 403),
    Reply("not_allowed", "Your role in the conversation does not allow this.", False, 403),
    Reply("not_a_group", "A direct conversation has no members, roles or title to change.", False, 409),
    Reply("bad_members", "A direct conversation has one other member; nobody is named twice.", False, 400),
    Reply("last_owner", "A group keeps one owner: make somebody else the owner first.", False, 409),
    Reply("too_many_members", "The group would have more members than it may.", False, 409),
    Reply("too_many_conversations", "An account would come into more conversations than it may.", False, 409),
    Reply("stale_members", "Somebody came or went: take in what is new, and encrypt the message anew.", False, 409),
    Reply("not_encrypted", "This conversation is end-to-end encrypted, and the body is not.", False, 400),
    Reply("no_keys", "The device has not published its identity keys yet.", False, 409),
    Reply("no_keys_left", "The device has no key to be handed out.", False, 404),
    Reply("too_many_keys", "So many one-time keys of a device need not wait to be handed out.", False, 409),
    Reply("mailbox_full", "The device has not taken its mail for long, and there is too much of it.", False, 409),
    Reply("no_such_media", "There is no such media, it is not for you, or it was not stored.", False, 404),
    Reply("media_expired", "No message has named it in time; reserve it anew, and upload it.", False, 410),
    Reply("not_uploaded", "Nothing was uploaded for it yet; upload it to the address, then say so.", False, 409),
    Reply("wrong_size", "What was uploaded has not the size that was reserved; upload it again.", False, 400),
    Reply("wrong_digest", "What was uploaded has not the SHA-256 that was reserved; upload it again.", False, 400),
    Reply("beyond_head", "The conversation has no such seq yet.", False, 409),
    # What may be otherwise in a moment: the same command may be sent again.
    Reply("busy", "The server has too much to do; send it again in a moment.", True, 503),
    Reply("unavailable", "The event store, or the keyring, can't be used now; send it again in a moment.", True, 503),
    Reply("rate_limited", "You do too much at once; send it again after the time that it names.", True, 429),
    Reply("storage_full", "The server has no room for media; its operator has to make some.", True, 507),
    Reply("failed", "The server failed at this command; nothing was stored.", True, 500),
)

_DISCONNECTS: Final = (
    Disconnect(1011, "failed", "The server failed; connect again."),
    Disconnect(1012, "restarting", "The server stops; connect again."),
    Disconnect(1013, "unavailable", "The server has too much to do; connect again in a moment."),
    Disconnect(4000, "slow_reader", "You read too slowly; connect again and resume."),
    Disconnect(4001, "no_hello", "The hello did not come in time; connect again."),
    Disconnect(4002, "rate_limited", "You connect or send more often than you may; connect again later."),
    Disconnect(4500, "bad_hello", "The hello was refused: check account, device and signature."),
    Disconnect(4501, "bad_frame", "A frame was not of the protocol."),
    Disconnect(4502, "revoked", "This device was revoked."),
    # Not "connect again": two processes with one device would throw each other out for ever.
    Disconnect(4503, "replaced", "The same device connected again; this connection is the older one."),
)

REPLIES: Final = {reply.code: reply for reply in _REPLIES}
DISCONNECTS: Final = {disconnect.code: disconnect for disconnect in _DISCONNECTS}


_BLAMES_THE_CLIENT: Final = frozenset((1002, 1003, 1007, 1009))
"""WebSocket's own: broken framing, binary, no UTF-8, too large. The same again would end the same way."""


def may_reconnect(number: int) -> bool:
    """Whether a client should connect again after a close with this number; plain network failures count as 1006."""
    return not 4500 <= number <= 4999 and number not in _BLAMES_THE_CLIENT
