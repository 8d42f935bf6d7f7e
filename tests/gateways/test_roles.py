"""I12: each endpoint × each role, generated from the description of the API.

`EXPECTED` says for each operation of the OpenAPI document what each role gets; one that is missing there fails, and so
does a route that the document leaves out. The frames of the live protocol: test_live_roles.py.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from nacl.signing import SigningKey

from gateways.http import make_app
from signet_client.matrix import SIGNED_CURVE25519
from tests.gateways.engine import Person, command, sqlite_engine, texts
from tests.gateways.published import device_keys, user
from tests.gateways.roles import ROLES, Scene
from tests.gateways.uploads import reservation
from tests.s3 import Server


def rights(others: str, **of_roles: str) -> dict[str, str]:
    """What each role gets: without a token, or with a dead one, always the same; the others as named."""
    dead = {"no_token": "not_authenticated", "expired": "not_authenticated", "revoked": "device_revoked"}
    return {**dict.fromkeys(ROLES, others), **dead, **of_roles}


def of_conversation(others: str, *, former: str = "not_a_member", **of_roles: str) -> dict[str, str]:
    """`former`: whoever has left, and whoever was removed."""
    return rights(others, stranger="no_such_conversation", left=former, removed=former, **of_roles)


EVERYBODY: Final = dict.fromkeys(ROLES, "ok")

EXPECTED: Final = {
    "index": EVERYBODY,
    "health": EVERYBODY,
    "ready": EVERYBODY,
    "metrics": EVERYBODY,  # that asks from the machine itself; see test_health.py
    "challenge": EVERYBODY,
    "register": EVERYBODY,
    "token": {**EVERYBODY, "revoked": "device_revoked"},
    "show_account": rights("ok"),
    "rename_account": rights("ok"),
    "list_devices": rights("ok"),
    "link_device": rights("ok"),
    "revoke_device": rights("ok"),
    "list_conversations": rights("ok"),
    "start_conversation": rights("ok"),
    "show_conversation": of_conversation("ok", former="ok"),
    "add_members": of_conversation("ok", member="not_allowed"),
    "remove_member": of_conversation("ok", member="not_allowed"),
    "leave_conversation": of_conversation("ok", owner="last_owner"),
    "change_role": of_conversation("ok", member="not_allowed", admin="not_allowed"),
    "set_title": of_conversation("ok", member="not_allowed"),
    "send_message": of_conversation("ok"),
    "retract_message": of_conversation("ok", member="not_allowed"),
    "list_events": of_conversation("ok", former="ok"),
    "list_receipts": of_conversation("ok"),
    "list_undelivered": of_conversation("ok", former="ok"),
    "upload_keys": rights("ok"),
    "query_keys": rights("ok"),
    "claim_keys": rights("ok"),
    "send_to_device": rights("ok"),
    "list_statements": of_conversation("ok"),
    "reserve_media": rights("ok"),
    "complete_media": rights("no_such_media"),  # the target's
    "show_media": rights("no_such_media", member="ok", admin="ok", owner="ok"),
}

APP: Final = make_app(None)  # type: ignore[arg-type]  # the description needs no engine
DOCUMENT: Final = APP.openapi()
OPERATIONS: Final = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
UNLISTED: Final = {"/openapi.json", "/asyncapi.json", "/docs/live"}
"""What the document leaves out: descriptions of the API, for everybody."""
OF_CONVERSATION: Final = sorted(name for name, (_, path, _) in OPERATIONS.items() if "{conversation}" in path)


@pytest.fixture
async def scene(tmp_path: Path, s3: Server) -> AsyncIterator[Scene]:
    async with sqlite_engine(tmp_path, bucket=s3.place) as engine:
        scene = Scene(engine)
        await scene.enter()
        yield scene


# The request of each operation that has a body or a query; its path is filled in from the scene.

Request = tuple[Any, dict[str, str]]
Builder = Callable[[Scene, Person], Awaitable[Request]]
BUILDERS: dict[str, Builder] = {}


def builds(build: Builder) -> Builder:
    BUILDERS[build.__name__] = build
    return build


@builds
async def register(scene: Scene, caller: Person) -> Request:
    newcomer = Person(scene.engine, "New", "laptop", SigningKey.generate())
    return await newcomer.registration(), {}


@builds
async def token(scene: Scene, caller: Person) -> Request:
    return await caller.hello(), {}


@builds
async def rename_account(scene: Scene, caller: Person) -> Request:
    return command(name="New"), {}


@builds
async def link_device(scene: Scene, caller: Person) -> Request:
    return caller.link(Person(scene.engine, "x", str(uuid4()), SigningKey.generate())), {}


@builds
async def revoke_device(scene: Scene, caller: Person) -> Request:
    if (await caller.ask("GET", "/devices")).status_code == 200:
        await caller.new_device("spare")
    return None, command()


@builds
async def start_conversation(scene: Scene, caller: Person) -> Request:
    return command(kind="direct", members=[scene.people["target"].account]), {}


@builds
async def add_members(scene: Scene, caller: Person) -> Request:
    return command(accounts=[scene.people["newcomer"].account]), {}


@builds
async def remove_member(scene: Scene, caller: Person) -> Request:
    return None, command()


@builds
async def leave_conversation(scene: Scene, caller: Person) -> Request:
    return command(), {}


@builds
async def change_role(scene: Scene, caller: Person) -> Request:
    return command(role="admin"), {}


@builds
async def set_title(scene: Scene, caller: Person) -> Request:
    return command(title="New"), {}


@builds
async def send_message(scene: Scene, caller: Person) -> Request:
    return caller.message(scene.group, "hello"), {}


@builds
async def retract_message(scene: Scene, caller: Person) -> Request:
    return command(), {}


@builds
async def upload_keys(scene: Scene, caller: Person) -> Request:
    return {"device_keys": device_keys(caller)}, {}


@builds
async def query_keys(scene: Scene, caller: Person) -> Request:
    return {"device_keys": {user(scene.people["target"]): []}}, {}


@builds
async def claim_keys(scene: Scene, caller: Person) -> Request:
    target = scene.people["target"]
    return {"one_time_keys": {user(target): {target.device: SIGNED_CURVE25519}}}, {}


@builds
async def reserve_media(scene: Scene, caller: Person) -> Request:
    return reservation(b"a file"), {}


@builds
async def send_to_device(scene: Scene, caller: Person) -> Request:
    target = scene.people["target"]
    return {"messages": {user(target): {target.device: {"body": "x"}}}}, {}


async def ask(scene: Scene, name: str, caller: Person, *, conversation: str | None = None) -> httpx.Response:
    """One operation, asked by one device."""
    method, template, _ = OPERATIONS[name]
    path = template.format(
        conversation=conversation or scene.group,
        account=scene.people["target"].account,
        device="spare",
        seq=scene.seq,
        type="m.dummy",
        transaction=str(uuid4()),
        media=await scene.picture() if "{media}" in template else "",
    )
    body, query = await BUILDERS[name](scene, caller) if name in BUILDERS else (None, {})
    headers = {"authorization": f"Bearer {caller.token}"} if caller.token else {}
    return await scene.engine.http.request(method, path, json=body, params=query, headers=headers)


# The tests


def test_the_table_knows_every_operation_and_every_role() -> None:
    """I12: a new endpoint without its rights fails here."""
    assert EXPECTED.keys() == OPERATIONS.keys()
    assert all(of_roles.keys() == set(ROLES) for of_roles in EXPECTED.values())


def test_the_document_leaves_out_nothing_but_descriptions() -> None:
    """I12: whatever else the application serves is in the table."""
    assert set(unlisted(APP.routes)) == UNLISTED


def unlisted(routes: Sequence[Any]) -> Iterator[str]:
    for route in routes:
        router = getattr(route, "original_router", None)
        if router is not None:
            yield from unlisted(router.routes)
        elif not getattr(route, "include_in_schema", False):
            yield route.path


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_the_description_says_what_needs_a_token(name: str) -> None:
    """I12: what the table opens to everybody is open in the description, and nothing else is."""
    assert ("security" in OPERATIONS[name][2]) == (EXPECTED[name]["no_token"] != "ok")


@pytest.mark.parametrize("name", sorted(OPERATIONS))
async def test_each_role_gets_what_is_its_own(scene: Scene, name: str) -> None:
    """I12: and of what is refused nothing is stored, and the refusal is one that the description names."""
    got = {}
    await scene.set_up()
    if "{media}" in OPERATIONS[name][1]:
        await scene.picture()
    for role in ROLES:
        if name in OF_CONVERSATION:
            await scene.set_up()
        caller = scene.people[role]
        before = await scene.head()
        response = await ask(scene, name, caller)
        got[role] = "ok" if response.status_code == 200 else response.json()["code"]
        if got[role] != "ok":
            assert await scene.head() == before
            documented = OPERATIONS[name][2]["responses"][str(response.status_code)]
            assert got[role] in documented["content"]["application/json"]["examples"]
    assert got == EXPECTED[name]


@pytest.mark.parametrize("name", OF_CONVERSATION)
async def test_a_stranger_can_t_tell_a_foreign_conversation_from_a_missing_one(scene: Scene, name: str) -> None:
    """I12: status, headers and body are the same, byte for byte."""
    await scene.set_up()
    stranger = scene.people["stranger"]
    foreign = await ask(scene, name, stranger)
    scene.group = str(uuid4())
    answers = [foreign, await ask(scene, name, stranger)]
    if name != "send_message":  # its header would have to name the conversation
        answers.append(await ask(scene, name, stranger, conversation="no-uuid"))
    assert {(each.status_code, each.content, each.headers["content-length"]) for each in answers} == {
        (404, foreign.content, foreign.headers["content-length"])
    }
    assert foreign.json()["code"] == "no_such_conversation"


async def test_members_see_their_own_time_in_the_group_and_nothing_else(scene: Scene) -> None:
    """I8, I12: what was said before a member came, while it was away, and after it left is not for it."""
    owner, guest = scene.people["owner"], scene.people["newcomer"]
    group = await owner.start_group(title="First")
    at = f"/conversations/{group}"
    await owner.send(group, "before")
    await owner.do("POST", f"{at}/members", command(accounts=[guest.account]))
    await owner.send(group, "during")
    await owner.do("DELETE", f"{at}/members/{guest.account}", **command())
    await owner.send(group, "away")
    await owner.do("POST", f"{at}/members", command(accounts=[guest.account]))
    await guest.send(group, "again")
    await guest.do("POST", f"{at}/leave", command())
    await owner.send(group, "after")
    await owner.do("PUT", f"{at}/title", command(title="Secret"))

    page = await guest.history(group)
    assert texts(page) == ["during", "again"]
    assert [item["seq"] for item in page["items"]] == [3, 4, 5, 7, 8, 9]
    assert (page["head"], page["upto"]) == (9, 9)
    # Nor by asking from the middle of what is hidden, or past it.
    assert texts(await guest.history(group, after=5, limit=1)) == []
    assert [item["seq"] for item in (await guest.history(group, after=5, limit=1))["items"]] == [7]
    assert (await guest.history(group, after=9))["items"] == []
    # The overview ends where its time ended.
    shown = await guest.do("GET", at)
    assert shown["overview"]["head"] == 9
    assert shown["overview"]["visible"] == [[3, 5], [7, 9]]
    assert shown["members"] is None
    assert "Secret" not in json.dumps([shown, await guest.do("GET", "/conversations")])
    assert texts(await owner.history(group)) == ["before", "during", "away", "again", "after"]


async def test_a_device_acts_for_its_own_account_only(scene: Scene) -> None:
    """I12: another account's devices are neither shown nor revoked."""
    owner, stranger = scene.people["owner"], scene.people["stranger"]
    await owner.new_device("tablet")
    response = await stranger.ask("DELETE", "/devices/tablet", id=str(uuid4()))
    assert response.json()["code"] == "no_such_device"
    assert [each["device"] for each in (await stranger.do("GET", "/devices"))["devices"]] == ["laptop"]
    assert [each["active"] for each in (await owner.do("GET", "/devices"))["devices"]] == [True, True]
