"""The client: one device of one account, with everything that it holds."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal, Self
from uuid import uuid4

import msgspec

from signet_client import api, wire
from signet_client.api import Api, Method
from signet_client.crypto.box import Box
from signet_client.crypto.exchange import Exchange
from signet_client.crypto.machine import Machine
from signet_client.crypto.vault import Vault
from signet_client.errors import ClientClosed, NoDevice, SignetError, Unreachable
from signet_client.events import Event, Events, Listener
from signet_client.identity import Identity, key_beside
from signet_client.live import Live
from signet_client.media.files import Files
from signet_client.messages import Change, Message, encode_body, message_of
from signet_client.outbox import Sent
from signet_client.questions import Questions, end
from signet_client.records import Conversation, Held, Marks, Outgoing, Profile, Upload
from signet_client.store import Store

Tick = Literal["sent", "delivered", "read"]

_LOG: Final = logging.getLogger("signet_client")


class Client:
    """One device. Make it with `register`, `open` or `prepare`; while `async with client:` runs, it stays connected.

        client = await Client.register("http://127.0.0.1:8000", "Anna", "anna.db")
        async with client:
            await client.caught_up()
            conversation = await client.start_direct(ben)
            await client.send(conversation, "Hello")
            async for event in client.events(): ...

    It belongs to the event loop in which it runs. What is read without `await` comes from the device's store.
    """

    def __init__(self, store: Store, profile: Profile, identity: Identity) -> None:
        self._store = store
        self._profile = profile
        self._identity = identity
        key = key_beside(store.path)
        store.box = Box(key)
        self._machine = Machine(store, Vault(store, store.box), identity, profile, key)
        self._listeners: list[Listener] = []
        self._readers: list[Events] = []
        self._live = Live(profile, identity, store, self._machine, self._emit)
        self._files = Files(
            store,
            profile.account,
            lambda: self._api,
            self._live.check_size,
            partial(self._live.post, uploaded=True),
            self._emit,
        )
        self._live.bring_files = self._files.bring_again
        self._questions = Questions(store, profile.account, self._live, lambda: self._api)
        self._api_made: Api | None = None
        self._exchanging: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    # Making one

    @classmethod
    async def register(
        cls,
        url: str,
        name: str,
        path: str | Path,
        *,
        invitation: str | None = None,
        device: str | None = None,
        durable: bool = True,
    ) -> Self:
        """Makes an account with this device as its first, and the device's store at `path`. `invitation`: its code,
        where the server asks for one.

        If it breaks off, call it again with the same path: it goes on, and makes no second account. `durable=False`: a
        crash of the machine may lose what was acknowledged. Raises Refused, Unreachable, StoreInUse, StoreFailed."""
        store = Store(Path(path), durable=durable)
        try:
            profile, identity = _prepare(store, url=url, account="", device=device)
            if not profile.account:
                caller = Api(profile, identity)
                try:
                    account = await caller.register(name, invitation=invitation)
                finally:
                    await caller.close()
                profile = msgspec.structs.replace(profile, account=account)
                store.put_device(profile, store.identity())
            client = cls(store, profile, identity)
            await client._publish()
            return client
        except BaseException:
            store.close()
            raise

    @classmethod
    def prepare(
        cls, url: str, account: str, path: str | Path, *, device: str | None = None, durable: bool = True
    ) -> Self:
        """Makes a further device of an account, with its store at `path`. It can connect as soon as one that is in has
        let it in: `await other.link_device(client.device, client.key)`. Raises StoreInUse, StoreFailed."""
        store = Store(Path(path), durable=durable)
        try:
            return cls(store, *_prepare(store, url=url, account=account, device=device))
        except BaseException:
            store.close()
            raise

    @classmethod
    def open(cls, path: str | Path, *, url: str | None = None, durable: bool = True) -> Self:
        """Opens the store of a device. `url`: where its server is now, if it has moved; it is remembered. Raises
        NoDevice, StoreInUse, StoreFailed."""
        if not Path(path).exists():
            raise NoDevice(f"there is no store at {path}: register an account, or prepare a device for one")
        store = Store(Path(path), durable=durable)
        try:
            profile = store.profile()
            if profile is None or not profile.account:
                raise NoDevice(f"the registration of {path} was not finished: register again with this path")
            if url is not None and url != profile.url:
                profile = msgspec.structs.replace(profile, url=url)
                store.put_device(profile, store.identity())
            return cls(store, profile, Identity.unseal(store.identity(), key_beside(store.path)))
        except BaseException:
            store.close()
            raise

    # Running

    async def __aenter__(self) -> Self:
        assert self._running is None, "a client runs once; open the store again for another run"
        self._live.exchange = self._make_exchange()
        self._exchanging = asyncio.create_task(self._live.exchange.run())
        self._running = asyncio.create_task(self._live.run())
        # Who waits for something is told of a failure by what it waits on.
        self._running.add_done_callback(_look_at)
        self._files.resume()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection and closes the store. What was not sent yet stays in the outbox."""
        await self._files.close(ClientClosed("the client was closed; the next start goes on with the file"))
        # The live path first: what still comes while it ends may begin the others.
        await end(self._running)
        await end(self._exchanging)
        await self._questions.close()
        for reader in self._readers:
            reader.end()
        if self._api_made is not None:
            await self._api_made.close()
        self._store.close()

    async def caught_up(self) -> None:
        """Returns when the device is connected and holds everything that the server had for it; keys that it had to ask
        for have come, or are overdue. Raises Disconnected, StoreFailed, ClientClosed."""
        await self._live.until(self._live.is_caught_up)

    async def held(self, conversation: str, seq: int) -> None:
        """Returns when the device holds everything of the conversation up to `seq`, with the keys as for `caught_up`.
        Raises as that."""
        await self._live.until(lambda: self.marks(conversation).cursor >= seq and not self._live.is_late(conversation))

    async def until(self, reached: Callable[[], bool]) -> None:
        """Returns when `reached` is true; it is asked whenever something has come. Raises as `caught_up`."""
        await self._live.until(reached)

    def events(self) -> Events:
        """The events from here on, as an async iterator."""
        reader = Events(self._unsubscribe)
        self._readers.append(reader)
        return reader

    def listen(self, listener: Listener) -> None:
        """Calls this with each event, after it is stored: the cheap way for many clients in one process. It must return
        at once; an exception in it is logged."""
        self._listeners.append(listener)

    def _unsubscribe(self, reader: Events) -> None:
        with contextlib.suppress(ValueError):
            self._readers.remove(reader)

    def _emit(self, event: Event) -> None:
        self._questions.look()
        for reader in tuple(self._readers):
            reader.put(event)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                _LOG.exception("a listener failed")

    @property
    def _api(self) -> Api:
        if self._api_made is None:
            self._api_made = Api(self._profile, self._identity)
        return self._api_made

    def _make_exchange(self) -> Exchange:
        return Exchange(self._api, self._machine, self._store, self._live, self._questions.about)

    async def _publish(self) -> None:
        """The keys of a device that was just registered, so that others can write to it before it ever connects. If it
        fails, they are published when it does."""
        with contextlib.suppress(SignetError):
            self._machine.hear_server(await self._api.server_name())
            self._machine.hear_counts(wire.KeyCounts(left=0, published=False))
            await self._make_exchange().upload()

    # Who it is

    @property
    def url(self) -> str:
        return self._profile.url

    @property
    def account(self) -> str:
        return self._profile.account

    @property
    def device(self) -> str:
        return self._profile.device

    @property
    def key(self) -> str:
        """The device's public key, unpadded base64."""
        return self._identity.key

    # What it holds

    def conversations(self) -> list[Conversation]:
        """All that the device knows."""
        return list(self._live.received.conversations.values())

    def conversation(self, conversation: str) -> Conversation | None:
        return self._live.received.conversations.get(conversation)

    def marks(self, conversation: str) -> Marks:
        """How far things are in a conversation; not to be changed."""
        return self._live.received.marks.get(conversation) or Marks()

    def history(self, conversation: str, *, after: int = 0, limit: int = 1_000) -> list[Message | Change]:
        """Messages and changes with a greater seq than `after`, ascending."""
        return [_shown(held) for held in self._store.held(conversation, after=after, limit=limit)]

    def latest(self, conversation: str, *, before: int = 2**62, limit: int = 50) -> list[Message | Change]:
        """The last messages and changes with a smaller seq than `before`, ascending."""
        return [_shown(held) for held in self._store.last_held(conversation, before=before, limit=limit)]

    def messages(self, conversation: str) -> list[Message]:
        """All messages of a conversation, ascending."""
        shown = self.history(conversation, limit=2**62)
        return [item for item in shown if isinstance(item, Message)]

    def lost(self, conversation: str) -> list[Message | Change]:
        """What the device held of a conversation and a restored server has lost, ascending by the seqs that it had; it
        is not in the history. What has come again is not among it."""
        return [_shown(held) for held in self._store.lost(conversation)]

    def known_members(self, conversation: str) -> dict[str, wire.Role]:
        """Who is in it by what the device holds, for a former member who was in it when it left. Empty: not known until
        `members` has asked, since what happened before the account came in, it does not see."""
        return self._store.members(conversation)

    def outbox(self) -> list[Outgoing]:
        """Messages without an answer, and those that were refused for good, in the order of their making."""
        return self._store.outbox()

    def uploads(self) -> list[Upload]:
        """Messages whose files are on their way, in the order of their making: they come into the outbox then."""
        return self._store.uploads()

    def discard(self, id_: str) -> None:
        """Forgets a refused message."""
        self._store.discard(id_)

    def ticks_of(self, conversation: str, seq: int) -> Tick:
        """How far one's own message has come: to the server, to every member, seen by every member."""
        marks = self.marks(conversation)
        if seq in marks.undelivered or seq > marks.tick_delivered:
            return "sent"
        return "read" if seq <= marks.tick_read else "delivered"

    # Talking

    async def send(
        self, conversation: str, text: str, *, kind: str = "text", reply_to: int | None = None, counts: bool = True
    ) -> Sent:
        """Sends a message and returns when the server has it on disk, however many reconnects that takes. Cancelled or
        not, the message goes out: it is in the outbox. Raises Refused, Disconnected, ClientClosed, StoreFailed."""
        return await self.post(conversation, text, kind=kind, reply_to=reply_to, counts=counts)

    def post(
        self, conversation: str, text: str, *, kind: str = "text", reply_to: int | None = None, counts: bool = True
    ) -> asyncio.Future[Sent]:
        """Like `send`, without waiting: the message is in the outbox when this returns. Messages of a conversation go
        out in the order of these calls."""
        message = Outgoing(
            id=str(uuid4()),
            conversation=conversation,
            header="",
            body="",
            signature="",
            clear=encode_body(text, kind=kind, reply_to=reply_to),
            counts=counts,
        )
        return self._live.post(message)

    async def send_file(
        self,
        conversation: str,
        path: str | Path,
        text: str = "",
        *,
        reply_to: int | None = None,
        counts: bool = True,
        as_is: bool = False,
    ) -> Sent:
        """Sends a file, with what is to be said of it, and returns when the message is on disk there, however many
        reconnects that takes; events `Uploading` tell how far it is. Pictures lose what they tell beside the picture,
        such as where they were taken, and get a preview; `as_is` sends the very bytes.

        Raises BadPicture and BadFile, which say what to do, and what `send` raises."""
        return await (await self.post_file(conversation, path, text, reply_to=reply_to, counts=counts, as_is=as_is))

    async def post_file(
        self,
        conversation: str,
        path: str | Path,
        text: str = "",
        *,
        reply_to: int | None = None,
        counts: bool = True,
        as_is: bool = False,
    ) -> asyncio.Future[Sent]:
        """Like `send_file`, without waiting for the upload: when this returns the file may be deleted, since the device
        holds an encrypted copy until it is there. It goes out also if the client is killed meanwhile."""
        self._files.check_running()
        if self.conversation(conversation) is None:
            await self._questions.about(conversation)
        return await self._files.post(
            conversation, Path(path), text=text, reply_to=reply_to, counts=counts, as_is=as_is
        )

    async def download(
        self, message: Message, path: str | Path, *, moved: Callable[[int, int], None] | None = None
    ) -> None:
        """Fetches the file that a message shows, checks it, and writes it to `path`; `moved` hears of the bytes that
        have come and of how many there are. Raises NoFile, Tampered, Refused, Unreachable, AddressRefused,
        ObjectLost, NotSaved."""
        await self._files.save(message, Path(path), moved or _nothing)

    async def preview(self, message: Message) -> bytes | None:
        """The small JPEG of a picture; None: it has none. Raises as `download`."""
        return await self._files.preview(message)

    def read(self, conversation: str, upto: int) -> None:
        """Says that the person has seen everything up to `upto` (at most what the device holds)."""
        self._live.read(conversation, upto)

    async def retract(self, conversation: str, seq: int) -> None:
        """Takes a message back: its body is gone for everybody."""
        await self._command("POST", conversation, f"messages/{seq}/retract")

    # Conversations and members

    async def start_direct(self, account: str, *, protection: wire.Protection = "end_to_end") -> str:
        """The direct conversation with another account: the same one whoever of the two starts it."""
        changed = await self._api.start("direct", [account], title=None, protection=protection)
        return self._started(changed, "direct", protection, peer=account)

    async def start_group(
        self, accounts: Sequence[str], *, title: str | None = None, protection: wire.Protection = "end_to_end"
    ) -> str:
        """A new group of these accounts and this one, who owns it."""
        changed = await self._api.start("group", list(accounts), title=title, protection=protection)
        return self._started(changed, "group", protection, title=title)

    async def add(self, conversation: str, accounts: Sequence[str]) -> None:
        """Adds members; they see what comes from here on."""
        await self._command("POST", conversation, "members", accounts=list(accounts))

    async def remove(self, conversation: str, account: str) -> None:
        await self._command("DELETE", conversation, f"members/{account}")

    async def leave(self, conversation: str) -> None:
        await self._command("POST", conversation, "leave")

    async def set_role(self, conversation: str, account: str, role: wire.Role) -> None:
        await self._command("PUT", conversation, f"members/{account}/role", role=role)

    async def set_title(self, conversation: str, title: str) -> None:
        await self._command("PUT", conversation, "title", title=title)

    async def members(self, conversation: str) -> dict[str, wire.Role]:
        """Who is in it now, as the server says; as far as is known here, where it can't be reached or says nothing."""
        try:
            overview = await self._questions.about(conversation)
            if self.conversation(conversation) is not None and overview.role is not None:
                await self.held(conversation, overview.head)
        except SignetError:
            if not (known := self._store.members(conversation)):
                raise
            return known
        return self._store.members(conversation)

    async def overviews(self) -> list[wire.Overview]:
        """The list of conversations as the server has it: heads, unread counts, ticks; the most recent first."""
        return await self._api.conversations()

    async def receipts(self, conversation: str) -> dict[str, api.MemberMarks]:
        """How far each member is."""
        return await self._api.receipts(conversation)

    def _started(
        self,
        changed: api.Changed,
        kind: wire.Kind,
        protection: wire.Protection,
        *,
        title: str | None = None,
        peer: str | None = None,
    ) -> str:
        conversation = changed.conversation
        known = self.conversation(conversation)
        if known is not None and known.protection != protection:
            raise Unreachable(f"the server answers with a conversation whose protection is {known.protection}")
        if known is None:
            # Before anything of it has come: whoever writes into it at once writes into what it is.
            self._live.know(
                Conversation(conversation=conversation, kind=kind, protection=protection, title=title, peer=peer)
            )
        self._live.want(conversation, changed.seq)
        return conversation

    async def _command(self, method: Method, conversation: str, path: str, **content: object) -> None:
        after = self.marks(conversation).cursor
        changed = await self._api.command(method, conversation, path, after=after, **content)
        self._live.want(conversation, changed.seq)

    # The account

    async def name(self, account: str) -> str | None:
        """What an account is called; kept, once it was asked for. None: it was erased."""
        if (known := self._store.name(account)) is not None:
            return known
        name = (await self._api.account(account)).name
        if name is not None:
            self._store.put_name(account, name)
        return name

    async def rename(self, name: str) -> None:
        await self._api.rename(name)
        self._store.put_name(self.account, name)

    async def devices(self) -> list[api.Device]:
        return await self._api.devices()

    async def link_device(self, device: str, key: str) -> None:
        """Lets another device into the account, whose key one has seen on its screen."""
        await self._api.link_device(device, key)

    async def revoke_device(self, device: str) -> None:
        """For ever; it may be this one."""
        await self._api.revoke_device(device)


def _prepare(store: Store, *, url: str, account: str, device: str | None) -> tuple[Profile, Identity]:
    """The device in a store, made where there is none."""
    profile = store.profile()
    if profile is not None:
        if profile.url != url:  # the server has moved since this broke off
            profile = msgspec.structs.replace(profile, url=url)
            store.put_device(profile, store.identity())
        return profile, Identity.unseal(store.identity(), key_beside(store.path))
    identity = Identity()
    profile = Profile(
        url=url,
        account=account,
        device=device or f"py-{secrets.token_hex(4)}",
        registration="" if account else str(uuid4()),
    )
    store.put_device(profile, identity.seal(key_beside(store.path, make=True)))
    return profile, identity


def _shown(held: Held) -> Message | Change:
    return message_of(held.item, held.clear, held.reason) if isinstance(held.item, wire.Message) else held.item


def _nothing(done: int, total: int) -> None:
    pass


def _look_at(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) and not isinstance(error, SignetError):
        _LOG.error("the live path failed", exc_info=error)
