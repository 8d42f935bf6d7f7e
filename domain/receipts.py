"""Receipts: how far each device of each member has stored and read a conversation: state, events, `decide`, `evolve`.

A device has a delivered mark, a read mark, and two sets of seqs that only grow: what it could not decrypt, and what of
that was repaired since. All of it commutes, so the order in which receipts arrive never matters, and a receipt costs
O(members) however many messages it covers.
"""

import msgspec

from domain.entry import Entry
from domain.ids import AccountId, CommandId, ConversationId, DeviceId

EXCEPTIONS_MAX = 256
"""How many seqs one receipt may name as undecryptable, and how many as repaired. A device with more of them states them
in steps, oldest first."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The marks of one device as it states them; all values are absolute."""

    account: AccountId
    device: DeviceId
    delivered: int = 0
    """The device has stored everything up to this seq, and could read it but for `undecryptable`."""
    read: int = 0
    undecryptable: list[int] = []
    repaired: list[int] = []
    signature: str | None = None
    """By the device, over `payloads.receipt_payload` of all that stands here: then it stands here as it was stated."""


# Events


class ReceiptsAdvanced(msgspec.Struct, frozen=True, kw_only=True):
    receipts: list[Receipt]


# Commands


class AdvanceReceipts(msgspec.Struct, frozen=True, kw_only=True):
    """What the devices of one conversation stated within a few milliseconds."""

    id: CommandId
    conversation: ConversationId
    receipts: list[Receipt]


# State


class Marks(msgspec.Struct):
    """The marks of one device."""

    delivered: int = 0
    read: int = 0
    undecryptable: set[int] = set()
    repaired: set[int] = set()

    @property
    def excepted(self) -> set[int]:
        """The seqs that this device still can't read."""
        return self.undecryptable - self.repaired if self.undecryptable else self.undecryptable


class Receipts(msgspec.Struct):
    """The fold of a receipts stream."""

    version: int = -1
    marks: dict[AccountId, dict[DeviceId, Marks]] = {}

    def of(self, account: AccountId, device: DeviceId) -> Marks:
        """The marks of a device; nothing is kept of one that never sent any."""
        return self.marks.get(account, {}).get(device) or Marks()


def decide(state: Receipts, command: AdvanceReceipts, visible_ends: dict[AccountId, int]) -> list[ReceiptsAdvanced]:
    """One event with what is news in the command, or none.

    `visible_ends` gives for each account the last committed seq that it may see. A statement from one who never was a
    member, about what it may not see, or with too many exceptions, is left out as a whole: the edge has refused what it
    could tell, and what is left are races with a removal.
    """
    news = [
        receipt
        for stated in command.receipts
        if (receipt := _news(state, stated, visible_ends.get(stated.account, 0))) is not None
    ]
    return [ReceiptsAdvanced(receipts=news)] if news else []


def _news(state: Receipts, stated: Receipt, visible_end: int) -> Receipt | None:
    if stated.delivered > visible_end or stated.read > visible_end:
        return None
    if len(stated.undecryptable) > EXCEPTIONS_MAX or len(stated.repaired) > EXCEPTIONS_MAX:
        # To cut them would call delivered what nobody could read (I5).
        return None
    marks = state.of(stated.account, stated.device)
    if stated.signature is not None:
        return stated if _is_news(marks, stated) else None
    delivered = max(marks.delivered, stated.delivered)
    undecryptable = _fresh(stated.undecryptable, marks.undecryptable, delivered)
    repaired = _fresh(stated.repaired, marks.repaired, delivered)
    if not (undecryptable or repaired or stated.delivered > marks.delivered or stated.read > marks.read):
        return None
    return Receipt(
        account=stated.account,
        device=stated.device,
        delivered=delivered,
        read=max(marks.read, stated.read),
        undecryptable=undecryptable,
        repaired=repaired,
        signature=stated.signature,
    )


def _is_news(marks: Marks, stated: Receipt) -> bool:
    """Of a signed statement, which is recorded as it was signed or not at all."""
    if not all(0 < seq <= stated.delivered for seq in (*stated.undecryptable, *stated.repaired)):
        return False
    return (
        stated.delivered > marks.delivered
        or stated.read > marks.read
        or not marks.undecryptable.issuperset(stated.undecryptable)
        or not marks.repaired.issuperset(stated.repaired)
    )


def _fresh(stated: list[int], known: set[int], delivered: int) -> list[int]:
    if not stated:
        return stated
    return sorted({seq for seq in stated if 0 < seq <= delivered and seq not in known})


def evolve(state: Receipts, version: int, entry: Entry[ReceiptsAdvanced]) -> None:
    """Folds one event into the state, in place."""
    state.version = version
    for receipt in entry.e.receipts:
        advance(state.marks.setdefault(receipt.account, {}).setdefault(receipt.device, Marks()), receipt)


def advance(marks: Marks, receipt: Receipt) -> None:
    """Folds what one device stated into its marks: a maximum and two unions, in whatever order they come."""
    if receipt.delivered > marks.delivered:
        marks.delivered = receipt.delivered
    if receipt.read > marks.read:
        marks.read = receipt.read
    if receipt.undecryptable:
        marks.undecryptable.update(receipt.undecryptable)
    if receipt.repaired:
        marks.repaired.update(receipt.repaired)
