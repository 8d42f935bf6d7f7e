"""Who is speaking: challenges, log-ins, tokens, and what becomes of them when a device is revoked."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest
from nacl.signing import SigningKey

from domain.account import DeviceRevoked
from domain.codec import DomainEvent, Event
from domain.entry import Entry
from domain.ids import AccountId, DeviceId, account_stream
from gateways import auth as auth_module
from gateways.auth import Auth
from gateways.fading import Fading
from gateways.limits import Limits
from gateways.refusal import Refusal
from projections.directory import DeviceRow
from signet_client import payloads
from tests.gateways.engine import SERVER, Engine, Person, command, sqlite_engine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with sqlite_engine(tmp_path) as engine:
        yield engine


async def refused(person: Person, path: str, body: dict[str, Any]) -> str:
    response = await person.ask("POST", path, body)
    assert response.status_code >= 400, response.text
    code: str = response.json()["code"]
    return code


# Challenges


async def test_a_nonce_logs_in_once(engine: Engine) -> None:
    """I12: who overhears a log-in can't repeat it."""
    anna = await engine.person("Anna")
    hello = await anna.hello()
    await anna.do("POST", "/token", hello)
    assert await refused(anna, "/token", hello) == "not_authenticated"


async def test_a_nonce_is_good_for_a_minute(engine: Engine) -> None:
    anna = await engine.person("Anna")
    young, old = await anna.hello(), await anna.hello()
    engine.clock.forward(59)
    await anna.do("POST", "/token", young)
    engine.clock.forward(2)
    assert await refused(anna, "/token", old) == "not_authenticated"


async def test_a_used_nonce_stays_used_for_as_long_as_it_would_be_good(engine: Engine) -> None:
    """I12: also where the memory of used nonces turns over in between."""
    anna = await engine.person("Anna")
    for _ in range(5):
        hello = await anna.hello()
        engine.clock.forward(29)
        await anna.do("POST", "/token", hello)
        engine.clock.forward(29)
        assert await refused(anna, "/token", hello) == "not_authenticated"


@pytest.mark.parametrize("nonce", ["", "x", "A" * 54, "ÄÖÜ", "A" * 10_000])
async def test_a_nonce_that_the_server_did_not_give_is_refused(engine: Engine, nonce: str) -> None:
    anna = await engine.person("Anna")
    assert await refused(anna, "/token", {**await anna.hello(), "nonce": nonce}) == "not_authenticated"


async def test_another_spelling_of_a_nonce_is_refused(engine: Engine) -> None:
    """I12: the bits that base64 leaves over don't make a used nonce fresh."""
    anna = await engine.person("Anna")
    hello = await anna.hello()
    nonce = hello["nonce"]
    twin = next(
        text
        for char in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        if (text := nonce[:-1] + char) != nonce and payloads.from_base64(text) == payloads.from_base64(nonce)
    )
    payload = payloads.hello_payload(nonce=twin, server=SERVER, account=anna.account, device=anna.device)
    signed = {**hello, "nonce": twin, "signature": anna.sign(payload)}
    assert await refused(anna, "/token", signed) == "not_authenticated"


async def test_a_flood_of_challenges_takes_no_memory_and_locks_nobody_out(
    engine: Engine,
) -> None:
    """I11."""
    anna = await engine.person("Anna")
    hello = await anna.hello()
    for _ in range(20_000):
        engine.services.auth.challenge()
    await anna.do("POST", "/token", hello)


# Signatures


async def test_a_log_in_needs_the_device_s_own_signature_for_this_very_purpose(engine: Engine) -> None:
    """I12."""
    anna, ben = await engine.person("Anna"), await engine.person("Ben")
    hello = await anna.hello()
    nonce, names = hello["nonce"], {"account": anna.account, "device": anna.device}
    other_server = payloads.hello_payload(nonce=nonce, server="elsewhere", **names)
    other_purpose = payloads.link_payload(server=SERVER, key=anna.key, **names)
    right = payloads.hello_payload(nonce=nonce, server=SERVER, **names)
    for signature in (ben.sign(right), anna.sign(other_server), anna.sign(other_purpose), "", "no base64!", "AAAA"):
        assert await refused(anna, "/token", {**hello, "signature": signature}) == "bad_signature"
    # None of these has used the nonce up.
    await anna.do("POST", "/token", hello)


async def test_an_unknown_account_and_an_unknown_device_are_refused_alike(engine: Engine) -> None:
    """I12: nobody finds out by this which accounts there are."""
    anna = await engine.person("Anna")
    hello = await anna.hello()
    answers = [
        (await anna.ask("POST", "/token", {**hello, **wrong})).json()
        for wrong in ({"account": str(uuid4())}, {"device": "phone"}, {"account": "no uuid"})
    ]
    assert [answer["code"] for answer in answers] == ["device_revoked"] * 3
    assert answers[0] == answers[1] == answers[2]


async def test_a_name_with_a_line_break_can_t_pretend_to_be_two_parts(engine: Engine) -> None:
    """I12."""
    anna = await engine.person("Anna")
    hello = {**await anna.hello(), "device": "laptop\nlaptop"}
    assert await refused(anna, "/token", hello) == "device_revoked"
    phone = Person(engine, "Anna", "pho\nne", SigningKey.generate())
    assert await refused(anna, "/devices", {**command(), "device": "pho\nne", "key": phone.key, "signature": ""}) == (
        "bad_frame"
    )


# Registration and linking


async def test_a_repeated_registration_gives_the_same_account(engine: Engine) -> None:
    """I2: with the same challenge, since the answer may have been lost, and with a later one."""
    anna = Person(engine, "Anna", "laptop", SigningKey.generate())
    registration = await anna.registration()
    first = await anna.do("POST", "/accounts", registration)
    assert await anna.do("POST", "/accounts", registration) == first
    assert await anna.do("POST", "/accounts", await anna.registration(registration["id"])) == first


async def test_nobody_registers_with_a_key_that_it_does_not_have(engine: Engine) -> None:
    """I12: and so nobody takes the account that somebody else is about to make."""
    anna, eve = (Person(engine, name, "laptop", SigningKey.generate()) for name in ("Anna", "Eve"))
    registration = await anna.registration()
    forged = {**await eve.registration(registration["id"]), "key": anna.key}
    assert await refused(eve, "/accounts", forged) == "bad_signature"
    # The same command id with another key is another account.
    theirs = await eve.do("POST", "/accounts", await eve.registration(registration["id"]))
    ours = await anna.do("POST", "/accounts", registration)
    assert theirs["account"] != ours["account"]


async def test_an_account_may_be_named_by_the_command_alone(engine: Engine) -> None:
    """I2: a device whose keys hold its account's id knows that id before it has a key."""
    anna = Person(engine, "Anna", "laptop", SigningKey.generate())
    registration = {**await anna.registration(), "named": "id"}
    known = str(uuid5(UUID("5f0c2a34-61f5-4b0e-9a0c-5d1f6b1e7a01"), registration["id"] + "\n"))
    assert (await anna.do("POST", "/accounts", registration))["account"] == known
    again = {**await anna.registration(registration["id"]), "named": "id"}
    assert (await anna.do("POST", "/accounts", again))["account"] == known
    anna.account = known
    await anna.log_in()
    assert (await anna.do("GET", "/accounts/me"))["name"] == "Anna"


async def test_an_account_that_is_named_by_the_command_is_never_two_peoples(engine: Engine) -> None:
    """I12: whoever learns the command's id can come first, but not come in."""
    anna, eve = (Person(engine, name, "laptop", SigningKey.generate()) for name in ("Anna", "Eve"))
    registration = {**await anna.registration(), "named": "id"}
    theirs = await anna.do("POST", "/accounts", registration)
    assert await refused(eve, "/accounts", {**await eve.registration(registration["id"]), "named": "id"}) == "id_taken"
    eve.account = theirs["account"]
    assert await refused(eve, "/token", await eve.hello()) == "bad_signature"
    by_key = await eve.do("POST", "/accounts", await eve.registration(registration["id"]))
    assert by_key["account"] != theirs["account"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"named": "name"},
        {"named": ""},
        {"key": "AAAA"},
        {"key": "no base64!"},
        {"key": payloads.to_base64(bytes(32))[:-1] + "B"},
        {"device": ""},
        {"device": "x" * 65},
        {"device": "bell\x07"},
        {"name": ""},
        {"name": "  "},
        {"name": "Anna\n"},
        {"id": "no uuid"},
        {"id": str(uuid4()) + "\n"},
        {"id": str(uuid4()).upper()},
    ],
)
async def test_malformed_registrations_are_refused(engine: Engine, wrong: dict[str, str]) -> None:
    anna = Person(engine, "Anna", "laptop", SigningKey.generate())
    assert await refused(anna, "/accounts", {**await anna.registration(), **wrong}) == "bad_frame"


@pytest.mark.parametrize("registration", ["open", "invited", "closed"])
async def test_a_stranger_learns_who_may_register(tmp_path: Path, registration: str) -> None:
    async with sqlite_engine(tmp_path, registration=registration) as engine:
        assert (await engine.http.get("/v1/")).json()["registration"] == registration


async def test_registration_may_be_closed(tmp_path: Path) -> None:
    async with sqlite_engine(tmp_path, registration="closed") as engine:
        anna = Person(engine, "Anna", "laptop", SigningKey.generate())
        assert await refused(anna, "/accounts", await anna.registration()) == "registration_closed"


async def test_a_linked_device_logs_in_and_lets_others_in(engine: Engine) -> None:
    anna = await engine.person("Anna")
    phone = await anna.new_device("phone")
    tablet = await phone.new_device("tablet")
    shown = (await tablet.do("GET", "/devices"))["devices"]
    assert [(each["device"], each["by"], each["active"]) for each in shown] == [
        ("laptop", None, True),
        ("phone", "laptop", True),
        ("tablet", "phone", True),
    ]


async def test_only_the_calling_device_s_signature_lets_a_device_in(engine: Engine) -> None:
    """I12: a stolen token alone links nothing, nor does a signature over another key or name."""
    anna, eve = await engine.person("Anna"), await engine.person("Eve")
    phone, other = (Person(engine, "Anna", "phone", SigningKey.generate()) for _ in range(2))
    link = anna.link(phone)
    for wrong in (
        {"key": other.key},
        {"device": "tablet"},
        {"signature": eve.link(phone)["signature"]},
        {"signature": phone.sign(b"")},
    ):
        assert await refused(anna, "/devices", {**link, **wrong}) == "bad_signature"


async def test_a_device_name_has_one_key_for_ever(engine: Engine) -> None:
    anna = await engine.person("Anna")
    phone = await anna.new_device("phone")
    other = Person(engine, "Anna", "phone", SigningKey.generate())
    assert await refused(anna, "/devices", anna.link(other)) == "device_exists"
    await anna.do("DELETE", "/devices/phone", id=str(uuid4()))
    assert await refused(anna, "/devices", anna.link(phone)) == "device_exists"


# Tokens


async def test_a_token_lives_an_hour(engine: Engine) -> None:
    anna = await engine.person("Anna")
    engine.clock.forward(3_590)
    await anna.do("GET", "/devices")
    engine.clock.forward(20)
    response = await anna.ask("GET", "/devices")
    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_token_dies_with_its_device_at_once(engine: Engine) -> None:
    """I12: the first request after the revocation's answer is refused, and so is a new log-in."""
    anna = await engine.person("Anna")
    phone = await anna.new_device("phone")
    await phone.do("GET", "/conversations")
    await anna.do("DELETE", "/devices/phone", id=str(uuid4()))
    assert (await phone.ask("GET", "/conversations")).json()["code"] == "device_revoked"
    assert await refused(phone, "/token", await phone.hello()) == "device_revoked"
    await anna.do("GET", "/conversations")


async def test_a_device_may_revoke_itself(engine: Engine) -> None:
    anna = await engine.person("Anna")
    phone = await anna.new_device("phone")
    command_id = str(uuid4())
    first = await phone.do("DELETE", "/devices/phone", id=command_id)
    assert (await phone.ask("GET", "/devices")).json()["code"] == "device_revoked"
    # I2: the answer may have been lost, so the same command gets it again; no other command does.
    assert await phone.do("DELETE", "/devices/phone", id=command_id) == first
    for device in ("phone", "laptop", "nobody"):
        other = await phone.ask("DELETE", f"/devices/{device}", id=str(uuid4()))
        assert other.json()["code"] == "device_revoked"


async def test_a_revoked_device_s_command_is_refused_by_the_domain_too(engine: Engine) -> None:
    """I12: at the edge and again in the decision, where the token is not asked."""
    anna = await engine.person("Anna")
    phone = await anna.new_device("phone")
    group = await anna.start_group()
    before = engine.services.auth.caller(phone.token)
    await anna.do("DELETE", "/devices/phone", id=str(uuid4()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.services.auth, "caller", lambda token: before)
        response = await phone.ask("POST", f"/conversations/{group}/messages", phone.message(group, "boo"))
    assert response.json()["code"] == "device_revoked"


async def test_a_ninth_token_ends_the_oldest(engine: Engine) -> None:
    """I11: no device can fill the memory with tokens."""
    anna = await engine.person("Anna")
    first = anna.token
    for _ in range(auth_module.TOKENS_OF_DEVICE_MAX - 1):
        await anna.log_in()
    anna.token, last = first, anna.token
    await anna.do("GET", "/devices")
    await anna.log_in()
    anna.token = first
    assert (await anna.ask("GET", "/devices")).json()["code"] == "not_authenticated"
    anna.token = last
    await anna.do("GET", "/devices")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer nobody", "Basic QTpC", "Bearer ÄÖ"])
async def test_other_credentials_are_refused(engine: Engine, header: str) -> None:
    response = await engine.http.get("/v1/devices", headers={b"authorization": header.encode()})
    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")


# A revocation in the very moment of a log-in


class StubDirectory:
    """One device; `looked` is called at each look, before the answer."""

    def __init__(self, row: DeviceRow) -> None:
        self.row = row
        self.looks = 0
        self.looked: Callable[[int], None] = lambda look: None

    async def device(self, account: AccountId, device: DeviceId) -> DeviceRow | None:
        row = self.row
        self.looks += 1
        self.looked(self.looks)
        return row


@pytest.mark.parametrize("moment", [1, 2])
async def test_a_revocation_during_the_log_in_ends_the_token(moment: int) -> None:
    """I12: wherever between the look at the device and the token's making the revocation is published."""
    key = SigningKey.generate()
    account, device = AccountId(str(uuid4())), DeviceId("phone")
    row = DeviceRow(
        account=account,
        device=device,
        key=payloads.to_base64(bytes(key.verify_key)),
        active=True,
        linked_at=1,
        by=None,
    )
    directory = StubDirectory(row)

    async def caught_up() -> None:
        pass

    auth = Auth(
        server_name=SERVER, directory=lambda: directory, catch_up=caught_up, clock=lambda: 1_000_000, limits=Limits()
    )

    def revoke(look: int) -> None:
        if look == moment:
            directory.row = DeviceRow(account=account, device=device, key=row.key, active=False, linked_at=1, by=None)
            revoked = DeviceRevoked(device=device, by=DeviceId("laptop"))
            entry: Entry[DomainEvent] = Entry(v=1, id=str(uuid4()), cmd=str(uuid4()), at=2, e=revoked)
            auth.hear([Event(position=9, stream=account_stream(account), version=2, entry=entry)])

    directory.looked = revoke
    nonce = auth.challenge()
    payload = payloads.hello_payload(nonce=nonce, server=SERVER, account=account, device=device)
    signature = payloads.to_base64(key.sign(payload).signature)

    async def use() -> None:
        token, _ = await auth.token(nonce=nonce, account=account, device=device, signature=signature, address="::1")
        auth.caller(token)

    with pytest.raises(Refusal) as refusal:
        await use()
    assert refusal.value.code == "device_revoked"


# What fades


def test_entries_last_at_least_their_life_and_at_most_twice() -> None:
    fading: Fading[int, str] = Fading(life_us=10, entries_max=100)
    for now in range(60):
        fading.put(now, "here", now)
        ages = {now - key: fading.get(key, now) for key in range(now + 1)}
        assert all(value == "here" for age, value in ages.items() if age < 10)
        assert all(value is None for age, value in ages.items() if age >= 20)
    assert fading.get(59, 1_000) is None


def test_what_is_full_refuses_and_has_room_again_when_entries_have_faded() -> None:
    """I11: a named bound with a stated outcome."""
    fading: Fading[int, str] = Fading(life_us=10, entries_max=3)
    for key in range(3):
        fading.put(key, "here", 0)
    fading.put(2, "again", 1)
    with pytest.raises(Refusal) as refusal:
        fading.put(3, "too much", 1)
    assert refusal.value.code == "busy"
    assert refusal.value.reply.retry
    fading.drop(0)
    fading.put(3, "there", 1)
    fading.put(4, "later", 30)
