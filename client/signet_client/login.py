"""The answer to a challenge."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from signet_client import payloads, wire
from signet_client.identity import Identity
from signet_client.records import Marks, Profile

HELLO_BYTES: Final = 1_024
"""What a hello takes besides its cursors, generously."""


def hello_to(
    challenge: wire.Challenge,
    profile: Profile,
    identity: Identity,
    marks: Mapping[str, Marks],
    most_recent: Callable[[], Iterable[str]],
) -> wire.Hello:
    """The signed hello, with the cursors of all conversations, or of the `most_recent` ones that a frame has room for:
    what isn't named costs nothing where nothing happened, and a round trip where something did."""
    payload = payloads.hello_payload(
        nonce=challenge.nonce, server=challenge.server, account=profile.account, device=profile.device
    )
    cursors = {conversation: each.cursor for conversation, each in marks.items() if each.cursor}
    room = challenge.frame_bytes_max - HELLO_BYTES
    partial = sum(_bytes_of(pair) for pair in cursors.items()) > room
    return wire.Hello(
        account=profile.account,
        device=profile.device,
        signature=identity.sign(payload),
        cursors=_fitting(cursors, most_recent(), room) if partial else cursors,
        partial=partial,
    )


def _fitting(cursors: Mapping[str, int], most_recent: Iterable[str], room: int) -> dict[str, int]:
    named: dict[str, int] = {}
    for conversation in most_recent:
        # The store may be a flush behind.
        if (cursor := cursors.get(conversation)) is None:
            continue
        room -= _bytes_of((conversation, cursor))
        if room < 0:
            break
        named[conversation] = cursor
    return named


def _bytes_of(cursor: tuple[str, int]) -> int:
    conversation, seq = cursor
    return len(conversation) + len(str(seq)) + len('"":,')
