"""Uploading by hand: what a client does, step by step."""

import hashlib
from typing import Any, cast
from uuid import uuid4

import httpx

from signet_client.payloads import to_base64
from tests.gateways.engine import Person


def reservation(sealed: bytes, **fields: Any) -> dict[str, Any]:
    """The body of a request that reserves it."""
    digest = to_base64(hashlib.sha256(sealed).digest())
    return {"id": str(uuid4()), "kind": "file", "size": len(sealed), "digest": digest, **fields}


async def put(address: dict[str, Any], content: bytes) -> httpx.Response:
    """To the object store."""
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.request(address["method"], address["url"], headers=address["headers"], content=content)


async def get(address: dict[str, Any], **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.request(address["method"], address["url"], headers={**address["headers"], **headers})


async def upload(person: Person, sealed: bytes, **fields: Any) -> str:
    """All of it; gives the media's id."""
    reserved = await person.do("POST", "/media", reservation(sealed, **fields))
    if reserved["upload"] is not None:
        assert (await put(reserved["upload"], sealed)).status_code == 200
    await person.do("POST", f"/media/{reserved['media']}/complete")
    return cast(str, reserved["media"])
