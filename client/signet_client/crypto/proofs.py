"""Whether ticks are true: that every member has read or got one's message, its device has signed.

The server tells ticks, and could invent them. A statement that is not signed as it should be, and a tick for which a
member's statement is missing, are told to the application.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from signet_client import matrix, payloads
from signet_client.crypto.vault import Peer

_NOTHING: Final = (0, 0)


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """How far a device says that it has come, as it was signed."""

    account: str
    device: str
    delivered: int
    read: int
    undecryptable: list[int]
    repaired: list[int]
    signature: str


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a member's receipts."""

    account: str
    device: str
    """Empty where none of the account's devices has said it."""
    text: str


def is_signed(statement: Statement, conversation: str, pin: Peer | None) -> bool:
    if pin is None:
        return False
    payload = payloads.receipt_payload(
        conversation=conversation,
        account=statement.account,
        device=statement.device,
        delivered=statement.delivered,
        read=statement.read,
        undecryptable=statement.undecryptable,
        repaired=statement.repaired,
    )
    return matrix.verify(pin.ed25519, payload, statement.signature)


def check(
    conversation: str,
    statements: Iterable[Statement],
    *,
    pin: Callable[[str, str], Peer | None],
    delivered_to: Mapping[str, int],
    read_by: Mapping[str, int],
) -> list[Missing]:
    """What is wrong. `delivered_to`, `read_by`: member → the seq that it has, or has read, as the ticks say."""
    missing: list[Missing] = []
    marks: dict[str, tuple[int, int]] = {}
    for each in statements:
        if not is_signed(each, conversation, pin(each.account, each.device)):
            text = f"a receipt up to {max(each.delivered, each.read)} is not signed by the device"
            missing.append(Missing(account=each.account, device=each.device, text=text))
            continue
        delivered, read = marks.get(each.account, _NOTHING)
        marks[each.account] = (max(delivered, each.delivered), max(read, each.read))
    for number, (claimed, verb) in enumerate(((delivered_to, "has got"), (read_by, "has read"))):
        for account, seq in claimed.items():
            if marks.get(account, _NOTHING)[number] < seq:
                text = f"no device of the account has signed that it {verb} message {seq}"
                missing.append(Missing(account=account, device="", text=text))
    return missing
