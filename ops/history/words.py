"""Events in words, with the names that people had at that moment."""

from bisect import bisect_right
from collections.abc import Callable
from operator import itemgetter
from typing import Final, assert_never

import msgspec

from commands.sealing import Sealer, Unreadable
from domain.account import AccountRegistered, DeviceLinked, DeviceRevoked, ProfileChanged
from domain.codec import CODEC, DomainEvent, Event
from domain.conversation import (
    ConversationStarted,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    MessageRetracted,
    MessageSent,
    RoleChanged,
    TitleSet,
)
from domain.entry import Sealed
from domain.ids import AccountId, account_stream
from domain.keys import DeviceKeysPublished, FallbackKeyPublished, OneTimeKeyClaimed, OneTimeKeysPublished
from domain.log import EventLog
from domain.media import MediaDeleted, MediaExpired, MediaReserved, MediaStored
from domain.receipts import Receipt, ReceiptsAdvanced
from ops.history.streams import read_whole

_KNOWN_MAX: Final = 20_000
"""Of how many accounts the names are kept."""


class Names:
    """What accounts were called, by the log. A name that can't be unsealed is told by the reason."""

    def __init__(self, log: EventLog, sealer: Sealer) -> None:
        self._log = log
        self._sealer = sealer
        self._known: dict[AccountId, list[tuple[int, str]]] = {}
        """Since when (`recorded_at`) each name holds."""

    async def at(self, account: AccountId, moment: int) -> str | None:
        """The name at that time, microseconds since 1970; where it is from before the registration, which another
        clock may have stamped, the first one. None: there is no such account."""
        names = self._known.get(account)
        if names is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            names = self._known[account] = await self._read(account)
        if not names:
            return None
        return names[max(bisect_right(names, moment, key=itemgetter(0)) - 1, 0)][1]

    def forget(self, account: AccountId) -> None:
        """Its names are read again: it has a new one."""
        self._known.pop(account, None)

    def text(self, sealed: Sealed) -> str:
        try:
            return self._sealer.unseal(sealed)
        except Unreadable as error:
            return f"({error.code})"

    async def _read(self, account: AccountId) -> list[tuple[int, str]]:
        entries = [CODEC.decode(recorded).entry async for recorded in read_whole(self._log, account_stream(account))]
        return [
            (entry.at, self.text(entry.e.name))
            for entry in entries
            if isinstance(entry.e, AccountRegistered | ProfileChanged)
        ]


def short_name(account: AccountId, name: str | None) -> str:
    return account[:8] if name is None else name


class Words:
    """Says of an event what happened. `call` makes of an account and its name how it is called in the sentence."""

    def __init__(self, names: Names, call: Callable[[AccountId, str | None], str] = short_name) -> None:
        self._names = names
        self._call = call

    async def of(self, event: Event) -> str:
        return await self._words(event.entry.e, event.entry.at)

    async def name(self, account: AccountId, moment: int) -> str:
        return self._call(account, await self._names.at(account, moment))

    async def _words(self, event: DomainEvent, at: int) -> str:
        text = self._names.text
        match event:
            case MessageSent():
                return f"{await self.name(event.by, at)}: {self._body(event.body)}"
            case MessageRetracted():
                return f"{await self.name(event.by, at)} retracts message {event.target}"
            case ConversationStarted():
                title = f" {text(event.title)!r}" if event.title else ""
                members = await self._list(list(event.members), at)
                return f"{await self.name(event.by, at)} starts a {event.kind} conversation{title} with {members}"
            case MembersAdded():
                return f"{await self.name(event.by, at)} adds {await self._list(event.accounts, at)}"
            case MemberRemoved():
                return f"{await self.name(event.by, at)} removes {await self.name(event.account, at)}"
            case MemberLeft():
                return f"{await self.name(event.by, at)} leaves"
            case RoleChanged():
                return f"{await self.name(event.by, at)} makes {await self.name(event.account, at)} {event.role}"
            case TitleSet():
                return f"{await self.name(event.by, at)} calls it {text(event.title)!r}"
            case ReceiptsAdvanced():
                return "; ".join([await self._receipt(receipt, at) for receipt in event.receipts])
            case AccountRegistered():
                return f"registered as {text(event.name)!r}"
            case DeviceLinked():
                return f"device {event.device} linked" + (f" by {event.by}" if event.by else "")
            case DeviceRevoked():
                return f"device {event.device} revoked by {event.by}"
            case ProfileChanged():
                return f"is now called {text(event.name)!r}"
            case DeviceKeysPublished():
                return f"device {event.device} publishes its keys"
            case OneTimeKeysPublished():
                return f"device {event.device} publishes {len(event.keys)} one-time keys, and has {event.left}"
            case FallbackKeyPublished():
                return f"device {event.device} publishes a fallback key"
            case OneTimeKeyClaimed():
                which = "the fallback key" if event.fallback else f"a one-time key ({event.left} left)"
                claimer = await self.name(event.by, at)
                return f"device {event.device} has {which} claimed by {claimer}'s device {event.by_device}"
            case MediaReserved():
                return f"{await self.name(event.by, at)} is about to upload {event.size} bytes ({event.kind})"
            case MediaStored():
                return f"{await self.name(event.by, at)} has uploaded {event.size} bytes"
            case MediaExpired():
                return "named by no message in time, and to be deleted"
            case MediaDeleted():
                return "deleted"
            case _:
                assert_never(event)

    async def _list(self, accounts: list[AccountId], at: int) -> str:
        return ", ".join([await self.name(account, at) for account in accounts])

    async def _receipt(self, receipt: Receipt, at: int) -> str:
        marks = f"{await self.name(receipt.account, at)} has {receipt.delivered}, read {receipt.read}"
        if receipt.undecryptable:
            marks += f", could not decrypt {receipt.undecryptable}"
        return marks + (f", has repaired {receipt.repaired}" if receipt.repaired else "")

    def _body(self, body: Sealed) -> str:
        text = self._names.text(body)
        try:
            inner = msgspec.json.decode(text)
        except msgspec.MsgspecError:
            return text
        return str(inner["text"]) if isinstance(inner, dict) and "text" in inner else "(encrypted)"
