"""Gathers what devices state about what they have stored and read, and sends it on as one command a conversation.

Watermarks of a device are merged: only the greatest counts. A statement with a signature or with exceptions stays as it
came, since a signature fits one statement; of those that a device has signed, one without exceptions gives way to a
later one that says as much.
"""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Final, Protocol

from commands.ids import new_uuid
from commands.writer import Accepted, Reply, Writer
from domain.ids import AccountId, CommandId, ConversationId, DeviceId, is_uuid
from domain.receipts import EXCEPTIONS_MAX, AdvanceReceipts, Receipt
from gateways.refusal import Refusal
from gateways.sends import check_signature, is_seq
from signet_client import wire
from signet_client.codes import REPLIES

GATHER_S: Final = 0.005
RECEIPTS_MAX: Final = 512
"""How many statements one command carries, so that no event grows without bound; the rest makes further commands."""
NAMED_MAX: Final = 2_048
"""How many seqs these may name together."""


class Peer(Protocol):
    """The connection of the device that states something: `Connection` in gateways/connection.py."""

    account: AccountId
    device: DeviceId
    window: int
    """How many commands it may still give; each command that carries something of it takes one."""

    def __hash__(self) -> int: ...

    def answered(self) -> None:
        """One of them is answered."""
        ...

    def refuse(self, refusal: Refusal, *, conversation: str) -> None: ...


class Acks:
    """One for all connections."""

    def __init__(self, writer: Writer, *, gather_s: float = GATHER_S) -> None:
        self._writer = writer
        self._gather_s = gather_s
        self._gathered: dict[ConversationId, _Gathered] = {}

    def ack(self, peer: Peer, frame: wire.Ack) -> None:
        """Raises Refusal."""
        conversation = _checked(frame.c, frame.upto, frame.signature)
        if not is_seq(frame.read):
            raise Refusal("bad_frame", "read: a seq, or 0")
        if len(frame.undecryptable) > EXCEPTIONS_MAX or len(frame.repaired) > EXCEPTIONS_MAX:
            raise Refusal("too_large", f"a receipt names at most {EXCEPTIONS_MAX} messages")
        if frame.undecryptable or frame.repaired or frame.signature is not None:
            self._of(conversation).state(
                peer,
                Receipt(
                    account=peer.account,
                    device=peer.device,
                    delivered=frame.upto,
                    read=frame.read,
                    undecryptable=frame.undecryptable,
                    repaired=frame.repaired,
                    signature=frame.signature,
                ),
            )
        else:
            self._of(conversation).advance(peer, delivered=frame.upto, read=frame.read)

    def read(self, peer: Peer, frame: wire.Read) -> None:
        """Raises Refusal."""
        conversation = _checked(frame.c, frame.upto, frame.signature)
        if frame.signature is None:
            self._of(conversation).advance(peer, read=frame.upto)
        else:
            self._of(conversation).state(
                peer,
                Receipt(account=peer.account, device=peer.device, read=frame.upto, signature=frame.signature),
            )

    def _of(self, conversation: ConversationId) -> "_Gathered":
        gathered = self._gathered.get(conversation)
        if gathered is None:
            if not self._gathered:
                asyncio.get_running_loop().call_later(self._gather_s, self._flush)
            gathered = self._gathered[conversation] = _Gathered()
        return gathered

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, {}
        taken: dict[Peer, int] = {}
        for conversation, stated in gathered.items():
            for peers, receipts in stated.chunks():
                command = AdvanceReceipts(id=CommandId(new_uuid()), conversation=conversation, receipts=receipts)
                # The turn of whoever has stated the least: one who is busy everywhere holds up only what is its alone.
                turn = next((peer for peer in peers if peer not in taken), None) or min(peers, key=taken.__getitem__)
                taken[turn] = taken.get(turn, 0) + 1
                self._writer.submit(command, turn=turn, reply=partial(_replied, conversation, peers))


class _Marks:
    """The watermarks of one device."""

    __slots__ = ("delivered", "peer", "read")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.delivered = 0
        self.read = 0


class _Gathered:
    """What the devices of one conversation have stated since the last flush."""

    __slots__ = ("_marks", "_named", "_signed", "_statements")

    def __init__(self) -> None:
        self._marks: dict[tuple[AccountId, DeviceId], _Marks] = {}
        self._statements: list[tuple[Peer, Receipt]] = []
        self._signed: dict[Peer, int] = {}
        """Where among them the last signed one of each connection stands: each has a window of its own."""
        self._named = 0
        """How many seqs the statements name."""

    def advance(self, peer: Peer, *, delivered: int = 0, read: int = 0) -> None:
        key = (peer.account, peer.device)
        marks = self._marks.get(key)
        if marks is None:
            marks = self._marks[key] = _Marks(peer)
            peer.window -= 1
        if delivered > marks.delivered:
            marks.delivered = delivered
        if read > marks.read:
            marks.read = read

    def state(self, peer: Peer, receipt: Receipt) -> None:
        before = self._signed.get(peer)
        if before is not None and _says_as_much(receipt, self._statements[before][1]):
            self._statements[before] = (peer, receipt)
        else:
            if receipt.signature is not None:
                self._signed[peer] = len(self._statements)
            self._statements.append((peer, receipt))
            peer.window -= 1
        self._named += len(receipt.undecryptable) + len(receipt.repaired)

    def chunks(self) -> Iterator[tuple[list[Peer], list[Receipt]]]:
        """All statements, as many together as one command carries, with those who made them."""
        stated = [
            *self._statements,
            *(
                (marks.peer, Receipt(account=account, device=device, delivered=marks.delivered, read=marks.read))
                for (account, device), marks in self._marks.items()
            ),
        ]
        size = RECEIPTS_MAX if self._named <= NAMED_MAX else NAMED_MAX // (2 * EXCEPTIONS_MAX)
        for start in range(0, len(stated), size):
            chunk = stated[start : start + size]
            yield [peer for peer, _ in chunk], [receipt for _, receipt in chunk]


def _says_as_much(later: Receipt, earlier: Receipt) -> bool:
    return (
        later.signature is not None
        and not (earlier.undecryptable or earlier.repaired)
        and later.delivered >= earlier.delivered
        and later.read >= earlier.read
    )


def _checked(conversation: str, upto: int, signature: str | None) -> ConversationId:
    if not is_uuid(conversation):
        raise Refusal("bad_frame", "c: a conversation's uuid in lower case")
    if not is_seq(upto):
        raise Refusal("bad_frame", "upto: a seq, or 0")
    check_signature(signature)
    return ConversationId(conversation)


def _replied(conversation: ConversationId, peers: list[Peer], reply: Reply) -> None:
    """Only what concerns the server is told. That there is no such conversation, or that it is not for this account,
    would tell a stranger which conversations exist: such statements end in silence, like those that are old."""
    for peer in peers:
        peer.answered()
    if isinstance(reply, Accepted) or not REPLIES[reply.code].retry:
        return
    refusal = Refusal(reply.code)
    for peer in peers:
        peer.refuse(refusal, conversation=conversation)
