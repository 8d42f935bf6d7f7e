"""I5 on the live path: what was named or repaired is said until the server has it, also to one that was restored."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

import signet_client.live
import signet_client.reading
from signet_client import wire
from signet_client.events import Forged, Found
from tests.client.crypto.devices import ANNA, BEN, Device, Line, introduced, letters, message, prepare
from tests.client.fake import TALK

pytestmark = pytest.mark.usefixtures("short_waits")


def withheld(anna: Device) -> wire.Mail:
    """The key of what Anna says next, for Ben's phone: it is on its way."""
    anna.machine.megolm.begin(TALK)
    anna.machine.share(TALK, [BEN])
    [(address, letter)] = letters(anna)
    assert address == (BEN, "phone")
    return letter


async def test_what_the_server_refused_for_now_is_named_again(
    anna: Device, ben: Device, grace: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5: it could not store the acknowledgement; said again without the names, it would call read what was not."""
    grace(0)
    monkeypatch.setattr(signet_client.live, "MARKS_RETRY_S", 0.01)
    introduced(anna, ben)
    prepare(anna, [anna, ben])
    line = Line(ben, monkeypatch)
    line.welcome()
    letter = withheld(anna)
    line.take(message(anna, "Hello", 1))
    await line.until(lambda: [ack.undecryptable for ack in line.acks()] == [[], [1]])
    refused = wire.Refused(id="", code="unavailable", text="unavailable", retry=True, c=TALK)
    for _ in range(2):
        line.left.clear()
        line.take(refused)
        await line.until(lambda: bool(line.acks()))
        assert [(ack.upto, ack.undecryptable, ack.repaired) for ack in line.acks()] == [(1, [1], [])]
    line.left.clear()
    line.take(letter)
    for _ in range(2):
        assert [(ack.upto, ack.undecryptable, ack.repaired) for ack in line.acks()] == [(1, [], [1])]
        line.left.clear()
        line.take(refused)
        await line.until(lambda: bool(line.acks()))


async def test_what_a_restored_server_has_lost_is_not_held_against_what_comes(
    anna: Device, ben: Device, grace: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I4, I5: a message that could not be decrypted is lost there; another one has its seq now, and is read, named to
    nobody, and waited for by nobody."""
    introduced(anna, ben)
    prepare(anna, [anna, ben])
    line = Line(ben, monkeypatch)
    running = asyncio.create_task(line.live.run())
    await line.connected()
    line.welcome(epoch="one")
    line.take(message(anna, "one", 1))
    withheld(anna)
    line.take(message(anna, "lost", 2))
    assert [ack.upto for ack in line.acks()] == [1, 1]
    line.cut()
    await line.connected()
    line.left.clear()
    line.welcome(epoch="two", head=1, delivered=1, kept=1)
    line.take(withheld(anna), message(anna, "another", 2))
    assert [(ack.upto, ack.undecryptable) for ack in line.acks()] == [(2, [])]
    held = ben.store.held(TALK, after=1, limit=1)[0]
    assert held.reason is None
    assert "another" in (held.clear or "")
    assert not line.live.is_late(TALK)
    assert not [event for event in line.events if isinstance(event, Forged)]
    await closed(running)


async def test_what_a_restored_server_has_lost_may_come_again_as_it_was(
    anna: Device, ben: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2: its sender had no answer and sends the same bytes once more; they have another seq now, and are no replay."""
    introduced(anna, ben)
    prepare(anna, [anna, ben])
    line = Line(ben, monkeypatch)
    running = asyncio.create_task(line.live.run())
    await line.connected()
    line.welcome(epoch="one")
    item = message(anna, "Hello", 1)
    line.take(item)
    line.cut()
    await line.connected()
    line.welcome(epoch="two", kept=0)
    change = wire.Change(c=TALK, seq=1, at=1, what="title", by=ANNA, id="t", title="Talk")
    line.take(change, msgspec.structs.replace(item, seq=2))
    [found] = [event for event in line.events if isinstance(event, Found)]
    assert (found.item.text, found.item.seq, found.seq_before) == ("Hello", 2, 1)
    assert line.acks()[-1].upto == 2
    await closed(running)


async def closed(running: "asyncio.Task[None]") -> None:
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
