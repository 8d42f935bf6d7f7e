"""Whose devices there are. The server names them; what they have signed is checked here, and each is pinned.

A device that is new in an account which is known already must have been let in by one that is pinned: the link is
signed by it. So the server can't slip a device of its own into an account without anybody noticing. Only the first
list of an account is taken on trust, and a device that writes before it is asked for.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from signet_client import matrix, payloads
from signet_client.crypto.vault import Peer, Vault

_LINKS_MAX: Final = 1_000
"""How long a chain of links is followed."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """How a device came into its account."""

    device: str
    key: str
    active: bool
    by: str | None
    signature: str


class KeysFound(msgspec.Struct, frozen=True, kw_only=True):
    """What the server answers to a query, by users."""

    device_keys: dict[str, dict[str, matrix.Object]]
    versions: dict[str, int] = {}
    links: dict[str, list[Link]] = {}


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A device that the server named and this client does not believe in."""

    account: str
    device: str
    why: str


class Lists:
    """The device lists as they are known, and which of them were confirmed on the present connection."""

    def __init__(self, vault: Vault, me: Peer) -> None:
        self._vault = vault
        self._me = me
        self._confirmed: set[str] = set()

    def confirmed(self, account: str) -> bool:
        return account in self._confirmed

    def doubt(self, account: str) -> None:
        """It may have other devices by now."""
        self._confirmed.discard(account)

    def doubt_all(self) -> None:
        """The connection is gone: what happens now nobody tells."""
        self._confirmed.clear()

    def take(self, asked: set[str], found: KeysFound, server: str) -> list[Refused]:
        """Takes in the answer to a query of these accounts; says which devices are not believed."""
        refused: list[Refused] = []
        for account in asked:
            user = matrix.user_id(account, server)
            if user in found.device_keys:
                refused += self._take_list(account, user, found, server)
            self._confirmed.add(account)
        return refused

    def _take_list(self, account: str, user: str, found: KeysFound, server: str) -> list[Refused]:
        pins = self._vault.pins(account)
        # One's own device, or one that wrote before its list was asked for, vouches for nobody.
        known = pins if self._vault.list_versions([account]) else {}
        links = {link.device: link for link in found.links.get(user, ())}
        trusted: list[Peer] = []
        refused: list[Refused] = []
        for device, keys in found.device_keys[user].items():
            try:
                ed25519, curve25519 = matrix.check_device_keys(keys, user=user, device=device)
                peer = Peer(account, device, ed25519, curve25519)
                _check(peer, pins, known, links, server)
            except matrix.BadObject as error:
                refused.append(Refused(account=account, device=device, why=str(error)))
            else:
                trusted.append(peer)
        if not known:
            early = {device for device, pin in pins.items() if pin != self._me}
            gone = early - found.device_keys[user].keys()
            refused += [Refused(account=account, device=device, why="it is in no list") for device in gone]
            # From the next list on whoever is pinned is known.
            self._vault.forget_peers(account, early - {peer.device for peer in trusted})
        self._vault.put_list(account, found.versions.get(user, -1), trusted)
        return refused


def _check(
    peer: Peer, pins: Mapping[str, Peer], known: Mapping[str, Peer], links: Mapping[str, Link], server: str
) -> None:
    """Raises BadObject."""
    pin = pins.get(peer.device)
    if pin is not None and pin != peer:
        raise matrix.BadObject("it has other keys than before")
    if peer.device not in known:
        _check_links(peer, known, links, server)


def _check_links(peer: Peer, known: Mapping[str, Peer], links: Mapping[str, Link], server: str) -> None:
    """Whether the device was let in by one that is known, or, where none is, by the account's first. Raises
    BadObject."""
    link = links.get(peer.device)
    if link is None or link.key != peer.ed25519:
        raise matrix.BadObject("it is not among the devices that were linked")
    for _ in range(_LINKS_MAX):
        if link.by is None:
            if known:
                raise matrix.BadObject("none of the account's known devices has let it in")
            return
        by = links.get(link.by)
        if by is None:
            raise matrix.BadObject(f"the device that let it in, {link.by}, is unknown")
        payload = payloads.link_payload(server=server, account=peer.account, device=link.device, key=link.key)
        if not matrix.verify(by.key, payload, link.signature):
            raise matrix.BadObject(f"its link is not signed by {link.by}")
        pin = known.get(by.device)
        if pin is not None:
            if pin.ed25519 != by.key:
                raise matrix.BadObject(f"the device that let it in, {by.device}, has another key than before")
            return
        link = by
    raise matrix.BadObject("its links have no end")
