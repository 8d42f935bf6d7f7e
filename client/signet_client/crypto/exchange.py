"""What encryption must ask the server for, in one task, one thing at a time: keys are uploaded, device lists asked for,
one-time keys claimed, conversation keys shared, requests answered, receipts checked.

Whoever needs something says so and calls `wake`. What fails for now is done again, later and later. The live path goes
on meanwhile: a message waits only for what it itself needs.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar
from uuid import uuid4

from signet_client import events, matrix, wire
from signet_client.api import Api
from signet_client.backoff import backoff
from signet_client.codes import REPLIES
from signet_client.crypto import proofs
from signet_client.crypto.asking import Asking
from signet_client.crypto.machine import KeyRequest, Machine
from signet_client.crypto.vault import Peer
from signet_client.errors import Refused, SignetError, StoreFailed
from signet_client.records import Conversation, Marks
from signet_client.store import Store

T = TypeVar("T")

_LOG: Final = logging.getLogger("signet_client")

QUERY_ACCOUNTS_MAX: Final = 200
CLAIM_DEVICES_MAX: Final = 200
UPLOADS_MAX: Final = 8
CHECK_S_PER_MEMBER: Final = 0.5
"""Receipts of a conversation are checked at most so often for each of its members, and at least once a minute."""
CHECK_S_MAX: Final = 60.0

_NOT_OURS: Final = ("no_such_conversation", "not_a_member")
_BAD_MAIL: Final = ("bad_frame", "too_large")


class Side(Protocol):
    """What the exchange needs of the live path: `Live` in live.py."""

    def needing(self) -> list[str]:
        """The conversations in which a message waits to be encrypted."""
        ...

    def go_on(self, conversation: str) -> None:
        """Messages of it may be encrypted now, or must be looked at again."""
        ...

    def give_up(self, conversation: str, refused: Refused) -> None:
        """The messages that wait in it can't be sent."""
        ...

    def lists_changed(self, accounts: Iterable[str]) -> None:
        """The devices of these are known better now."""
        ...

    def tell(self, event: events.Event) -> None: ...

    def want(self, conversation: str, seq: int) -> None: ...

    def marks_of(self, conversation: str) -> Marks: ...

    def conversation_of(self, conversation: str) -> Conversation | None: ...

    def fail(self, error: Exception) -> None: ...


class Exchange:
    def __init__(
        self, api: Api, machine: Machine, store: Store, side: Side, ask_about: Callable[[str], Awaitable[wire.Overview]]
    ) -> None:
        """`ask_about` takes in what a conversation is and who is in it, as the server says."""
        self._api = api
        self._machine = machine
        self._store = store
        self._side = side
        self._ask_about = ask_about
        self._asking = Asking(machine, store)
        self._woken = asyncio.Event()
        self._stale: set[str] = set()
        """Conversations whose members are other ones than this device knows."""
        self._awaited: dict[str, int] = {}
        """Conversation → the seq up to which it must be held before it is known who is in it."""
        self._keys_wanted: dict[tuple[str, str], str] = {}
        """(conversation, session) → the sender, of what could not be decrypted."""
        self._to_check: dict[str, float] = {}
        """Conversation → when its receipts are to be checked, by the loop's clock."""
        self._checked_at: dict[str, float] = {}

    # What the live path says

    def wake(self) -> None:
        self._woken.set()

    def refused_as_stale(self, conversation: str) -> None:
        self._machine.unsettle(conversation)
        self._stale.add(conversation)
        self.wake()

    def server_restored(self) -> None:
        """Its conversations may end before what was awaited in them: who is in them is asked anew."""
        self._awaited.clear()
        self.wake()

    def want_key(self, conversation: str, session: str, sender: str) -> None:
        self._keys_wanted[conversation, session] = sender
        self.wake()

    def want_check(self, conversation: str) -> None:
        """Ticks have moved."""
        if conversation not in self._to_check:
            now = asyncio.get_running_loop().time()
            members = len(self._store.members(conversation))
            pause = min(CHECK_S_MAX, CHECK_S_PER_MEMBER * members)
            self._to_check[conversation] = max(now, self._checked_at.get(conversation, -pause) + pause)
            self.wake()

    # The task

    async def run(self) -> None:
        failures = 0
        while True:
            timeout = self._until_check()
            try:
                async with asyncio.timeout(timeout):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            try:
                await self._work()
                failures = 0
            except StoreFailed as error:
                # What is in memory may be ahead of the store now.
                self._side.fail(error)
                return
            except SignetError as error:
                failures += 1
                _LOG.warning("keys can't be exchanged now: %s", error)
                await asyncio.sleep(backoff(failures))
                self.wake()
            except Exception as error:
                self._side.fail(error)
                return

    def _until_check(self) -> float | None:
        if not self._to_check:
            return None
        return max(0.0, min(self._to_check.values()) - asyncio.get_running_loop().time())

    async def _work(self) -> None:
        """Everything that is to be done now; what fails keeps nothing else from it. Raises the first failure."""
        if not self._machine.server:
            return
        failures: list[SignetError] = []
        for step in (
            self._upload_if_due, self._send_mail, self._ask_doubtful, self._renew_sessions, self._prepare_all,
            self._ask_for_keys, self._answer_requests, self._check_receipts,
        ):  # fmt: skip
            try:
                await step()
            except StoreFailed:
                raise
            except SignetError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def _upload_if_due(self) -> None:
        if self._machine.wants_upload:
            await self.upload()

    async def _ask_doubtful(self) -> None:
        await self._ask_lists(self._machine.doubtful)

    async def _prepare_all(self) -> None:
        failure: SignetError | None = None
        for conversation in self._side.needing():
            try:
                await self._prepare(conversation)
            except StoreFailed:
                raise
            except SignetError as error:
                if isinstance(error, Refused) and error.code in _NOT_OURS:
                    self._side.give_up(conversation, error)
                else:
                    failure = failure or error
        if failure is not None:
            raise failure

    def _settle(self) -> None:
        """What was made is in the store before it leaves."""
        self._machine.save_identity()
        self._store.settle()

    async def upload(self) -> None:
        """Raises Refused, Unreachable, StoreFailed."""
        for attempt in range(UPLOADS_MAX):
            body = self._machine.upload()
            self._settle()
            try:
                left = await self._api.upload_keys(body)
            except Refused as refused:
                if refused.code != "id_taken" or attempt == UPLOADS_MAX - 1:
                    raise
                # The store is an old copy: under these ids other keys were published. The next ones have other ids.
                self._machine.skip_keys()
                continue
            self._machine.uploaded(left)
            self._settle()
            return

    async def _send_mail(self) -> None:
        self._settle()
        for parcel in self._machine.vault.parcels():
            try:
                left_out = await self._api.send_to_device(parcel.type, parcel.transaction, parcel.messages)
            except Refused as refused:
                if refused.code not in _BAD_MAIL:
                    raise
                # It would be refused for ever. Whoever lacks what is in it asks for it.
                _LOG.error("the server takes none of the mail to %s: %s", list(parcel.messages), refused)
            else:
                if left_out:
                    _LOG.info("the server has left out of the mail: %s", left_out)
            self._machine.vault.drop_parcel(parcel.transaction)
            self._store.settle()

    # Device lists

    async def _ask_lists(self, accounts: Iterable[str]) -> None:
        """Raises the first failure, after all lists were asked for."""
        asked = sorted({account for account in accounts if not self._machine.lists.confirmed(account)})
        self._machine.doubtful.difference_update(set(accounts) - set(asked))
        failure: Refused | None = None
        for part in _parts(asked, QUERY_ACCOUNTS_MAX):
            try:
                await self._ask_list(part)
            except Refused as refused:
                if len(part) == 1:
                    failure = failure or refused
                    continue
                # One list that can't be told now is not to hold up the others.
                for account in part:
                    try:
                        await self._ask_list([account])
                    except Refused as alone:
                        failure = failure or alone
        if failure is not None:
            raise failure

    async def _ask_list(self, accounts: Sequence[str]) -> None:
        known, server = self._machine.vault.list_versions(accounts), self._machine.server
        since = self._machine.lists.moment
        found = await self._api.query_keys(
            [matrix.user_id(account, server) for account in accounts],
            {matrix.user_id(account, server): version for account, version in known.items()},
        )
        before = self._machine.vault.peers(accounts)
        for refused in self._machine.lists.take(set(accounts), found, server, since=since):
            text = f"the server names a device of it that is not to be believed: {refused.why}"
            self._side.tell(events.Forged(what="device", account=refused.account, device=refused.device, text=text))
        gone = set(before) - set(self._machine.vault.peers(accounts))
        for account in {peer.account for peer in gone}:
            self._machine.end_sessions_of(account)
        confirmed = {account for account in accounts if self._machine.lists.confirmed(account)}
        self._machine.doubtful.difference_update(confirmed)
        self._machine.unsettle_all()
        self._store.settle()
        self._side.lists_changed(accounts)

    # Sending

    async def _prepare(self, conversation: str) -> None:
        """Makes the conversation ready. What changes meanwhile makes it unready again, and wakes this task again."""
        if not await self._know(conversation):
            return
        known, members = self._side.conversation_of(conversation), self._store.members(conversation)
        if known is not None and known.protection == "end_to_end":
            await self._ask_lists(members)
            await self._claim(self._machine.without_session(self._machine.unserved(conversation, members)))
            self._machine.share(conversation, members)
            await self._send_mail()
            if not self._machine.settle(conversation, self._store.members(conversation)):
                self.wake()
                return
        self._side.go_on(conversation)

    async def _know(self, conversation: str) -> bool:
        """Whether it is known who is in it. Raises Refused."""
        if self._side.marks_of(conversation).cursor < self._awaited.get(conversation, 0):
            return False
        self._awaited.pop(conversation, None)
        if conversation in self._stale or self._machine.me.account not in self._store.members(conversation):
            overview = await self._ask_about(conversation)
            if self._side.marks_of(conversation).cursor < overview.head:
                # What came and went is on its way; when it is here this task is woken.
                self._awaited[conversation] = overview.head
                self._side.want(conversation, overview.head)
                return False
            if overview.role is None:
                reply = REPLIES["not_a_member"]
                raise Refused(reply.code, reply.text, retry=False)
            self._stale.discard(conversation)
        return True

    async def _claim(self, peers: list[Peer]) -> None:
        for part in _parts(peers, CLAIM_DEVICES_MAX):
            devices = [(matrix.user_id(peer.account, self._machine.server), peer.device) for peer in part]
            claimed = await self._api.claim_keys(devices, request=str(uuid4()))
            self._machine.begin(part, claimed)
            self._settle()

    async def _renew_sessions(self) -> None:
        if self._machine.wedged:
            await self._claim(sorted(self._machine.wedged))
            await self._send_mail()

    # Asking for keys, and answering

    async def _ask_for_keys(self) -> None:
        wanted = dict(self._keys_wanted)
        if not wanted:
            return
        await self._ask_lists({*wanted.values(), self._machine.me.account})
        for key, sender in wanted.items():
            self._asking.ask(*key, sender)
            if self._keys_wanted.get(key) == sender:
                del self._keys_wanted[key]
        await self._send_mail()

    async def _answer_requests(self) -> None:
        while self._machine.requests:
            try:
                await self._answer(self._machine.requests[0])
            except Refused as refused:
                if refused.retry:
                    raise
                _LOG.warning("a request for a key can't be answered: %s", refused)
            self._machine.requests.pop(0)

    async def _answer(self, request: KeyRequest) -> None:
        await self._ask_lists([request.account])
        peer = self._asking.asker(request)
        if peer is None and self._machine.doubt_device(request.account, request.device):
            # Its request has overtaken the news of it.
            await self._ask_lists([request.account])
            peer = self._asking.asker(request)
        if peer is None or peer == self._machine.me:
            return
        members = self._store.members(request.conversation)
        await self._claim(self._machine.without_session([peer]))
        if members and self._machine.olm.has_session(peer):
            self._asking.answer(request, peer, members)
            await self._send_mail()

    # Receipts

    async def _check_receipts(self) -> None:
        now = asyncio.get_running_loop().time()
        for conversation in [each for each, due in self._to_check.items() if due <= now]:
            try:
                await self.check_receipts(conversation)
            except Refused as refused:
                if refused.code not in _NOT_OURS:
                    raise
                _LOG.info("the receipts of %s are not shown to this account: %s", conversation, refused)
            self._checked_at[conversation] = now
            del self._to_check[conversation]

    async def check_receipts(self, conversation: str) -> list[proofs.Missing]:
        """What is wrong with the ticks of this device's messages; the application is told. Raises Refused,
        Unreachable."""
        marks, me = self._side.marks_of(conversation), self._machine.me
        delivered = self._last_ticked(conversation, marks.tick_delivered, marks)
        read = self._last_ticked(conversation, marks.tick_read, marks)
        statements = await self._api.statements(conversation)
        await self._ask_lists({each.account for each in statements})
        others = self._store.members(conversation).keys() - {me.account}
        missing = proofs.check(
            conversation,
            statements,
            pin=self._machine.vault.peer,
            delivered_to=dict.fromkeys(others - self._joined_after(conversation, delivered), delivered),
            read_by=dict.fromkeys(others - self._joined_after(conversation, read), read),
        )
        for each in missing:
            self._side.tell(
                events.Forged(
                    what="receipt",
                    account=each.account,
                    device=each.device,
                    conversation=conversation,
                    text=each.text,
                )
            )
        return missing

    def _joined_after(self, conversation: str, seq: int) -> set[str]:
        """Those for whom a tick of the message at `seq` does not wait: also who was there, left and came back."""
        changes = self._store.changes(conversation, after=seq)
        return {account for change in changes if change.what in ("started", "added") for account in change.accounts}

    def _last_ticked(self, conversation: str, upto: int, marks: Marks) -> int:
        """The last message of this device that is said to have come so far."""
        seq = self._store.last_own(conversation, self._machine.me.device, upto=upto)
        return 0 if seq in marks.undelivered else seq


def _parts(whole: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (whole[start : start + size] for start in range(0, len(whole), size))
