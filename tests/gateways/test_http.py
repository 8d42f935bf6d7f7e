"""The HTTP edge: its one form of refusals, its limits, and that a read shows what was written before it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from commands.stores.memory import Medium, MemoryLog
from domain.ids import AccountId, CommandId, ConversationId, DeviceId
from domain.receipts import AdvanceReceipts, Receipt
from gateways import keymodels, models
from gateways.auth import Caller
from gateways.http import make_app
from gateways.media import models as mediamodels
from signet_client import payloads, wire
from signet_client.codes import REPLIES
from tests.gateways.engine import Engine, Person, command, open_engine, sqlite_engine, texts
from tests.gateways.live import WAIT_S, live_server


@pytest.fixture(params=["handed over", "followed"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """On the embedded store, where the writer hands its events over, and on one whose log is followed."""
    if request.param == "handed over":
        async with sqlite_engine(tmp_path) as engine:
            yield engine
    else:
        async with open_engine(MemoryLog(Medium()), hands_over=False) as engine:
            yield engine


async def refusal(person: Person, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, str]:
    response = await person.ask(method, path, body, **query)
    problem = response.json()
    assert set(problem) == {"code", "text", "retry"}
    return response.status_code, problem["code"]


# What was written is read


async def test_a_read_shows_every_change_that_was_answered(engine: Engine) -> None:
    """I1: no read is older than an answer."""
    anna, ben = await engine.person("Anna"), await engine.person("Ben")
    group = await anna.start_group(ben)
    at = f"/conversations/{group}"
    for number in range(10):
        seq = await anna.send(group, str(number))
        assert (await ben.history(group))["items"][-1]["seq"] == seq
        assert (await ben.do("GET", at))["overview"]["unread"] == number + 1
    await anna.do("PUT", f"{at}/title", command(title="Sculling"))
    assert (await ben.do("GET", "/conversations"))["conversations"][0]["title"] == "Sculling"
    await anna.do("PUT", f"{at}/members/{ben.account}/role", command(role="admin"))
    assert (await ben.do("GET", at))["members"] == {anna.account: "owner", ben.account: "admin"}
    await anna.do("PUT", "/accounts/me/name", command(name="Anna B."))
    assert (await ben.do("GET", f"/accounts/{anna.account}"))["name"] == "Anna B."


async def test_history_comes_in_pages_without_a_hole(engine: Engine) -> None:
    """I4: following `upto` from page to page shows each event once, in order."""
    anna = await engine.person("Anna")
    group = await anna.start_group()
    for number in range(25):
        await anna.send(group, str(number))
    seen: list[dict[str, Any]] = []
    upto, head = 0, 1
    while upto < head:
        page = await anna.history(group, after=upto, limit=7)
        assert len(page["items"]) <= 7
        seen += page["items"]
        upto, head = page["upto"], page["head"]
    assert [item["seq"] for item in seen] == list(range(1, 27))
    assert texts({"items": seen}) == [str(number) for number in range(25)]
    # Past the end there is nothing, and the page doesn't pretend that there were.
    beyond = await anna.history(group, after=1_000)
    assert (beyond["items"], beyond["upto"]) == ([], 26)


async def test_a_page_of_long_messages_ends_early_and_says_so(engine: Engine) -> None:
    """I11: no answer grows beyond a bound; I4: and nothing is skipped for it."""
    anna = await engine.person("Anna")
    group = await anna.start_group()
    for number in range(12):
        await anna.send(group, f"{number} " + "x" * 60_000)
    seqs: list[int] = []
    upto, head, pages = 0, 1, 0
    while upto < head:
        page = await anna.history(group, after=upto)
        assert len(json.dumps(page)) < 300_000
        seqs += [item["seq"] for item in page["items"]]
        upto, head, pages = page["upto"], page["head"], pages + 1
    assert seqs == list(range(1, 14))
    assert pages == 3


async def test_a_page_is_weighed_as_it_is_sent_and_no_more_is_read_than_that(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I11: a control character is one byte at rest and six in JSON, and a page that nobody reads waits in memory."""
    anna = await engine.person("Anna")
    group = await anna.start_group()
    for number in range(40):
        sent = anna.message(group, "")
        body = f"{number} " + "\x01" * 30_000
        header = {**json.loads(sent["header"]), "h": payloads.digest_of(body)}
        await anna.do("POST", f"/conversations/{group}/messages", {"header": json.dumps(header), "body": body})
    read = 0
    page = engine.services.messages.page

    async def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal read
        found = await page(*args, **kwargs)
        read += len(found)
        return found

    monkeypatch.setattr(engine.services.messages, "page", counting)
    seqs: list[int] = []
    upto, head = 0, 1
    while upto < head:
        read = 0
        answer = await anna.ask("GET", f"/conversations/{group}/events", after=upto, limit=500)
        assert len(answer.content) < 300_000
        assert read <= 36
        seqs += [item["seq"] for item in answer.json()["items"]]
        upto, head = answer.json()["upto"], answer.json()["head"]
    assert seqs == list(range(1, 42))


async def test_a_page_is_that_of_the_live_protocol(engine: Engine) -> None:
    anna, ben = await engine.person("Anna"), await engine.person("Ben")
    group = await anna.start_group(ben)
    sent = anna.message(group, "hello", x="a field that the server doesn't know")
    await anna.do("POST", f"/conversations/{group}/messages", sent)
    response = await ben.ask("GET", f"/conversations/{group}/events")
    page = msgspec.json.decode(response.content, type=wire.Page)
    started, message = page.items
    assert isinstance(started, wire.Change)
    assert (started.what, started.accounts, started.title) == ("started", [anna.account, ben.account], "Rowing")
    assert isinstance(message, wire.Message)
    assert (message.header, message.body) == (sent["header"], sent["body"])


# Commands


async def test_a_repeated_command_changes_nothing_and_gets_the_same_answer(engine: Engine) -> None:
    """I2: over HTTP as over the live protocol."""
    anna, ben = await engine.person("Anna"), await engine.person("Ben")
    group = await anna.start_group(ben)
    at = f"/conversations/{group}"
    message, title, leave = anna.message(group, "once"), command(title="New"), command()
    first = await anna.do("POST", f"{at}/messages", message)
    renamed = await anna.do("PUT", f"{at}/title", title)
    left = await ben.do("POST", f"{at}/leave", leave)
    head = (await anna.history(group))["head"]
    for _ in range(3):
        assert await anna.do("POST", f"{at}/messages", message) == first
        assert await anna.do("PUT", f"{at}/title", title) == renamed
        assert await ben.do("POST", f"{at}/leave", leave) == left
    assert (await anna.history(group))["head"] == head
    other = {**anna.message(group, "twice", id=json.loads(message["header"])["id"])}
    assert await refusal(anna, "POST", f"{at}/messages", other) == (409, "id_taken")


async def test_a_group_s_start_may_be_repeated(engine: Engine) -> None:
    anna = await engine.person("Anna")
    start = command(kind="group", members=[], title="Rowing")
    first = await anna.do("POST", "/conversations", start)
    assert await anna.do("POST", "/conversations", start) == first
    assert len((await anna.do("GET", "/conversations"))["conversations"]) == 1


async def test_two_people_have_one_direct_conversation(engine: Engine) -> None:
    anna, ben = await engine.person("Anna"), await engine.person("Ben")
    by_anna = await anna.do("POST", "/conversations", command(kind="direct", members=[ben.account]))
    by_ben = await ben.do("POST", "/conversations", command(kind="direct", members=[anna.account]))
    assert by_ben["conversation"] == by_anna["conversation"]
    assert (await ben.do("GET", "/conversations"))["conversations"][0]["peer"] == anna.account


async def test_a_message_that_was_taken_back_has_no_body(engine: Engine) -> None:
    anna, ben = await engine.person("Anna"), await engine.person("Ben")
    group = await anna.start_group(ben)
    seq = await anna.send(group, "oops")
    await anna.do("POST", f"/conversations/{group}/messages/{seq}/retract", command(after=seq))
    items = (await ben.history(group))["items"]
    assert "body" not in items[1]
    assert items[1]["retracted"] == 3
    assert (items[2]["what"], items[2]["target"]) == ("retracted", seq)


async def test_who_has_left_is_shown_nothing_of_a_later_retraction(engine: Engine) -> None:
    """I8: history and overview stay as they were, byte for byte; and one who is back is shown it."""
    anna, ben = await engine.person("Anna"), await engine.person("Ben")
    group = await anna.start_group(ben)
    at = f"/conversations/{group}"
    slip, _ = await anna.send(group, "oops"), await anna.send(group, "on purpose")
    await ben.do("POST", f"{at}/leave", command())
    looks = [("GET", at), ("GET", "/conversations"), ("GET", f"{at}/events")]
    before = [(await ben.ask(*look)).content for look in looks]
    await anna.do("POST", f"{at}/messages/{slip}/retract", command())
    assert [(await ben.ask(*look)).content for look in looks] == before
    await anna.do("POST", f"{at}/members", command(accounts=[ben.account]))
    page = await ben.history(group, after=4)
    assert [item["seq"] for item in page["items"]] == [6]
    assert page["retracted"] == [[slip, 5]]
    assert (await ben.history(group))["items"][slip - 1]["retracted"] == 5
    assert (await ben.do("GET", at))["overview"]["unread"] == 1


async def test_receipts_show_each_member_s_marks(engine: Engine) -> None:
    anna, ben = await engine.person("Anna"), await engine.person("Ben")
    group = await anna.start_group(ben)
    seq = await anna.send(group, "hello")
    receipt = Receipt(
        account=AccountId(ben.account), device=DeviceId(ben.device), delivered=seq, read=1, undecryptable=[seq]
    )
    await engine.services.writer.execute(
        AdvanceReceipts(id=CommandId(str(uuid4())), conversation=ConversationId(group), receipts=[receipt]), turn="test"
    )
    shown = await anna.do("GET", f"/conversations/{group}/receipts")
    assert shown == {
        "conversation": group,
        "members": {
            anna.account: {"delivered": 0, "read": 0},
            ben.account: {"delivered": seq, "read": 1, "undelivered": [seq]},
        },
    }
    at = f"/conversations/{group}/undelivered"
    assert await anna.do("GET", at) == {"conversation": group, "seqs": [seq], "before": 0}
    assert await anna.do("GET", at, before=seq) == {"conversation": group, "seqs": [], "before": 0}
    assert (await ben.do("GET", at))["seqs"] == [], "one's own devices are not waited for"


# Refusals


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"c": str(uuid4())}, "bad_header"),
        ({"c": "no uuid"}, "bad_header"),
        ({"s": str(uuid4())}, "bad_header"),
        ({"d": "phone"}, "bad_header"),
        ({"id": "no uuid"}, "bad_header"),
        ({"a": -1}, "bad_header"),
        ({"a": "1"}, "bad_header"),
        ({"h": "AAAA"}, "bad_digest"),
        ({"a": 99}, "beyond_head"),
    ],
)
async def test_a_header_says_what_is_true(engine: Engine, wrong: dict[str, Any], code: str) -> None:
    """I12: nobody sends in another's name."""
    anna = await engine.person("Anna")
    group = await anna.start_group()
    path = f"/conversations/{group}/messages"
    assert await refusal(anna, "POST", path, anna.message(group, "x", **wrong)) == (REPLIES[code].status, code)
    assert await refusal(anna, "POST", path, {"header": "no json", "body": ""}) == (400, "bad_header")


async def test_a_wrong_field_is_named(engine: Engine) -> None:
    anna = await engine.person("Anna")
    for method, path, body, query, name in (
        ("POST", "/conversations", {"id": str(uuid4()), "kind": "crowd", "members": []}, {}, "$.kind"),
        ("POST", "/conversations", {"kind": "group", "members": []}, {}, "`id`"),
        ("PUT", "/accounts/me/name", {"id": str(uuid4()), "name": 7}, {}, "$.name"),
        ("DELETE", "/devices/phone", None, {}, "id"),
        ("DELETE", "/devices/phone", None, {"id": "x"}, "id"),
        ("GET", f"/conversations/{uuid4()}/events", None, {"after": "x"}, "after"),
        ("GET", f"/conversations/{uuid4()}/events", None, {"after": 2**60}, "after"),
        ("GET", f"/conversations/{uuid4()}/events", None, {"limit": 0}, "limit"),
        ("POST", f"/conversations/{uuid4()}/messages/0/retract", command(), {}, "seq"),
        ("POST", f"/conversations/{uuid4()}/leave", command(after=2**60), {}, "$.after"),
    ):
        response = await anna.ask(method, path, body, **query)
        assert (response.status_code, response.json()["code"]) == (400, "bad_frame"), (path, response.text)
        assert name in response.json()["text"]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"\xff", b'{"id":"\xff"}', b"[" * 50_000, b'{"nonce":"\\ud800"}',
        b'{"new":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
)  # fmt: skip
async def test_what_is_no_json_object_is_refused(engine: Engine, data: bytes) -> None:
    """I11."""
    response = await engine.http.post("/v1/token", content=data)
    assert (response.status_code, response.json()["code"]) == (400, "bad_frame")


async def test_a_bug_is_answered_in_the_same_form(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(token: str) -> Caller:
        raise RuntimeError("a bug")

    monkeypatch.setattr(engine.services.auth, "caller", broken)
    transport = httpx.ASGITransport(make_app(engine.services), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://signet.test") as http:
        response = await http.get("/v1/devices", headers={"authorization": "Bearer x"})
    assert (response.status_code, response.json()["code"]) == (500, "failed")
    assert "a bug" not in response.text


async def test_an_account_that_does_not_exist_is_refused(engine: Engine) -> None:
    anna = await engine.person("Anna")
    for account in (str(uuid4()), "no-uuid"):
        assert await refusal(anna, "GET", f"/accounts/{account}") == (404, "no_such_account")


async def test_an_unknown_address_or_method_is_refused_in_the_same_form(engine: Engine) -> None:
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", "/", 404), ("DELETE", "/v1/challenge", 405)):
        response = await engine.http.request(method, path)
        assert (response.status_code, response.json()["code"]) == (status, "no_such_route")


async def test_a_body_is_read_no_further_than_its_limit(engine: Engine) -> None:
    """I11: whatever length it claims, and however long it goes on."""
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 65_536
            yield b" " * 65_536

    response = await engine.http.post("/v1/token", content=endless())
    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    assert response.headers["connection"] == "close"
    assert given <= 2_000_000


@pytest.mark.parametrize("request_line", ["POST /v1/token", "POST /v1/devices", "PUT /nothing", "GET /healthz"])
async def test_an_endless_upload_is_cut_off(request_line: str) -> None:
    """I11: over a socket, the connection ends after the answer, whether the body was wanted or not."""
    async with live_server() as live, asyncio.timeout(WAIT_S):
        _, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(f"{request_line} HTTP/1.1\r\nhost: signet\r\ncontent-length: 1000000000000\r\n\r\n".encode())

        async def flood() -> None:
            while True:
                writer.write(b" " * 65_536)
                await writer.drain()

        with pytest.raises(ConnectionError):
            await flood()
        writer.close()


async def test_a_body_that_is_somewhat_too_large_is_answered() -> None:
    """I11: a clear refusal, over a socket too."""
    async with live_server() as live, httpx.AsyncClient(base_url=f"http://127.0.0.1:{live.port}") as http:
        response = await http.post("/v1/token", content=b" " * 500_000)
        assert (response.status_code, response.json()["code"]) == (413, "too_large")


async def test_a_stranger_s_body_is_not_read_at_all(engine: Engine) -> None:
    """I11."""
    reads = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal reads
        reads += 1
        yield b"{}"

    response = await engine.http.post("/v1/conversations", content=body())
    assert (response.status_code, reads) == (401, 0)


async def test_texts_have_limits(engine: Engine) -> None:
    """I11."""
    anna = await engine.person("Anna")
    group = await anna.start_group()
    at = f"/conversations/{group}"
    assert await refusal(anna, "PUT", f"{at}/title", command(title="x" * 257)) == (413, "too_large")
    assert await refusal(anna, "PUT", "/accounts/me/name", command(name="x" * 129)) == (413, "too_large")
    assert await refusal(anna, "POST", f"{at}/messages", anna.message(group, "x" * 65_536)) == (413, "too_large")
    await anna.do("PUT", f"{at}/title", command(title="ß" * 256))


async def test_groups_have_a_limit(tmp_path: Path) -> None:
    """I11."""
    async with sqlite_engine(tmp_path, members_max=2) as engine:
        anna, ben, carl = [await engine.person(name) for name in ("Anna", "Ben", "Carl")]
        too_many = command(kind="group", members=[ben.account, carl.account])
        assert await refusal(anna, "POST", "/conversations", too_many) == (409, "too_many_members")
        group = await anna.start_group(ben)
        path = f"/conversations/{group}/members"
        assert await refusal(anna, "POST", path, command(accounts=[carl.account])) == (409, "too_many_members")


async def test_wrong_members_are_refused(engine: Engine) -> None:
    anna, ben = await engine.person("Anna"), await engine.person("Ben")
    for kind, members, code in (
        ("direct", [], "bad_members"),
        ("direct", [anna.account], "bad_members"),
        ("group", [ben.account, ben.account], "bad_members"),
        ("group", [str(uuid4())], "no_such_account"),
        ("group", ["no uuid"], "no_such_account"),
    ):
        body = command(kind=kind, members=members)
        assert await refusal(anna, "POST", "/conversations", body) == (REPLIES[code].status, code)
    titled = command(kind="direct", members=[ben.account], title="Us")
    assert await refusal(anna, "POST", "/conversations", titled) == (409, "not_a_group")
    shielded = command(kind="direct", members=[ben.account], protection="by a shield")
    assert await refusal(anna, "POST", "/conversations", shielded) == (400, "bad_frame")


async def test_a_read_model_that_has_stopped_is_said_to_be_unavailable(tmp_path: Path) -> None:
    """I1: better no answer than an old one. The command is stored, and its repetition finds that."""
    async with sqlite_engine(tmp_path) as engine:
        anna = await engine.person("Anna")
        group = await anna.start_group()
        engine.services.runners["inbox"].stopped = "a poisonous event"
        engine.services.feed.head += 1  # what was published and is not in the rows
        response = await anna.ask("GET", f"/conversations/{group}/events")
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert response.json()["retry"]


# The description


async def test_every_example_is_what_it_is_an_example_of(engine: Engine) -> None:
    document = (await engine.http.get("/openapi.json")).json()
    shapes = {**vars(wire), **vars(models), **vars(keymodels), **vars(mediamodels)}
    checked = 0
    for path in document["paths"].values():
        for operation in path.values():
            contents = [response["content"] for response in operation["responses"].values()]
            contents += [operation["requestBody"]["content"]] if "requestBody" in operation else []
            for content in contents:
                if content.keys() == {"text/plain"}:
                    continue  # metrics
                described = content["application/json"]
                shape = shapes[described["schema"]["$ref"].rpartition("/")[2]]
                given = described.get("examples", {"only": {"value": described.get("example")}})
                for example in given.values():
                    msgspec.convert(example["value"], shape)
                    checked += 1
    assert checked > 100


async def test_everything_is_described(engine: Engine) -> None:
    document = (await engine.http.get("/openapi.json")).json()
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["description"]
            assert operation["responses"].keys() >= {"200", "400", "500", "503"}
            assert "422" not in operation["responses"]
    schemas = document["components"]["schemas"]
    assert schemas["Page"]["properties"]["upto"]["description"].startswith("The device holds everything")
    assert schemas["Retitle"]["properties"]["after"]["description"].startswith("The last seq")
    named = {reference.split('"')[0] for reference in json.dumps(document).split("#/components/schemas/")[1:]}
    assert named <= schemas.keys()


async def test_no_page_asks_anything_of_others(engine: Engine) -> None:
    for path in ("/docs", "/redoc"):
        assert (await engine.http.get(path)).status_code == 404


async def test_the_index_and_the_health_of_the_server_are_open(engine: Engine) -> None:
    index = (await engine.http.get("/v1/")).json()
    assert (await engine.http.get(index["description"])).status_code == 200
    assert (await engine.http.get("/healthz")).json() == {"status": "ok"}
