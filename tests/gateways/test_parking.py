"""What a read model could not apply: reads of that conversation or account are refused, and of no other (I11)."""

from collections.abc import AsyncIterator, Callable, Sequence
from uuid import uuid4

import pytest

from domain.account import ProfileChanged
from domain.codec import Event
from domain.conversation import MessageSent, TitleSet
from domain.ids import AccountId, CommandId, ConversationId, DeviceId
from domain.receipts import AdvanceReceipts, Receipt, ReceiptsAdvanced
from projections.directory import Directory
from projections.inbox import Inbox
from projections.messages import Messages
from projections.readmodel import ReadModel
from projections.receipts import Receipts
from signet_client import wire
from signet_client.codes import DISCONNECTS
from tests.gateways.engine import Engine, Person, command
from tests.gateways.live import MemoryDevice, hello, live_engine

Poison = Callable[..., None]


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with live_engine() as engine:
        yield engine


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Poison:
    """Makes a read model fail at events of a kind, in streams whose name holds an id."""

    def poison(model: type[ReadModel], kind: type, within: str) -> None:
        apply = model.apply

        def fail(self: ReadModel, events: Sequence[Event]) -> None:
            if any(isinstance(event.entry.e, kind) and within in event.stream for event in events):
                raise ValueError("poison")
            apply(self, events)

        monkeypatch.setattr(model, "apply", fail)

    return poison


async def refused(person: Person, path: str) -> str:
    response = await person.ask("GET", path)
    assert response.status_code == 503, response.text
    return str(response.json()["code"])


async def test_history_of_a_parked_conversation_alone_is_refused(engine: Engine, poison: Poison) -> None:
    """I4: a page must not seem whole."""
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    bad, good = await ann.start_group(ben), await ann.start_group(ben)
    poison(Messages, MessageSent, bad)
    for talk in (bad, good):
        await ann.send(talk, "hello")
    assert await refused(ann, f"/conversations/{bad}/events") == "unavailable"
    assert [item["seq"] for item in (await ann.history(good))["items"]] == [1, 2]
    assert (await ann.do("GET", f"/conversations/{bad}"))["overview"]["head"] == 2, "the inbox is whole"


async def test_nobody_is_told_more_of_a_parked_conversation_than_a_stranger(engine: Engine, poison: Poison) -> None:
    """I8, I12: who is in it, the inbox doesn't know."""
    ann, ben, cem = [await engine.person(name) for name in ("Ann", "Ben", "Cem")]
    bad, good = await ann.start_group(ben), await ann.start_group(ben)
    poison(Inbox, TitleSet, bad)
    await ann.do("PUT", f"/conversations/{bad}/title", command(title="Another"))
    for person in (ann, ben, cem):
        assert await refused(person, f"/conversations/{bad}") == "unavailable"
        assert await refused(person, f"/conversations/{bad}/events") == "unavailable"
    assert (await ben.do("GET", f"/conversations/{good}"))["overview"]["head"] == 1
    shown = await ann.do("GET", "/conversations")
    assert {each["c"] for each in shown["conversations"]} == {bad, good}, "the list goes on, as far as it is known"


async def test_marks_of_parked_receipts_are_refused(engine: Engine, poison: Poison) -> None:
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    talk = await ann.start_group(ben)
    poison(Receipts, ReceiptsAdvanced, talk)
    receipt = Receipt(account=AccountId(ben.account), device=DeviceId(ben.device), delivered=1)
    advance = AdvanceReceipts(id=CommandId(str(uuid4())), conversation=ConversationId(talk), receipts=[receipt])
    await engine.services.writer.execute(advance, turn="test")
    assert await refused(ann, f"/conversations/{talk}/receipts") == "unavailable"
    assert await refused(ann, f"/conversations/{talk}/undelivered") == "unavailable"


async def test_a_device_resumes_without_the_parked_conversation(engine: Engine, poison: Poison) -> None:
    """I4: its pushes show it the hole, and what it fetches is refused, to be asked for again."""
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    bad, good = await ann.start_group(ben), await ann.start_group(ben)
    poison(Messages, MessageSent, bad)
    await ann.send(bad, "hello")
    await ann.send(good, "hello")
    device = await MemoryDevice(engine, ben).live()
    assert {frame.c for frame in device.take() if isinstance(frame, wire.Page)} == {good}
    assert await ann.send(bad, "again") == 3
    pushed = await device.next(wire.Message)
    assert (pushed.c, pushed.seq) == (bad, 3)
    device.say(wire.Fetch(id="f", c=bad, after=0, limit=10))
    answer = await device.next(wire.Refused)
    assert (answer.id, answer.code, answer.retry) == ("f", "unavailable", True)


async def test_an_account_with_parked_events_alone_can_t_log_in(engine: Engine, poison: Poison) -> None:
    """I12: a revocation may be among them."""
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    poison(Directory, ProfileChanged, ann.account)
    response = await ann.ask("PUT", "/accounts/me/name", command(name="Anna"))
    assert response.status_code == 200
    refusal = await ann.ask("POST", "/token", await ann.hello())
    assert (refusal.status_code, refusal.json()["code"]) == (503, "unavailable")
    assert await refused(ann, "/devices") == "unavailable"
    assert await refused(ben, f"/accounts/{ann.account}") == "unavailable"
    device = MemoryDevice(engine, ann)
    device.connection.start()
    device.say(hello(ann, await device.next(wire.Challenge)))
    assert await device.disconnected() == DISCONNECTS["unavailable"].number
    await ben.log_in()
    await MemoryDevice(engine, ben).live()
