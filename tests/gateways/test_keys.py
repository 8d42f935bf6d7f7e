"""The key directory: what is uploaded is checked, each key is handed out once, and who is to hear of it does."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast
from uuid import uuid4

import msgspec
import pytest
from nacl.signing import SigningKey

from commands.stores.memory import Medium, MemoryLog
from domain.ids import AccountId, DeviceId
from domain.keys import ONE_TIME_KEYS_MAX
from gateways import devicelists, keymodels, keys
from gateways.auth import Caller
from gateways.devicelists import DeviceLists
from gateways.limits import LimitSettings, Rate
from projections.database import DatabaseUnavailable
from projections.delivery import DeviceListPush, Subscriber
from projections.inbox import Inbox
from signet_client import matrix, payloads, wire
from signet_client.codes import REPLIES
from signet_client.matrix import SIGNED_CURVE25519
from tests.gateways.engine import SERVER, Engine, Person, command, open_engine, sqlite_engine
from tests.gateways.live import WAIT_S, MemoryDevice, live_engine, live_server, send
from tests.gateways.published import (
    Object,
    claim,
    curve25519,
    device_keys,
    fallback_key,
    one_time_keys,
    publish,
    signed,
    user,
)

STORES: Final = {"handed over": True, "followed": False}


@pytest.fixture(params=STORES)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """Both ways in which events come to the read models."""
    if STORES[request.param]:
        async with sqlite_engine(tmp_path) as engine:
            yield engine
    else:
        async with open_engine(MemoryLog(Medium()), hands_over=False) as engine:
            yield engine


class Pushes:
    """The part of delivery that the lists know."""

    def subscribe(self, callback: Subscriber) -> None:
        self.give = callback


async def two(engine: Engine) -> tuple[Person, Person]:
    return await engine.person("Ann"), await engine.person("Ben")


async def upload(person: Person, **body: Any) -> Any:
    return await person.do("POST", "/keys/upload", body)


async def query(by: Person, *of: Person, **more: Any) -> Any:
    return await by.do("POST", "/keys/query", {"device_keys": {user(person): [] for person in of}, **more})


def counted(left: int) -> dict[str, dict[str, int]]:
    return {"one_time_key_counts": {SIGNED_CURVE25519: left}}


# Upload


async def test_what_is_uploaded_is_what_others_get(engine: Engine) -> None:
    """Byte for byte what was signed, but for the order of its names."""
    ann, ben = await two(engine)
    keys, one_time, fallback = device_keys(ann, more="ours"), one_time_keys(ann, "A"), fallback_key(ann, "F")
    assert await upload(ann, device_keys=keys, one_time_keys=one_time, fallback_keys=fallback) == counted(1)
    found = await query(ben, ann)
    assert found["device_keys"] == {user(ann): {"laptop": keys}}
    wanted = {"one_time_keys": {user(ann): {"laptop": SIGNED_CURVE25519}}}
    for key in (one_time, fallback, fallback):
        assert (await ben.do("POST", "/keys/claim", wanted)) == {
            "one_time_keys": {user(ann): {"laptop": key}}, "failures": {},
        }  # fmt: skip
    assert await upload(ann) == counted(0)


async def test_said_again_it_changes_nothing(engine: Engine) -> None:
    """I2"""
    ann, _ = await two(engine)
    body = {"device_keys": device_keys(ann), "one_time_keys": one_time_keys(ann, "A", "B")}
    body["fallback_keys"] = fallback_key(ann, "F")
    assert await upload(ann, **body) == counted(2)
    head = await engine.services.log.head()
    for _ in range(2):
        assert await upload(ann, **body) == counted(2)
    assert await engine.services.log.head() == head


async def test_what_is_wrong_is_refused_and_nothing_of_it_is_stored(engine: Engine) -> None:
    """I12: each by its code, and with it all that came in the same upload."""
    ann, ben = await two(engine)
    phone = await ann.new_device("phone")
    await publish(ann, "A", fallback="F")
    eve = Person(engine, "Eve", ann.device, SigningKey.generate())
    eve.account = ann.account
    mine, others = device_keys(ann), device_keys(ben)
    good = one_time_keys(ann, "B")
    key, curve = f"{SIGNED_CURVE25519}:B", f"curve25519:{ann.device}"
    forged = signed(eve, {"key": curve25519("B")})
    another = signed(ann, {"key": curve25519("other")})
    deep: Any = []
    for _ in range(matrix.DEPTH_MAX):
        deep = [deep]

    def changed(**fields: Any) -> dict[str, Any]:
        return {"device_keys": device_keys(ann, **fields)}

    wrong: list[tuple[Object, str]] = [
        # Identity keys
        ({"device_keys": mine | {"signatures": others["signatures"]}}, "bad_signature"),
        ({"device_keys": mine | {"more": 1}}, "bad_signature"),
        ({"device_keys": {**mine, "signatures": {}}}, "bad_signature"),
        ({"device_keys": device_keys(eve)}, "bad_frame"),
        ({"device_keys": others}, "bad_frame"),
        ({"device_keys": device_keys(phone)}, "bad_frame"),
        (changed(user_id=user(ben)), "bad_frame"),
        (changed(device_id="phone"), "bad_frame"),
        (changed(algorithms=["m.olm.v2", matrix.MEGOLM]), "bad_frame"),
        (changed(keys={**mine["keys"], curve: "no key"}), "bad_frame"),
        (changed(keys={**mine["keys"], curve: curve25519("other")}), "device_exists"),
        ({"device_keys": {**mine, "unsigned": {"number": 1.5}, "number": 1.5}}, "bad_frame"),
        ({"device_keys": {**mine, "unsigned": deep}}, "bad_frame"),
        ({"device_keys": "keys"}, "bad_frame"),
        (changed(more="x" * 4_096), "too_large"),
        ({"device_keys": {**mine, "unsigned": "x" * 4_096}}, "too_large"),
        # One-time keys
        ({"one_time_keys": {key: forged}}, "bad_signature"),
        ({"one_time_keys": good | {key: {"key": curve25519("B")}}}, "bad_signature"),
        ({"one_time_keys": {key: curve25519("B")}}, "bad_frame"),
        ({"one_time_keys": {"curve25519:B": good[key]}}, "bad_frame"),
        ({"one_time_keys": {SIGNED_CURVE25519: good[key]}}, "bad_frame"),
        ({"one_time_keys": {f"{SIGNED_CURVE25519}:": good[key]}}, "bad_frame"),
        ({"one_time_keys": {f"{SIGNED_CURVE25519}:{'x' * 65}": good[key]}}, "bad_frame"),
        ({"one_time_keys": {f"{SIGNED_CURVE25519}:a\nb": good[key]}}, "bad_frame"),
        ({"one_time_keys": fallback_key(ann, "B")}, "bad_frame"),
        ({"one_time_keys": good | {f"{SIGNED_CURVE25519}:A": another}}, "id_taken"),
        ({"one_time_keys": one_time_keys(ann, *map(str, range(101)))}, "bad_frame"),
        ({"one_time_keys": {key: signed(ann, {"key": curve25519("B"), "more": "x" * 4_096})}}, "too_large"),
        # Fallback keys
        ({"one_time_keys": good, "fallback_keys": {key: forged | {"fallback": True}}}, "bad_signature"),
        ({"one_time_keys": good, "fallback_keys": good}, "bad_frame"),
        ({"one_time_keys": good, "fallback_keys": fallback_key(ann, "G") | fallback_key(ann, "H")}, "bad_frame"),
    ]  # fmt: skip
    head = await engine.services.log.head()
    for body, code in wrong:
        response = await ann.ask("POST", "/keys/upload", body)
        assert (response.status_code, response.json()["code"]) == (REPLIES[code].status, code), body
    assert await engine.services.log.head() == head
    assert await upload(ann) == counted(1)
    assert (await query(ben, ann))["device_keys"] == {user(ann): {"laptop": mine}}


async def test_identity_keys_come_first(engine: Engine) -> None:
    ann, _ = await two(engine)
    response = await ann.ask("POST", "/keys/upload", {"one_time_keys": one_time_keys(ann, "A")})
    assert (response.status_code, response.json()["code"]) == (409, "no_keys")
    assert await upload(ann, device_keys=device_keys(ann)) == counted(0)
    # A device that has no more than these has them for ever.
    other = device_keys(ann, keys={**device_keys(ann)["keys"], f"curve25519:{ann.device}": curve25519("other")})
    response = await ann.ask("POST", "/keys/upload", {"device_keys": other})
    assert (response.status_code, response.json()["code"]) == (409, "device_exists")
    assert await upload(ann, one_time_keys=one_time_keys(ann, "A")) == counted(1)


async def test_so_many_wait_and_no_more(engine: Engine) -> None:
    """I11"""
    ann, ben = await two(engine)
    await publish(ann)
    for first in range(0, ONE_TIME_KEYS_MAX, 100):
        await upload(ann, one_time_keys=one_time_keys(ann, *map(str, range(first, first + 100))))
    response = await ann.ask("POST", "/keys/upload", {"one_time_keys": one_time_keys(ann, "more")})
    assert (response.status_code, response.json()["code"]) == (409, "too_many_keys")
    assert await claim(ben, ann) == ["0"]
    assert await upload(ann, one_time_keys=one_time_keys(ann, "more")) == counted(ONE_TIME_KEYS_MAX)


async def test_an_upload_counts_as_a_command(tmp_path: Path) -> None:
    """I11"""
    limits = replace(LimitSettings(), commands_device=Rate(per_s=0.01, burst=1))
    async with sqlite_engine(tmp_path, limits=limits) as engine:
        ann = await engine.person("Ann")
        await publish(ann)
        response = await ann.ask("POST", "/keys/upload", {"device_keys": device_keys(ann)})
        assert (response.status_code, response.json()["code"]) == (429, "rate_limited")


# Query


async def test_lists_that_have_not_changed_are_left_out(engine: Engine) -> None:
    """I10"""
    ann, ben = await two(engine)
    phone = await ben.new_device("phone")
    for person in (ann, ben):
        await publish(person, "A", fallback="F")
    first = await query(ann, ann, ben)
    assert set(first["device_keys"]) == set(first["versions"]) == set(first["links"]) == {user(ann), user(ben)}
    # What is claimed or linked changes no list; what is published by another device does.
    await claim(ann, ben)
    await ben.new_device("tablet")
    empty: Object = {"device_keys": {}, "failures": {}, "versions": {}, "links": {}}
    assert await query(ann, ann, ben, versions=first["versions"]) == empty
    await publish(phone)
    second = await query(ann, ann, ben, versions=first["versions"])
    assert set(second["device_keys"]) == {user(ben)}
    assert set(second["device_keys"][user(ben)]) == {"laptop", "phone"}
    assert second["versions"][user(ben)] > first["versions"][user(ben)]
    assert await query(ann, ann, ben, versions=first["versions"] | second["versions"]) == empty
    await ben.do("DELETE", "/devices/phone", **command())
    third = await query(ann, ann, ben, versions=first["versions"] | second["versions"])
    assert set(third["device_keys"][user(ben)]) == {"laptop"}
    # A version that was never told is no reason to leave anything out.
    for version in (-1, 10**6):
        again = await query(ann, ben, versions={user(ben): version})
        assert again == third


async def test_devices_can_be_named(engine: Engine) -> None:
    ann, ben = await two(engine)
    phone = await ben.new_device("phone")
    for person in (ben, phone):
        await publish(person)
    for named, found in (([], {"laptop", "phone"}), (["phone"], {"phone"}), (["fridge"], set())):
        answer = await ann.do("POST", "/keys/query", {"device_keys": {user(ben): named}})
        assert set(answer["device_keys"][user(ben)]) == found


async def test_who_is_unknown_has_no_devices(engine: Engine) -> None:
    ann, ben = await two(engine)
    nobody = matrix.user_id(str(uuid4()), SERVER)
    answer = await ann.do("POST", "/keys/query", {"device_keys": {nobody: [], user(ben): []}})
    assert answer["device_keys"] == {nobody: {}, user(ben): {}}
    assert (answer["links"][nobody], answer["versions"]) == ([], {nobody: -1, user(ben): -1})
    for wrong in (ben.account, matrix.user_id(ben.account, "elsewhere"), matrix.user_id("ben", SERVER), "@", ""):
        response = await ann.ask("POST", "/keys/query", {"device_keys": {wrong: []}})
        assert (response.status_code, response.json()["code"]) == (400, "bad_frame")
        response = await ann.ask("POST", "/keys/claim", {"one_time_keys": {wrong: {"laptop": SIGNED_CURVE25519}}})
        assert (response.status_code, response.json()["code"]) == (400, "bad_frame")


async def test_it_is_told_who_has_let_each_device_in(engine: Engine) -> None:
    """I12: so that others need not believe the server; also of devices that are gone."""
    ann, ben = await two(engine)
    phone = await ben.new_device("phone")
    await publish(ben)
    await ben.do("DELETE", "/devices/phone", **command())
    laptop, gone = (await query(ann, ben))["links"][user(ben)]
    assert (laptop["device"], laptop["key"], laptop["active"], laptop["by"]) == ("laptop", ben.key, True, None)
    assert (gone["device"], gone["key"], gone["active"], gone["by"]) == ("phone", phone.key, False, "laptop")
    linked = payloads.link_payload(server=SERVER, account=ben.account, device="phone", key=phone.key)
    assert matrix.verify(ben.key, linked, gone["signature"])


# Claim


async def test_of_fifty_claims_at_once_each_gets_another_key(engine: Engine) -> None:
    ann, ben = await two(engine)
    ids = [f"K{number}" for number in range(50)]
    await publish(ann, *ids)
    got = await asyncio.gather(*(claim(ben, ann) for _ in range(50)))
    assert sorted(id_ for [id_] in got if id_) == sorted(ids)
    assert await claim(ben, ann) == [None]
    assert await upload(ann, one_time_keys=one_time_keys(ann, *ids)) == counted(0)


async def test_of_sixty_claims_the_last_ten_get_the_fallback_key(engine: Engine) -> None:
    ann, ben = await two(engine)
    ids = [f"K{number}" for number in range(50)]
    await publish(ann, *ids, fallback="F")
    got = await asyncio.gather(*(claim(ben, ann) for _ in range(60)))
    assert Counter(id_ for [id_] in got) == Counter(dict.fromkeys(ids, 1) | {"F": 10})
    assert [id_ for [id_] in [await claim(ben, ann) for _ in range(2)]] == ["F", "F"]


async def test_a_claim_that_is_said_again_gets_the_same_keys(engine: Engine) -> None:
    """I2: with the same id; without one, or with another, it gets others."""
    ann, ben = await two(engine)
    phone = await ann.new_device("phone")
    await publish(ann, "A", "B", "C")
    await publish(phone, "P", "Q")
    id_ = str(uuid4())
    first = await claim(ben, ann, phone, id_=id_)
    assert first == ["A", "P"]
    assert await claim(ben, ann, id_=str(uuid4())) == ["B"]
    assert await asyncio.gather(*(claim(ben, ann, phone, id_=id_) for _ in range(5))) == [first] * 5
    # Of each device, whichever else is named beside it.
    assert await claim(ben, phone, id_=id_) == ["P"]
    assert await claim(ben, ann, phone) == ["C", "Q"]


async def test_nobody_gets_the_keys_of_anothers_claim(engine: Engine) -> None:
    """I12: an id that somebody overheard tells nothing."""
    ann, ben = await two(engine)
    cem = await engine.person("Cem")
    await publish(ann, "A", "B")
    id_ = str(uuid4())
    assert await claim(ben, ann, id_=id_) == ["A"]
    assert await claim(cem, ann, id_=id_) == [None]
    assert await claim(cem, ann) == ["B"]


async def test_what_is_not_there_is_left_out(engine: Engine) -> None:
    """I12: unknown people and devices, those without keys and those that are revoked; and other algorithms."""
    ann, ben = await two(engine)
    phone, tablet = await ann.new_device("phone"), await ann.new_device("tablet")
    await publish(ann, "A")
    await publish(phone, "P", fallback="F")
    await ann.do("DELETE", "/devices/phone", **command())
    assert await claim(ben, phone, tablet, ben, ann) == [None, None, None, "A"]
    nobody = matrix.user_id(str(uuid4()), SERVER)
    wanted = {nobody: {"laptop": SIGNED_CURVE25519}, user(ann): {"fridge": SIGNED_CURVE25519, "laptop": "curve25519"}}
    assert (await ben.do("POST", "/keys/claim", {"one_time_keys": wanted}))["one_time_keys"] == {}
    assert set((await query(ben, ann))["device_keys"][user(ann)]) == {"laptop"}


async def test_a_claim_is_bounded_and_counts_as_commands(tmp_path: Path) -> None:
    """I11: one for each sixteen devices, whether they are there or not."""
    limits = replace(LimitSettings(), commands_device=Rate(per_s=0.01, burst=3))
    async with sqlite_engine(tmp_path, limits=limits) as engine:
        ann, ben = await two(engine)

        async def code(devices: int) -> str:
            wanted = {user(ben): {f"{number}": SIGNED_CURVE25519 for number in range(devices)}}
            response = await ann.ask("POST", "/keys/claim", {"one_time_keys": wanted})
            return "ok" if response.status_code == 200 else str(response.json()["code"])

        assert await code(keymodels.DEVICES_MAX + 1) == "too_large"
        assert [await code(17), await code(16), await code(1)] == ["ok", "ok", "rate_limited"]


async def test_many_devices_at_once(engine: Engine) -> None:
    ann, ben = await two(engine)
    people = [ann, *[await ann.new_device(f"device {number}") for number in range(20)]]
    for person in people:
        await publish(person, f"of {person.device}")
    assert await claim(ben, *people) == [f"of {person.device}" for person in people]


# Who hears of it


async def test_a_claim_tells_the_device_what_it_has_left() -> None:
    async with live_engine() as engine:
        ann, ben = await two(engine)
        phone = await ann.new_device("phone")
        await publish(ann, "A", "B", fallback="F")
        laptop, others = await MemoryDevice(engine, ann).live(), await MemoryDevice(engine, phone).live()
        expected = [(1, False), (0, False), (0, True), (0, True)]
        for left, used in expected:
            await claim(ben, ann)
            assert await laptop.next(wire.KeyCounts) == wire.KeyCounts(left=left, fallback_used=used)
        # One-time keys are there again, and the fallback key is as used as it was.
        await upload(ann, one_time_keys=one_time_keys(ann, "C"))
        await claim(ben, ann)
        assert await laptop.next(wire.KeyCounts) == wire.KeyCounts(left=0, fallback_used=True)
        await upload(ann, one_time_keys=one_time_keys(ann, "D", "E"), fallback_keys=fallback_key(ann, "G"))
        await claim(ben, ann)
        assert await laptop.next(wire.KeyCounts) == wire.KeyCounts(left=1, fallback_used=False)
        await others.round_trip()
        assert [frame for frame in others.take() if isinstance(frame, wire.KeyCounts)] == []


async def test_a_device_that_connects_is_told_what_it_has_left() -> None:
    async with live_server() as server:
        ann, ben = await two(server.engine)

        async def counts() -> wire.KeyCounts:
            device = MemoryDevice(server.engine, ann)
            await device.log_in()
            return await device.next(wire.KeyCounts)

        assert await counts() == wire.KeyCounts(left=0, fallback_used=True, published=False)
        await publish(ann, "A", "B")
        assert await counts() == wire.KeyCounts(left=2, fallback_used=True)
        await publish(ann, "A", "B", fallback="F")
        assert await counts() == wire.KeyCounts(left=2)
        await claim(ben, ann)
        assert await counts() == wire.KeyCounts(left=1)
        async with server.device(ann) as device:
            await claim(ben, ann)
            assert await device.next(wire.KeyCounts) == wire.KeyCounts(left=0)
            await claim(ben, ann)
            assert await device.next(wire.KeyCounts) == wire.KeyCounts(left=0, fallback_used=True)
        assert await counts() == wire.KeyCounts(left=0, fallback_used=True)


async def test_those_who_share_a_conversation_hear_of_other_devices_and_nobody_else() -> None:
    """I12"""
    async with live_engine() as engine:
        ann, ben, cem, dan, eve = [await engine.person(name) for name in ("Ann", "Ben", "Cem", "Dan", "Eve")]
        phone = await ann.new_device("phone")
        both = await ann.start_group(ben, dan)
        await ann.start_group(ben)
        await ben.start_group(cem)
        left = await ann.start_group(eve)
        await eve.do("POST", f"/conversations/{left}/leave", command())
        await dan.do("POST", f"/conversations/{both}/leave", command())
        people = (ann, phone, ben, cem, dan, eve)
        devices = {person: await MemoryDevice(engine, person).live() for person in people}
        expected = wire.DeviceLists(accounts=[ann.account])
        await publish(phone, "A", fallback="F")
        for person in (ann, phone, ben):
            assert await devices[person].next(wire.DeviceLists) == expected
        await claim(ben, phone)
        await phone.do("POST", "/keys/upload", {"one_time_keys": one_time_keys(phone, "B")})
        await ann.do("DELETE", "/devices/phone", **command())
        for person in (ann, ben):
            assert await devices[person].next(wire.DeviceLists) == expected
        for person in people:
            if person is not phone:
                await devices[person].round_trip()
                assert [each for each in devices[person].take() if isinstance(each, wire.DeviceLists)] == []


async def test_while_the_read_models_are_away_nobody_is_told_and_then_of_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A hint that is lost: who encrypts after its next welcome asks."""
    async with live_engine() as engine:
        ann, ben = await two(engine)
        await ann.start_group(ben)
        device = await MemoryDevice(engine, ben).live()
        asked = asyncio.Event()

        async def away(_self: Inbox, _account: AccountId) -> list[Any]:
            asked.set()
            raise DatabaseUnavailable("it is away")

        with monkeypatch.context() as patched:
            patched.setattr(Inbox, "conversations", away)
            await publish(ann)
            async with asyncio.timeout(WAIT_S):
                await asked.wait()
        phone = await ann.new_device("phone")
        await publish(phone)
        assert await device.next(wire.DeviceLists) == wire.DeviceLists(accounts=[ann.account])
        assert "nobody is told of the new devices" in caplog.text
        await device.round_trip()
        assert [each for each in device.take() if isinstance(each, wire.DeviceLists)] == []


async def test_how_many_changes_wait_to_be_told_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """I11"""
    monkeypatch.setattr(devicelists, "WAITING_MAX", 2)
    async with live_engine() as engine:
        people = [await engine.person(f"person {number}") for number in range(5)]
        await people[0].start_group(*people[1:])
        device = await MemoryDevice(engine, people[0]).live()
        pushes = Pushes()
        lists = DeviceLists(cast(Any, pushes), engine.services.hub, lambda: engine.services.inbox)
        first, *others = (DeviceListPush(account=AccountId(person.account)) for person in people[1:])
        pushes.give([first, first, *others])
        told = [(await device.next(wire.DeviceLists)).accounts for _ in range(2)]
        assert told == [[people[1].account], [people[2].account]]
        pushes.give([others[-1]])
        assert (await device.next(wire.DeviceLists)).accounts == [people[4].account]
        pushes.give([first])
        await lists.close()
        await device.round_trip()
        assert [each for each in device.take() if isinstance(each, wire.DeviceLists)] == []


# Encrypted conversations


ENCRYPTED: Final = {"algorithm": matrix.MEGOLM, "ciphertext": "AwgA", "session_id": "s", "device_id": "laptop"}


async def sent(by: Person, conversation: str, body: str, after: int) -> str:
    """ "ok" or the refusal's code."""
    made = by.message(conversation, "", a=after, h=payloads.digest_of(body)) | {"body": body}
    response = await by.ask("POST", f"/conversations/{conversation}/messages", made)
    return "ok" if response.status_code == 200 else str(response.json()["code"])


async def test_conversations_are_end_to_end_encrypted_unless_they_are_started_otherwise(engine: Engine) -> None:
    ann, ben = await two(engine)
    cem = await engine.person("Cem")
    body = command(kind="group", members=[ben.account], title="Us")
    conversation = (await ann.do("POST", "/conversations", body))["conversation"]
    shown = await ben.do("GET", f"/conversations/{conversation}")
    assert shown["overview"]["protection"] == "end_to_end"
    good = msgspec.json.encode(ENCRYPTED).decode()
    for plain in (
        '{"text":"hello"}', "hello", '{"ciphertext":"x"}', '"ciphertext"', '["ciphertext"]', f"{good}x",
        good.replace(matrix.MEGOLM, matrix.OLM), good.replace('"s"', "1"), good.replace('"AwgA"', "{}"),
    ):  # fmt: skip
        assert await sent(ann, conversation, plain, 1) == "not_encrypted"
    assert await sent(ann, conversation, good, 1) == "ok"
    # Whoever does not know yet who has come encrypts it anew.
    await ann.do("POST", f"/conversations/{conversation}/members", command(accounts=[cem.account]))
    assert await sent(ben, conversation, good, 2) == "stale_members"
    assert await sent(ben, conversation, good, 3) == "ok"
    plain = (await ann.do("POST", "/conversations", body | command(protection="none")))["conversation"]
    assert await sent(ann, plain, '{"text":"hello"}', 0) == "ok"


async def test_a_message_for_members_of_before_is_refused_live() -> None:
    async with live_engine() as engine:
        ann, ben = await two(engine)
        start = command(kind="direct", members=[ben.account])
        conversation = (await ann.do("POST", "/conversations", start))["conversation"]
        device = await MemoryDevice(engine, ann).live()
        body = msgspec.json.encode(ENCRYPTED).decode()
        for after, came in ((0, wire.Refused), (1, wire.Accepted)):
            made = ann.message(conversation, "", a=after, h=payloads.digest_of(body))
            device.say(wire.Send(header=made["header"], body=body))
            answer: Any = await device.next(came)
            if isinstance(answer, wire.Refused):
                assert (answer.code, answer.retry) == ("stale_members", False)
        device.say(send(ann, conversation, "plain", a=1))
        assert (await device.next(wire.Refused)).code == "not_encrypted"


# Signed statements


async def test_what_devices_have_signed_is_told_to_members_and_to_nobody_else() -> None:
    """I5, I12: by it each checks its ticks, without believing the server."""
    async with live_engine() as engine:
        ann, ben = await two(engine)
        cem = await engine.person("Cem")
        room = await ann.start_group(ben)
        at_ann = await MemoryDevice(engine, ann).live()
        for text in ("one", "two", "three"):
            await at_ann.sent(room, text)
        device = await MemoryDevice(engine, ben).live()

        def state(delivered: int, read: int, undecryptable: tuple[int, ...] = ()) -> wire.Ack:
            payload = payloads.receipt_payload(
                conversation=room, account=ben.account, device=ben.device, delivered=delivered, read=read,
                undecryptable=undecryptable,
            )  # fmt: skip
            return wire.Ack(
                c=room, upto=delivered, read=read, undecryptable=list(undecryptable), signature=ben.sign(payload)
            )

        stated = [state(3, 1, (3,)), state(2, 2), state(4, 3)]
        for frame in stated:
            device.say(frame)
        while (await at_ann.next(wire.Receipt)).read < 3:
            pass
        # One that is not signed moves marks, and stands in no statement.
        device.say(wire.Read(c=room, upto=4))
        while (await at_ann.next(wire.Receipt)).read < 4:
            pass
        told = (await ann.do("GET", f"/conversations/{room}/statements"))["statements"]
        assert told == [
            {
                "account": ben.account, "device": "laptop", "delivered": 4, "read": 3, "undecryptable": [],
                "repaired": [], "signature": stated[2].signature,
            }
        ]  # fmt: skip
        for each in told:
            payload = payloads.receipt_payload(conversation=room, **{k: v for k, v in each.items() if k != "signature"})
            assert matrix.verify(ben.key, payload, each["signature"])
        response = await cem.ask("GET", f"/conversations/{room}/statements")
        assert (response.status_code, response.json()["code"]) == (404, "no_such_conversation")
        await ben.do("POST", f"/conversations/{room}/leave", command())
        assert (await ann.do("GET", f"/conversations/{room}/statements"))["statements"] == []


async def test_uploads_at_once_each_get_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are drawn on the loop's thread, whichever one checks what is uploaded: two threads can't draw at once."""
    drawn: list[bool] = []

    def draw() -> str:
        drawn.append(threading.current_thread() is threading.main_thread())
        return str(uuid4())

    monkeypatch.setattr(keys, "new_uuid", draw)
    caller = Caller(account=AccountId(str(uuid4())), device=DeviceId("laptop"))
    uploads = [keys.checked_upload(keymodels.KeysUpload(), caller=caller, key="", server=SERVER) for _ in range(8)]
    assert len({each.id for each in await asyncio.gather(*uploads)}) == 8
    assert drawn == [True] * 8
