"""Writes logs as an engine would."""

import json
from pathlib import Path
from uuid import uuid4

from commands.keyring import FileKeyring
from commands.sealing import Sealer
from commands.stores import open_log
from domain.account import AccountRegistered, DeviceLinked
from domain.codec import CODEC, DomainEvent
from domain.conversation import MessageSent
from domain.entry import Entry, Sealed
from domain.ids import AccountId, ConversationId, DeviceId, account_stream, conversation_stream
from domain.log import Append, Appended

ANNA, BEN = (AccountId(f"{digit * 8}-0000-4000-8000-000000000000") for digit in "ab")
TALK = ConversationId("cccccccc-0000-4000-8000-000000000000")
PHONE = DeviceId("phone")
NOON_US = 1_780_000_000_123_456


class Chronicle:
    """One log with its keyring."""

    def __init__(self, data: Path, events: str | None = None) -> None:
        self.data = data
        self._keyring = FileKeyring(data / "keyring.db")
        self._sealer = Sealer(self._keyring, lambda: NOON_US)
        self._log = open_log(events or f"sqlite:///{data / 'log.db'}")
        self._versions: dict[str, int] = {}
        self.conversation = TALK
        self.now = NOON_US
        """When the next events are recorded."""

    def seal(self, text: str) -> Sealed:
        return self._sealer.seal(ANNA, text)

    async def record(self, stream: str, *facts: DomainEvent, occ: int | None = None) -> None:
        expected = self._versions.get(stream, -1)
        entries = [Entry(v=1, id=str(uuid4()), cmd=str(uuid4()), at=self.now, occ=occ, e=fact) for fact in facts]
        append = Append(stream=stream, expected=expected, events=[CODEC.encode(entry) for entry in entries])
        await self._keyring.save()
        assert isinstance((await self._log.append([append]))[0], Appended)
        self._versions[stream] = expected + len(facts)

    async def register(self, account: AccountId, name: str) -> None:
        linked = DeviceLinked(device=PHONE, key="k", signature="s")
        await self.record(account_stream(account), AccountRegistered(name=self.seal(name)), linked)

    async def say(self, *texts: str) -> None:
        facts = [message(self.seal(json.dumps({"kind": "text", "text": text, "salt": ""}))) for text in texts]
        await self.record(conversation_stream(self.conversation), *facts)

    async def close(self) -> None:
        await self._log.close()
        self._keyring.close()


def message(body: Sealed, *, by: AccountId = ANNA, header: str = "{}") -> MessageSent:
    return MessageSent(
        by=by, device=PHONE, header=header, digest="", body=body, ordinal=1, own=1, receipts=-1, account=1
    )
