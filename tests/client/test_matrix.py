"""Matrix's shapes, as both sides read them: canonical JSON, and what a device signs of itself and of its keys."""

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from signet_client import matrix
from signet_client.matrix import BadObject, BadSignature, Object
from signet_client.payloads import from_base64, to_base64

SERVER, ACCOUNT, DEVICE = "signet.example", "a030c228-bdd4-5d6c-a1c6-7481e579fe8f", "laptop"
USER: Final = matrix.user_id(ACCOUNT, SERVER)
SIGNING: Final = SigningKey(bytes(range(32)))
KEY: Final = to_base64(bytes(SIGNING.verify_key))
CURVE: Final = to_base64(bytes(range(32)))

# Canonical JSON


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("{}", "{}"),
        ('{"one": 1, "two": "Two"}', '{"one":1,"two":"Two"}'),
        ('{"b": "2", "a": "1"}', '{"a":"1","b":"2"}'),
        (
            """{
                "auth": {
                    "success": true,
                    "mxid": "@john.doe:example.com",
                    "profile": {
                        "display_name": "John Doe",
                        "three_pids": [
                            {"medium": "email", "address": "john.doe@example.org"},
                            {"medium": "msisdn", "address": "123456789"}
                        ]
                    }
                }
            }""",
            '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":'
            '[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},'
            '"success":true}}',
        ),
        ('{"a": "日本語"}', '{"a":"日本語"}'),
        ('{"本": 2, "日": 1}', '{"日":1,"本":2}'),
        ('{"a": "\\u65E5"}', '{"a":"日"}'),
        ('{"a": null}', '{"a":null}'),
        ('{"a": -0, "b": 1}', '{"a":0,"b":1}'),
        # Beyond the basic plane the order is that of code points, not that of UTF-16.
        ('{"\\ud83d\\ude00": 1, "\\uff5e": 2}', '{"\uff5e":2,"\U0001f600":1}'),
        ('{"a": "\\u0000\\n\\"\\\\/\\u007f"}', '{"a":"\\u0000\\n\\"\\\\/\x7f"}'),
    ],
)
def test_the_examples_of_the_specification_and_what_is_easily_done_otherwise(written: str, canonical: str) -> None:
    """Matrix specification v1.11, appendices, "Canonical JSON": but for its 1e10, which Python reads as a float."""
    assert matrix.canonical(json.loads(written)) == canonical


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (1.0, "float"),
        ({"a": [1.5]}, "float"),
        (float("nan"), "float"),
        (2**53, "integer"),
        (-(2**53), "integer"),
        ({"a": "\ud800"}, "surrogate"),
        ({"\udc00": 1}, "surrogate"),
        ({1: 1}, "key"),
        (b"bytes", "bytes"),
        ((1,), "tuple"),
        ({"a": ...}, "ellipsis"),
    ],
    ids=repr,
)
def test_what_has_no_canonical_form_is_refused(value: Any, why: str) -> None:
    with pytest.raises(BadObject, match=why):
        matrix.canonical(value)


@pytest.mark.parametrize("value", [2**53 - 1, -(2**53 - 1), True, "", [], 0])
def test_what_is_just_within_the_bounds_is_not(value: Any) -> None:
    assert json.loads(matrix.canonical({"a": value})) == {"a": value}


@pytest.mark.parametrize("deep", [matrix.DEPTH_MAX + 1, 900, 100_000])
def test_nothing_is_nested_without_end(deep: int) -> None:
    """I11: whoever reads it would fail. An object that says so is refused before anything walks down into it."""
    value: Any = {}
    for _ in range(deep - 1):
        value = [value]
    with pytest.raises(BadObject, match="deep"):
        matrix.canonical(value)
    with pytest.raises(BadObject, match="deep"):
        matrix.check_device_keys(device_keys() | {"nested": value}, user=USER, device=DEVICE)
    while isinstance(value, list):  # or to forget it would need the depth, too
        [value] = value


def test_so_deep_it_may_be() -> None:
    value: Any = {}
    for _ in range(matrix.DEPTH_MAX - 1):
        value = [value]
    assert matrix.canonical(value).count("[") == matrix.DEPTH_MAX - 1


_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53 - 1), 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@given(_JSON)
def test_canonical_json_is_the_same_json_and_canonical_already(value: Any) -> None:
    text = matrix.canonical(value)
    assert json.loads(text) == value
    assert matrix.canonical(json.loads(text)) == text


# Ids


def test_ids_there_and_back() -> None:
    assert f"@{ACCOUNT}:{SERVER}" == USER
    assert matrix.account_of(USER, SERVER) == ACCOUNT
    assert matrix.room_id("c") == "!c"


@pytest.mark.parametrize("user", ["", ACCOUNT, f"@{ACCOUNT}", f"@{ACCOUNT}:elsewhere", f"{ACCOUNT}:{SERVER}"])
def test_a_user_of_another_server_is_none(user: str) -> None:
    with pytest.raises(BadObject):
        matrix.account_of(user, SERVER)


# What is signed


def signed(content: Object, *, by: SigningKey = SIGNING, user: str = USER, device: str = DEVICE) -> Object:
    signature = to_base64(by.sign(matrix.signable(content)).signature)
    return {**content, "signatures": {user: {f"ed25519:{device}": signature}}}


def device_keys(**changed: Any) -> Object:
    content = {
        "user_id": USER, "device_id": DEVICE, "algorithms": [matrix.OLM, matrix.MEGOLM],
        "keys": {f"curve25519:{DEVICE}": CURVE, f"ed25519:{DEVICE}": KEY},
    }  # fmt: skip
    return signed({**content, **changed})


def keys(**changed: Any) -> Object:
    """Of the device; None: it is missing."""
    named = {f"curve25519:{DEVICE}": CURVE, f"ed25519:{DEVICE}": KEY} | changed
    return {"keys": {name: key for name, key in named.items() if key is not None}}


def check(made: Object, key: str | None = KEY) -> tuple[str, str]:
    return matrix.check_device_keys(made, user=USER, device=DEVICE, key=key)


def test_the_example_of_the_specification_is_signed_so() -> None:
    """Matrix specification v1.11, appendices, "Cryptographic test vectors"."""
    key = SigningKey(from_base64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"))
    for content, signature in (
        ({}, "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
        (
            {"one": 1, "two": "Two"},
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ):
        assert to_base64(key.sign(matrix.signable(content)).signature) == signature
        assert matrix.verify(to_base64(bytes(key.verify_key)), matrix.signable(content), signature)


def test_what_a_device_says_of_itself() -> None:
    assert check(device_keys()) == check(device_keys(), key=None) == (KEY, CURVE)
    assert check(device_keys(algorithms=["m.other", matrix.MEGOLM, matrix.OLM], more={"a": 1})) == (KEY, CURVE)
    assert check(device_keys() | {"unsigned": {"device_display_name": "Anna's"}}) == (KEY, CURVE)


@pytest.mark.parametrize(
    "changed",
    [
        {"user_id": matrix.user_id("other", SERVER)},
        {"user_id": None},
        {"device_id": "phone"},
        {"algorithms": [matrix.OLM]},
        {"algorithms": [matrix.MEGOLM, "m.olm.v2"]},
        {"algorithms": {matrix.OLM: 1, matrix.MEGOLM: 1}},
        {"algorithms": None},
        {"keys": None},
        {"keys": [KEY, CURVE]},
        {"keys": {"ed25519:phone": KEY, "curve25519:phone": CURVE}},
        keys(**{f"ed25519:{DEVICE}": None}),
        keys(**{f"curve25519:{DEVICE}": None}),
        keys(**{f"curve25519:{DEVICE}": 1}),
        keys(**{f"curve25519:{DEVICE}": "short"}),
        keys(**{f"curve25519:{DEVICE}": CURVE + "="}),
        keys(**{f"curve25519:{DEVICE}": CURVE[:-1] + "9"}),
        keys(**{f"curve25519:{DEVICE}": "-" + CURVE[1:]}),
        keys(**{f"ed25519:{DEVICE}": CURVE}),
    ],
    ids=str,
)
def test_each_field_of_it_that_is_wrong_is_refused(changed: Object) -> None:
    """Though the device itself has signed it."""
    with pytest.raises(BadObject) as refused:
        check(device_keys(**changed))
    assert not isinstance(refused.value, BadSignature)


def test_the_key_is_that_of_the_link() -> None:
    """Without a link to compare it with, whoever has it is who it says it is."""
    other = SigningKey(bytes(32))
    mine = to_base64(bytes(other.verify_key))
    made = device_keys(**keys(**{f"ed25519:{DEVICE}": mine}))
    del made["signatures"]
    with pytest.raises(BadObject, match="linked"):
        check(signed(made, by=other))
    assert check(signed(made, by=other), key=None) == (mine, CURVE)


OTHER_SIGNATURES: Final = {
    "none": None,
    "no object": "signature",
    "of another user": {matrix.user_id("other", SERVER): {f"ed25519:{DEVICE}": "x"}},
    "of another device": {USER: {"ed25519:phone": "x"}},
    "no text": {USER: {f"ed25519:{DEVICE}": 1}},
    "no base64": {USER: {f"ed25519:{DEVICE}": "?"}},
    "too short": {USER: {f"ed25519:{DEVICE}": KEY}},
    "by another key": signed({"key": CURVE}, by=SigningKey(bytes(32)))["signatures"],
    "of something else": signed({"key": KEY})["signatures"],
}


@pytest.mark.parametrize("which", OTHER_SIGNATURES)
def test_a_wrong_signature_is_refused(which: str) -> None:
    signatures = OTHER_SIGNATURES[which]
    with pytest.raises(BadSignature):
        check(device_keys() | {"signatures": signatures})
    with pytest.raises(BadSignature):
        matrix.check_one_time_key({"key": CURVE, "signatures": signatures}, user=USER, device=DEVICE, key=KEY)


def test_whatever_is_added_to_it_breaks_the_signature() -> None:
    with pytest.raises(BadSignature):
        check(device_keys() | {"more": 1})


def test_what_cannot_be_signed_is_refused() -> None:
    with pytest.raises(BadObject, match="float"):
        check(device_keys() | {"more": 1.5})


def test_one_time_and_fallback_keys() -> None:
    one_time, fallback = signed({"key": CURVE}), signed({"key": CURVE, "fallback": True})
    either: dict[str, Any] = {"user": USER, "device": DEVICE, "key": KEY}
    for made in (one_time, fallback):
        assert matrix.check_one_time_key(made, **either) == CURVE
    assert matrix.check_one_time_key(one_time, **either, fallback=False) == CURVE
    assert matrix.check_one_time_key(signed({"key": CURVE, "fallback": False}), **either, fallback=False) == CURVE
    assert matrix.check_one_time_key(fallback, **either, fallback=True) == CURVE
    for made, is_fallback in (
        (one_time, True), (fallback, False), (signed({"key": CURVE, "fallback": 1}), True),
        (signed({"key": CURVE, "fallback": "no"}), True), (signed({"key": CURVE, "fallback": None}), False),
    ):  # fmt: skip
        with pytest.raises(BadObject, match="fallback"):
            matrix.check_one_time_key(made, **either, fallback=is_fallback)


@pytest.mark.parametrize("key", [None, 1, "", "short", CURVE + "=", [CURVE]])
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises(BadObject, match="32 bytes"):
        matrix.check_one_time_key(signed({"key": key}), user=USER, device=DEVICE, key=KEY)
