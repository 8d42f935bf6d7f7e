"""The description of the live protocol: every frame, field and code is in it, and what it says is so."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from gateways import live_examples
from gateways.asyncapi import CLIENT_FRAMES, SERVER_FRAMES, describe
from gateways.services import EdgeSettings
from signet_client import wire
from signet_client.codes import DISCONNECTS, REPLIES
from tests.gateways.engine import sqlite_engine

DOCUMENT: Final[dict[str, Any]] = json.loads(json.dumps(describe(EdgeSettings(body_bytes_max=1_000), version="1.2")))
CHANNEL: Final = DOCUMENT["channels"]["live"]
SCHEMAS: Final = DOCUMENT["components"]["schemas"]
FRAMES: Final = [
    frame
    for frame in vars(wire).values()
    if inspect.isclass(frame) and issubclass(frame, msgspec.Struct) and frame.__struct_config__.tag
]
"""Every frame of `wire`, whether a union names it or not."""


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for each in node.values():
            yield from references(each)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


def resolve(reference: str) -> Any:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return resolve(node["$ref"]) if isinstance(node, dict) and "$ref" in node else node


def used(action: str) -> list[str]:
    """The frames of all operations of this kind, by their tags; of answers, with `reply`."""
    operations = [each for each in DOCUMENT["operations"].values() if each["action"] == action]
    return [resolve(reference["$ref"])["name"] for each in operations for reference in each["messages"]]


def answers() -> set[str]:
    replies = [each["reply"]["messages"] for each in DOCUMENT["operations"].values() if "reply" in each]
    return {resolve(reference["$ref"])["name"] for messages in replies for reference in messages}


def tags(frames: tuple[type[msgspec.Struct], ...]) -> set[str]:
    return {str(frame.__struct_config__.tag) for frame in frames}


def test_every_frame_is_described() -> None:
    """A new struct in wire.py needs a place in a union, an operation, an example, and docstrings."""
    assert set(FRAMES) - {wire._Frame} == {*CLIENT_FRAMES, *SERVER_FRAMES}
    assert sorted(used("receive")) == sorted(tags(CLIENT_FRAMES))
    assert {*used("send"), *answers()} == tags(SERVER_FRAMES)
    assert set(live_examples.FRAMES) == {*CLIENT_FRAMES, *SERVER_FRAMES}
    assert set(CHANNEL["messages"]) == tags((*CLIENT_FRAMES, *SERVER_FRAMES))


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_struct_and_field_is_described(name: str) -> None:
    assert SCHEMAS[name]["description"]
    undescribed = [field for field, told in SCHEMAS[name]["properties"].items() if not told.get("description")]
    assert not undescribed, f"say in wire.py or live_schemas.py what these are: {undescribed}"


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert found
    for reference in found:
        assert resolve(reference)


def test_every_code_is_told() -> None:
    assert [each["code"] for each in CHANNEL["x-reply-codes"]] == list(REPLIES)
    assert [each["code"] for each in CHANNEL["x-close-codes"]] == list(DISCONNECTS)
    assert {each["code"]: each["reconnect"] for each in CHANNEL["x-close-codes"]}["revoked"] is False
    for code in (*REPLIES, *DISCONNECTS):
        assert f"`{code}`" in CHANNEL["description"]


def test_keys_are_those_of_asyncapi_3() -> None:
    """By hand, what the specification's own JSON Schema would check: no key that it doesn't know."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert set(DOCUMENT) <= {
        "asyncapi",
        "info",
        "defaultContentType",
        "servers",
        "channels",
        "operations",
        "components",
    }
    assert all(set(each) <= {"host", "protocol", "description", "variables"} for each in DOCUMENT["servers"].values())
    known = {"address", "title", "description", "messages", "bindings"}
    assert all(key in known or key.startswith("x-") for key in CHANNEL)
    for operation in DOCUMENT["operations"].values():
        assert set(operation) <= {"action", "channel", "summary", "messages", "reply"}
        assert operation["action"] in ("send", "receive")
    for message in DOCUMENT["components"]["messages"].values():
        assert set(message) == {"name", "title", "summary", "description", "payload", "examples"}


@pytest.mark.parametrize("frame", [*CLIENT_FRAMES, *SERVER_FRAMES], ids=lambda frame: frame.__name__)
def test_examples_are_frames_within_the_bounds(frame: type[msgspec.Struct]) -> None:
    message = DOCUMENT["components"]["messages"][frame.__struct_config__.tag]
    for example in message["examples"]:
        assert msgspec.convert(example["payload"], frame) == live_examples.FRAMES[frame]
        assert_fits(example["payload"], resolve(message["payload"]["$ref"]))


def tag_of(schema: dict[str, Any]) -> Any:
    return resolve(schema["$ref"])["properties"]["t"]["enum"][0]


def assert_fits(value: Any, schema: dict[str, Any]) -> None:
    """The part of JSON Schema that the document uses."""
    if "$ref" in schema:
        schema = resolve(schema["$ref"])
    if "anyOf" in schema:
        # Told apart by type, or by tag.
        wanted = [each for each in schema["anyOf"] if each.get("type") != "null"]
        tagged = [each for each in wanted if "$ref" in each and tag_of(each) == value["t"]]
        assert_fits(value, (tagged or wanted)[0])
        return
    if "enum" in schema:
        assert value in schema["enum"]
    elif schema["type"] == "object" and "properties" in schema:
        assert set(schema["required"]) <= set(value) <= set(schema["properties"])
        for name, each in value.items():
            assert_fits(each, schema["properties"][name])
    elif schema["type"] == "object":
        for each in value.values():
            assert_fits(each, schema["additionalProperties"])
    elif schema["type"] == "array":
        assert len(value) <= schema.get("maxItems", 10_000)
        for each in value:
            assert_fits(each, schema["items"])
    elif schema["type"] == "string":
        assert schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10_000)
        assert re.search(schema.get("pattern", ""), value)
    elif schema["type"] == "integer":
        assert schema.get("minimum", 0) <= value <= schema.get("maximum", 2**63)
    else:
        assert isinstance(value, bool)


def test_the_limits_in_force_are_told() -> None:
    assert SCHEMAS["Send"]["properties"]["body"]["maxLength"] == 1_000
    assert CHANNEL["x-frame-bytes-max"] == EdgeSettings().frame_bytes_max


async def test_it_is_served_for_machines_and_for_people(tmp_path: Path) -> None:
    async with sqlite_engine(tmp_path, body_bytes_max=1_000) as engine:
        index = (await engine.http.get("/v1/")).json()
        served = await engine.http.get(index["live_description"])
        page = await engine.http.get("/docs/live")
    assert served.headers["content-type"] == "application/json"
    assert served.json()["channels"] == DOCUMENT["channels"]
    for frame in (*CLIENT_FRAMES, *SERVER_FRAMES):
        assert f'<h3 id="{frame.__struct_config__.tag}">' in page.text
    for code in (*REPLIES, *DISCONNECTS):
        assert code in page.text


async def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with sqlite_engine(tmp_path) as engine:
        page = await engine.http.get("/docs/live")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search("<script|src=|@import|url\\(|https?://", page.text)
