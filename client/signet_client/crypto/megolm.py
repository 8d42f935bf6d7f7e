"""Megolm: the messages of a conversation (`m.megolm.v1.aes-sha2`).

Each device has a session of its own in each conversation, whose key it gives to every device of every member, by Olm,
before it sends. It begins another one when somebody who has the key is gone, after so many messages, and after so long.
"""

import time
from typing import Final

from vodozemac import (
    DecodeException,
    GroupSession,
    InboundGroupSession,
    MegolmDecryptionException,
    MegolmMessage,
)

from signet_client.crypto.content import Encrypted, conversation_of
from signet_client.crypto.vault import Inbound, Outbound, Peer, Vault

MESSAGES_MAX: Final = 100
"""After how many messages a session gives way to another."""
AGE_MAX_S: Final = 7 * 86_400


class MegolmFailed(Exception):
    """A message that can't be decrypted, or must not be believed; `reason` is one of `messages.Undecryptable`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Megolm:
    def __init__(self, vault: Vault, me: Peer) -> None:
        self._vault = vault
        self._me = me
        self._outbound: dict[str, Outbound] = {}
        """Of the conversations in which something was sent of late; what is here is in the store, too."""

    # One's own messages

    def current(self, conversation: str, targets: set[tuple[str, str]]) -> Outbound | None:
        """The session to send with, where there is one that may be used on; `targets`: the devices that are to read
        what is sent."""
        outbound = self._present(conversation)
        if outbound is None or _is_spent(outbound):
            return None
        return None if self._vault.shares(conversation) - targets else outbound

    def begin(self, conversation: str) -> Outbound:
        """A new session, of which nobody has the key yet."""
        session = GroupSession()
        outbound = Outbound(session, int(time.time()), 0)
        self._vault.drop_outbound(conversation)
        self._put(conversation, outbound)
        mine = Inbound(InboundGroupSession(session.session_key), self._me.account, self._me.device, self._me.ed25519)
        self._vault.put_inbound(conversation, mine)
        return outbound

    def end(self, conversation: str) -> None:
        """The next message is of another session."""
        self._outbound.pop(conversation, None)
        self._vault.drop_outbound(conversation)

    def end_all_of(self, account: str) -> None:
        """Those of all conversations that this account is in."""
        self._outbound.clear()
        self._vault.drop_outbound_of(account)

    def may_send(self, conversation: str) -> bool:
        outbound = self._present(conversation)
        return outbound is not None and not _is_spent(outbound)

    def encrypt(self, conversation: str, event: bytes) -> tuple[str, str]:
        """The session's id and the ciphertext, unpadded base64."""
        outbound = self._present(conversation)
        assert outbound is not None, "a session is begun, and its key shared, before anything is sent"
        ciphertext = outbound.session.encrypt(event).to_base64()
        self._put(conversation, outbound._replace(messages=outbound.messages + 1))
        return outbound.session.session_id, ciphertext

    def _present(self, conversation: str) -> Outbound | None:
        outbound = self._outbound.get(conversation) or self._vault.outbound(conversation)
        if outbound is not None:
            self._outbound[conversation] = outbound
        return outbound

    def _put(self, conversation: str, outbound: Outbound) -> None:
        self._outbound[conversation] = outbound
        self._vault.put_outbound(conversation, outbound)

    # Everybody's messages

    def take_session(self, conversation: str, inbound: Inbound) -> bool:
        """Keeps a session whose key has come. False: its owner has given one that is as good."""
        known = self._vault.inbound(conversation, inbound.session.session_id, inbound.account, inbound.device)
        if known is not None:
            is_better = inbound.session.first_known_index < known.session.first_known_index
            if known[1:] != inbound[1:] or not is_better:
                return False
        self._vault.put_inbound(conversation, inbound)
        return True

    def decrypt(
        self, conversation: str, encrypted: Encrypted, *, account: str, device: str, ed25519: str
    ) -> tuple[bytes, int]:
        """The event, and its position in a session that this device has given as its own. Raises MegolmFailed."""
        inbound = self._vault.inbound(conversation, encrypted.session_id, account, device)
        if inbound is None:
            raise MegolmFailed("no_key")
        if inbound.ed25519 != ed25519:
            raise MegolmFailed("unknown_device")
        try:
            decrypted = inbound.session.decrypt(MegolmMessage.from_base64(encrypted.ciphertext))
        except MegolmDecryptionException as error:
            known = "unknown message index" not in str(error).lower()
            raise MegolmFailed("tampered" if known else "no_key") from error
        except DecodeException as error:
            raise MegolmFailed("tampered") from error
        if conversation_of(decrypted.plaintext) != conversation:
            raise MegolmFailed("wrong_conversation")
        return decrypted.plaintext, decrypted.message_index


def _is_spent(outbound: Outbound) -> bool:
    return outbound.messages >= MESSAGES_MAX or time.time() - outbound.made_at > AGE_MAX_S
