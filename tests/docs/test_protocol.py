"""What docs/protocol.md says is so: its bytes and signatures, its frames, its limits, its closes."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest
from nacl.signing import SigningKey, VerifyKey

from domain import keys
from domain.ids import CommandId, account_id
from domain.receipts import EXCEPTIONS_MAX
from gateways import auth, history, httpsocket, keymodels, mailbox, protocol
from gateways.api.keys import TRANSACTION_CHARS_MAX, TYPE_CHARS_MAX
from gateways.connection import COMMANDS_MAX
from gateways.keys import KEY_CHARS_MAX, KEY_ID_CHARS_MAX
from gateways.sends import HEADER_CHARS_MAX, HEADER_DEPTH_MAX, SIGNER_CHARS_MAX
from gateways.services import EdgeSettings
from signet_client import matrix, payloads, wire
from signet_client.codes import DISCONNECTS, may_reconnect

PAGE: Final = (Path(__file__).parents[2] / "docs/protocol.md").read_text()
FRAMES: Final = {
    frame.__struct_config__.tag: frame for union in (wire.ClientFrame, wire.ServerFrame) for frame in get_args(union)
}
SETTINGS: Final = EdgeSettings()


def fenced(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)


def rows(heading: str) -> Iterator[list[str]]:
    """The rows of the table that begins with this heading."""
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def unbase64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def key(kind: str) -> bytes:
    found = re.search(rf"^    {kind} key +(\S+)$", PAGE, re.MULTILINE)
    assert found is not None
    return unbase64(found[1])


# The worked example


def signed() -> list[tuple[str, str]]:
    """Each signed text with the signature that stands after it."""
    return re.findall(r"^```signed\n(.*?)\n```\n\n    (\S{86})$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_signatures_are_those_of_the_key() -> None:
    assert bytes(SigningKey(key("private")).verify_key) == key("public")
    assert len(signed()) == len(fenced("signed")) == 5
    for text, signature in signed():
        VerifyKey(key("public")).verify(text.encode(), unbase64(signature))


def test_the_signed_texts_are_what_this_server_verifies() -> None:
    register, hello, link, _, receipt = (text.split("\n") for text, _ in signed())
    _, nonce, server, command_id, device, public = register
    account, newcomer, new_key = hello[3], link[3], link[4]
    assert (
        payloads.registration_payload(nonce=nonce, server=server, command_id=command_id, device=device, key=public)
        == "\n".join(register).encode()
    )
    assert account == account_id(command_id=CommandId(command_id), key=public)
    made = payloads.hello_payload(nonce=nonce, server=server, account=account, device=device)
    assert made == "\n".join(hello).encode()
    made = payloads.link_payload(server=server, account=account, device=newcomer, key=new_key)
    assert made == "\n".join(link).encode()
    _, conversation, account, device, delivered, read, undecryptable, _ = receipt
    made = payloads.receipt_payload(
        conversation=conversation, account=account, device=device, delivered=int(delivered), read=int(read),
        undecryptable=[int(undecryptable)],
    )  # fmt: skip
    assert made == "\n".join(receipt).encode()
    assert unbase64(new_key) == bytes(SigningKey(bytes(range(32, 64))).verify_key)


def test_the_message_has_the_digest_and_the_header_that_it_should() -> None:
    header, signature = signed()[3]
    body = fenced("text")[0]
    digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode().rstrip("=")
    assert json.loads(header)["h"] == digest == payloads.digest_of(body)
    assert f"\n    {digest}\n" in PAGE
    assert payloads.encode_header(msgspec.json.decode(header, type=payloads.Header)) == header
    frame = msgspec.json.decode(fenced("json")[-1], type=wire.ClientFrame)
    assert frame == wire.Send(header=header, body=body, signature=signature)


# Frames


def frames() -> list[Any]:
    """Those that stand there whole."""
    return [json.loads(text) for text in fenced("json") if "…" not in text]


@pytest.mark.parametrize("frame", frames(), ids=lambda frame: frame["t"])
def test_every_frame_is_one_without_unknown_fields(frame: dict[str, Any]) -> None:
    shape = FRAMES[frame["t"]]
    msgspec.convert(frame, shape)
    assert set(frame) - {"t"} <= {field.encode_name for field in msgspec.structs.fields(shape)}


def test_every_kind_of_frame_is_spoken_of() -> None:
    missing = [tag for tag in FRAMES if not re.search(rf"`{tag}`|\"t\": ?\"{tag}\"", PAGE)]
    assert not missing


def test_every_field_of_the_header_is_spoken_of() -> None:
    told = {name for cells in rows("name") for name in re.findall("`([a-z]+)`", cells[0])}
    assert told == {field.encode_name for field in msgspec.structs.fields(payloads.Header)}


# Tables


def test_the_limits_are_those_in_force() -> None:
    told = {cells[0]: int(re.sub("[^0-9]", "", cells[1])) for cells in rows("what | how much")}
    assert told == {
        "a frame, or the body of an HTTP request": SETTINGS.frame_bytes_max,
        "the head of an HTTP request": httpsocket.HEAD_BYTES_MAX,
        "headers in it": httpsocket.HEADERS_MAX,
        "HTTP requests that wait for the one before them, on one connection": httpsocket.PIPELINED_MAX,
        "a message's body": SETTINGS.body_bytes_max,
        "a header": HEADER_CHARS_MAX,
        "arrays and objects in one another, in a header": HEADER_DEPTH_MAX,
        "a signer's name": SIGNER_CHARS_MAX,
        "a device's name": auth.DEVICE_CHARS_MAX,
        "an account's name": SETTINGS.name_chars_max,
        "a group's title": SETTINGS.title_chars_max,
        "members of a group": SETTINGS.members_max,
        "items of a page; `limit` of a fetch": history.PAGE_ITEMS_MAX,
        "seqs in `undecryptable` or `repaired`": EXCEPTIONS_MAX,
        "one-time keys of a device that wait to be handed out": keys.ONE_TIME_KEYS_MAX,
        "one-time keys in one upload": keymodels.ONE_TIME_KEYS_MAX,
        "a key's id": KEY_ID_CHARS_MAX,
        "identity keys; any other key with its signature, as canonical JSON": KEY_CHARS_MAX,
        "people in one query, claim, or sending to devices": keymodels.PEOPLE_MAX,
        "devices in one claim or sending to devices": keymodels.DEVICES_MAX,
        "a content that is sent to a device": SETTINGS.body_bytes_max,
        "arrays and objects in one another, in it and in keys": matrix.DEPTH_MAX,
        "its type": TYPE_CHARS_MAX,
        "its transaction": TRANSACTION_CHARS_MAX,
        "mail that waits for a device": mailbox.WAITING_MAX,
        "commands and fetches without an answer; then the server reads on when one is answered": COMMANDS_MAX,
        "fragments of a frame": protocol.FRAGMENTS_MAX,
        "WebSocket pings, pongs and fragments between two pings of the server": protocol.EXTRAS_MAX,
        "the same before the hello": protocol.EXTRAS_BEFORE_LOGIN_MAX,
        "a nonce": auth.NONCE_LIFE_S,
        "a token": auth.TOKEN_LIFE_S,
        "tokens of a device": auth.TOKENS_OF_DEVICE_MAX,
    }


def test_every_close_is_told_with_what_to_do() -> None:
    told = {int(number): cells[2] for cells in rows("close") for number in re.findall("[0-9]{4}", cells[0])}
    assert set(told) >= {each.number for each in DISCONNECTS.values()}
    for number, what in told.items():
        assert what.startswith("connect again" if may_reconnect(number) else "stop"), number
