"""The bytes of messages: header, body and signature. In clear when they are made, where the server may read them;
encrypted when they go out for the first time, since only then it is sure who is to read them."""

import asyncio
from typing import Protocol

import msgspec

from signet_client import payloads
from signet_client.crypto.machine import Machine
from signet_client.identity import Identity
from signet_client.media.attachment import attachment_of
from signet_client.messages import Body, decode_body
from signet_client.outbox import Sent
from signet_client.records import Conversation, Marks, Outgoing, Profile
from signet_client.store import Store


class Around(Protocol):
    """What the device knows, and what it can ask for: `Live` in live.py."""

    def conversation_of(self, conversation: str) -> Conversation | None: ...

    def marks_of(self, conversation: str) -> Marks: ...

    def errand(self) -> None:
        """Something is to be asked of the server."""
        ...

    def refused_as_stale(self, conversation: str) -> None:
        """Others are in it than this device knows."""
        ...

    def bring_again(self, message: Outgoing, answer: "asyncio.Future[Sent] | None") -> bool:
        """Whether its files are brought once more, and the message after them."""
        ...


class Composing:
    def __init__(self, profile: Profile, identity: Identity, store: Store, machine: Machine, around: Around) -> None:
        self._profile = profile
        self._identity = identity
        self._store = store
        self._machine = machine
        self._around = around

    def begin(self, message: Outgoing) -> Outgoing:
        """A message as it comes into the outbox: with its bytes where the server may read them."""
        return self._in_clear(message, message.clear) if self._is_open(message) and message.clear else message

    def encrypt(self, message: Outgoing) -> Outgoing | None:
        """With header, body and signature, which are in the store before they leave; None: not yet."""
        assert message.clear is not None
        if self._is_open(message):
            composed = self._in_clear(message, message.clear)
        elif self._machine.is_ready(message.conversation):
            inner = decode_body(message.clear)
            assert inner is not None
            body = self._machine.encrypt(
                message.conversation,
                kind=inner.kind,
                text=inner.text,
                reply_to=inner.reply_to,
                attachment=inner.attachment,
            )
            composed = self._signed(message, body, media=_media_of(inner))
        else:
            self._around.errand()
            return None
        self._store.put_encrypted(composed)
        return composed

    def stale(self, message: Outgoing) -> Outgoing:
        """As it was before it was encrypted: others are to read it than those for whom it was."""
        blank = msgspec.structs.replace(message, header="", body="", signature="")
        self._store.put_encrypted(blank)
        self._around.refused_as_stale(message.conversation)
        return blank

    def bring_again(self, message: Outgoing, answer: "asyncio.Future[Sent] | None") -> bool:
        return self._around.bring_again(message, answer)

    def _is_open(self, message: Outgoing) -> bool:
        """Not as long as it is not known what it is."""
        known = self._around.conversation_of(message.conversation)
        return known is not None and known.protection == "none"

    def _in_clear(self, message: Outgoing, body: str) -> Outgoing:
        """Which message it answers, all may know, too."""
        inner = decode_body(body)
        assert inner is not None
        signed = self._signed(message, body, media=_media_of(inner), about=inner.reply_to)
        return msgspec.structs.replace(signed, clear=None)

    def _signed(self, message: Outgoing, body: str, *, media: tuple[str, ...], about: int | None = None) -> Outgoing:
        header = payloads.encode_header(
            payloads.Header(
                id=message.id,
                conversation=message.conversation,
                sender=self._profile.account,
                device=self._profile.device,
                after=self._around.marks_of(message.conversation).cursor,
                digest=payloads.digest_of(body),
                counts=message.counts,
                about=about,
                media=media,
            )
        )
        signature = self._identity.sign(header.encode())
        return msgspec.structs.replace(message, header=header, body=body, signature=signature)


def _media_of(inner: Body) -> tuple[str, ...]:
    """What the header names, so that whoever sees the message may fetch it."""
    attachment = attachment_of(inner.attachment)
    return () if attachment is None else attachment.media
