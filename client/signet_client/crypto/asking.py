"""Who may have a key that it asks for: whoever was a member when the messages were sent, as the log says.

A key opens all messages of a session from one position on, so it is given from the first position on from which the
asking account was a member at every message that this device knows of the session. Only the devices of the account
whose messages they are answer others; of one's own account every device answers every other one.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Final

from signet_client import matrix, wire
from signet_client.crypto.machine import REQUEST, KeyRequest, Machine
from signet_client.crypto.vault import Inbound, Peer
from signet_client.store import Store

ASK_AGAIN_S: Final = 3_600
"""After how long a key that has not come is asked for again, at most once a connection."""
ANSWER_AGAIN_S: Final = 60
"""How often one device gets the key of one session at most."""
_ANSWERS_MAX: Final = 10_000


class Asking:
    def __init__(self, machine: Machine, store: Store) -> None:
        self._machine = machine
        self._store = store
        self._answered: dict[KeyRequest, float] = {}
        """When, by the monotonic clock."""

    def ask(self, conversation: str, session: str, sender: str) -> bool:
        """Asks the sender's devices, and one's own, for the key of a session; whether it was not asked for of late."""
        vault, me = self._machine.vault, self._machine.me
        now = int(time.time())
        if not session or now - vault.asked(conversation, session) < ASK_AGAIN_S:
            return False
        asked = [peer for peer in vault.peers({sender, me.account}) if peer != me]
        if not asked:
            return False
        request = {
            "action": "request",
            "request_id": f"{session}.{now}",
            "requesting_device_id": me.device,
            "body": {
                "algorithm": matrix.MEGOLM,
                "room_id": matrix.room_id(conversation),
                "session_id": session,
            },
        }
        vault.put_asked(conversation, session, now)
        self._machine.post(dict.fromkeys(asked, request), REQUEST)
        return True

    def asker(self, request: KeyRequest) -> Peer | None:
        """The device that asks, if it is known and active."""
        peers = self._machine.vault.peers([request.account])
        return next((peer for peer in peers if peer.device == request.device), None)

    def answer(self, request: KeyRequest, peer: Peer, members: Mapping[str, wire.Role]) -> bool:
        """Gives the key, as far as the asker is entitled to it; there is a session with it. `members`: those of now."""
        machine, vault = self._machine, self._machine.vault
        inbound = self._held(request)
        if inbound is None:
            return False
        now = time.monotonic()
        if now - self._answered.get(request, -ANSWER_AGAIN_S) < ANSWER_AGAIN_S:
            return False
        position = self._first_position(request, inbound, members)
        if position is None:
            return False
        key = inbound.session.export_at(max(position, inbound.session.first_known_index))
        if key is None:
            return False
        owner = vault.peer(inbound.account, inbound.device)
        content = {
            "algorithm": matrix.MEGOLM,
            "room_id": matrix.room_id(request.conversation),
            "session_id": request.session,
            "session_key": key.to_base64(),
            "sender_key": owner.curve25519 if owner is not None else "",
            "sender_claimed_ed25519_key": inbound.ed25519,
            "forwarding_curve25519_key_chain": [],
            "signet.account": inbound.account,
            "signet.device": inbound.device,
        }
        if len(self._answered) >= _ANSWERS_MAX:
            self._answered.clear()
        self._answered[request] = now
        machine.post({peer: machine.olm.encrypt(peer, request.answer, content, machine.server)})
        if owner == machine.me:
            # It counts as one that has the key: when it goes, the session ends.
            outbound = vault.outbound(request.conversation)
            if outbound is not None and outbound.session.session_id == request.session:
                vault.put_shares(request.conversation, [peer])
                machine.unsettle(request.conversation)
        return True

    def _held(self, request: KeyRequest) -> Inbound | None:
        """The session, if this account may give it: its own to members, anybody's to its own devices."""
        me = self._machine.me.account
        for account, device in self._machine.vault.owners(request.conversation, request.session):
            if me in (account, request.account):
                return self._machine.vault.inbound(request.conversation, request.session, account, device)
        return None

    def _first_position(self, request: KeyRequest, inbound: Inbound, members: Mapping[str, wire.Role]) -> int | None:
        """From where on the asker may read the session; None: nothing of it."""
        if request.account == self._machine.me.account:
            return 0
        messages = self._machine.vault.seqs_of(request.session, inbound.account, inbound.device)
        if not messages or (request.account not in members and self._is_ahead(request, messages[-1][0])):
            return None
        was_member = self.membership(request.conversation, request.account, members, [seq for _, seq in messages])
        first = None
        for position, seq in reversed(messages):
            if not was_member[seq]:
                break
            first = position
        return first

    def _is_ahead(self, request: KeyRequest, last_position: int) -> bool:
        """Whether there is a message on its way that the log does not have yet: it counts as one of now."""
        outbound = self._machine.vault.outbound(request.conversation)
        if outbound is None or outbound.session.session_id != request.session:
            return False
        return outbound.session.message_index > last_position + 1

    def membership(
        self, conversation: str, account: str, members: Mapping[str, wire.Role], seqs: Iterable[int]
    ) -> dict[int, bool]:
        """Whether the account was a member at each of these seqs: from the members of now, back over the changes."""
        seqs = sorted(seqs, reverse=True)
        is_member = account in members
        changes = self._store.changes(conversation, after=seqs[-1] if seqs else 0)
        was: dict[int, bool] = {}
        for seq in seqs:
            while changes and changes[-1].seq > seq:
                change = changes.pop()
                if account in change.accounts and change.what in ("started", "added"):
                    is_member = False
                elif account in change.accounts and change.what in ("removed", "left"):
                    is_member = True
            was[seq] = is_member
        return was
