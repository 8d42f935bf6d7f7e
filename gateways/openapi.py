"""The OpenAPI document: what FastAPI knows of the routes, and the structs described by their own docstrings."""

import inspect
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateways import keymodels, models
from gateways.media import models as mediamodels
from gateways.schemas import REFERENCE, schemas_of
from signet_client import wire
from signet_client.codes import REPLIES

EVERYWHERE: Final = ("bad_frame", "wrong_host", "busy", "unavailable", "failed")
_WITH_TOKEN: Final = ("not_authenticated", "device_revoked", "rate_limited")


def operation(
    *,
    answer: type[msgspec.Struct],
    example: msgspec.Struct,
    body: type[msgspec.Struct] | None = None,
    body_example: msgspec.Struct | None = None,
    refuses: Iterable[str] = (),
    token: bool = True,
) -> dict[str, Any]:
    """What a route's decorator is told: the shapes with an example each, and the codes that it may refuse with beside
    those that every route has."""
    codes = [*refuses, *(_WITH_TOKEN if token else ()), *EVERYWHERE]
    told: dict[str, Any] = {
        "responses": {
            200: described("As asked.", answer, {"example": msgspec.to_builtins(example)}),
            **refusals(codes),
        },
    }
    if body is not None:
        content = described("", body, {"example": msgspec.to_builtins(body_example)})["content"]
        told["openapi_extra"] = {"requestBody": {"required": True, "content": content}}
    return told


def refusals(codes: Iterable[str]) -> dict[int | str, Any]:
    """Responses by status, with the codes of each."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(REPLIES[code].status, []).append(code)
    return {status: _refusal(status, of_status) for status, of_status in sorted(by_status.items())}


def _refusal(status: int, codes: list[str]) -> dict[str, Any]:
    examples = {}
    for code in codes:
        reply = REPLIES[code]
        examples[code] = {"value": {"code": code, "text": reply.text, "retry": reply.retry}}
    names = ", ".join(f"`{code}`" for code in codes)
    return described(f"{HTTPStatus(status).phrase}: {names}.", models.Problem, {"examples": examples})


def described(description: str, shape: type[msgspec.Struct], examples: dict[str, Any]) -> dict[str, Any]:
    """A response, or a request's body, of this shape."""
    schema = {"$ref": REFERENCE.format(name=shape.__name__)}
    return {"description": description, "content": {"application/json": {"schema": schema, **examples}}}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        tags=app.openapi_tags,
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    components["schemas"] = _schemas()
    for path in document["paths"].values():
        for described in path.values():
            # FastAPI's own refusal of parameters; ours is 400.
            described["responses"].pop("422", None)
    return document


@cache
def _schemas() -> dict[str, Any]:
    shapes = [
        shape
        for shape in (*vars(models).values(), *vars(keymodels).values(), *vars(mediamodels).values())
        if inspect.isclass(shape) and issubclass(shape, msgspec.Struct) and not shape.__name__.startswith("_")
    ]
    return schemas_of([*shapes, wire.Page], models, keymodels, mediamodels, wire)
