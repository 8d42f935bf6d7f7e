"""What a device publishes so that others can encrypt to it: Matrix's shapes, signed with the person's key."""

import hashlib
from typing import Any

from signet_client import matrix
from signet_client.payloads import to_base64
from tests.gateways.engine import SERVER, Person

Object = dict[str, Any]


def user(person: Person) -> str:
    return matrix.user_id(person.account, SERVER)


def curve25519(name: str) -> str:
    """Something that looks like a public key: nobody here computes with it."""
    return to_base64(hashlib.sha256(name.encode()).digest())


def signed(person: Person, content: Object) -> Object:
    signatures = {user(person): {f"ed25519:{person.device}": person.sign(matrix.signable(content))}}
    return {**content, "signatures": signatures}


def device_keys(person: Person, **changed: Any) -> Object:
    """`changed`: what stands otherwise in what is signed."""
    device = person.device
    content = {
        "user_id": user(person), "device_id": device, "algorithms": [matrix.OLM, matrix.MEGOLM],
        "keys": {f"curve25519:{device}": curve25519(device), f"ed25519:{device}": person.key},
    }  # fmt: skip
    return signed(person, {**content, **changed})


def one_time_keys(person: Person, *ids: str) -> dict[str, Object]:
    return {f"{matrix.SIGNED_CURVE25519}:{id_}": signed(person, {"key": curve25519(id_)}) for id_ in ids}


def fallback_key(person: Person, id_: str) -> dict[str, Object]:
    return {f"{matrix.SIGNED_CURVE25519}:{id_}": signed(person, {"key": curve25519(id_), "fallback": True})}


async def publish(person: Person, *ids: str, fallback: str | None = None) -> int:
    """Uploads the device's identity keys with one-time keys of these ids; gives how many wait."""
    body = {"device_keys": device_keys(person), "one_time_keys": one_time_keys(person, *ids)}
    if fallback is not None:
        body["fallback_keys"] = fallback_key(person, fallback)
    counts: dict[str, int] = (await person.do("POST", "/keys/upload", body))["one_time_key_counts"]
    return counts[matrix.SIGNED_CURVE25519]


async def claim(by: Person, *of: Person, id_: str | None = None) -> list[str | None]:
    """The id of the key that each of these devices had to give."""
    wanted: dict[str, dict[str, str]] = {}
    for person in of:
        wanted.setdefault(user(person), {})[person.device] = matrix.SIGNED_CURVE25519
    got = (await by.do("POST", "/keys/claim", {"one_time_keys": wanted, "id": id_}))["one_time_keys"]
    named = [next(iter(got.get(user(person), {}).get(person.device, {None: None}))) for person in of]
    return [None if name is None else name.removeprefix(f"{matrix.SIGNED_CURVE25519}:") for name in named]


async def put(by: Person, to: Person, content: Object, *, transaction: str, type_: str = "m.room.encrypted") -> Any:
    """What is refused of a letter to one device."""
    body = {"messages": {user(to): {to.device: content}}}
    return (await by.do("PUT", f"/sendToDevice/{type_}/{transaction}", body))["refused"]
