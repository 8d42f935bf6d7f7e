"""The client on a real engine: accounts, devices, conversations, messages, ticks."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ops.node import Node
from ops.settings import Settings
from signet_client import (
    Change,
    Client,
    Connected,
    Disconnected,
    Lost,
    Message,
    NoDevice,
    Refused,
    StoreFailed,
    StoreInUse,
    Unreachable,
    connection,
    wire,
)
from signet_client.api import Api

PATIENCE_S = 30.0
T = TypeVar("T")


async def soon(awaited: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaited, PATIENCE_S)


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with Node.open(Settings(data=tmp_path / "server", port=0)) as node:
        running = asyncio.create_task(node.run())
        await soon(node.started())
        yield node.url
        node.stop()
        await soon(running)


class People:
    """Accounts with a running client each."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.clients: list[Client] = []

    async def join(self, name: str) -> Client:
        client = await soon(Client.register(self.url, name, self.folder / f"{name}.db", durable=False))
        return await self.run(client)

    async def run(self, client: Client) -> Client:
        await client.__aenter__()
        self.clients.append(client)
        await soon(client.caught_up())
        return client


@pytest.fixture
async def people(url: str, tmp_path: Path) -> AsyncIterator[People]:
    people = People(url, tmp_path)
    yield people
    for client in people.clients:
        await client.close()


async def test_two_people_talk(people: People) -> None:
    """I1, I3, I5: sent, delivered, read, in the same order on both sides."""
    anna, ben = await people.join("anna"), await people.join("ben")
    talk = await soon(anna.start_direct(ben.account))
    assert await soon(ben.start_direct(anna.account)) == talk
    first = await soon(anna.send(talk, "Sunday at nine?"))
    await soon(ben.held(talk, first.seq))
    second = await soon(ben.send(talk, "Nine is fine", reply_to=first.seq))
    await soon(anna.held(talk, second.seq))
    assert anna.messages(talk) == ben.messages(talk)
    assert [message.text for message in ben.messages(talk)] == ["Sunday at nine?", "Nine is fine"]
    assert [message.reply_to for message in ben.messages(talk)] == [None, first.seq]
    await soon(anna.until(lambda: anna.ticks_of(talk, first.seq) == "delivered"))
    ben.read(talk, second.seq)
    await soon(anna.until(lambda: anna.ticks_of(talk, first.seq) == "read"))
    assert (await soon(anna.overviews()))[0].unread == 1
    conversation = ben.conversation(talk)
    assert conversation is not None
    assert conversation.peer == anna.account
    assert await soon(ben.name(anna.account)) == "anna"


async def test_group_with_people_coming_and_going(people: People) -> None:
    """I8: who comes later sees what comes later; who was removed sees nothing more."""
    anna, ben, cleo = [await people.join(name) for name in ("anna", "ben", "cleo")]
    group = await soon(anna.start_group([ben.account], title="Rowing"))
    await soon(anna.send(group, "before cleo"))
    await soon(anna.add(group, [cleo.account]))
    hello = await soon(anna.send(group, "hello cleo"))
    await soon(cleo.held(group, hello.seq))
    assert [message.text for message in cleo.messages(group)] == ["hello cleo"]
    await soon(cleo.until(lambda: cleo.conversation(group) is not None))
    conversation = cleo.conversation(group)
    assert conversation is not None
    assert (conversation.kind, conversation.title) == ("group", "Rowing")
    everybody = {anna.account: "owner", ben.account: "member", cleo.account: "member"}
    assert await soon(cleo.members(group)) == everybody

    await soon(anna.set_role(group, ben.account, "admin"))
    await soon(ben.set_title(group, "Rowing on Sundays"))
    await soon(ben.remove(group, cleo.account))
    last = await soon(anna.send(group, "without cleo"))
    await soon(anna.retract(group, hello.seq))
    await soon(ben.held(group, last.seq + 1))
    with pytest.raises(Refused) as refused:
        await soon(cleo.send(group, "still here?"))
    assert refused.value.code == "not_a_member"
    changes = [item.what for item in ben.history(group) if isinstance(item, Change)]
    assert changes == ["started", "added", "role", "title", "removed", "retracted"]
    texts = [item.text for item in ben.history(group) if isinstance(item, Message)]
    assert texts == ["before cleo", None, "without cleo"]
    assert isinstance(cleo.history(group)[-1], Change)
    assert await soon(ben.members(group)) == {anna.account: "owner", ben.account: "admin"}
    titled = ben.conversation(group)
    assert titled is not None
    assert titled.title == "Rowing on Sundays"
    await soon(ben.leave(group))
    await soon(anna.until(lambda: anna.marks(group).cursor == last.seq + 2))


async def come_and_go(anna: Client, ben: Client, cleo: Client) -> tuple[str, dict[str, wire.Role]]:
    """A group from which Ben was away while Cleo came into it and it got another name, and who is in it now."""
    group = await soon(anna.start_group([ben.account], title="Rowing"))
    await soon(ben.held(group, 1))
    await soon(anna.remove(group, ben.account))
    await soon(anna.add(group, [cleo.account]))
    await soon(anna.set_title(group, "Sculling"))
    await soon(anna.add(group, [ben.account]))
    return group, {anna.account: "owner", cleo.account: "member", ben.account: "member"}


async def test_who_is_back_knows_who_came_meanwhile(people: People) -> None:
    """I8: what it does not see, the device asks for, and never shows what was so before."""
    anna, ben, cleo = [await people.join(name) for name in ("anna", "ben", "cleo")]
    group, everybody = await come_and_go(anna, ben, cleo)
    await soon(ben.until(lambda: (known := ben.conversation(group)) is not None and known.title == "Sculling"))
    assert ben.known_members(group) in ({}, everybody)
    assert await soon(ben.members(group)) == everybody
    await soon(anna.remove(group, cleo.account))
    await soon(ben.held(group, 6))
    assert ben.known_members(group) == {anna.account: "owner", ben.account: "member"}


async def test_who_was_taken_back_while_its_device_was_closed(people: People, tmp_path: Path) -> None:
    """I8: the welcome says what the group is called; who is in it is not known until it is asked for."""
    anna, ben, cleo = [await people.join(name) for name in ("anna", "ben", "cleo")]
    group = await soon(anna.start_group([ben.account, cleo.account], title="Rowing"))
    await soon(ben.held(group, 1))
    await ben.close()
    # It sees this name, too, but only when it reads what it has missed, after the welcome.
    await soon(anna.set_title(group, "Canoeing"))
    await soon(anna.remove(group, ben.account))
    await soon(anna.set_title(group, "Sculling"))
    await soon(anna.remove(group, cleo.account))
    await soon(anna.add(group, [ben.account]))
    ben = await people.run(Client.open(tmp_path / "ben.db", durable=False))
    await soon(ben.caught_up())
    titled = ben.conversation(group)
    assert titled is not None
    assert titled.title == "Sculling"
    assert ben.known_members(group) == {}
    assert await soon(ben.members(group)) == {anna.account: "owner", ben.account: "member"}
    assert ben.known_members(group) == await soon(ben.members(group))


async def test_a_change_that_overtakes_the_answer_is_not_undone(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I8: what the server said before somebody came in, it says of the time before."""
    anna, ben, cleo = [await people.join(name) for name in ("anna", "ben", "cleo")]
    await cleo.close()  # it would ask, too
    group = await soon(anna.start_group([ben.account]))
    await soon(ben.held(group, 1))
    ask, asked = Api.conversation, 0

    async def late(api: Api, conversation: str) -> Any:
        nonlocal asked
        asked += 1
        shown = await ask(api, conversation)
        if asked == 1:
            await anna.add(group, [cleo.account])
            await ben.held(group, 2)
        return shown

    monkeypatch.setattr(Api, "conversation", late)
    assert cleo.account in await soon(ben.members(group))
    assert asked == 2


async def test_a_second_device(people: People, tmp_path: Path) -> None:
    """I4, I12: let in by the first, it gets the history, own messages and read marks, and can be put out."""
    anna, ben = await people.join("anna"), await people.join("ben")
    talk = await soon(anna.start_direct(ben.account))
    await soon(anna.send(talk, "from the laptop"))
    phone = Client.prepare(people.url, anna.account, tmp_path / "phone.db", device="phone", durable=False)
    await soon(anna.link_device(phone.device, phone.key))
    await people.run(phone)
    assert phone.messages(talk) == anna.messages(talk)
    sent = await soon(phone.send(talk, "from the phone"))
    await soon(anna.held(talk, sent.seq))
    answer = await soon(ben.send(talk, "which is it?"))
    await soon(phone.held(talk, answer.seq))
    phone.read(talk, answer.seq)
    await soon(anna.until(lambda: anna.marks(talk).read == answer.seq))
    assert [device.device for device in await soon(anna.devices())] == [anna.device, "phone"]
    heard = phone.events()
    await soon(anna.revoke_device("phone"))
    with pytest.raises(Disconnected):
        await soon(phone.until(lambda: False))
    while not isinstance(lost := await soon(anext(heard)), Lost):
        pass
    assert lost.number == 4502


async def test_everything_stands_after_a_restart(people: People, tmp_path: Path) -> None:
    """I3, I4: closed and opened again, it holds the same and gets what came meanwhile."""
    anna, ben = await people.join("anna"), await people.join("ben")
    talk = await soon(anna.start_direct(ben.account))
    for number in range(5):
        await soon(anna.send(talk, f"m{number}"))
    await soon(ben.held(talk, 6))
    await ben.close()
    people.clients.remove(ben)
    for number in range(5, 300):
        anna.post(talk, f"m{number}")
    await soon(anna.until(lambda: anna.marks(talk).cursor == 301))
    again = await people.run(Client.open(tmp_path / "ben.db", durable=False))
    assert [message.text for message in again.messages(talk)] == [f"m{number}" for number in range(300)]
    assert [item.seq for item in again.latest(talk, limit=3)] == [299, 300, 301]
    assert [each.peer for each in again.conversations()] == [anna.account]
    await soon(anna.until(lambda: anna.ticks_of(talk, 301) == "delivered"))


async def test_registration_that_broke_off_goes_on(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I2: the answer was lost; the same path makes the same account."""
    asked = Api.register
    made: list[str] = []

    async def lose(self: Api, name: str, *, invitation: str | None) -> str:
        made.append(await asked(self, name, invitation=invitation))
        raise Unreachable("cut")

    monkeypatch.setattr(Api, "register", lose)
    with pytest.raises(Unreachable):
        await soon(Client.register(url, "anna", tmp_path / "anna.db"))
    with pytest.raises(NoDevice):
        Client.open(tmp_path / "anna.db")
    monkeypatch.setattr(Api, "register", asked)
    client = await soon(Client.register(url, "anna", tmp_path / "anna.db"))
    assert client.account == made[0]
    await client.close()
    assert (tmp_path / "anna.db.key").stat().st_mode & 0o777 == 0o600


async def test_a_device_that_nobody_let_in(url: str, tmp_path: Path) -> None:
    """I12: knowing an account's id is not enough."""
    client = await soon(Client.register(url, "anna", tmp_path / "anna.db"))
    stranger = Client.prepare(url, client.account, tmp_path / "stranger.db")
    async with stranger:
        with pytest.raises(Disconnected):
            await soon(stranger.caught_up())
        with pytest.raises(Refused):
            await soon(stranger.overviews())
    await client.close()


async def test_a_store_has_one_owner(url: str, tmp_path: Path) -> None:
    path = tmp_path / "anna.db"
    client = await soon(Client.register(url, "anna", path))
    code = f"from signet_client import Client; Client.open({str(path)!r})"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE)
    _, said = await soon(process.communicate())
    assert b"StoreInUse" in said
    assert b"is open in another process" in said
    with pytest.raises(StoreInUse):
        Client.open(path)
    await client.close()
    await Client.open(path).close()


async def test_the_key_file_must_fit(url: str, tmp_path: Path) -> None:
    path = tmp_path / "anna.db"
    await (await soon(Client.register(url, "anna", path))).close()
    (tmp_path / "anna.db.key").write_bytes(bytes(32))
    with pytest.raises(StoreFailed, match="does not fit"):
        Client.open(path)
    (tmp_path / "anna.db.key").unlink()
    with pytest.raises(StoreFailed, match="key file"):
        Client.open(path)


async def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("Dear diary, " * 1000)
    with pytest.raises(StoreFailed, match="not a store"):
        Client.open(tmp_path / "text.db")
    with pytest.raises(NoDevice):
        Client.open(tmp_path / "none.db")
    with pytest.raises(StoreFailed):
        Client.prepare("http://127.0.0.1:1", "a", tmp_path / "no folder" / "x.db")


async def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signet_client.api.RETRY_FIRST_S", 0.001)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 can't be reached"):
        await soon(Client.register("http://127.0.0.1:1", "anna", tmp_path / "anna.db"))


async def test_the_server_starts_anew(tmp_path: Path) -> None:
    """I1, I4: clients come again by themselves, tokens are asked for anew, nothing is lost or doubled."""
    settings = Settings(data=tmp_path / "server", port=0)
    folder = tmp_path
    async with Node.open(settings) as node:
        running = asyncio.create_task(node.run())
        await soon(node.started())
        people = People(node.url, folder)
        anna, ben = await people.join("anna"), await people.join("ben")
        talk = await soon(anna.start_direct(ben.account))
        await soon(anna.send(talk, "before"))
        node.stop()
        await soon(running)
    heard = anna.events()
    answer = anna.post(talk, "meanwhile")
    port = int(node.url.rpartition(":")[2])
    async with Node.open(Settings(data=tmp_path / "server", port=port)) as node:
        running = asyncio.create_task(node.run())
        sent = await soon(answer)
        await soon(ben.held(talk, sent.seq))
        assert [message.text for message in ben.messages(talk)] == ["before", "meanwhile"]
        assert len(await soon(anna.overviews())) == 1
        while not isinstance(await soon(anext(heard)), Connected):
            pass
        for client in people.clients:
            await client.close()
        node.stop()
        await soon(running)


async def test_a_challenge_that_comes_before_the_connecting_task_goes_on_is_answered(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As happens where many connect at once; the hello got lost, and the server hung up after ten seconds."""
    connect = connection.connect

    async def late(url: str, on_frames: connection.OnFrames) -> connection.Connection:
        came = asyncio.Event()

        def hear(connected: connection.Connection, frames: list[wire.ServerFrame]) -> None:
            came.set()
            on_frames(connected, frames)

        made = await connect(url, hear)
        await soon(came.wait())
        return made

    monkeypatch.setattr(connection, "connect", late)
    client = await soon(Client.register(people.url, "anna", people.folder / "anna.db", durable=False))
    lost: list[Lost] = []
    client.listen(lambda event: lost.append(event) if isinstance(event, Lost) else None)
    await people.run(client)
    assert lost == []
