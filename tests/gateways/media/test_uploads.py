"""Media by HTTP, with a real S3 server: reserve, upload, complete, and who may fetch what (I12)."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from domain.codec import CODEC
from domain.conversation import MessageSent
from domain.ids import AccountId, CommandId, MediaId, media_id
from domain.media import ExpireMedia, MediaReserved, MediaStored
from gateways.media import access, objects
from gateways.media.queues import OF_ACCOUNT_MAX, SMALL_BYTES, Queues
from tests.gateways.engine import Engine, Person, command, sqlite_engine
from tests.gateways.uploads import get, put, reservation, upload
from tests.s3 import Server

SEALED = b"ciphertext, as far as anybody can tell" * 1_000


@pytest.fixture
async def engine(tmp_path: Path, s3: Server) -> AsyncIterator[Engine]:
    async with sqlite_engine(tmp_path, bucket=s3.place) as engine:
        yield engine


@pytest.fixture
async def anna(engine: Engine) -> Person:
    return await engine.person("Anna")


@pytest.fixture
async def ben(engine: Engine) -> Person:
    return await engine.person("Ben")


def refused(response: httpx.Response) -> str:
    assert response.status_code >= 400, response.text
    code: str = response.json()["code"]
    return code


async def show(person: Person, conversation: str, *media: str, **header: Any) -> httpx.Response:
    """Names media in a message."""
    path = f"/conversations/{conversation}/messages"
    return await person.ask("POST", path, person.message(conversation, "look", m=list(media), **header))


async def facts(engine: Engine, media: str) -> list[Any]:
    return [CODEC.decode(one).entry.e for one in await engine.services.log.read_stream(f"media-{media}", limit=100)]


async def test_what_one_uploads_the_other_fetches(engine: Engine, anna: Person, ben: Person) -> None:
    group = await anna.start_group(ben)
    asked = reservation(SEALED, kind="image")
    reserved = await anna.do("POST", "/media", asked)
    media = reserved["media"]
    assert media == media_id(account=AccountId(anna.account), command_id=CommandId(asked["id"]))
    assert (await put(reserved["upload"], SEALED)).status_code == 200
    stored = await anna.do("POST", f"/media/{media}/complete")
    assert stored == {"media": media, "size": len(SEALED), "digest": asked["digest"]}
    assert (await show(anna, group, media)).status_code == 200
    shown = await ben.do("GET", f"/media/{media}")
    assert (shown["size"], shown["digest"]) == (len(SEALED), asked["digest"])
    assert (await get(shown["download"])).content == SEALED
    part = await get(shown["download"], range="bytes=5-14")
    assert (part.headers["content-range"], part.content) == (f"bytes 5-14/{len(SEALED)}", SEALED[5:15])
    reserved_event, stored_event = await facts(engine, media)
    assert isinstance(reserved_event, MediaReserved)
    assert stored_event == MediaStored(by=AccountId(anna.account), size=len(SEALED), digest=asked["digest"])


async def test_the_address_leads_past_the_server_and_carries_no_token(anna: Person, s3: Server) -> None:
    reserved = await anna.do("POST", "/media", reservation(SEALED))
    assert reserved["upload"]["url"].startswith(s3.endpoint)
    assert anna.token not in str(reserved)


async def test_whatever_is_said_again_changes_nothing(engine: Engine, anna: Person) -> None:
    asked = reservation(SEALED)
    first = await anna.do("POST", "/media", asked)
    again = await anna.do("POST", "/media", asked)
    assert again["media"] == first["media"]
    await put(again["upload"], SEALED)
    path = f"/media/{first['media']}/complete"
    assert await anna.do("POST", path) == await anna.do("POST", path)
    assert (await anna.do("POST", "/media", asked))["upload"] is None
    assert len(await facts(engine, first["media"])) == 2


async def test_two_devices_that_complete_at_once_store_it_once(engine: Engine, anna: Person) -> None:
    phone = await anna.new_device("phone")
    reserved = await anna.do("POST", "/media", reservation(SEALED))
    await put(reserved["upload"], SEALED)
    path = f"/media/{reserved['media']}/complete"
    await asyncio.gather(*(device.do("POST", path) for device in (anna, phone) * 5))
    assert len(await facts(engine, reserved["media"])) == 2


async def test_an_id_that_reserved_something_else_is_refused(anna: Person, ben: Person) -> None:
    asked = reservation(SEALED)
    first = await anna.do("POST", "/media", asked)
    assert refused(await anna.ask("POST", "/media", {**asked, "size": 7})) == "id_taken"
    # Another account's command of the same id is another media.
    assert (await ben.do("POST", "/media", asked))["media"] != first["media"]


async def test_nothing_uploaded_is_nothing_stored(engine: Engine, anna: Person) -> None:
    reserved = await anna.do("POST", "/media", reservation(SEALED))
    assert refused(await anna.ask("POST", f"/media/{reserved['media']}/complete")) == "not_uploaded"
    assert len(await facts(engine, reserved["media"])) == 1


async def test_another_digest_is_refused_and_the_right_bytes_may_still_come(engine: Engine, anna: Person) -> None:
    wrong = SEALED[:-1] + b"?"
    asked = reservation(SEALED)
    reserved = await anna.do("POST", "/media", asked)
    assert (await put(reserved["upload"], wrong)).status_code == 200
    path = f"/media/{reserved['media']}/complete"
    assert refused(await anna.ask("POST", path)) == "wrong_digest"
    assert refused(await anna.ask("POST", path)) == "not_uploaded", "what was wrong is gone"
    await put((await anna.do("POST", "/media", asked))["upload"], SEALED)
    await anna.do("POST", path)
    assert len(await facts(engine, reserved["media"])) == 2


async def test_another_size_than_the_reserved_one_never_comes_in(engine: Engine, anna: Person) -> None:
    reserved = await anna.do("POST", "/media", reservation(SEALED))
    longer = {**reserved["upload"], "headers": {}}
    answer = await put(longer, SEALED + b"more")
    assert (answer.status_code, "SignatureDoesNotMatch" in answer.text) == (403, True)
    # Somebody who can write to the bucket itself.
    store = await engine.services.objects.store()
    address = store.upload_address(reserved["media"], len(SEALED) + 4)
    await put(msgspec.to_builtins(address), SEALED + b"more")
    assert refused(await anna.ask("POST", f"/media/{reserved['media']}/complete")) == "wrong_size"


async def test_what_is_stored_is_not_changed_by_a_later_upload(anna: Person) -> None:
    reserved = await anna.do("POST", "/media", reservation(SEALED))
    await put(reserved["upload"], SEALED)
    await anna.do("POST", f"/media/{reserved['media']}/complete")
    assert (await put(reserved["upload"], SEALED[::-1])).status_code == 200
    await anna.do("POST", f"/media/{reserved['media']}/complete")
    shown = await anna.do("GET", f"/media/{reserved['media']}")
    assert (await get(shown["download"])).content == SEALED


@pytest.mark.parametrize("kind", ["image", "video", "audio", "file", "preview"])
async def test_each_kind_has_its_limit(engine: Engine, anna: Person, kind: Any) -> None:
    limit = engine.services.settings.media.bytes_max(kind)
    await anna.do("POST", "/media", {**reservation(b""), "kind": kind, "size": limit})
    over = await anna.ask("POST", "/media", {**reservation(b""), "kind": kind, "size": limit + 1})
    assert (over.status_code, refused(over)) == (413, "too_large")


@pytest.mark.parametrize(
    "field",
    [
        {"size": 0},
        {"size": -1},
        {"size": 2**60},
        {"digest": "short"},
        {"digest": "é" * 43},
        {"kind": "poem"},
        {"id": "x"},
    ],
    ids=str,
)
async def test_malformed_reservations_are_refused(anna: Person, field: dict[str, Any]) -> None:
    assert refused(await anna.ask("POST", "/media", {**reservation(SEALED), **field})) == "bad_frame"


async def test_a_full_disk_is_told_before_anything_is_uploaded(tmp_path: Path, s3: Server) -> None:
    async with sqlite_engine(tmp_path, bucket=s3.place, room=1_000) as engine:
        anna = await engine.person("Anna")
        await anna.do("POST", "/media", reservation(b"x" * 1_000))
        assert refused(await anna.ask("POST", "/media", reservation(b"x" * 1_001))) == "storage_full"


async def test_without_the_object_store_all_else_goes_on(tmp_path: Path) -> None:
    async with sqlite_engine(tmp_path) as engine:
        anna, ben = await engine.person("Anna"), await engine.person("Ben")
        answer = await anna.ask("POST", "/media", reservation(SEALED))
        assert (refused(answer), answer.json()["retry"]) == ("unavailable", True)
        group = await anna.start_group(ben)
        await anna.send(group, "hello")


async def test_an_object_store_that_died_is_asked_again_when_it_is_back(anna: Person, s3: Server) -> None:
    asked = reservation(SEALED)
    reserved = await anna.do("POST", "/media", asked)
    await put(reserved["upload"], SEALED)
    s3.kill()
    try:
        answer = await anna.ask("POST", f"/media/{reserved['media']}/complete")
        assert (refused(answer), answer.json()["retry"]) == ("unavailable", True)
    finally:
        s3.restart()
    await anna.do("POST", f"/media/{reserved['media']}/complete")


# Who may fetch it


async def test_a_stranger_learns_nothing(anna: Person, ben: Person) -> None:
    media = await upload(anna, SEALED)
    missing = await ben.ask("GET", f"/media/{uuid4()}")
    foreign = await ben.ask("GET", f"/media/{media}")
    assert refused(foreign) == "no_such_media"
    assert (foreign.status_code, foreign.content) == (missing.status_code, missing.content)
    assert refused(await ben.ask("POST", f"/media/{media}/complete")) == "no_such_media"


async def test_nobody_shows_what_another_has_uploaded(anna: Person, ben: Person) -> None:
    """Else whoever has heard of an id could fetch it by showing it to himself."""
    media = await upload(anna, SEALED)
    group = await ben.start_group(anna)
    assert refused(await show(ben, group, media)) == "no_such_media"
    assert refused(await ben.ask("GET", f"/media/{media}")) == "no_such_media"


async def test_only_what_is_stored_may_be_shown(anna: Person, ben: Person) -> None:
    group = await anna.start_group(ben)
    reserved = (await anna.do("POST", "/media", reservation(SEALED)))["media"]
    stored = await upload(anna, SEALED)
    assert refused(await show(anna, group, reserved)) == "no_such_media"
    assert refused(await show(anna, group, stored, reserved)) == "no_such_media"
    assert refused(await show(anna, group, str(uuid4()))) == "no_such_media"
    assert (await show(anna, group, stored)).status_code == 200


async def test_a_header_names_each_once_and_not_too_many(anna: Person, ben: Person) -> None:
    group = await anna.start_group(ben)
    media = await upload(anna, SEALED)
    assert refused(await show(anna, group, media, media)) == "bad_header"
    assert refused(await show(anna, group, "not a uuid")) == "bad_header"
    assert refused(await show(anna, group, *(str(uuid4()) for _ in range(21)))) == "bad_header"


async def test_who_came_later_or_left_before_does_not_get_it(engine: Engine, anna: Person, ben: Person) -> None:
    """I8"""
    cleo, dora = await engine.person("Cleo"), await engine.person("Dora")
    group = await anna.start_group(ben, cleo)
    await cleo.do("POST", f"/conversations/{group}/leave", command())
    media = await upload(anna, SEALED)
    assert (await show(anna, group, media)).status_code == 200
    await anna.do("POST", f"/conversations/{group}/members", command(accounts=[dora.account]))
    await ben.do("GET", f"/media/{media}")
    for other in (cleo, dora):
        assert refused(await other.ask("GET", f"/media/{media}")) == "no_such_media"
    await ben.do("POST", f"/conversations/{group}/leave", command())
    await ben.do("GET", f"/media/{media}")  # it was there when it was shown


async def test_a_retracted_message_shows_nothing_any_more(anna: Person, ben: Person) -> None:
    group = await anna.start_group(ben)
    media = await upload(anna, SEALED)
    seqs = [(await show(anna, group, media)).json()["seq"] for _ in range(2)]
    for seq in seqs:
        await ben.do("GET", f"/media/{media}")
        await anna.do("POST", f"/conversations/{group}/messages/{seq}/retract", command())
    assert refused(await ben.ask("GET", f"/media/{media}")) == "no_such_media"
    await anna.do("GET", f"/media/{media}")


async def test_the_event_of_the_message_names_it(engine: Engine, anna: Person, ben: Person) -> None:
    group = await anna.start_group(ben)
    media = await upload(anna, SEALED)
    seq = (await show(anna, group, media)).json()["seq"]
    [recorded] = await engine.services.log.read_stream(f"conversation-{group}", after=seq - 2, limit=1)
    sent = CODEC.decode(recorded).entry.e
    assert isinstance(sent, MessageSent)
    assert sent.media == (media,)


# What the object store itself refuses


async def test_changed_addresses_are_refused(anna: Person) -> None:
    media, other = await upload(anna, SEALED), await upload(anna, SEALED[1:])
    url = (await anna.do("GET", f"/media/{media}"))["download"]["url"]
    address = {"method": "GET", "headers": {}, "url": url}
    assert (await get(address)).status_code == 200
    for changed in (
        url.replace(media, other),
        url.replace("X-Amz-Expires=900", "X-Amz-Expires=9000"),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
    ):
        answer = await get({**address, "url": changed})
        assert (answer.status_code, "SignatureDoesNotMatch" in answer.text) == (403, True)
    assert (await get({**address, "url": url.partition("?")[0]})).status_code in (400, 403)
    assert (await put({**address, "method": "PUT"}, SEALED)).status_code == 403
    assert (await get({**address, "method": "DELETE"})).status_code == 403


async def test_expired_addresses_are_refused_and_new_ones_are_to_be_had(tmp_path: Path, s3: Server) -> None:
    async with sqlite_engine(tmp_path, bucket=s3.place, address_life_s=3) as engine:
        anna = await engine.person("Anna")
        media = await upload(anna, SEALED)
        asked = reservation(SEALED)
        download = (await anna.do("GET", f"/media/{media}"))["download"]
        address = (await anna.do("POST", "/media", asked))["upload"]
        assert (download["expires_in_s"], address["expires_in_s"]) == (3, 3)
        while (answer := await get(download)).status_code == 200:  # noqa: ASYNC110 - the clock is the object store's
            await asyncio.sleep(0.1)
        assert (answer.status_code, "AccessDenied" in answer.text) == (400, True)
        assert "AccessDenied" in (await put(address, SEALED)).text
        assert (await get((await anna.do("GET", f"/media/{media}"))["download"])).content == SEALED


# Fairness, and a full or hanging store


async def test_what_is_promised_counts_as_taken(tmp_path: Path, s3: Server) -> None:
    """I11: else many uploads, each of which there is room for, would fill the disk, and the log stood still."""
    async with sqlite_engine(tmp_path, bucket=s3.place, room=100_000) as engine:
        anna, ben = await engine.person("Anna"), await engine.person("Ben")
        asked = [reservation(os.urandom(30_000)) for _ in range(4)]
        for each in asked[:3]:
            await anna.do("POST", "/media", each)
        await anna.do("POST", "/media", asked[0])  # again: it is promised once
        assert refused(await ben.ask("POST", "/media", asked[3])) == "storage_full"
        engine.clock.forward(1_000)
        await ben.do("POST", "/media", asked[3])


async def test_of_one_account_few_are_taken_in_at_a_time(engine: Engine, anna: Person, ben: Person) -> None:
    """I11: and others don't wait for them."""
    turns = engine.services.objects.queues
    async with AsyncExitStack() as stack:
        # One large one is at it, the others are in line.
        await stack.enter_async_context(turns.turn(AccountId(anna.account), SMALL_BYTES + 1))
        waiting = [asyncio.create_task(_wait(turns, anna)) for _ in range(OF_ACCOUNT_MAX - 1)]
        await asyncio.sleep(0)
        reserved = await anna.do("POST", "/media", reservation(SEALED))
        await put(reserved["upload"], SEALED)
        assert refused(await anna.ask("POST", f"/media/{reserved['media']}/complete")) == "busy"
        await upload(ben, SEALED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    await anna.do("POST", f"/media/{reserved['media']}/complete")


async def _wait(turns: Queues, person: Person) -> None:
    async with turns.turn(AccountId(person.account), SMALL_BYTES + 1):
        pass


async def test_a_store_that_hangs_is_waited_for_once_and_holds_up_no_stop(
    tmp_path: Path, s3: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "OPEN_MAX_S", 0.3)
    monkeypatch.setattr(objects, "CLOSE_MAX_S", 0.3)
    # The system takes connections for it, and nobody answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bucket = msgspec.structs.replace(s3.place, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with asyncio.timeout(20), sqlite_engine(tmp_path, bucket=bucket) as engine:
            anna = await engine.person("Anna")
            answers = await asyncio.gather(*(anna.ask("POST", "/media", reservation(SEALED)) for _ in range(20)))
            assert {refused(answer) for answer in answers} == {"unavailable"}
            assert "127.0.0.1" not in answers[0].text, "where it lies is the operator's business"


async def test_who_sees_one_of_many_messages_gets_it(engine: Engine, anna: Person) -> None:
    """In whichever conversation, if that is said; without, the server looks through some of them."""
    media = await upload(anna, SEALED)
    friends = [await engine.person(f"friend {number}") for number in range(4)]
    groups = sorted([await anna.start_group(friend) for friend in friends])
    for group in groups:
        for _ in range(3):
            assert (await show(anna, group, media)).status_code == 200
    for friend in friends:
        [own] = [each["c"] for each in (await friend.do("GET", "/conversations"))["conversations"]]
        assert (await friend.do("GET", f"/media/{media}"))["media"] == media
        assert (await friend.do("GET", f"/media/{media}", conversation=own))["media"] == media
        for other in groups:
            if other != own:
                answer = await friend.ask("GET", f"/media/{media}", conversation=other)
                assert refused(answer) == "no_such_media"


async def test_completing_what_has_expired_takes_nothing_from_who_sees_it(
    engine: Engine, anna: Person, ben: Person
) -> None:
    """A message that was decided beside the expiry shows it."""
    group = await anna.start_group(ben)
    media = await upload(anna, SEALED)
    assert (await show(anna, group, media)).status_code == 200
    await engine.services.writer.execute(ExpireMedia(id=CommandId(str(uuid4())), media=MediaId(media)), turn="sweep")
    assert refused(await anna.ask("POST", f"/media/{media}/complete")) == "media_expired"
    shown = await ben.do("GET", f"/media/{media}")
    assert (await get(shown["download"])).content == SEALED
