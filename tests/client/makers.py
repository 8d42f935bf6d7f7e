"""Two devices of different makers, and between them what a server does: it hands on keys and mail, as JSON.

`Ours` is a device of this client, with its store in a file. `Nio` is one of matrix-nio's: the two share no code but the
primitives of vodozemac.

nio needed nothing that Matrix's specification does not ask for. Its encryption takes uuids as the local parts of user
ids, and rooms by any name, so `!<uuid>` without a server's name will do. Four habits of its own are met here:

- It gives no key to a device whose id is that of its own device, whosever it is: the two have different ids.
- It gives none to a device that nobody has verified: `Nio.learn` verifies.
- It encrypts nothing before it is told that the key has come to all: `Nio.share` tells it.
- Its mail holds no `sender_device_keys`, which are optional: `Ours.learn` comes before its first mail.
"""

import json
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

import msgspec
from nio.crypto import Olm
from nio.events import Event, ToDeviceEvent
from nio.responses import KeysClaimResponse, KeysQueryResponse, KeysUploadResponse
from nio.store import SqliteStore
from vodozemac import DecodeException, SessionCreationException

from signet_client import matrix, payloads, wire
from signet_client.crypto.box import Box
from signet_client.crypto.lists import KeysFound, Refused
from signet_client.crypto.machine import ENCRYPTED, Machine, Read
from signet_client.crypto.vault import Peer, Vault
from signet_client.identity import Identity, key_beside
from signet_client.messages import Body, decode_body
from signet_client.records import Profile
from signet_client.store import Store
from tests.client.fake import ME, OTHER

SERVER: Final = "signet.example"
OUR_USER: Final = matrix.user_id(ME, SERVER)
OUR_DEVICE: Final = "ours"
NIO_USER: Final = matrix.user_id(OTHER, SERVER)
NIO_DEVICE: Final = "nios"
_KEYS: Final = 50
"""How many one-time keys a device uploads."""

Object = matrix.Object
T = TypeVar("T")


class Ours:
    """A device of this client."""

    def __init__(self, path: Path) -> None:
        self._store = Store(path, durable=False)
        key, identity = key_beside(path, make=True), Identity()
        profile = Profile(url="", account=ME, device=OUR_DEVICE)
        self._store.put_device(profile, identity.seal(key))
        self.machine: Final = Machine(self._store, Vault(self._store, Box(key)), identity, profile, key)
        self.machine.hear_server(SERVER)
        self.machine.hear_counts(wire.KeyCounts(left=0, published=False))
        self.uploaded: Final = handed_on(self.machine.upload())
        """The body of keys/upload."""
        self.machine.uploaded(_KEYS)
        self._mails = 0

    def close(self) -> None:
        self._store.close()

    @property
    def other(self) -> Peer:
        """nio's device, as it is pinned."""
        (peer,) = self.machine.vault.peers([OTHER])
        return peer

    @property
    def olm_session(self) -> str:
        """The session in which the next mail to nio is written."""
        return self.machine.vault.olm_sessions(self.other.account, self.other.curve25519)[0].session_id

    def learn(self, device_keys: Object) -> list[Refused]:
        """The list of nio's account, with this one device; whom the client does not believe in."""
        link = {
            "device": NIO_DEVICE,
            "key": device_keys["keys"][f"ed25519:{NIO_DEVICE}"],
            "active": True,
            "by": None,  # its account's first
            "signature": "",
        }
        answer = {
            "device_keys": {NIO_USER: {NIO_DEVICE: device_keys}},
            "versions": {NIO_USER: 1},
            "links": {NIO_USER: [link]},
        }
        return self.machine.lists.take({OTHER}, msgspec.convert(handed_on(answer), KeysFound), SERVER)

    def begin(self, claimed: Object) -> bool:
        """An Olm session with a key of nio's, by its id: whether there is one now."""
        self.machine.begin([self.other], handed_on({NIO_USER: {NIO_DEVICE: claimed}}))
        return not self.machine.without_session([self.other]) and self.machine.olm.has_session(self.other)

    def share(self, conversation: str) -> Object:
        """The mail that brings nio the key of a conversation."""
        self.machine.share(conversation, {ME, OTHER})
        return self.mail()

    def mail(self) -> Object:
        """The content of the one mail that waits for nio."""
        (parcel,) = self.machine.vault.parcels()
        self.machine.vault.drop_parcel(parcel.transaction)
        assert parcel.type == ENCRYPTED
        content: Object = parcel.messages[NIO_USER][NIO_DEVICE]
        return handed_on(content)

    def take(self, mail: Object) -> list[tuple[str, str]]:
        """The sessions (conversation, session) whose keys a mail of nio's has brought."""
        self._mails += 1
        return self.machine.take_mail(
            wire.Mail(n=self._mails, type=ENCRYPTED, sender=NIO_USER, content=json.dumps(mail))
        )

    def encrypt(self, conversation: str, text: str, *, kind: str = "text") -> Object:
        """The content of a room event: the body of a message."""
        content: Object = json.loads(self.machine.encrypt(conversation, kind=kind, text=text, reply_to=None))
        return content

    def read(self, message: wire.Message) -> Body | str | None:
        """What a message says, or why it says nothing."""
        read: Read = self.machine.read(message, "end_to_end")
        return read.reason or decode_body(read.clear)


class Nio:
    """A device of matrix-nio's."""

    def __init__(self, folder: Path) -> None:
        self._store = SqliteStore(NIO_USER, NIO_DEVICE, str(folder))
        self.olm: Final = Olm(NIO_USER, NIO_DEVICE, self._store)
        uploaded: Object = self.olm.share_keys()
        self.uploaded: Final = handed_on(uploaded)
        """The body of keys/upload."""
        self.olm.handle_response(
            KeysUploadResponse.from_dict({"one_time_key_counts": {matrix.SIGNED_CURVE25519: _KEYS}})
        )

    def close(self) -> None:
        self._store.database.close()

    @property
    def olm_session(self) -> Any:
        """The session in which its next mail to this client is written."""
        (device,) = self.olm.device_store.active_user_devices(OUR_USER)
        return self.olm.session_store.get(device.curve25519).id

    def learn(self, device_keys: Object) -> Any:
        """The list of this client's account, with this one device. Somebody verifies it. None: nio does not believe in
        it."""
        answer = {"device_keys": {OUR_USER: {OUR_DEVICE: device_keys}}, "failures": {}}
        self.olm.handle_response(KeysQueryResponse.from_dict(handed_on(answer)))
        device = self.olm.device_store[OUR_USER].get(OUR_DEVICE)
        if device is not None:
            self.olm.verify_device(device)
        return device

    def begin(self, claimed: Object) -> bool:
        """An Olm session with a key of this client's, by its id: whether there is one now."""
        answer = {"one_time_keys": {OUR_USER: {OUR_DEVICE: claimed}}, "failures": {}}
        self.olm.handle_response(KeysClaimResponse.from_dict(handed_on(answer)))
        return not self.olm.get_missing_sessions([OUR_USER])

    def share(self, conversation: str) -> Object:
        """The mail that brings this client the key of a conversation."""
        room = matrix.room_id(conversation)
        shared_with, request = self.olm.share_group_session(room, [OUR_USER])
        session = self.olm.outbound_group_sessions[room]
        session.users_shared_with.update(shared_with)
        session.mark_as_shared()
        content: Object = request["messages"][OUR_USER][OUR_DEVICE]
        return handed_on(content)

    def take(self, mail: Object) -> Any:
        """The event that a mail of this client's has brought; None: nio refuses it."""
        event = {"type": ENCRYPTED, "sender": OUR_USER, "content": handed_on(mail)}
        try:
            return self.olm.handle_to_device_event(ToDeviceEvent.parse_event(event))
        except (DecodeException, SessionCreationException):
            return None  # those two it does not catch itself

    def encrypt(self, conversation: str, text: str) -> Object:
        """The content of a room event."""
        event = {"type": "m.room.message", "content": {"msgtype": "m.text", "body": text}}
        content: Object = self.olm.group_encrypt(matrix.room_id(conversation), event)
        return handed_on(content)

    def message(self, conversation: str, seq: int, content: Object) -> wire.Message:
        """A room event as the engine would deliver it, with a header that nio's device has signed."""
        body = json.dumps(content)
        header = payloads.encode_header(
            payloads.Header(
                id=str(uuid4()),
                conversation=conversation,
                sender=OTHER,
                device=NIO_DEVICE,
                after=seq - 1,
                digest=payloads.digest_of(body),
            )
        )
        signature = self.olm.account.sign(header)
        return wire.Message(
            c=conversation, seq=seq, at=seq, ordinal=seq, own=seq, header=header, body=body, signature=signature
        )

    def read(self, conversation: str, seq: int, content: Object) -> Any:
        """The event that a message of this client's is; None: nio refuses it."""
        event = {
            "type": ENCRYPTED,
            "event_id": f"$signet-{seq}",
            "sender": OUR_USER,
            "origin_server_ts": seq,
            "room_id": matrix.room_id(conversation),
            "content": handed_on(content),
        }
        return self.olm.decrypt_event(Event.parse_encrypted_event(event))


def handed_on(content: T) -> T:
    """As the other side gets it from a server: JSON, of which nobody else holds a part."""
    copy: T = json.loads(json.dumps(content))
    return copy
