"""Valid histories of accounts, conversations and receipts, as the engine would have written them: every event comes
from the domain's own `decide`, and is folded by its own `evolve`. By hand:

    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    history.send(chat, ann, "hello")
    history.receive(chat, ben, delivered=2, read=2)
    history.events, history.conversations[chat], history.receipts[chat], history.accounts[ann]

A command that the domain refuses writes nothing, unless it is given to `must`. Positions have gaps. By Hypothesis:
`histories()`; and `fold` makes a read model of the events, `record` writes them to a log.
"""

from collections.abc import Sequence
from typing import Any, TypeVar, cast
from uuid import UUID, uuid5

import msgspec
from hypothesis import strategies as st

from domain import account, conversation, keys, media, receipts
from domain.account import Account, AccountCommand, AccountEvent
from domain.codec import CODEC, DomainEvent, Event
from domain.conversation import Conversation, ConversationCommand, ConversationEvent, Known, MessageSent, Role, Target
from domain.entry import Entry, Sealed
from domain.errors import Rejected
from domain.ids import (
    AccountId,
    CommandId,
    ConversationId,
    DeviceId,
    MediaId,
    account_id,
    account_stream,
    conversation_stream,
    direct_id,
    group_id,
    media_id,
    media_stream,
    receipts_stream,
)
from domain.log import Append, Appended, EventLog, RecordedEvent
from domain.media import Media, MediaCommand, MediaEvent
from domain.receipts import AdvanceReceipts, Receipt, Receipts
from projections.readmodel import ReadModel
from signet_client.payloads import Header, digest_of, encode_header
from tests.projections.stores import new_model

START_AT = 1_700_000_000_000_000
PHONE = DeviceId("phone")
M = TypeVar("M", bound=ReadModel)
_IDS = UUID("00000000-0000-4000-8000-000000000000")


class History:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.accounts: dict[AccountId, Account] = {}
        self.conversations: dict[ConversationId, Conversation] = {}
        self.receipts: dict[ConversationId, Receipts] = {}
        self.messages: dict[ConversationId, dict[int, MessageSent]] = {}
        self.media: dict[MediaId, Media] = {}
        self._made = 0

    def postpone(self, us: int) -> None:
        """The last event occurred so much later, as an importer may claim."""
        last = self.events[-1]
        entry = msgspec.structs.replace(last.entry, occ=last.entry.at + us)
        self.events[-1] = msgspec.structs.replace(last, entry=entry)

    # Accounts

    def register(self, name: str, device: DeviceId = PHONE) -> AccountId:
        command_id = self.new_id()
        made = account_id(command_id=command_id, key=f"key of {name}")
        command = account.RegisterAccount(
            id=command_id, account=made, name=seal(name), device=device, key=f"key of {name}", signature="s"
        )
        self.change_account(command)
        return made

    def link(self, by: AccountId, device: str, *, letting: DeviceId = PHONE) -> list[Event]:
        command = account.LinkDevice(
            id=self.new_id(), account=by, by=letting, device=DeviceId(device), key=f"key of {device}", signature="s"
        )
        return self.change_account(command)

    def revoke(self, by: AccountId, device: str, *, using: DeviceId = PHONE) -> list[Event]:
        command = account.RevokeDevice(id=self.new_id(), account=by, by=using, device=DeviceId(device))
        return self.change_account(command)

    def rename(self, by: AccountId, name: str) -> list[Event]:
        command = account.ChangeProfile(id=self.new_id(), account=by, by=PHONE, name=seal(name))
        return self.change_account(command)

    # Keys

    def publish_keys(
        self, by: AccountId, *ids: str, device: DeviceId = PHONE, fallback: str | None = None
    ) -> list[Event]:
        """The device's identity keys, one-time keys with these ids, and a fallback key with that one."""
        command = keys.PublishKeys(
            id=self.new_id(), account=by, device=device, device_keys=f'{{"device_id":"{device}"}}',
            one_time_keys={id_: f'{{"key":"{id_}"}}' for id_ in ids},
            fallback_key=None if fallback is None else (fallback, f'{{"key":"{fallback}"}}'),
        )  # fmt: skip
        return self.change_account(command)

    def claim_key(self, of: AccountId, by: AccountId, *, device: DeviceId = PHONE) -> list[Event]:
        command = keys.ClaimKey(id=self.new_id(), account=of, device=device, by=by, by_device=PHONE)
        return self.change_account(command)

    # Conversations

    def direct(self, by: AccountId, other: AccountId) -> ConversationId:
        made = direct_id(protection="none", one=by, other=other)
        command = conversation.StartConversation(
            id=self.new_id(), conversation=made, by=by, device=PHONE, kind="direct", protection="none",
            others=[other], members_max=2,
        )  # fmt: skip
        self.change(command)
        return made

    def group(self, by: AccountId, *others: AccountId, title: str = "a group", members_max: int = 99) -> ConversationId:
        command_id = self.new_id()
        made = group_id(creator=by, command_id=command_id)
        command = conversation.StartConversation(
            id=command_id, conversation=made, by=by, device=PHONE, kind="group", protection="none",
            others=list(others), title=seal(title), members_max=members_max,
        )  # fmt: skip
        self.change(command)
        return made

    def send(
        self,
        to: ConversationId,
        by: AccountId,
        text: str = "text",
        *,
        counts: bool = True,
        device: DeviceId = PHONE,
        about: str | int | None = None,
        media: Sequence[MediaId] = (),
    ) -> list[Event]:
        """`about` goes into the header as it is, as a client may have put it there."""
        command_id, after, digest = self.new_id(), self.conversations[to].seq, digest_of(text)
        header = Header(
            id=command_id, conversation=to, sender=by, device=device, after=after, digest=digest, counts=counts,
            media=tuple(media),
        )  # fmt: skip
        signed = encode_header(header)
        if about is not None:
            signed = f'{signed[:-1]},"b":{msgspec.json.encode(about).decode()}}}'
        command = conversation.SendMessage(
            id=command_id, conversation=to, by=by, device=device, after=after, header=signed,
            digest=digest, counts=counts, body=seal(text), media=tuple(media),
        )  # fmt: skip
        return self.change(command)

    def retract(self, to: ConversationId, by: AccountId, target: int) -> list[Event]:
        return self.change(conversation.RetractMessage(**self._addressed(to, by), target=target))

    def add(self, to: ConversationId, by: AccountId, *accounts: AccountId) -> list[Event]:
        return self.change(conversation.AddMembers(**self._addressed(to, by), accounts=list(accounts)))

    def remove(self, to: ConversationId, by: AccountId, target: AccountId) -> list[Event]:
        return self.change(conversation.RemoveMember(**self._addressed(to, by), account=target))

    def leave(self, to: ConversationId, by: AccountId) -> list[Event]:
        return self.change(conversation.LeaveConversation(**self._addressed(to, by)))

    def change_role(self, to: ConversationId, by: AccountId, target: AccountId, role: Role) -> list[Event]:
        return self.change(conversation.ChangeRole(**self._addressed(to, by), account=target, role=role))

    def set_title(self, to: ConversationId, by: AccountId, title: str) -> list[Event]:
        return self.change(conversation.SetTitle(**self._addressed(to, by), title=seal(title)))

    # Receipts

    def receive(
        self,
        of: ConversationId,
        by: AccountId,
        *,
        delivered: int = 0,
        read: int = 0,
        undecryptable: tuple[int, ...] = (),
        repaired: tuple[int, ...] = (),
        device: DeviceId = PHONE,
        signature: str | None = None,
    ) -> list[Event]:
        receipt = Receipt(
            account=by, device=device, delivered=delivered, read=read,
            undecryptable=list(undecryptable), repaired=list(repaired), signature=signature,
        )  # fmt: skip
        return self.advance(of, receipt)

    def advance(self, of: ConversationId, *stated: Receipt) -> list[Event]:
        """What several devices state at once."""
        ends = {one.account: self.conversations[of].visible_end(one.account) for one in stated}
        state = self.receipts.setdefault(of, Receipts())
        command = AdvanceReceipts(id=self.new_id(), conversation=of, receipts=list(stated))
        written = []
        for event in receipts.decide(state, command, ends):
            written.append(self._record(receipts_stream(of), state.version + 1, command.id, event))
            receipts.evolve(state, state.version + 1, cast("Entry[receipts.ReceiptsAdvanced]", written[-1].entry))
        return written

    # What they have in common

    # Media

    def reserve(self, by: AccountId, size: int = 1_000) -> MediaId:
        command_id = self.new_id()
        made = media_id(account=by, command_id=command_id)
        self.change_media(
            media.ReserveMedia(id=command_id, media=made, by=by, device=PHONE, kind="image", size=size, digest="D")
        )
        return made

    def store(self, of: MediaId) -> list[Event]:
        """What was reserved is there."""
        state = self.media[of]
        return self.change_media(
            media.StoreMedia(
                id=self.new_id(), media=of, by=state.by, device=PHONE, size=state.size, digest=state.digest
            )
        )

    def upload(self, by: AccountId, size: int = 1_000) -> MediaId:
        made = self.reserve(by, size)
        self.store(made)
        return made

    def expire(self, of: MediaId) -> list[Event]:
        return self.change_media(media.ExpireMedia(id=self.new_id(), media=of))

    def delete(self, of: MediaId) -> list[Event]:
        return self.change_media(media.DeleteMedia(id=self.new_id(), media=of))

    def change_media(self, command: MediaCommand) -> list[Event]:
        state = self.media.setdefault(command.media, Media())
        try:
            decided = media.decide(state, command)
        except Rejected:
            return []
        written = []
        for event in decided:
            version = sum(one.stream == media_stream(command.media) for one in self.events)
            written.append(self._record(media_stream(command.media), version, command.id, event))
            media.evolve(state, version, cast("Entry[MediaEvent]", written[-1].entry))
        return written

    # Commands

    def change(self, command: ConversationCommand) -> list[Event]:
        """The events of a command; none where it is refused or changes nothing."""
        state = self.conversations.setdefault(command.conversation, Conversation())
        try:
            decided = conversation.decide(state, command, self._known(command))
        except Rejected:
            return []
        written = []
        for event in decided:
            written.append(self._record(conversation_stream(command.conversation), state.seq, command.id, event))
            conversation.evolve(state, state.seq, cast("Entry[ConversationEvent]", written[-1].entry))
            if isinstance(event, MessageSent):
                self.messages.setdefault(command.conversation, {})[state.seq] = event
        return written

    def change_account(self, command: AccountCommand) -> list[Event]:
        state = self.accounts.setdefault(command.account, Account())
        try:
            decided = account.decide(state, command)
        except Rejected:
            return []
        written = []
        for event in decided:
            written.append(self._record(account_stream(command.account), state.version + 1, command.id, event))
            account.evolve(state, state.version + 1, cast("Entry[AccountEvent]", written[-1].entry))
        return written

    def new_id(self) -> CommandId:
        self._made += 1
        return CommandId(str(uuid5(_IDS, str(self._made))))

    def _addressed(self, to: ConversationId, by: AccountId) -> dict[str, Any]:
        return {"id": self.new_id(), "conversation": to, "by": by, "device": PHONE, "after": self.conversations[to].seq}

    def _known(self, command: ConversationCommand) -> Known:
        target = None
        if isinstance(command, conversation.RetractMessage):
            message = self.messages.get(command.conversation, {}).get(command.target)
            if message is not None:
                target = Target(author=message.by, counts=message.counts)
        stated = self.receipts.get(command.conversation)
        sender = self.accounts[command.by]
        named = command.media if isinstance(command, conversation.SendMessage) else ()
        return Known(
            device_active=sender.has_active(command.device), account_version=sender.version,
            receipts_version=stated.version if stated else -1, target=target,
            missing_media=not all(one in self.media and self.media[one].may_be_named(command.by) for one in named),
        )  # fmt: skip

    def _record(self, stream: str, version: int, command_id: CommandId, event: DomainEvent) -> Event:
        event_id = str(self.new_id())
        at = START_AT + self._made * 1_000
        entry = Entry[DomainEvent](v=CODEC.versions[type(event)], id=event_id, cmd=command_id, at=at, e=event)
        before = self.events[-1].position if self.events else 0
        # Positions may have gaps, and a reader must not count on their having none.
        gap = 1 + len(self.events) % 3
        self.events.append(Event(position=before + gap, stream=stream, version=version, entry=entry))
        return self.events[-1]


def must(written: list[Event]) -> Event:
    """The one event that a command was to write."""
    assert len(written) == 1, "the domain refused the command, or found that it changes nothing"
    return written[0]


def seal(text: str) -> Sealed:
    return Sealed(key="a key", box=text.encode())


def fold(model_type: type[M], events: Sequence[Event], *, batch_max: int = 1) -> M:
    """A new read model in memory with these events, batch by batch."""
    model = new_model(model_type)
    for first in range(0, len(events), batch_max):
        model.advance(events[first : first + batch_max])
    return model


async def record(log: EventLog, events: Sequence[Event]) -> list[Event]:
    """Appends the events to a log, and gives them as they stand there: with its positions."""
    before = await log.head()
    for event in events:
        append = Append(stream=event.stream, expected=event.version - 1, events=[CODEC.encode(event.entry)])
        assert isinstance((await log.append([append]))[0], Appended)
    recorded: list[RecordedEvent] = []
    while page := await log.read_all(after=recorded[-1].position if recorded else before, limit=1_000):
        recorded += page
    return [CODEC.decode(one) for one in recorded]


# By Hypothesis: steps are drawn first and played then, so that a failing history shrinks well.

_NAMES = ("ann", "ben", "cem", "dot")
_LAPTOP = DeviceId("laptop")
_ACTS = (
    "send", "send", "send", "send", "quiet", "retract", "receive", "receive", "receive", "undecryptable", "repaired",
    "signed", "signed", "add", "add", "remove", "leave", "role", "title", "link", "revoke", "rename",
    "keys", "claim", "claim", "upload", "show", "show", "sweep",
)  # fmt: skip
_Step = tuple[str, int, int, int]


def histories(*, steps_max: int = 60) -> st.SearchStrategy[History]:
    """Four accounts, a direct conversation, a group of two and one of all; and whatever happens in them."""
    numbers = st.integers(min_value=0, max_value=11)
    step = st.tuples(st.sampled_from(_ACTS), numbers, numbers, st.integers(min_value=0, max_value=steps_max))
    return st.lists(step, max_size=steps_max).map(play)


def play(steps: list[_Step]) -> History:
    history = History()
    accounts = [history.register(name) for name in _NAMES]
    conversations = [
        history.direct(accounts[0], accounts[1]),
        history.group(accounts[0], accounts[1]),
        history.group(*accounts),
    ]
    for act, which, who, number in steps:
        target = conversations[which % len(conversations)]
        _play_step(history, act, target, [*accounts[who % 4 :], *accounts[: who % 4]], number)
    return history


def _play_step(history: History, act: str, to: ConversationId, accounts: list[AccountId], number: int) -> None:
    by, other = accounts[0], accounts[1 + number % 3]
    device = _LAPTOP if number % 2 and history.accounts[by].has_active(_LAPTOP) else PHONE
    seq = number % (history.conversations[to].seq + 1)
    match act:
        case "send":
            history.send(to, by, f"text {number}", device=device, about=seq + 1 if number % 3 == 0 else None)
        case "quiet":
            history.send(to, by, f"a reaction {number}", counts=False)
        case "retract":
            sent = [*history.messages.get(to, ()), 1]
            history.retract(to, by, sent[number % len(sent)])
        case "receive":
            history.receive(to, by, delivered=seq, read=seq if number % 3 else 0, device=device)
        case "undecryptable":
            history.receive(to, by, delivered=seq, undecryptable=(seq, max(1, seq - 1)), device=device)
        case "repaired":
            history.receive(to, by, repaired=(seq,), device=device)
        case "signed":
            named = (seq,) if number % 5 == 0 else ()
            history.receive(
                to, by, delivered=seq, read=number // 2 % (seq + 1), undecryptable=named, device=device,
                signature=f"signed {number}",
            )  # fmt: skip
        case "keys":
            history.publish_keys(by, f"{number}", f"{seq}", device=device, fallback=f"f{number}")
        case "claim":
            history.claim_key(other, by, device=device)
        case "upload" | "show" | "sweep":
            play_media(history, act, to, by, number)
        case _:
            _play_change(history, act, to, by, other, number)


def play_media(history: History, act: str, to: ConversationId, by: AccountId, number: int) -> None:
    made = [*history.media]
    if act == "upload":
        upload = history.reserve if number % 4 == 0 else history.upload
        upload(by, number + 1)
    elif made and act == "show":
        chosen = made[number % len(made)]
        owner = by if number % 5 == 0 else history.media[chosen].by
        history.send(
            to, owner, f"look {number}", media=[*dict.fromkeys([chosen, made[-1]])] if number % 3 else [chosen]
        )
    elif made:
        chosen = made[number % len(made)]
        (history.delete if number % 2 else history.expire)(chosen)


def _play_change(history: History, act: str, to: ConversationId, by: AccountId, other: AccountId, number: int) -> None:
    match act:
        case "add":
            history.add(to, by, other)
        case "remove":
            history.remove(to, by, other)
        case "leave":
            history.leave(to, by)
        case "role":
            roles: tuple[Role, ...] = ("owner", "admin", "member")
            history.change_role(to, by, other, roles[number % 3])
        case "title":
            history.set_title(to, by, f"title {number}")
        case "link":
            history.link(by, _LAPTOP)
        case "revoke":
            history.revoke(by, _LAPTOP)
        case "rename":
            history.rename(by, f"name {number}")
