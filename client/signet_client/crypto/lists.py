"""Whose devices there are. The server names them; what they have signed is checked here, and each is pinned.

A device that is new in an account which is known already must have been let in by one that is known: the link is
signed by it. So the server can't slip a device of its own into an account without anybody noticing. Only the first
list of an account is taken on trust, and a device that writes before it is asked for. Known is every device that was
linked, also one that has published no keys yet, or was revoked: it may have let others in.
"""

from collections.abc import Iterable, Mapping
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
        self._moment = 0
        self._doubted: dict[str, int] = {}
        """When each was doubted last; all were at `_all_doubted`."""
        self._all_doubted = 0

    @property
    def moment(self) -> int:
        """Grows with each doubt: what is asked for now is as old as this when it comes."""
        return self._moment

    def confirmed(self, account: str) -> bool:
        return account in self._confirmed

    def doubt(self, account: str) -> None:
        """It may have other devices by now."""
        self._moment += 1
        self._doubted[account] = self._moment
        self._confirmed.discard(account)

    def doubt_all(self) -> None:
        """The connection is gone: what happens now nobody tells."""
        self._moment += 1
        self._all_doubted = self._moment
        self._doubted.clear()
        self._confirmed.clear()

    def take(self, asked: set[str], found: KeysFound, server: str, *, since: int | None = None) -> list[Refused]:
        """Takes in the answer to a query of these accounts; says which devices are not believed. `since`: the moment at
        which it was asked; what was doubted after that it does not confirm."""
        since = self._moment if since is None else since
        refused: list[Refused] = []
        for account in asked:
            user = matrix.user_id(account, server)
            if user in found.device_keys:
                refused += self._take_list(account, user, found, server)
            if self._doubted.get(account, self._all_doubted) <= since:
                self._confirmed.add(account)
        return refused

    def _take_list(self, account: str, user: str, found: KeysFound, server: str) -> list[Refused]:
        known, pins = self._vault.linked(account), self._vault.pins(account)
        vouched, refused = _vouched(account, found.links.get(user, ()), known, server)
        trusted: list[Peer] = []
        for device, keys in found.device_keys[user].items():
            if device in refused:
                continue
            try:
                peer = _peer_of(account, device, keys, user)
                if pins.get(device, peer) != peer or known.get(device, peer.ed25519) != peer.ed25519:
                    raise matrix.BadObject("it has other keys than before")
                if vouched.get(device) != peer.ed25519:
                    raise matrix.BadObject("it is not among the devices that were linked")
                trusted.append(peer)
            except matrix.BadObject as error:
                refused[device] = str(error)
        early = {device for device, pin in pins.items() if device not in known and pin != self._me}
        for device in early - {peer.device for peer in trusted}:
            # It wrote before the list was asked for. From now on only who is in it is believed.
            refused.setdefault(device, "it is in no list")
            self._vault.forget_peers(account, [device])
        for device in refused:
            vouched.pop(device, None)
        self._vault.put_linked(account, vouched)
        self._vault.put_list(account, found.versions.get(user, -1), trusted)
        return [Refused(account=account, device=device, why=why) for device, why in refused.items()]


def _peer_of(account: str, device: str, keys: matrix.Object, user: str) -> Peer:
    """Raises BadObject."""
    ed25519, curve25519 = matrix.check_device_keys(keys, user=user, device=device)
    return Peer(account, device, ed25519, curve25519)


def _vouched(
    account: str, named: Iterable[Link], known: Mapping[str, str], server: str
) -> tuple[dict[str, str], dict[str, str]]:
    """The Ed25519 keys of the devices that are known, or that one of these has let in, or, where none is known, the
    account's first; and why others are not believed."""
    links = {link.device: link for link in named}
    keys = {**{link.device: link.key for link in named}, **known}
    vouched, refused = dict(known), {}
    for device, link in links.items():
        try:
            _check_link(account, link, keys, known, links, server)
            vouched[device] = keys[device]
        except matrix.BadObject as error:
            refused[device] = str(error)
    return vouched, refused


def _check_link(
    account: str,
    link: Link,
    keys: Mapping[str, str],
    known: Mapping[str, str],
    links: Mapping[str, Link],
    server: str,
) -> None:
    """Raises BadObject."""
    for _ in range(_LINKS_MAX):
        if link.device in known:
            return
        if link.by is None:
            if known:
                raise matrix.BadObject("none of the account's known devices has let it in")
            return
        if link.by not in links:
            raise matrix.BadObject(f"the device that let it in, {link.by}, is unknown")
        payload = payloads.link_payload(server=server, account=account, device=link.device, key=link.key)
        if not matrix.verify(keys[link.by], payload, link.signature):
            raise matrix.BadObject(f"its link is not signed by {link.by}")
        link = links[link.by]
    raise matrix.BadObject("its links have no end")
