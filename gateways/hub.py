"""Who is connected, and what each hears: every push is encoded and framed once, whoever many hear it.

The hub only hands bytes on. Whether a connection is still resuming and holds them, or reads too slowly and drops them,
is the connection's own affair.
"""

import logging
from collections.abc import Collection, Sequence
from typing import Final, Protocol, assert_never

from commands.sealing import Sealer
from domain.ids import AccountId, CommandId, ConversationId, DeviceId
from gateways.items import pushed_item
from gateways.protocol import encode
from projections.delivery import (
    Delivery,
    DeviceListPush,
    DeviceRevokedPush,
    EventPush,
    KeyClaimedPush,
    MarkPush,
    Push,
    TickPush,
)
from signet_client import wire
from signet_client.codes import DISCONNECTS, Disconnect

BY_HTTP_MAX: Final = 4_096
"""How many ids each of two generations holds; a push that comes later than so many sends leaves out its sender."""

_NO_CONVERSATION: Final = ConversationId("")

_log = logging.getLogger("signet.hub")


class Listener(Protocol):
    """The connection of one device that is logged in: `Connection` in gateways/connection.py."""

    account: AccountId
    device: DeviceId

    def push(self, conversation: ConversationId, seq: int, data: bytes) -> None:
        """`seq`: that of the event, 0 for a push that is none. Never blocks."""
        ...

    def mail(self) -> None:
        """Something waits for it in the mailbox."""
        ...

    def close(self, disconnect: Disconnect) -> None: ...


class Hub:
    """The connections by account."""

    def __init__(self, delivery: Delivery, sealer: Sealer) -> None:
        self._sealer = sealer
        self._listeners: dict[AccountId, list[Listener]] = {}
        self.pushed = 0
        """Pushes so far, one for each connection that one was for."""
        self._by_http: set[CommandId] = set()
        self._by_http_before: set[CommandId] = set()
        delivery.subscribe(self._receive)

    def attach(self, listener: Listener) -> None:
        """From now on it hears what is for its account. An older connection of the same device is closed."""
        older = self._find(listener.account, listener.device)
        if older is not None:
            self.detach(older)
        self._listeners.setdefault(listener.account, []).append(listener)
        if older is not None:
            older.close(DISCONNECTS["replaced"])

    def detach(self, listener: Listener) -> None:
        """It hears nothing more; nothing happens where it is not attached."""
        listeners = self._listeners.get(listener.account, [])
        if listener in listeners:
            listeners.remove(listener)
            if not listeners:
                del self._listeners[listener.account]

    def others(self, account: AccountId, device: DeviceId) -> int:
        """How many other devices of the account are connected."""
        return sum(each.device != device for each in self._listeners.get(account, ()))

    def expect_by_http(self, command_id: CommandId) -> None:
        """A device sends this message by HTTP: its live connection gets no `accepted`, so it must hear the push. The
        last 4,096 ids are remembered at least."""
        if len(self._by_http) >= BY_HTTP_MAX:
            self._by_http_before, self._by_http = self._by_http, set()
        self._by_http.add(command_id)

    def _find(self, account: AccountId, device: DeviceId) -> Listener | None:
        return next((each for each in self._listeners.get(account, ()) if each.device == device), None)

    def _receive(self, pushes: Sequence[Push]) -> None:
        for push in pushes:
            try:
                self._push(push)
            except Exception:
                # One push that can't be made must not take the others of its batch with it.
                _log.exception("a push failed: %s", type(push).__name__)
                self._let_go(push)

    def _let_go(self, push: Push) -> None:
        """Whoever should have heard it connects again, and so gets what it lacks: it can't know of it by itself where
        nothing comes after."""
        accounts = push.to if isinstance(push, EventPush) else (push.account,)
        for account in accounts:
            for listener in tuple(self._listeners.get(account, ())):
                listener.close(DISCONNECTS["failed"])

    def _push(self, push: Push) -> None:
        match push:
            case EventPush():
                self._push_event(push)
            case TickPush():
                self._push_ticks(push)
            case MarkPush():
                self._push_mark(push)
            case DeviceRevokedPush():
                revoked = self._find(push.account, push.device)
                if revoked is not None:
                    revoked.close(DISCONNECTS["revoked"])
            case KeyClaimedPush():
                self._push_counts(push)
            case DeviceListPush():
                pass  # gateways/devicelists.py finds out whom it concerns
            case _:
                assert_never(push)

    def _push_event(self, push: EventPush) -> None:
        listeners = self._hearing(push)
        if not listeners:
            return
        data = encode(pushed_item(push.event, push.conversation, self._sealer))
        self._give(listeners, push.conversation, push.event.version + 1, data)

    def _hearing(self, push: EventPush) -> list[Listener]:
        account, device = push.origin or (None, None)
        id_ = push.event.entry.cmd
        if id_ in self._by_http or id_ in self._by_http_before:
            account = device = None
        # The smaller of the two is walked: a large group costs as much as it has members connected.
        few = push.to if len(push.to) <= len(self._listeners) else self._listeners.keys() & push.to
        # A comprehension would be a call more, which is a third of it all.
        listeners = []
        for hearing in few:
            for listener in self._listeners.get(hearing, ()):
                if listener.device != device or listener.account != account:
                    listeners.append(listener)
        return listeners

    def _push_ticks(self, push: TickPush) -> None:
        listeners = self._listeners.get(push.account)
        if not listeners:
            return
        frame = wire.Receipt(
            c=push.conversation, delivered=push.delivered, read=push.read, undelivered=push.undelivered,
            repaired=push.repaired, more=push.more,
        )  # fmt: skip
        self._give(list(listeners), push.conversation, 0, encode(frame))

    def _push_mark(self, push: MarkPush) -> None:
        listeners = [
            each for each in self._listeners.get(push.account, ()) if (each.account, each.device) != push.origin
        ]
        if not listeners:
            return
        self._give(listeners, push.conversation, 0, encode(wire.Mark(c=push.conversation, read=push.read)))

    def _push_counts(self, push: KeyClaimedPush) -> None:
        claimed = push.claimed
        listener = self._find(push.account, claimed.device)
        if listener is not None:
            frame = wire.KeyCounts(left=claimed.left, fallback_used=not claimed.fallback_unused)
            self._give([listener], _NO_CONVERSATION, 0, encode(frame))

    def tell(self, accounts: Collection[AccountId], frame: wire.DeviceLists) -> None:
        """To all devices of these accounts that are connected."""
        listeners = [each for account in self._listeners.keys() & accounts for each in self._listeners[account]]
        self._give(listeners, _NO_CONVERSATION, 0, encode(frame))

    def hear_mail(self, address: tuple[AccountId, DeviceId]) -> None:
        """Something waits for this device in the mailbox."""
        listener = self._find(*address)
        if listener is not None:
            listener.mail()

    def _give(self, listeners: list[Listener], conversation: ConversationId, seq: int, data: bytes) -> None:
        self.pushed += len(listeners)
        for listener in listeners:
            try:
                listener.push(conversation, seq, data)
            except Exception:
                # The others still hear it, and this one gets it when it has connected again.
                _log.exception("a push could not be given to a connection")
                listener.close(DISCONNECTS["failed"])
