"""The tables of a device's encryption, in the device's store: what is written here is committed with whatever else the
store commits next.

Sessions are sealed. What stands open is what the server knows anyway: who has which devices and public keys, and which
sessions there are.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from vodozemac import GroupSession, InboundGroupSession, PickleException, Session

from signet_client.crypto.box import Box
from signet_client.errors import StoreFailed
from signet_client.store import Store

OLM_SESSIONS_MAX: Final = 8
"""How many sessions with one device are kept: those used last."""
_INBOUND_CACHED: Final = 256
UNTOLD: Final = 0
TELL_AGAIN: Final = -1
"""The server was told of it, and may not have heard it; or it has to be told what has become of it."""

_PUT_PEER: Final = """
INSERT INTO peers VALUES (?, ?, ?, ?, 1) ON CONFLICT (account, device) DO UPDATE SET active = 1"""
_PUT_OLM: Final = """
INSERT INTO olm_sessions VALUES (?, ?, ?, ?, ?) ON CONFLICT (account, curve25519, session) DO UPDATE SET
    pickle = excluded.pickle, used = excluded.used"""
_DROP_OLM: Final = """
DELETE FROM olm_sessions WHERE account = ?1 AND curve25519 = ?2 AND session NOT IN (
    SELECT session FROM olm_sessions WHERE account = ?1 AND curve25519 = ?2 ORDER BY used DESC LIMIT ?3)"""
# Anybody may begin sessions by keys that are no device's.
_DROP_STRANGE: Final = """
DELETE FROM olm_sessions WHERE account = ?1
AND curve25519 NOT IN (SELECT curve25519 FROM peers WHERE account = ?1) AND used NOT IN (
    SELECT used FROM olm_sessions WHERE account = ?1
    AND curve25519 NOT IN (SELECT curve25519 FROM peers WHERE account = ?1) ORDER BY used DESC LIMIT ?2)"""
_PUT_INBOUND: Final = "INSERT OR REPLACE INTO inbound_sessions VALUES (?, ?, ?, ?, ?, ?, ?)"
_PUT_OUTBOUND: Final = "INSERT OR REPLACE INTO outbound_sessions VALUES (?, ?, ?, ?, ?)"
_SEE: Final = "INSERT INTO seen VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_SEEN: Final = "SELECT conversation, seq FROM seen WHERE session = ? AND account = ? AND device = ? AND position = ?"


class Peer(NamedTuple):
    """Another device, or this one, as it is pinned: a device never changes its keys."""

    account: str
    device: str
    ed25519: str
    curve25519: str


class Inbound(NamedTuple):
    """A session of somebody's messages."""

    session: InboundGroupSession
    account: str
    """Whose it is, as the Olm message said that brought it."""
    device: str
    ed25519: str


class Outbound(NamedTuple):
    """The session of this device's messages in one conversation."""

    session: GroupSession
    made_at: int
    """Seconds since 1970."""
    messages: int


class Place(NamedTuple):
    """Where a message stands in a session of its device."""

    session: str
    account: str
    device: str
    position: int


class Undecrypted(NamedTuple):
    seq: int
    session: str
    reason: str
    repaired: bool
    told: int
    """Up to which seq the statement went that told the server of it last; `UNTOLD`, or `TELL_AGAIN`."""


class Parcel(NamedTuple):
    """Mail on its way to other devices."""

    transaction: str
    type: str
    messages: dict[str, dict[str, Any]]
    """User → device → content."""


class Vault:
    """Everything here belongs to one device. Raises StoreFailed."""

    def __init__(self, store: Store, box: Box) -> None:
        self._store = store
        self._box = box
        self._inbound: dict[tuple[str, str, str, str], Inbound] = {}
        self._used: int = store.query("SELECT coalesce(max(used), 0) FROM olm_sessions")[0][0]
        """Counts uses of Olm sessions: clocks go back."""

    # Small facts

    def fact(self, name: str) -> str:
        rows = self._store.query("SELECT value FROM facts WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else ""

    def put_fact(self, name: str, value: str) -> None:
        self._store.write(
            "INSERT INTO facts VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (name, value)
        )

    # Device lists

    def list_versions(self, accounts: Iterable[str]) -> dict[str, int]:
        """Of those that were ever asked for."""
        found: dict[str, int] = {}
        for account in accounts:
            for (version,) in self._store.query("SELECT version FROM lists WHERE account = ?", (account,)):
                found[account] = version
        return found

    def put_list(self, account: str, version: int, active: Collection[Peer]) -> None:
        """The devices of an account as the server names them, but for those that were refused."""
        self._store.write(
            "INSERT INTO lists VALUES (?, ?) ON CONFLICT DO UPDATE SET version = excluded.version", (account, version)
        )
        self._store.write("UPDATE peers SET active = 0 WHERE account = ?", (account,))
        for peer in active:
            self._store.write(_PUT_PEER, peer)

    def put_peer(self, peer: Peer) -> None:
        """Before its account's list is known."""
        self._store.write(_PUT_PEER, peer)

    def forget_peers(self, account: str, devices: Iterable[str]) -> None:
        """Those that were pinned before their account's list was known, which does not name them."""
        for device in devices:
            self._store.write("DELETE FROM peers WHERE account = ? AND device = ?", (account, device))

    def linked(self, account: str) -> dict[str, str]:
        """The Ed25519 keys of all devices of an account that are known to have been let in, whether they have published
        keys for encryption or not, and also of those that were revoked. Empty: its list was never asked for."""
        return dict(self._store.query("SELECT device, ed25519 FROM linked WHERE account = ?", (account,)))

    def put_linked(self, account: str, keys: Mapping[str, str]) -> None:
        for device, ed25519 in keys.items():
            self._store.write("INSERT INTO linked VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (account, device, ed25519))

    def pins(self, account: str) -> dict[str, Peer]:
        """All devices of an account that were ever trusted."""
        rows = self._store.query("SELECT account, device, ed25519, curve25519 FROM peers WHERE account = ?", (account,))
        return {row[1]: Peer(*row) for row in rows}

    def peer(self, account: str, device: str) -> Peer | None:
        return self.pins(account).get(device)

    def peers(self, accounts: Iterable[str]) -> list[Peer]:
        """The devices of these accounts that are active."""
        sql = """SELECT account, device, ed25519, curve25519 FROM peers
            WHERE active = 1 AND account IN (SELECT value FROM json_each(?)) ORDER BY account, device"""
        return [Peer(*row) for row in self._store.query(sql, (json.dumps(sorted(accounts)),))]

    # Olm

    def olm_sessions(self, account: str, curve25519: str) -> list[Session]:
        """Those with one device, the one used last first. By account, too: another one may claim the same key."""
        sql = "SELECT pickle FROM olm_sessions WHERE account = ? AND curve25519 = ? ORDER BY used DESC"
        return [self._unpickle(Session, sealed) for (sealed,) in self._store.query(sql, (account, curve25519))]

    def has_olm(self, account: str, curve25519: str) -> bool:
        sql = "SELECT 1 FROM olm_sessions WHERE account = ? AND curve25519 = ? LIMIT 1"
        return bool(self._store.query(sql, (account, curve25519)))

    def put_olm(self, account: str, curve25519: str, session: Session) -> None:
        self._used += 1
        self._store.write(_PUT_OLM, (account, curve25519, session.session_id, self._pickled(session), self._used))
        self._store.write(_DROP_OLM, (account, curve25519, OLM_SESSIONS_MAX))
        self._store.write(_DROP_STRANGE, (account, OLM_SESSIONS_MAX))

    # Megolm

    def inbound(self, conversation: str, session: str, account: str, device: str) -> Inbound | None:
        """As this device owns it: somebody else who has the key may have given it as its own."""
        key = (conversation, session, account, device)
        known = self._inbound.get(key)
        if known is None:
            sql = """SELECT pickle, account, device, ed25519 FROM inbound_sessions
                WHERE conversation = ? AND session = ? AND account = ? AND device = ?"""
            rows = self._store.query(sql, key)
            if not rows:
                return None
            sealed, *owner = rows[0]
            if len(self._inbound) >= _INBOUND_CACHED:
                self._inbound.clear()
            known = self._inbound[key] = Inbound(self._unpickle(InboundGroupSession, sealed), *owner)
        return known

    def owners(self, conversation: str, session: str) -> list[tuple[str, str]]:
        """The devices (account, device) that have given this session as theirs."""
        sql = "SELECT account, device FROM inbound_sessions WHERE conversation = ? AND session = ?"
        return [(account, device) for account, device in self._store.query(sql, (conversation, session))]

    def count_strange_sessions(self, account: str) -> int:
        """How many sessions of an account there are for conversations of which this device knows nothing."""
        sql = """SELECT count(*) FROM inbound_sessions
            WHERE account = ? AND conversation NOT IN (SELECT conversation FROM conversations)"""
        return int(self._store.query(sql, (account,))[0][0])

    def put_inbound(self, conversation: str, inbound: Inbound) -> None:
        session = inbound.session
        self._inbound.pop((conversation, session.session_id, inbound.account, inbound.device), None)
        self._store.write(
            _PUT_INBOUND,
            (
                conversation, session.session_id, inbound.account, inbound.device, inbound.ed25519,
                session.first_known_index, self._pickled(session),
            ),
        )  # fmt: skip

    def outbound(self, conversation: str) -> Outbound | None:
        sql = "SELECT pickle, made_at, messages FROM outbound_sessions WHERE conversation = ?"
        rows = self._store.query(sql, (conversation,))
        return Outbound(self._unpickle(GroupSession, rows[0][0]), *rows[0][1:]) if rows else None

    def put_outbound(self, conversation: str, outbound: Outbound) -> None:
        session = outbound.session
        self._store.write(
            _PUT_OUTBOUND,
            (conversation, session.session_id, self._pickled(session), outbound.made_at, outbound.messages),
        )

    def drop_outbound(self, conversation: str) -> None:
        self._store.write("DELETE FROM outbound_sessions WHERE conversation = ?", (conversation,))
        self._store.write("DELETE FROM shares WHERE conversation = ?", (conversation,))

    def drop_outbound_of(self, account: str) -> None:
        """The sessions of all conversations that this account is in."""
        where = "conversation IN (SELECT conversation FROM members WHERE account = ?)"
        self._store.write(f"DELETE FROM outbound_sessions WHERE {where}", (account,))
        self._store.write(f"DELETE FROM shares WHERE {where}", (account,))

    def shares(self, conversation: str) -> set[tuple[str, str]]:
        """The devices that have the key of the present session of one's own."""
        sql = "SELECT account, device FROM shares WHERE conversation = ?"
        return {(account, device) for account, device in self._store.query(sql, (conversation,))}

    def put_shares(self, conversation: str, peers: Iterable[Peer]) -> None:
        for peer in peers:
            self._store.write(
                "INSERT INTO shares VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (conversation, peer.account, peer.device)
            )

    def see(self, place: Place, conversation: str, seq: int) -> bool:
        """Whether a position of a session is this message's: the first one that was believed keeps it, for ever."""
        self._store.write(_SEE, (*place, conversation, seq))
        return tuple(self._store.query(_SEEN, place)[0]) == (conversation, seq)

    def seqs_of(self, session: str, account: str, device: str) -> list[tuple[int, int]]:
        """The messages of a device's session: their positions in it and their seqs, ascending."""
        sql = "SELECT position, seq FROM seen WHERE session = ? AND account = ? AND device = ? ORDER BY position"
        return [(position, seq) for position, seq in self._store.query(sql, (session, account, device))]

    # What could not be decrypted

    def put_undecrypted(self, conversation: str, seq: int, session: str, reason: str) -> None:
        self._store.write(
            "INSERT INTO undecrypted VALUES (?, ?, ?, ?, 0, ?) ON CONFLICT DO NOTHING",
            (conversation, seq, session, reason, UNTOLD),
        )

    def undecrypted(
        self, conversation: str, *, session: str | None = None, reason: str | None = None, told: int | None = None
    ) -> list[Undecrypted]:
        """All of a conversation, or those of this session, with this reason, told of so often; in order of seq. Those
        that were repaired since are among them, as long as the server may not know it."""
        sql = """SELECT seq, session, reason, repaired, told FROM undecrypted
            WHERE conversation = ? AND session = coalesce(?, session) AND reason = coalesce(?, reason)
            AND told = coalesce(?, told) ORDER BY seq"""
        return [
            Undecrypted(seq, session, reason, bool(repaired), told)
            for seq, session, reason, repaired, told in self._store.query(sql, (conversation, session, reason, told))
        ]

    def has_undecrypted(self, conversation: str) -> bool:
        return bool(self._store.query("SELECT 1 FROM undecrypted WHERE conversation = ? LIMIT 1", (conversation,)))

    def set_reason(self, conversation: str, seq: int, reason: str) -> None:
        self._store.write(
            "UPDATE undecrypted SET reason = ? WHERE conversation = ? AND seq = ?", (reason, conversation, seq)
        )

    def set_repaired(self, conversation: str, seq: int) -> None:
        """Of one of which the server was told."""
        self._store.write(
            "UPDATE undecrypted SET repaired = 1, told = ? WHERE conversation = ? AND seq = ?",
            (TELL_AGAIN, conversation, seq),
        )

    def set_told(self, conversation: str, seqs: Iterable[int], told: int) -> None:
        for seq in seqs:
            self._store.write(
                "UPDATE undecrypted SET told = ? WHERE conversation = ? AND seq = ?", (told, conversation, seq)
            )

    def forget_undecrypted(self, conversation: str, seqs: Iterable[int]) -> None:
        for seq in seqs:
            self._store.write("DELETE FROM undecrypted WHERE conversation = ? AND seq = ?", (conversation, seq))

    def asked(self, conversation: str, session: str) -> int:
        """When this session's key was asked for last, in seconds since 1970; 0: never."""
        sql = "SELECT at FROM asked WHERE conversation = ? AND session = ?"
        rows = self._store.query(sql, (conversation, session))
        return int(rows[0][0]) if rows else 0

    def put_asked(self, conversation: str, session: str, at: int) -> None:
        self._store.write(
            "INSERT INTO asked VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at", (conversation, session, at)
        )

    # Mail on its way

    def put_parcel(self, parcel: Parcel) -> None:
        self._store.write(
            "INSERT INTO mail (transaction_id, type, messages) VALUES (?, ?, ?)",
            (parcel.transaction, parcel.type, json.dumps(parcel.messages, separators=(",", ":"))),
        )

    def parcels(self) -> list[Parcel]:
        """In the order of their making."""
        rows = self._store.query("SELECT transaction_id, type, messages FROM mail ORDER BY number")
        return [Parcel(transaction, type_, json.loads(messages)) for transaction, type_, messages in rows]

    def drop_parcel(self, transaction: str) -> None:
        self._store.write("DELETE FROM mail WHERE transaction_id = ?", (transaction,))

    # Pickles

    def _pickled(self, session: Session | GroupSession | InboundGroupSession) -> bytes:
        return self._box.seal(session.pickle(self._box.pickle_key).encode())

    def _unpickle(self, kind: Any, sealed: bytes) -> Any:
        try:
            return kind.from_pickle(self._box.open(sealed).decode(), self._box.pickle_key)
        except PickleException as error:
            raise StoreFailed(f"a session in the store can't be read: {error}") from error


def by_user(contents: Mapping[tuple[str, str], Any]) -> dict[str, dict[str, Any]]:
    """(user, device) → content, as parcels have it."""
    messages: dict[str, dict[str, Any]] = {}
    for (user, device), content in contents.items():
        messages.setdefault(user, {})[device] = content
    return messages
