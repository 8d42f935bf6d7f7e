"""What the edge checks of a `send`."""

import json
import time
from typing import Any
from uuid import uuid4

import pytest

from commands.keyring import MemoryKeyring
from commands.sealing import Sealer
from domain.conversation import SendMessage
from domain.ids import AccountId, DeviceId
from gateways.refusal import Refusal
from gateways.sends import HEADER_CHARS_MAX, HEADER_DEPTH_MAX, message_command, parse_header
from gateways.services import EdgeSettings
from signet_client import wire
from signet_client.payloads import digest_of, to_base64

ACCOUNT, DEVICE = AccountId(str(uuid4())), DeviceId("laptop")
SEALER = Sealer(MemoryKeyring(), lambda: time.time_ns() // 1_000)
BODY = '{"text":"grüße"}'


def header_fields(body: str = BODY, **changed: Any) -> dict[str, Any]:
    return {
        "id": str(uuid4()), "c": str(uuid4()), "s": ACCOUNT, "d": DEVICE, "a": 3, "h": digest_of(body), **changed,
    }  # fmt: skip


def command(frame: wire.Send, **settings: Any) -> SendMessage:
    header = parse_header(frame.header)
    assert header is not None
    return message_command(
        frame, header, account=ACCOUNT, device=DEVICE, sealer=SEALER, settings=EdgeSettings(**settings)
    )


def refused(frame: wire.Send, **settings: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        command(frame, **settings)
    return refusal.value.code


def test_the_header_is_handed_on_as_it_came_and_the_body_sealed() -> None:
    fields = header_fields(n=False, about={"of a": ["newer", "client"]})
    text = json.dumps(fields, indent=3)
    made = command(wire.Send(header=text, body=BODY, signature=to_base64(bytes(64)), signer="laptop"))
    assert made.header == text
    assert (made.id, made.conversation, made.after, made.digest) == (
        fields["id"], fields["c"], 3, fields["h"],
    )  # fmt: skip
    assert (made.by, made.device, made.counts) == (ACCOUNT, DEVICE, False)
    assert (made.signature, made.signer) == (to_base64(bytes(64)), "laptop")
    assert b"text" not in made.body.box
    assert SEALER.unseal(made.body) == BODY


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"id": "1"}, "bad_header"),
        ({"id": str(uuid4()).upper()}, "bad_header"),
        ({"c": "general"}, "bad_header"),
        ({"c": "{" + str(uuid4()) + "}"}, "bad_header"),
        ({"c": str(uuid4()) + "\n"}, "bad_header"),
        ({"s": str(uuid4())}, "bad_header"),
        ({"d": "phone"}, "bad_header"),
        ({"a": -1}, "bad_header"),
        ({"a": 10**30}, "bad_header"),
        ({"b": 0}, "bad_header"),
        ({"b": -1}, "bad_header"),
        ({"b": 2**53}, "bad_header"),
        ({"h": digest_of("something else")}, "bad_digest"),
        ({"h": ""}, "bad_digest"),
        ({"h": digest_of(BODY) + "="}, "bad_digest"),
        ({"about": "x" * HEADER_CHARS_MAX}, "too_large"),
    ],
)
def test_a_header_that_is_not_what_it_says_is_refused(changed: dict[str, Any], code: str) -> None:
    """I12: the sender is the connection's, whatever the header says."""
    assert refused(wire.Send(header=json.dumps(header_fields(**changed)), body=BODY)) == code


def test_a_header_is_nested_as_deep_as_every_reader_of_json_can_read() -> None:
    """I11: what one device may say must not be what the devices of the others fail at."""
    fields = json.dumps(header_fields(note='[[{{"' + "[" * HEADER_DEPTH_MAX))[:-1]

    def nested(depth: int) -> wire.Send:
        arrays = depth - 1  # the header itself is an object
        return wire.Send(header=f'{fields},"about":{"[" * arrays}{"]" * arrays}}}', body=BODY)

    frame = nested(HEADER_DEPTH_MAX)
    assert command(frame).header == frame.header
    assert refused(nested(HEADER_DEPTH_MAX + 1)) == "bad_header"
    assert parse_header(fields + ',"about":' + "[" * 2_000 + "]" * 2_000 + "}") is None


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"id":1}', "null"])
def test_what_is_no_header_is_none(text: str) -> None:
    assert parse_header(text) is None


@pytest.mark.parametrize("body", ["x" * 100, "é" * 50])
def test_a_body_is_measured_in_bytes(body: str) -> None:
    frame = wire.Send(header=json.dumps(header_fields(body)), body=body)
    assert command(frame, body_bytes_max=100).digest == digest_of(body)
    assert refused(frame, body_bytes_max=99) == "too_large"


@pytest.mark.parametrize("signature", ["", "x", "?" * 86, to_base64(bytes(63)), to_base64(bytes(65))])
def test_what_can_be_no_signature_is_refused(signature: str) -> None:
    frame = wire.Send(header=json.dumps(header_fields()), body=BODY, signature=signature)
    assert refused(frame) == "bad_signature"


def test_a_signers_name_is_bounded() -> None:
    assert refused(wire.Send(header=json.dumps(header_fields()), body=BODY, signer="x" * 257)) == "too_large"
    assert refused(wire.Send(header=json.dumps(header_fields()), body=BODY, signer="x\0")) == "bad_frame"
