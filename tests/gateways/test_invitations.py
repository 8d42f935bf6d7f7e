"""Invitations: a use is one account's, on disk before the account is, and nobody gets more of them than were made."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from domain.ids import AccountId
from gateways.invitations import Invitations, InvitationsError
from gateways.refusal import Refusal
from tests.gateways.engine import Clock, Engine, Person, sqlite_engine

ANN, BOB, CEM = AccountId("ann"), AccountId("bob"), AccountId("cem")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with sqlite_engine(tmp_path, registration="invited") as engine:
        yield engine


def newcomer(engine: Engine, name: str) -> Person:
    return Person(engine, name, "laptop", SigningKey.generate())


async def register(person: Person, code: str | None, **more: Any) -> str:
    """ "ok" or the refusal's code."""
    response = await person.ask("POST", "/accounts", {**await person.registration(), "invitation": code, **more})
    return "ok" if response.status_code == 200 else str(response.json()["code"])


async def test_who_is_invited_registers_and_nobody_else(engine: Engine) -> None:
    """I12"""
    code, invitation = engine.services.invitations.make(uses=2, life_s=60)
    assert await register(newcomer(engine, "Eve"), None) == "invitation_needed"
    assert await register(newcomer(engine, "Eve"), "0" * 32) == "bad_invitation"
    assert await register(newcomer(engine, "Eve"), invitation.id) == "bad_invitation"
    assert await register(newcomer(engine, "Ann"), code) == "ok"
    assert await register(newcomer(engine, "Bob"), code) == "ok"
    response = await (cem := newcomer(engine, "Cem")).ask(
        "POST", "/accounts", {**await cem.registration(), "invitation": code}
    )
    assert (response.status_code, response.json()["code"]) == (403, "bad_invitation")
    assert "used up" in response.json()["text"]


async def test_a_registration_that_is_said_again_uses_up_nothing_more(engine: Engine) -> None:
    """I2: also when its answer was lost, and the invitation has ended meanwhile."""
    code, invitation = engine.services.invitations.make(uses=1, life_s=60)
    ann = newcomer(engine, "Ann")
    said = {**await ann.registration(), "invitation": code}
    first = await ann.do("POST", "/accounts", said)
    engine.services.invitations.revoke(invitation.id)
    assert await ann.do("POST", "/accounts", said) == first
    assert [each.used for each in engine.services.invitations.list()] == [1]


async def test_a_wrong_signature_uses_nothing_up(engine: Engine) -> None:
    """I12"""
    code, _ = engine.services.invitations.make(uses=1, life_s=60)
    eve, ann = newcomer(engine, "Eve"), newcomer(engine, "Ann")
    signature = (await ann.registration())["signature"]
    assert await register(eve, code, signature=signature) == "bad_signature"
    assert await register(ann, code) == "ok"


async def test_an_account_can_t_be_used_to_get_its_use_back(engine: Engine) -> None:
    """I12: a repetition that is refused for good gives nothing back."""
    code, _ = engine.services.invitations.make(uses=1, life_s=60)
    ann = newcomer(engine, "Ann")
    said = {**await ann.registration(), "invitation": code}
    await ann.do("POST", "/accounts", said)
    ann.device = "another"
    assert (await ann.ask("POST", "/accounts", {**await ann.registration(said["id"]), "invitation": code})).json()[
        "code"
    ] == "id_taken"
    assert await register(newcomer(engine, "Bob"), code) == "bad_invitation"


async def test_where_registration_is_open_an_invitation_is_not_used_up(tmp_path: Path) -> None:
    async with sqlite_engine(tmp_path, registration="open") as engine:
        code, _ = engine.services.invitations.make(uses=1, life_s=60)
        assert await register(newcomer(engine, "Ann"), code) == "ok"
        assert [each.used for each in engine.services.invitations.list()] == [0]


async def test_closed_is_closed_to_the_invited_too(tmp_path: Path) -> None:
    """I12"""
    async with sqlite_engine(tmp_path, registration="closed") as engine:
        code, _ = engine.services.invitations.make(uses=1, life_s=60)
        assert await register(newcomer(engine, "Ann"), code) == "registration_closed"


async def test_many_at_once_get_no_more_uses_than_there_are(tmp_path: Path) -> None:
    """I11: from several threads, as from several processes."""
    invitations = Invitations(tmp_path / "invitations.db", Clock())
    code, _ = invitations.make(uses=3, life_s=60)

    async def use(number: int) -> bool:
        try:
            await invitations.use(code, AccountId(str(number)))
        except Refusal:
            return False
        return True

    assert sum(await asyncio.gather(*(use(number) for number in range(12)))) == 3


async def test_an_invitation_ends_with_its_time_and_by_being_revoked(tmp_path: Path) -> None:
    clock = Clock()
    invitations = Invitations(tmp_path / "invitations.db", clock)
    first, made = invitations.make(uses=5, life_s=60, note="rowing")
    second, other = invitations.make(uses=5, life_s=600)
    await invitations.use(first, ANN)
    clock.forward(61)
    await invitations.use(first, ANN)  # it has its use already
    with pytest.raises(Refusal) as refused:
        await invitations.use(first, BOB)
    assert "it is expired" in refused.value.text
    await invitations.use(second, BOB)
    assert invitations.revoke(other.id) is not None
    with pytest.raises(Refusal) as refused:
        await invitations.use(second, CEM)
    assert "it is revoked" in refused.value.text
    assert invitations.revoke("nothing") is None
    # Another process, and later: all of it is on disk.
    again = Invitations(tmp_path / "invitations.db", clock)
    assert [(each.id, each.note, each.used, each.state(clock())) for each in again.list()] == [
        (made.id, "rowing", 1, "expired"),
        (other.id, "", 1, "revoked"),
    ]


def test_the_file_holds_no_codes_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    """I12"""
    path = tmp_path / "invitations.db"
    code, _ = Invitations(path, Clock()).make(uses=1, life_s=60)
    assert code.encode() not in path.read_bytes()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


async def test_a_file_that_can_t_be_used_is_told_of(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "invitations.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(InvitationsError, match="can't be used"):
        engine.services.invitations.list()
    assert await register(newcomer(engine, "Ann"), "0" * 32) == "unavailable"
