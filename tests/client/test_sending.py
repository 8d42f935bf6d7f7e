"""What a client sends on a socket that loses, refuses and is cut: each message arrives once, or is told."""

import asyncio
import json
from pathlib import Path

import pytest
from nacl.signing import VerifyKey

import signet_client.backoff
import signet_client.client
import signet_client.connection
import signet_client.link
import signet_client.live
from signet_client import (
    Client,
    ClientClosed,
    Refused,
    SendRefused,
    wire,
)
from signet_client.events import Event
from signet_client.payloads import digest_of, from_base64
from tests.client.fake import OTHER, TALK, FakeServer, accept, header, refuse
from tests.client.scene import device, soon, texts

pytestmark = pytest.mark.usefixtures("short_waits")


async def test_a_refused_message_waits_as_long_as_it_is_told(server: FakeServer, path: Path) -> None:
    """I11: and those behind it wait too, so that the order holds."""
    server.answer = [refuse("rate_limited", retry=True, retry_after_ms=300)]
    async with device(server, path) as client:
        await soon(client.caught_up())
        began = asyncio.get_running_loop().time()
        first, second = client.post(TALK, "first"), client.post(TALK, "second")
        assert [(await soon(first)).seq, (await soon(second)).seq] == [1, 2]
        assert asyncio.get_running_loop().time() - began >= 0.3
        assert len(server.sends()) == 3


async def test_lost_accepted_is_asked_for_again_with_the_same_bytes(server: FakeServer, path: Path) -> None:
    """I1, I2: stored once, whatever became of the answer."""

    def lose(server: FakeServer, sent: wire.Send) -> list[wire.ServerFrame]:
        server.store(sent)
        server.cut()
        return []

    server.answer = [lose]
    async with device(server, path) as client:
        await soon(client.caught_up())
        sent = await soon(client.send(TALK, "once"))
        assert sent.seq == 1
        await soon(client.held(TALK, 1))
        assert texts(client) == ["once"]
        assert not client.outbox()
    assert len({(frame.header, frame.body, frame.signature) for frame in server.sends()}) == 1
    assert len(server.logs[TALK]) == 1


async def test_too_large_is_refused_before_it_is_in_the_outbox(server: FakeServer, path: Path) -> None:
    """I11: it would cost every connection anew. How much is too much, the server has said."""
    server.body_bytes_max = 1_024
    async with device(server, path) as client:
        await soon(client.caught_up())
        with pytest.raises(Refused, match="at most 1024 bytes; this one has 2") as refused:
            client.post(TALK, "×" * 1_000)
        assert (refused.value.code, refused.value.retry) == ("too_large", False)
        assert not client.outbox()
    assert not server.sends()


async def test_too_large_for_a_server_that_was_not_heard_yet(server: FakeServer, path: Path) -> None:
    """I11: what turns out to be too large is told and kept like any refusal, and what was made after it goes out."""
    server.body_bytes_max = 1_024
    async with device(server, path) as client:
        large = [client.post(TALK, "x" * 2_000) for _ in range(2)]
        small = client.post(TALK, "small")
        for answer in large:
            with pytest.raises(Refused, match="too_large"):
                await soon(answer)
        assert (await soon(small)).seq == 1
        assert [message.refused for message in client.outbox()] == ["too_large"] * 2
    assert len(server.sends()) == 1


async def test_outbox_outlives_the_process(server: FakeServer, path: Path) -> None:
    """I1, I2: what was posted goes out at the next opening, with the same bytes and in order."""
    server.answer = [lambda server, sent: []]
    async with device(server, path) as client:
        await soon(client.caught_up())
        answers = [client.post(TALK, text) for text in ("one", "two", "three")]
        await server.until(lambda: len(server.sends()) == 1)
    for answer in answers:
        with pytest.raises(ClientClosed):
            await answer
    async with Client.open(path) as client:
        assert [message.conversation for message in client.outbox()] == [TALK] * 3
        await soon(client.held(TALK, 3))
        assert texts(client) == ["one", "two", "three"]
        assert not client.outbox()
    assert server.sends()[0] == server.sends()[1]


async def test_refusal_for_now_is_retried_and_not_overtaken(server: FakeServer, path: Path) -> None:
    """I2, I3: the same bytes again, and the order of sends is kept."""
    server.answer = [refuse("busy", retry=True), refuse("unavailable", retry=True)]
    async with device(server, path) as client:
        await soon(client.caught_up())
        first, second = client.post(TALK, "first"), client.post(TALK, "second")
        assert ((await soon(first)).seq, (await soon(second)).seq) == (1, 2)
        assert texts(client) == ["first", "second"]
    sends = server.sends()
    assert sends[0] == sends[1] == sends[2]
    assert len(sends) == 4


async def test_refusal_for_good_is_told_and_kept(server: FakeServer, path: Path) -> None:
    server.answer = [refuse("not_a_member", retry=False)]
    heard: list[Event] = []
    async with device(server, path) as client:
        client.listen(heard.append)
        await soon(client.caught_up())
        first, second = client.post(TALK, "first"), client.post(TALK, "second")
        with pytest.raises(Refused) as refused:
            await soon(first)
        assert refused.value.code == "not_a_member"
        assert (await soon(second)).seq == 1
    told = [event for event in heard if isinstance(event, SendRefused)]
    client = Client.open(path)
    kept = client.outbox()
    assert [(message.id, message.refused) for message in kept] == [(told[0].id, "not_a_member")]
    client.discard(told[0].id)
    assert not client.outbox()
    await client.close()
    assert len(server.sends()) == 2


async def test_own_message_that_a_page_brought_is_an_answer(server: FakeServer, path: Path) -> None:
    """I2: the resume shows the message whose `accepted` was lost, and another device's messages need no ack."""

    def lose(server: FakeServer, sent: wire.Send) -> list[wire.ServerFrame]:
        server.store(sent)
        return []

    server.answer = [lose, lambda server, sent: []]
    async with device(server, path) as client:
        await soon(client.caught_up())
        answer = client.post(TALK, "mine")
        await server.until(lambda: len(server.sends()) == 1)
        server.cut()
        assert (await soon(answer)).seq == 1
        await soon(client.caught_up())
        assert texts(client) == ["mine"]


async def test_unanswered_message_makes_a_new_connection(
    server: FakeServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1: a server that forgot to answer is asked again."""
    monkeypatch.setattr(signet_client.link, "WATCH_EVERY_S", 0.2)
    monkeypatch.setattr(signet_client.live, "ANSWER_TIMEOUT_S", 0.1)
    server.answer = [lambda server, sent: []]
    async with device(server, path) as client:
        await soon(client.caught_up())
        assert (await soon(client.send(TALK, "again"))).seq == 1
    assert len(server.sends()) == 2


async def test_signed_header_binds_the_body(server: FakeServer, path: Path) -> None:
    async with device(server, path) as client:
        await soon(client.caught_up())
        await soon(client.send(TALK, "signed", reply_to=7, kind="action"))
        (message,) = client.messages(TALK)
        assert (message.kind, message.reply_to, message.text) == ("action", 7, "signed")
        key = VerifyKey(from_base64(client.key))
    (sent,) = server.sends()
    assert sent.signature
    key.verify(sent.header.encode(), from_base64(sent.signature))
    assert header(sent.header).digest == digest_of(sent.body)


async def test_a_header_tells_what_it_answers_where_all_may_know(server: FakeServer, path: Path) -> None:
    """Where it is encrypted it does not: tests/scenarios/test_encryption.py."""
    server.message("a question")
    async with device(server, path) as client:
        await soon(client.caught_up())
        await soon(client.send(TALK, "an answer", reply_to=1))
        await soon(client.send(TALK, "no answer"))
        assert [message.reply_to for message in client.messages(TALK)] == [None, 1, None]
    answer, other = (json.loads(sent.header) for sent in server.sends())
    assert (answer["b"], "b" in other) == (1, False)


async def test_accept_answers_repeats_alike() -> None:
    """The fake keeps I2 itself, or the tests above would prove nothing."""
    server = FakeServer()
    sent = wire.Send(header=server.message("x", c=OTHER).header, body="x")
    assert accept(server, sent) == accept(server, sent)
