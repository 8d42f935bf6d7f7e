"""`signet conversations` and `signet accounts`: the ids, beside the engine."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from domain.account import DeviceRevoked, ProfileChanged
from domain.conversation import ConversationStarted, MemberLeft, TitleSet
from domain.entry import Sealed
from domain.ids import AccountId, ConversationId, account_stream, conversation_stream
from ops.errors import OpsError
from ops.history.listing import accounts, conversations
from ops.node import Node
from ops.settings import load_settings
from tests import postgres
from tests.ops.chronicle import ANNA, BEN, PHONE, TALK, Chronicle

DIRECT = ConversationId("dddddddd-0000-4000-8000-000000000000")
WAIT_MAX_S = 30


@pytest.fixture(params=["sqlite", "postgres"], autouse=True)
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the read models are kept."""
    if request.param == "postgres":
        server = postgres.shared(18)
        monkeypatch.setenv("SIGNET_READMODELS", server.url(server.new_database()))


async def write(data: Path) -> None:
    chronicle = Chronicle(data)
    for account, name in ((ANNA, "Anna"), (BEN, "Ben")):
        await chronicle.register(account, name)
    renamed = ProfileChanged(name=chronicle.seal("Annie\x1b"))
    await chronicle.record(account_stream(ANNA), renamed)
    await chronicle.record(account_stream(BEN), DeviceRevoked(device=PHONE, by=PHONE))
    title = chronicle.seal("The Garden")
    await chronicle.record(
        conversation_stream(TALK),
        ConversationStarted(
            by=ANNA, kind="group", protection="none", members={ANNA: "owner", BEN: "member"}, members_max=9
        ),
        TitleSet(by=ANNA, title=title),
        MemberLeft(by=BEN),
    )
    members = {ANNA: "member", BEN: "member"}
    start = ConversationStarted(by=BEN, kind="direct", protection="none", members=members, members_max=2)  # type: ignore[arg-type]
    await chronicle.record(conversation_stream(DIRECT), start)
    lost = AccountId("eeeeeeee-0000-4000-8000-000000000000")
    await chronicle.record(account_stream(lost), ProfileChanged(name=Sealed(key="destroyed", box=title.box)))
    await chronicle.close()


@asynccontextmanager
async def engine(data: Path) -> AsyncIterator[None]:
    async with Node.open(load_settings(data, port=0)) as node:
        run = asyncio.create_task(node.run())
        await node.started()
        for runner in node.services.runners.values():
            await asyncio.wait_for(runner.wait(node.services.feed.head), WAIT_MAX_S)
        yield
        node.stop()
        await asyncio.wait_for(run, WAIT_MAX_S)


def beside_engine(capsys: pytest.CaptureFixture[str], data: Path, verb: Callable[[], None]) -> list[str]:
    async def run() -> None:
        await write(data)
        async with engine(data):
            capsys.readouterr()
            await asyncio.to_thread(verb)

    asyncio.run(run())
    return capsys.readouterr().out.splitlines()


GARDEN = f"{TALK}  group         3  2026-05-28T20:26:40Z  'The Garden' Annie\N{REPLACEMENT CHARACTER}"
TWO = f"{DIRECT}  direct        1  2026-05-28T20:26:40Z  Annie\N{REPLACEMENT CHARACTER}, Ben"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, [GARDEN, TWO]),
        ({"find": "garden"}, [GARDEN]),
        ({"find": "BEN"}, [TWO]),
        ({"of": BEN}, [GARDEN, TWO]),
        ({"of": "eeeeeeee-0000-4000-8000-000000000000"}, []),
    ],
)
def test_conversations_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, str], told: list[str]
) -> None:
    assert beside_engine(capsys, tmp_path, lambda: conversations(tmp_path, **options)) == told  # type: ignore[arg-type]


def test_accounts_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert beside_engine(capsys, tmp_path, lambda: accounts(tmp_path)) == [
        f"{ANNA}  Annie\N{REPLACEMENT CHARACTER}  phone",
        f"{BEN}  Ben  phone (revoked)",
        "eeeeeeee-0000-4000-8000-000000000000  (key_missing)  ",
    ]


def test_json_has_the_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def both() -> None:
        conversations(tmp_path, find="garden", json=True)
        accounts(tmp_path, find="ben", json=True)

    talk, ben = map(json.loads, beside_engine(capsys, tmp_path, both))
    assert talk == {
        "conversation": TALK, "kind": "group", "title": "The Garden",
        "members": [{"account": ANNA, "name": "Annie\x1b"}], "last_seq": 3, "last_at": "2026-05-28T20:26:40Z",
    }  # fmt: skip
    assert ben == {"account": BEN, "name": "Ben", "devices": [{"device": "phone", "active": False}]}


def test_where_there_is_no_read_model_it_says_how_to_get_one(tmp_path: Path) -> None:
    asyncio.run(write(tmp_path))
    for verb in (conversations, accounts):
        with pytest.raises(OpsError, match=r"there is no read model .* yet; an engine makes it"):
            verb(tmp_path)


def test_a_name_is_no_id(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="signet accounts --find NAME"):
        conversations(tmp_path, of="Anna")
