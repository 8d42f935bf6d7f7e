"""What messages say: those that are encrypted are decrypted as they come, and what can't be is named, asked for, and
tried again.

Delivered means that the device could read it (I5). A key that is not there is asked for at once, and its message keeps
the acknowledgements of the conversation before it for a moment; if the key has not come by then, it is named.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from signet_client import events, wire
from signet_client.crypto.machine import Machine, Read
from signet_client.crypto.vault import TELL_AGAIN, UNTOLD, Undecrypted
from signet_client.gathered import Gathered
from signet_client.messages import FORGED, Message, header_of, message_of
from signet_client.store import Store

KEY_GRACE_S: Final = 2.0
"""How long a key may be late before its message counts as undecryptable."""
NAMED_MAX: Final = 256
"""How many seqs one acknowledgement names."""

_EXPLANATIONS: Final = {
    "tampered": "the message was changed on its way",
    "replayed": "an earlier message was sent once more",
    "wrong_conversation": "the message belongs to another conversation",
    "forged_header": "its device has not signed this message, here, with this header",
    "not_encrypted": "the message is not encrypted, as it must be here",
    "malformed": "what the message says can't be read by this client",
}

WantKey = Callable[[str, str, str], None]


class Reading:
    """Nothing is stored here but by the machine: what a flush is to store, acknowledge and tell goes to `gathered`."""

    def __init__(self, machine: Machine, store: Store, gathered: Gathered) -> None:
        self._machine = machine
        self._vault = machine.vault
        self._store = store
        self._gathered = gathered
        self.want_key: WantKey = lambda conversation, session, sender: None
        """Asks for the key of a session of this sender's."""
        self._late: dict[tuple[str, int], float] = {}
        """Messages whose keys may yet come, and until when, by the loop's clock."""
        self._troubled: set[str] = {c for (c,) in store.query("SELECT DISTINCT conversation FROM undecrypted")}
        """Conversations with something undecrypted, or repaired of late."""
        self._heard: dict[str, int] = {}
        """How far the server has heard this device, as the last welcome said."""

    # Messages

    def take(self, item: wire.Message, protection: wire.Protection | None) -> Message:
        """The message that an item carries; what it says is stored with it."""
        read = self._machine.read(item, protection)
        if read.reason is not None:
            self._keep(item, read)
            return message_of(item, undecryptable=read.reason)
        if read.clear is not None:
            self._gathered.batch.clear[item.c, item.seq] = read.clear
        return message_of(item, read.clear)

    def _keep(self, item: wire.Message, read: Read) -> None:
        assert read.reason is not None
        self._vault.put_undecrypted(item.c, item.seq, read.session, read.reason)
        self._troubled.add(item.c)
        if read.reason in FORGED:
            self._tell_forged(item, read.reason)
        else:
            self._late[item.c, item.seq] = asyncio.get_running_loop().time() + KEY_GRACE_S
        if read.reason == "no_key":
            self.want_key(item.c, read.session, header_of(item).sender)

    def _tell_forged(self, item: wire.Message, reason: str) -> None:
        header = header_of(item)
        self._gathered.events.append(
            events.Forged(
                what="message",
                account=header.sender,
                device=header.device,
                conversation=item.c,
                seq=item.seq,
                text=_EXPLANATIONS[reason],
            )
        )

    # Keys that are late

    def next_overdue(self) -> float | None:
        """When the first one is overdue, by the loop's clock."""
        return min(self._late.values(), default=None)

    def is_late(self, conversation: str) -> bool:
        """Whether keys of its messages may yet come."""
        return any(late == conversation for late, _ in self._late)

    def take_overdue(self) -> None:
        """Names what can't be decrypted by now."""
        now = asyncio.get_running_loop().time()
        for conversation, seq in [key for key, until in self._late.items() if until <= now]:
            del self._late[conversation, seq]
            self._gathered.acks.add(conversation)
            for held in self._store.held(conversation, after=seq - 1, limit=1):
                assert isinstance(held.item, wire.Message)
                message = message_of(held.item, undecryptable=held.reason)
                self._gathered.events.append(events.NotDecrypted(item=message))

    def retry_sessions(self, sessions: Iterable[tuple[str, str]]) -> None:
        """The keys of these (conversation, session) have come."""
        for conversation, session in sessions:
            self._retry(conversation, session=session)

    def retry_devices(self) -> None:
        """More devices are known now."""
        for conversation in list(self._troubled):
            self._retry(conversation, reason="unknown_device")

    def _retry(self, conversation: str, *, session: str | None = None, reason: str | None = None) -> None:
        if conversation not in self._troubled:
            return
        for row in self._vault.undecrypted(conversation, session=session, reason=reason):
            item = self._store.item(conversation, row.seq)
            if row.repaired or not isinstance(item, wire.Message):
                continue
            read = self._machine.read(item, "end_to_end")
            if read.clear is not None:
                self._repaired(item, row, read.clear)
            elif read.reason is not None and read.reason != row.reason:
                # The key has come, and shows what else is missing, or that the message is not what it should be.
                self._vault.set_reason(conversation, row.seq, read.reason)
                if read.reason == "no_key":
                    self.want_key(conversation, row.session, header_of(item).sender)
                if read.reason in FORGED:
                    self._late.pop((conversation, row.seq), None)
                    self._tell_forged(item, read.reason)
                    self._gathered.acks.add(conversation)

    def _repaired(self, item: wire.Message, row: Undecrypted, clear: str) -> None:
        self._late.pop((item.c, item.seq), None)
        if row.told != UNTOLD:
            self._vault.set_repaired(item.c, item.seq)
        else:
            self._vault.forget_undecrypted(item.c, [item.seq])
        self._gathered.batch.clear[item.c, item.seq] = clear
        self._gathered.acks.add(item.c)
        self._gathered.events.append(events.Decrypted(item=message_of(item, clear)))

    # What the server is told

    def look_over(self, conversation: str, delivered: int) -> None:
        """After a welcome, by which this device is known to have come so far: what may have been lost with the last
        connection is said again, and keys are asked for again."""
        self._heard[conversation] = delivered
        self.say_again(conversation)
        if conversation not in self._troubled:
            return
        # A key may have been stored, and the process ended before its messages were looked at.
        self._retry(conversation)
        rows = self._vault.undecrypted(conversation, reason="no_key")
        missing = [row for row in rows if not row.repaired and (conversation, row.seq) not in self._late]
        sessions = {row.session: row.seq for row in missing}
        for session, seq in sessions.items():
            item = self._store.item(conversation, seq)
            if isinstance(item, wire.Message):
                self.want_key(conversation, session, header_of(item).sender)

    def go_back(self, conversation: str, kept: int) -> None:
        """The server has lost what lies beyond this seq: other messages will have these seqs."""
        for late in [key for key in self._late if key[0] == conversation and key[1] > kept]:
            del self._late[late]

    def say_again(self, conversation: str) -> None:
        """What the server is not known to have heard is said again by the next acknowledgement."""
        if conversation not in self._troubled:
            return
        heard, rows = self._heard.get(conversation, 0), self._vault.undecrypted(conversation)
        # It has heard a later statement. On each connection until then the repair was said before that.
        known = [row.seq for row in rows if row.repaired and 0 < row.told < heard]
        self._vault.forget_undecrypted(conversation, known)
        again = [row.seq for row in rows if row.told > 0 and (row.repaired or row.seq > heard)]
        self._vault.set_told(conversation, again, TELL_AGAIN)
        if any(row.repaired and row.seq not in known for row in rows):
            self._gathered.acks.add(conversation)

    def acks(self, conversation: str, cursor: int, read: int) -> Iterator[wire.Ack]:
        """The signed statements of how far this device has come, in the order in which they are to be sent."""
        if conversation not in self._troubled:
            yield self._machine.sign_receipt(wire.Ack(c=conversation, upto=cursor, read=read))
            return
        upto = min([cursor, *(seq - 1 for late, seq in self._late if late == conversation)])
        rows = [row for row in self._vault.undecrypted(conversation) if row.told <= 0 and row.seq <= upto]
        undecryptable = [row.seq for row in rows if not row.repaired]
        repaired = [row.seq for row in rows if row.repaired]
        self._vault.set_told(conversation, [row.seq for row in rows], upto)
        while len(undecryptable) > NAMED_MAX:
            part, undecryptable = undecryptable[:NAMED_MAX], undecryptable[NAMED_MAX:]
            ack = wire.Ack(c=conversation, upto=part[-1], read=min(read, part[-1]), undecryptable=part)
            yield self._machine.sign_receipt(ack)
        while True:
            part, repaired = repaired[:NAMED_MAX], repaired[NAMED_MAX:]
            ack = wire.Ack(c=conversation, upto=upto, read=read, undecryptable=undecryptable, repaired=part)
            yield self._machine.sign_receipt(ack)
            undecryptable = []
            if not repaired:
                break
        if not self._vault.has_undecrypted(conversation):
            self._troubled.discard(conversation)
