"""All of a device's encryption, as the live path uses it: nothing here waits, and what it stores is committed with
whatever the store commits next, before anything that follows from it leaves the device."""

import logging
import time
from collections.abc import Iterable
from typing import Any, Final
from uuid import uuid4

import msgspec
from vodozemac import ExportedSessionKey, InboundGroupSession, SessionKey, SessionKeyDecodeException

from signet_client import matrix, payloads, wire
from signet_client.crypto import content
from signet_client.crypto.lists import Lists
from signet_client.crypto.megolm import Megolm, MegolmFailed
from signet_client.crypto.olm import Olm, OlmFailed, Opened
from signet_client.crypto.vault import Inbound, Parcel, Peer, Place, Vault, by_user
from signet_client.identity import Identity
from signet_client.messages import encode_body, header_of
from signet_client.records import Profile
from signet_client.store import Store

_LOG: Final = logging.getLogger("signet_client")

PARCEL_DEVICES_MAX: Final = 100
PARCEL_BYTES: Final = 64
"""What a parcel takes besides what is for each device."""
REQUESTS_MAX: Final = 1_000
"""How many requests wait to be answered; whoever is not heard asks again."""
STRANGE_SESSIONS_MAX: Final = 64
"""How many sessions of one account are kept for conversations of which nothing is known: keys may come before the
news of what they are for."""
UNWEDGE_EVERY_S: Final = 3_600
"""How often a broken session with one device is given up for a new one at most."""

ROOM_KEY: Final = "m.room_key"
FORWARDED: Final = "m.forwarded_room_key"
GIVEN: Final = "signet.room_key"
"""The same under a name of our own, for who asks for it so: OlmMachine blanks the key in an event of Matrix's name
before its application gets it."""
REQUEST: Final = "m.room_key_request"
DUMMY: Final = "m.dummy"
ENCRYPTED: Final = "m.room.encrypted"


class KeyRequest(msgspec.Struct, frozen=True):
    """A device asks for the key of a session."""

    account: str
    device: str
    conversation: str
    session: str
    answer: str = FORWARDED
    """The type of the event that it understands."""


class Read(msgspec.Struct, frozen=True):
    """What became of a message: what it says, or why it says nothing."""

    clear: str | None
    reason: str | None = None
    session: str = ""


class Machine:
    """One device's. Raises StoreFailed."""

    def __init__(self, store: Store, vault: Vault, identity: Identity, profile: Profile, seal_key: bytes) -> None:
        self._store = store
        self._identity = identity
        self._profile = profile
        self._seal_key = seal_key
        self.vault: Final = vault
        self.server = vault.fact("server")
        """The server's name; empty before its first challenge."""
        self.me: Final = Peer(profile.account, profile.device, identity.key, identity.curve25519)
        self.lists: Final = Lists(vault, self.me)
        self.olm: Final = Olm(vault, identity, account=profile.account, device=profile.device)
        self.megolm: Final = Megolm(vault, self.me)
        self.doubtful: Final[set[str]] = set()
        """Accounts whose device lists are to be asked for."""
        self.wedged: Final[set[Peer]] = set()
        """Devices with which a new session is to be begun."""
        self.requests: Final[list[KeyRequest]] = []
        """What others ask for."""
        self.published = True
        """The server has this device's identity keys, as far as it has said."""
        self.keys_left: int | None = None
        """How many one-time keys the server has; None: it has not said yet."""
        self.fallback_used = False
        self._parcel_bytes_max = 0
        self._ready: set[str] = set()
        self._barren: set[Peer] = set()
        """Devices that have no keys to begin a session with."""
        self._doubted: set[tuple[str, str]] = set()
        self._unwedged_at: dict[Peer, float] = {}
        self._mail = int(vault.fact("mail") or 0)

    # The connection

    def hear_server(self, server: str, *, frame_bytes_max: int = 262_144) -> None:
        """Its name, and what it takes at once, from a challenge."""
        self._parcel_bytes_max = frame_bytes_max - PARCEL_BYTES
        if server != self.server:
            self.server = server
            self.vault.put_fact("server", server)
        if self.vault.peer(self.me.account, self.me.device) is None:
            self.vault.put_peer(self.me)
        if self._profile.registration:
            # It is the account's first: nobody has let it in.
            self.vault.put_linked(self.me.account, {self.me.device: self.me.ed25519})

    def lose_connection(self) -> None:
        """What happens now nobody tells: lists, keys and members are to be asked for anew."""
        self.lists.doubt_all()
        self._ready.clear()
        self._barren.clear()
        self._doubted.clear()
        self.keys_left = None

    def hear_counts(self, counts: wire.KeyCounts) -> None:
        """What the server has left of this device's keys."""
        self.keys_left, self.fallback_used = counts.left, counts.fallback_used or self.fallback_used
        self.published = counts.published

    def save_identity(self) -> None:
        """Before a commit: keys that were made or used up."""
        if self._identity.changed:
            self._store.put_identity(self._identity.seal(self._seal_key))
            self._identity.changed = False

    @property
    def has_errands(self) -> bool:
        """Something is to be asked of the server."""
        return bool(self.doubtful or self.requests or self.wedged)

    # One's own keys

    @property
    def wants_upload(self) -> bool:
        if self.keys_left is None or not self.server:
            return False
        few = self.keys_left < self._identity.account.max_number_of_one_time_keys // 2
        return not self.published or few or self.fallback_used

    def upload(self) -> dict[str, Any]:
        """What is to be uploaded; the private halves are to be committed before it leaves."""
        account, user = self._identity.account, matrix.user_id(self.me.account, self.server)
        self._identity.changed = True
        # Those that were made before and whose upload nobody has confirmed are among them again.
        fresh = account.max_number_of_one_time_keys - (self.keys_left or 0) - len(account.one_time_keys)
        if fresh > 0:
            account.generate_one_time_keys(fresh)
        if (self.fallback_used or not self.published) and not _fallback(account):
            _make_fallback(account)
        body: dict[str, Any] = {
            "one_time_keys": {
                f"{matrix.SIGNED_CURVE25519}:{id_}": self._sign(user, {"key": key.to_base64()})
                for id_, key in account.one_time_keys.items()
            },
            "fallback_keys": {
                f"{matrix.SIGNED_CURVE25519}:{id_}": self._sign(user, {"key": key.to_base64(), "fallback": True})
                for id_, key in _fallback(account).items()
            },
        }
        if not self.published:
            body["device_keys"] = self._identity.device_keys(user=user, device=self.me.device)
        return body

    def uploaded(self, left: int) -> None:
        self._identity.account.mark_keys_as_published()
        self._identity.changed = True
        self.published, self.keys_left, self.fallback_used = True, left, False

    def skip_keys(self) -> None:
        """Those that were to be uploaded never will be."""
        self._identity.account.mark_keys_as_published()
        self._identity.changed = True

    def _sign(self, user: str, unsigned: matrix.Object) -> matrix.Object:
        return self._identity.sign_object(unsigned, user=user, device=self.me.device)

    # Sending

    def unsettle(self, conversation: str) -> None:
        """Who is in it has changed, or is in doubt."""
        self._ready.discard(conversation)

    def end_session(self, conversation: str) -> None:
        """Somebody has gone: the key is in use no more, whoever has it. One's own other devices may have given it to
        devices of which this one does not know."""
        self.unsettle(conversation)
        self.megolm.end(conversation)

    def end_sessions_of(self, account: str) -> None:
        """One of its devices has gone."""
        self.unsettle_all()
        self.megolm.end_all_of(account)

    def unsettle_all(self) -> None:
        self._ready.clear()

    def is_ready(self, conversation: str) -> bool:
        """Whether everybody who is to read the next message has its key."""
        return conversation in self._ready and self.megolm.may_send(conversation)

    def settle(self, conversation: str, members: Iterable[str]) -> bool:
        """Whether it is ready now: members and lists are as they were when the key was shared, and all mail is out."""
        members = set(members)
        if not members or not all(map(self.lists.confirmed, members)) or self.vault.parcels():
            return False
        if self.megolm.current(conversation, _addresses(self._targets(members))) is None:
            return False
        if set(self.unserved(conversation, members)) - self._barren:
            return False
        self.assume_ready(conversation)
        return True

    def assume_ready(self, conversation: str) -> None:
        """Whoever calls this knows that all that are to read it have the key."""
        self._ready.add(conversation)

    def _targets(self, members: Iterable[str]) -> list[Peer]:
        return [peer for peer in self.vault.peers(members) if peer != self.me]

    def unserved(self, conversation: str, members: Iterable[str]) -> list[Peer]:
        """The devices that have not the key with which the next message is encrypted."""
        targets = self._targets(members)
        if self.megolm.current(conversation, _addresses(targets)) is None:
            return targets
        shares = self.vault.shares(conversation)
        return [peer for peer in targets if (peer.account, peer.device) not in shares]

    def without_session(self, peers: Iterable[Peer]) -> list[Peer]:
        """Those with which a session is to be begun first."""
        return [
            peer
            for peer in peers
            if peer not in self._barren and (peer in self.wedged or not self.olm.has_session(peer))
        ]

    def begin(self, peers: Iterable[Peer], claimed: dict[str, dict[str, dict[str, matrix.Object]]]) -> None:
        """Sessions with the claimed keys of these devices; those without one are left out from now on."""
        for peer in peers:
            keys = claimed.get(matrix.user_id(peer.account, self.server), {}).get(peer.device, {})
            if not any(self.olm.begin(peer, key, self.server) for key in keys.values()):
                self._barren.add(peer)
            elif peer in self.wedged:
                # By this message the other side hears of the new session.
                self.post({peer: self.olm.encrypt(peer, DUMMY, {}, self.server)})
            self.wedged.discard(peer)

    def share(self, conversation: str, members: Iterable[str]) -> None:
        """Gives the key of the present session, or of a new one, to all that have not got it."""
        members = set(members)
        outbound = self.megolm.current(conversation, _addresses(self._targets(members)))
        if outbound is None:
            outbound = self.megolm.begin(conversation)
        key = {
            "algorithm": matrix.MEGOLM,
            "room_id": matrix.room_id(conversation),
            "session_id": outbound.session.session_id,
            "session_key": outbound.session.session_key.to_base64(),
        }
        served = [peer for peer in self.unserved(conversation, members) if self.olm.has_session(peer)]
        contents: dict[Peer, matrix.Object] = {}
        size = 0
        for peer in served:
            content = self.olm.encrypt(peer, ROOM_KEY, key, self.server)
            named = {matrix.user_id(peer.account, self.server): {peer.device: content}}
            bytes_ = len(matrix.canonical(named).encode())
            if contents and (size + bytes_ > self._parcel_bytes_max or len(contents) >= PARCEL_DEVICES_MAX):
                self.post(contents)
                contents, size = {}, 0
            contents[peer] = content
            size += bytes_
        if contents:
            self.post(contents)
        self.vault.put_shares(conversation, served)

    def post(self, contents: dict[Peer, matrix.Object], type_: str = ENCRYPTED) -> None:
        """Mail to other devices; it is in the store until the server has it."""
        messages = by_user(
            {(matrix.user_id(peer.account, self.server), peer.device): each for peer, each in contents.items()}
        )
        self.vault.put_parcel(Parcel(str(uuid4()), type_, messages))

    def encrypt(self, conversation: str, *, kind: str, text: str, reply_to: int | None, attachment: Any = None) -> str:
        """The body of a message."""
        event = content.encode_event(conversation, kind=kind, text=text, reply_to=reply_to, attachment=attachment)
        session, ciphertext = self.megolm.encrypt(conversation, event)
        return content.encode_encrypted(ciphertext, session, sender_key=self.me.curve25519, device=self.me.device)

    def sign_receipt(self, ack: wire.Ack) -> wire.Ack:
        payload = payloads.receipt_payload(
            conversation=ack.c,
            account=self.me.account,
            device=self.me.device,
            delivered=ack.upto,
            read=ack.read,
            undecryptable=ack.undecryptable,
            repaired=ack.repaired,
        )
        return msgspec.structs.replace(ack, signature=self._identity.sign(payload))

    # Reading

    def read(self, item: wire.Message, protection: wire.Protection | None) -> Read:
        """What a message says. `protection`: its conversation's, None where it is not known yet."""
        encrypted = content.encrypted_of(item.body)
        if encrypted is None:
            if protection != "end_to_end" or item.body is None:
                return Read(None)
            return Read(None, "not_encrypted")
        try:
            return Read(self._read(item, encrypted), session=encrypted.session_id)
        except MegolmFailed as failed:
            return Read(None, failed.reason, encrypted.session_id)

    def _read(self, item: wire.Message, encrypted: content.Encrypted) -> str:
        header = header_of(item)
        assert item.body is not None
        if header.conversation != item.c or header.digest != payloads.digest_of(item.body):
            raise MegolmFailed("forged_header")
        key = self._key_of(header.sender, header.device)
        if key is None:
            self.doubt_device(header.sender, header.device)
            raise MegolmFailed("unknown_device")
        if item.signature is None or not matrix.verify(key, item.header.encode(), item.signature):
            raise MegolmFailed("forged_header")
        # A session counts for the device that has given it as its own, so the key is that of the header's device.
        event, position = self.megolm.decrypt(
            item.c, encrypted, account=header.sender, device=header.device, ed25519=key
        )
        # After all that shows whose it is: a forged copy that comes first does not take the message's place.
        place = Place(encrypted.session_id, header.sender, header.device, position)
        if not self.vault.see(place, item.c, item.seq):
            raise MegolmFailed("replayed")
        inner = content.inner_of(event)
        if inner is None:
            raise MegolmFailed("malformed")
        return encode_body(inner.text, kind=inner.kind, reply_to=inner.reply_to, attachment=inner.attachment)

    def _key_of(self, account: str, device: str) -> str | None:
        """The Ed25519 key of a device that is known, also of one that was revoked since."""
        pin = self.vault.peer(account, device)
        return pin.ed25519 if pin is not None else self.vault.linked(account).get(device)

    def doubt(self, account: str) -> None:
        """Its devices are to be asked for."""
        self.lists.doubt(account)
        self.doubtful.add(account)

    def doubt_device(self, account: str, device: str) -> bool:
        """Its account's devices are to be asked for, once a connection: the server may have not told of this one yet,
        or may never do so. False: they were."""
        if (account, device) in self._doubted:
            return False
        self._doubted.add((account, device))
        self.doubt(account)
        return True

    # Mail

    def take_mail(self, mail: wire.Mail) -> list[tuple[str, str]]:
        """Gives the sessions (conversation, session) whose messages may be readable now. What can't be taken is let go:
        what it would have brought is asked for."""
        if mail.n <= self._mail:
            return []
        self._mail = mail.n
        self.vault.put_fact("mail", str(mail.n))
        try:
            sender = matrix.account_of(mail.sender, self.server)
        except matrix.BadObject:
            return []
        body = content.json_object(mail.content)
        if body is None:
            return []
        if mail.type == REQUEST:
            self._take_request(sender, body)
        elif mail.type == ENCRYPTED:
            return self._open(sender, body)
        return []

    def forget_mail(self) -> None:
        """The server was restored, perhaps with an older clock: its mail may have smaller numbers now."""
        self._mail = 0
        self.vault.put_fact("mail", "0")

    @property
    def mail_taken(self) -> int:
        return self._mail

    def _open(self, sender: str, body: dict[str, Any]) -> list[tuple[str, str]]:
        try:
            opened = self.olm.decrypt(sender, body, self.server)
        except OlmFailed as failed:
            _LOG.warning("mail of %s can't be taken: %s", sender, failed)
            if failed.wedged:
                self._unwedge(sender, body.get("sender_key"))
            elif failed.unknown:
                self.doubt(sender)
            return []
        try:
            if opened.type == ROOM_KEY:
                return self._take_room_key(opened)
            if opened.type in (FORWARDED, GIVEN):
                return self._take_forwarded(opened)
        except (KeyError, TypeError, ValueError, SessionKeyDecodeException) as error:
            _LOG.warning("a key of %s can't be taken: %s", sender, error)
        return []

    def _take_room_key(self, opened: Opened) -> list[tuple[str, str]]:
        key, sender = opened.content, opened.sender
        if not self.vault.pins(sender.account) and not self.vault.list_versions([sender.account]):
            # Nobody of the account has written before: the list that is asked for now is taken on trust as well. Once
            # there was a list, also one in which nobody could be believed, nobody comes in by writing.
            self.vault.put_peer(sender)
            self.doubt(sender.account)
        session = InboundGroupSession(SessionKey(key["session_key"]))
        return self._take_session(key, session, opened.sender)

    def _take_forwarded(self, opened: Opened) -> list[tuple[str, str]]:
        """A key that this device has asked for, from its owner's devices or one's own."""
        key, sender = opened.content, opened.sender
        account, device = str(key["signet.account"]), str(key["signet.device"])
        conversation = str(key["room_id"]).removeprefix("!")
        owner_key = self._key_of(account, device)
        vouched = self.vault.peer(sender.account, sender.device) == sender
        if owner_key is None or not vouched or sender.account not in (account, self.me.account):
            return []
        if not self.vault.asked(conversation, str(key["session_id"])):
            return []
        session = InboundGroupSession.import_session(ExportedSessionKey(key["session_key"]))
        return self._take_session(key, session, Peer(account, device, owner_key, ""))

    def _take_session(self, key: dict[str, Any], session: InboundGroupSession, owner: Peer) -> list[tuple[str, str]]:
        conversation = str(key["room_id"]).removeprefix("!")
        if key["algorithm"] != matrix.MEGOLM or key["session_id"] != session.session_id:
            raise ValueError("it is not what it says")
        inbound = Inbound(session, owner.account, owner.device, owner.ed25519)
        is_strange = not self._store.knows(conversation)
        if is_strange and self.vault.count_strange_sessions(owner.account) >= STRANGE_SESSIONS_MAX:
            return []
        if not self.megolm.take_session(conversation, inbound):
            return []
        return [(conversation, session.session_id)]

    def _take_request(self, account: str, body: dict[str, Any]) -> None:
        wanted, device = body.get("body"), body.get("requesting_device_id")
        if body.get("action") != "request" or not isinstance(wanted, dict) or not isinstance(device, str):
            return
        conversation = str(wanted.get("room_id", "")).removeprefix("!")
        answer = GIVEN if body.get("signet.answer") == GIVEN else FORWARDED
        request = KeyRequest(account, device, conversation, str(wanted.get("session_id", "")), answer)
        # What this device has not got it need not think about; nor about what it is asked too often.
        has_it = self.vault.owners(conversation, request.session)
        if has_it and request not in self.requests and len(self.requests) < REQUESTS_MAX:
            self.requests.append(request)

    def _unwedge(self, sender: str, curve25519: object) -> None:
        for peer in self.vault.peers([sender]):
            now = time.monotonic()
            last = self._unwedged_at.get(peer)
            if peer.curve25519 == curve25519 and (last is None or now - last > UNWEDGE_EVERY_S):
                self._unwedged_at[peer] = now
                self.wedged.add(peer)


def _addresses(peers: Iterable[Peer]) -> set[tuple[str, str]]:
    return {(peer.account, peer.device) for peer in peers}


# vodozemac's stubs know nothing of fallback keys.


def _fallback(account: Any) -> dict[str, Any]:
    """The fallback key that is not published yet."""
    keys: dict[str, Any] = account.fallback_key
    return keys


def _make_fallback(account: Any) -> None:
    account.generate_fallback_key()
