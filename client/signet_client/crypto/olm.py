"""Olm: what one device says to another, as Matrix's to-device messages (`m.olm.v1.curve25519-aes-sha2`).

A message says in its encrypted part who sent it to whom, and with which keys: what doesn't fit is refused. That is what
binds a session to an account and a device, whoever the server says that has sent it.
"""

import json
from typing import Any, Final

import msgspec
from vodozemac import (
    AnyOlmMessage,
    Curve25519PublicKey,
    DecodeException,
    KeyException,
    OlmDecryptionException,
    SessionCreationException,
)

from signet_client import matrix, payloads
from signet_client.crypto.content import json_object
from signet_client.crypto.vault import Peer, Vault
from signet_client.identity import Identity

_PRE_KEY: Final = 0
_NORMAL: Final = 1


class OlmFailed(Exception):
    """A message that can't be taken: `wedged` where the session itself may be broken, `unknown` where its device is not
    among those that are known."""

    def __init__(self, why: str, *, wedged: bool = False, unknown: bool = False) -> None:
        super().__init__(why)
        self.wedged = wedged
        self.unknown = unknown


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What another device has said."""

    type: str
    content: dict[str, Any]
    sender: Peer


class Olm:
    """One device's sessions with all others."""

    def __init__(self, vault: Vault, identity: Identity, *, account: str, device: str) -> None:
        self._vault = vault
        self._identity = identity
        self._account = account
        self._device = device

    def has_session(self, peer: Peer) -> bool:
        return self._vault.has_olm(peer.account, peer.curve25519)

    def begin(self, peer: Peer, one_time_key: matrix.Object, server: str) -> bool:
        """A new session with a device, by a key of its that was claimed. False: the key is not the device's."""
        try:
            key = matrix.check_one_time_key(
                one_time_key, user=matrix.user_id(peer.account, server), device=peer.device, key=peer.ed25519
            )
            session = self._identity.account.create_outbound_session(
                Curve25519PublicKey.from_base64(peer.curve25519), Curve25519PublicKey.from_base64(key)
            )
        except (matrix.BadObject, KeyException, SessionCreationException):
            return False
        self._vault.put_olm(peer.account, peer.curve25519, session)
        return True

    def encrypt(self, peer: Peer, type_: str, content: dict[str, Any], server: str) -> matrix.Object:
        """The content of an `m.room.encrypted` message to this device, with which there is a session."""
        event = {
            "type": type_,
            "content": content,
            "sender": matrix.user_id(self._account, server),
            "sender_device": self._device,
            "keys": {"ed25519": self._identity.key},
            "recipient": matrix.user_id(peer.account, server),
            "recipient_keys": {"ed25519": peer.ed25519},
            "sender_device_keys": self._identity.device_keys(
                user=matrix.user_id(self._account, server), device=self._device
            ),
        }
        session = self._vault.olm_sessions(peer.account, peer.curve25519)[0]
        plain = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
        kind, ciphertext = session.encrypt(plain.encode()).to_parts()
        self._vault.put_olm(peer.account, peer.curve25519, session)
        return {
            "algorithm": matrix.OLM,
            "sender_key": self._identity.curve25519,
            "ciphertext": {peer.curve25519: {"type": kind, "body": payloads.to_base64(ciphertext)}},
        }

    def decrypt(self, sender: str, content: dict[str, Any], server: str) -> Opened:
        """`sender`: the account of which the server says that it has sent this. Raises OlmFailed."""
        try:
            sender_key = str(content["sender_key"])
            message = content["ciphertext"][self._identity.curve25519]
            kind, ciphertext = int(message["type"]), payloads.from_base64(message["body"])
        except (KeyError, TypeError, ValueError) as error:
            raise OlmFailed("it is not for this device") from error
        if content.get("algorithm") != matrix.OLM or not matrix.is_key(sender_key) or kind not in (_PRE_KEY, _NORMAL):
            raise OlmFailed("its form is unknown")
        event = json_object(self._plain(sender, sender_key, kind, ciphertext))
        if event is None:
            raise OlmFailed("it holds no event")
        return self._checked(sender, sender_key, event, server)

    def _plain(self, sender: str, sender_key: str, kind: int, ciphertext: bytes) -> bytes:
        try:
            message = AnyOlmMessage.from_parts(kind, ciphertext)
            pre_key = message.to_pre_key() if kind == _PRE_KEY else None
        except (DecodeException, ValueError) as error:
            raise OlmFailed("its form is broken") from error
        for session in self._vault.olm_sessions(sender, sender_key):
            if pre_key is not None and not session.session_matches(pre_key):
                continue
            try:
                plain = session.decrypt(message)
            except OlmDecryptionException as error:
                if pre_key is not None:
                    raise OlmFailed(f"it does not decrypt: {error}", wedged=True) from error
                continue
            self._vault.put_olm(sender, sender_key, session)
            return plain
        if pre_key is None:
            raise OlmFailed("no session decrypts it", wedged=True)
        try:
            session, plain = self._identity.account.create_inbound_session(
                Curve25519PublicKey.from_base64(sender_key), pre_key
            )
        except (SessionCreationException, KeyException) as error:
            raise OlmFailed(f"no session can be made of it: {error}", wedged=True) from error
        # The one-time key that it used up is gone from the account.
        self._identity.changed = True
        self._vault.put_olm(sender, sender_key, session)
        return plain

    def _checked(self, sender: str, sender_key: str, event: dict[str, Any], server: str) -> Opened:
        user = matrix.user_id(sender, server)
        try:
            recipient = (event["recipient"], event["recipient_keys"]["ed25519"])
            ed25519, type_, content = event["keys"]["ed25519"], event["type"], event["content"]
        except (KeyError, TypeError) as error:
            raise OlmFailed("its event lacks something") from error
        if event.get("sender") != user:
            raise OlmFailed("it was sent by somebody else")
        if recipient != (matrix.user_id(self._account, server), self._identity.key):
            raise OlmFailed("it was meant for somebody else")
        if not isinstance(type_, str) or not isinstance(content, dict):
            raise OlmFailed("its event is none")
        peer = self._peer_of(sender, sender_key, event, user)
        if peer.ed25519 != ed25519:
            raise OlmFailed("its keys are not those of the device")
        return Opened(type=type_, content=content, sender=peer)

    def _peer_of(self, sender: str, sender_key: str, event: dict[str, Any], user: str) -> Peer:
        """The device that has this key: a pinned one, or one that says who it is and signs it."""
        pins = self._vault.pins(sender)
        for pin in pins.values():
            if pin.curve25519 == sender_key:
                return pin
        keys = event.get("sender_device_keys")
        device = keys.get("device_id") if isinstance(keys, dict) else None
        if not isinstance(keys, dict) or not isinstance(device, str) or device in pins:
            raise OlmFailed("its device is unknown", unknown=True)
        try:
            ed25519, curve25519 = matrix.check_device_keys(keys, user=user, device=device)
        except matrix.BadObject as error:
            raise OlmFailed(f"its device is unknown: {error}") from error
        if curve25519 != sender_key:
            raise OlmFailed("its device has another key")
        return Peer(sender, device, ed25519, curve25519)
