"""One device's connection, from the challenge on: what is done with each frame, and what goes back.

    challenged --hello--> checked --welcome--> commands and pages --live--> commands and pushes

The hot path (send, ack, read, and every push) is callbacks only: no task, queue or lock for a message. The log-in with
its pages, and the frames that need the read models, are at most one task each.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, Protocol

from commands.writer import Accepted, Reply
from domain.ids import AccountId, ConversationId, DeviceId, account_stream, is_uuid
from gateways.acks import Acks
from gateways.history import inbox_row, page_of
from gateways.limits import LEASE
from gateways.mail import MailCarrier
from gateways.protocol import encode
from gateways.refusal import Refusal
from gateways.resume import HeldPushes, resume
from gateways.sends import SEQ_MAX, is_seq, message_command, parse_header
from gateways.services import Services, away
from projections.database import DatabaseUnavailable
from signet_client import wire
from signet_client.codes import DISCONNECTS, Disconnect

_log = logging.getLogger("signet.live")

EARLY_PINGS_MAX: Final = 32
COMMANDS_MAX: Final = 64
"""How many commands of one connection may be without an answer; then its reading pauses until an answer has left."""

_Lookup = wire.Fetch | wire.Ack | wire.Read

OVER_LIMIT_MAX: Final = 1_000
"""How many frames beyond its limits a device may send on end; then its connection is closed."""


class Link(Protocol):
    """The way back to the device: `LiveProtocol` in gateways/websocket.py."""

    @property
    def address(self) -> str:
        """The peer's."""
        ...

    @property
    def slow(self) -> bool:
        """It takes nothing at the moment; a push would only pile up."""
        ...

    @property
    def patient(self) -> bool:
        """It says much while others say little, who come first."""
        ...

    def write(self, data: bytes) -> None:
        """Soon, together with whatever else is written in this turn of the loop. Does nothing once it is closed."""
        ...

    def miss(self) -> None:
        """A push was dropped since the link is slow: the device is to be told once it reads again."""
        ...

    def go_on(self) -> None:
        """There is room for a command again, or after `finish` nothing is unanswered."""
        ...

    def trust(self) -> None:
        """The device is who it says it is."""
        ...

    async def drained(self) -> None:
        """Lets others have the loop, and returns when the socket takes more."""
        ...

    def close(self, disconnect: Disconnect) -> None: ...


class Connection:
    """Attached to the hub from its log-in until `end`."""

    __slots__ = (
        "_acks", "_commands_leased", "_conversations", "_early_pings", "_held_pushes", "_link", "_lookups", "_mail",
        "_nonce", "_over_limit", "_patient", "_receipts_leased", "_services", "_tasks", "_welcomed", "_window_awaited",
        "account", "device", "window",
    )  # fmt: skip

    def __init__(self, services: Services, acks: Acks, link: Link) -> None:
        self._services = services
        self._acks = acks
        self._link = link
        self._nonce = ""
        """Of the challenge; empty before it, and once a hello has come."""
        self._welcomed = False
        self._early_pings = EARLY_PINGS_MAX
        """How many frames `ping` may still come between hello and welcome, from a client that sends them by a clock."""
        self._held_pushes: HeldPushes | None = None
        """While it resumes."""
        self._mail: MailCarrier | None = None
        """Once it has been welcomed."""
        self._conversations: set[str] = set()
        """Conversations that the account surely is or was in."""
        self._lookups: deque[_Lookup] = deque()
        """What waits for the read models, in order."""
        self._commands_leased = 0
        self._receipts_leased = 0
        """How many it may send before it must ask its limits again."""
        self._over_limit = 0
        """How many frames were refused for their number since one was let in."""
        self._patient = False
        """The commands that it gives wait for others'."""
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self.account = AccountId("")
        self.device = DeviceId("")
        self.window = COMMANDS_MAX
        """How many commands the device may give before one of those that it gave is answered."""
        self._window_awaited = 1
        """A window of so many makes the link go on."""

    def start(self) -> None:
        self._nonce = self._services.auth.challenge()
        settings = self._services.settings
        self._send(
            wire.Challenge(
                nonce=self._nonce,
                server=self._services.server_name,
                frame_bytes_max=settings.frame_bytes_max,
                body_bytes_max=settings.body_bytes_max,
                epoch=self._services.epoch.id,
            )
        )

    @property
    def silent(self) -> bool:
        """No hello has come yet."""
        return bool(self._nonce)

    def receive(self, frame: wire.ClientFrame) -> None:
        handle = _HANDLERS.get(type(frame))
        if self._welcomed and handle is not None:
            try:
                handle(self, frame)
            except Exception:
                self._fail()
        elif self._nonce and isinstance(frame, wire.Hello):
            nonce, self._nonce = self._nonce, ""
            self._start_task(partial(self._log_in, frame, nonce))
        elif not self._nonce and isinstance(frame, wire.Ping) and self._early_pings:
            self._early_pings -= 1
            self._on_ping(frame)
        else:
            self.close(DISCONNECTS["bad_frame"])

    def close(self, disconnect: Disconnect) -> None:
        self._link.close(disconnect)

    def end(self) -> None:
        """The connection is closed, or about to be: nothing more is heard, sent or read for it."""
        self._services.hub.detach(self)
        for task in self._tasks:
            task.cancel()

    # Log-in and resume

    async def _log_in(self, hello: wire.Hello, nonce: str) -> None:
        await self._services.turnstiles.strangers.passed()
        try:
            caller = await self._services.auth.log_in(
                nonce=nonce,
                account=hello.account,
                device=hello.device,
                signature=hello.signature,
                address=self._link.address,
            )
            self._services.limits.check_connections(self._services.hub.others(caller.account, caller.device))
            self.account, self.device = caller.account, caller.device
            self._link.trust()
            # Until `resume` holds anew: what comes before that is in the read models that it waits for.
            self._held_pushes = HeldPushes()
            self._services.hub.attach(self)
            await self._check_active()
            await resume(self._services, self, hello.cursors, partial=hello.partial, epoch=hello.epoch)
        except Refusal as refusal:
            self.close(_disconnect_for(refusal))
        except DatabaseUnavailable:
            self.close(_disconnect_for(away()))

    async def _check_active(self) -> None:
        """Once more, now that the hub would hear of it: a revocation may have come since the hello was checked."""
        await self._services.catch_up("directory")
        self._services.check_whole("directory", account_stream(self.account))
        row = await self._services.directory.device(self.account, self.device)
        if row is None or not row.active:
            raise Refusal("device_revoked")

    def hold(self) -> HeldPushes:
        self._held_pushes = HeldPushes()
        return self._held_pushes

    async def welcome(self, frame: wire.Welcome) -> None:
        first = not self._welcomed
        self._send(frame)
        self._welcomed = True
        if first:
            counts = await self._services.attestations.counts(self.account, self.device)
            self._send(
                wire.KeyCounts(
                    left=counts.one_time_keys, fallback_used=not counts.fallback_unused, published=counts.published
                )
            )
        await self._carry_mail()

    async def _carry_mail(self) -> None:
        if self._mail is None:
            self._mail = MailCarrier(self._services.mailbox, self._services.server_name, self.account, self.device)
        if self._mail.idle:
            await self._mail.carry(self._send, self._link.drained)

    def mail(self) -> None:
        # Before the welcome it waits; while mail is being carried, what is new is found by it.
        if self._mail is not None and self._mail.idle:
            self._start_task(self._bring_mail)

    async def _bring_mail(self) -> None:
        try:
            await self._carry_mail()
        except Refusal as refusal:
            self.close(_disconnect_for(refusal))

    def _on_took(self, frame: wire.Took) -> None:
        self._services.mailbox.took((self.account, self.device), min(max(0, frame.upto), SEQ_MAX))

    async def show(self, page: wire.Page) -> None:
        self._send(page)
        await self._link.drained()

    def go_live(self, heads: Mapping[ConversationId, int]) -> None:
        self._send(wire.Live())
        held, self._held_pushes = self._held_pushes, None
        if held is not None:
            for data in held.beyond(heads):
                self._link.write(data)

    # Pushes

    def push(self, conversation: ConversationId, seq: int, data: bytes) -> None:
        if self._held_pushes is not None:
            self._held_pushes.add(conversation, seq, data)
        elif self._link.slow:
            self._link.miss()
        else:
            self._link.write(data)

    # Frames of a device that is logged in. Limits on their number and rate belong here.

    def _on_send(self, frame: wire.Send) -> None:
        self._services.counts.sends += 1
        header = parse_header(frame.header)
        if header is None:
            self.refuse(Refusal("bad_header", "it can't be read"))
            return
        try:
            if self._commands_leased:
                self._commands_leased -= 1
            else:
                self._lease_commands()
            command = message_command(
                frame,
                header,
                account=self.account,
                device=self.device,
                sealer=self._services.sealer,
                settings=self._services.settings,
            )
            if frame.read is not None and not is_seq(frame.read):
                raise Refusal("bad_frame", "read: a seq, or 0")
        except Refusal as refusal:
            self.refuse(refusal, frame_id=header.id, conversation=header.conversation)
            return
        # While something of it waits, what comes later does, too: its own order holds.
        self._patient = self._link.patient or (self._patient and self.window < COMMANDS_MAX)
        self.window -= 1
        reply = partial(self._replied, header.id, header.conversation)
        self._services.writer.submit(command, turn=self, reply=reply, patient=self._patient)
        if frame.read is not None:
            self._on_statement(wire.Read(c=header.conversation, upto=frame.read))

    def _replied(self, command_id: str, conversation: str, reply: Reply) -> None:
        if isinstance(reply, Accepted):
            self._send(wire.Accepted(id=command_id, c=conversation, seq=reply.seq, at=reply.at))
        else:
            self.refuse(Refusal(reply.code), frame_id=command_id, conversation=conversation)
        self.answered()

    def answered(self) -> None:
        """One command fewer is without an answer."""
        self.window += 1
        if self.window == self._window_awaited:
            self._link.go_on()

    def finish(self) -> bool:
        """Whether no command is without an answer; else the link goes on when that is so."""
        self._window_awaited = COMMANDS_MAX
        return self.window == COMMANDS_MAX

    def _lease_commands(self) -> None:
        """Asks the limits for this command, and for those that follow. Raises Refusal."""
        self._commands_leased = self._services.limits.take_commands(self.account, self.device, LEASE) - 1
        self._over_limit = 0

    def _take_receipt(self) -> None:
        """Raises Refusal."""
        self._services.counts.receipts += 1
        if not self._receipts_leased:
            self._receipts_leased = self._services.limits.take_receipts(self.account, self.device, LEASE)
            self._over_limit = 0
        self._receipts_leased -= 1

    def _on_statement(self, frame: wire.Ack | wire.Read) -> None:
        """How far the device has come: the domain's `Receipt`. (The frame `receipt` is none; it tells an author its
        ticks.)"""
        try:
            self._take_receipt()
        except Refusal as refusal:
            self.refuse(refusal, conversation=frame.c)
            return
        if frame.c in self._conversations:
            self._gather(frame)
        else:
            self._on_lookup(frame)

    def _gather(self, frame: wire.Ack | wire.Read) -> None:
        try:
            if isinstance(frame, wire.Ack):
                self._acks.ack(self, frame)
            else:
                self._acks.read(self, frame)
        except Refusal as refusal:
            self.refuse(refusal, conversation=frame.c)

    def _on_ping(self, frame: wire.Ping) -> None:
        self._services.counts.pings += 1
        self._send(wire.Pong(id=frame.id))

    # Frames that need the read models: one after the other, in one task

    def _on_fetch(self, frame: wire.Fetch) -> None:
        self._services.counts.fetches += 1
        try:
            self._services.limits.take_request(self.account)
        except Refusal as refusal:
            self.refuse(refusal, frame_id=frame.id, conversation=frame.c)
            return
        self._on_lookup(frame)

    def _on_lookup(self, frame: _Lookup) -> None:
        self.window -= 1
        self._lookups.append(frame)
        if len(self._lookups) == 1:
            self._start_task(self._serve_lookups)

    async def _serve_lookups(self) -> None:
        while self._lookups:
            frame = self._lookups[0]
            if isinstance(frame, wire.Fetch):
                await self._fetch(frame)
            else:
                await self._check_statement(frame)
            self._lookups.popleft()
            self.answered()

    async def _fetch(self, frame: wire.Fetch) -> None:
        try:
            row = await inbox_row(self._services, self.account, frame.c)
            after = min(max(0, frame.after), SEQ_MAX)
            self._send(await page_of(self._services, row, after=after, limit=frame.limit, request_id=frame.id))
        except Refusal as refusal:
            self.refuse(refusal, frame_id=frame.id, conversation=frame.c)
        except DatabaseUnavailable:
            self.refuse(away(), frame_id=frame.id, conversation=frame.c)
        await self._link.drained()

    async def _check_statement(self, frame: wire.Ack | wire.Read) -> None:
        """The first statement on a conversation. Of one that is not for this account nothing is said, so that nobody
        learns which conversations exist."""
        if is_uuid(frame.c):
            try:
                await inbox_row(self._services, self.account, frame.c)
            except Refusal as refusal:
                if refusal.code != "no_such_conversation":
                    self.refuse(refusal, conversation=frame.c)
                return
            except DatabaseUnavailable:
                self.refuse(away(), conversation=frame.c)
                return
            self._conversations.add(frame.c)
        self._gather(frame)

    # Sending

    def refuse(self, refusal: Refusal, *, frame_id: str = "", conversation: str = "") -> None:
        self._send(
            wire.Refused(
                id=frame_id,
                code=refusal.code,
                text=refusal.text,
                retry=refusal.reply.retry,
                c=conversation,
                retry_after_ms=refusal.retry_after_ms,
            )
        )
        self._services.counts.refusals[refusal.code] += 1
        if refusal.code == "rate_limited":
            self._over_limit += 1
            if self._over_limit > OVER_LIMIT_MAX:
                self.close(DISCONNECTS["rate_limited"])

    def _send(self, frame: wire.ServerFrame) -> None:
        self._link.write(encode(frame))

    # Tasks

    def _start_task(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._run(work))
        self._tasks = (*self._tasks, task)
        task.add_done_callback(self._ended)

    async def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            # Made here: a task that is cancelled before it begins leaves nothing behind that was never awaited.
            await work()
        except Exception:
            self._fail()

    def _fail(self) -> None:
        """A bug, or a damaged store: this connection ends, and no other."""
        _log.exception("a connection failed")
        self.close(DISCONNECTS["failed"])

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks = tuple(each for each in self._tasks if each is not task)


_HANDLERS: Final[dict[type, Callable[[Connection, Any], None]]] = {
    wire.Send: Connection._on_send,
    wire.Ack: Connection._on_statement,
    wire.Read: Connection._on_statement,
    wire.Fetch: Connection._on_fetch,
    wire.Took: Connection._on_took,
    wire.Ping: Connection._on_ping,
}


def _disconnect_for(refusal: Refusal) -> Disconnect:
    """How a hello that was refused ends."""
    if refusal.code == "rate_limited":
        return DISCONNECTS["rate_limited"]
    if refusal.reply.retry:
        return DISCONNECTS["unavailable"]
    return DISCONNECTS["revoked" if refusal.code == "device_revoked" else "bad_hello"]
