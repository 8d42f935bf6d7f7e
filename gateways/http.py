"""The HTTP application: the routes of `/v1`, the web client's pages, and one form for every refusal."""

import json
from functools import cache, partial
from math import ceil
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from gateways import asyncapi, live_page, models, openapi
from gateways.api import accounts, conversations, devices, examples, health, keys, media, messages
from gateways.api.edge import Edge, answer
from gateways.counts import CountRequests
from gateways.gate import GateKeeper
from gateways.hangup import HangUp
from gateways.metrics import Metrics
from gateways.pages import Pages
from gateways.refusal import Refusal
from gateways.services import EdgeSettings, Services, away
from projections.database import DatabaseUnavailable
from signet_client import wire

_VERSION: Final = "0.1.0"

_DESCRIPTION: Final = """
Everything of Signet but the live path, which is a WebSocket at `/v1/live` (subprotocol `signet.v1.json`), described by
`/asyncapi.json`, and for people by `/docs/live`.

- **Logging in.** Get a nonce (`GET /v1/challenge`), sign it with the device's Ed25519 key, change the signature into a
  bearer token (`POST /v1/token`). Keys and signatures are unpadded base64.
- **Commands.** Whatever changes something carries an `id`, a uuid of the client's choosing. Send a command again with
  the same id as often as you like: it happens once, and its answer is the same. An answer comes after the event is on
  disk, and every read that follows shows it.
- **seq** counts the events of a conversation from 1, without gaps, the same for all members and devices.
- **Refusals** have one form: `{"code", "text", "retry"}`. Where `retry` is true the very same request may succeed
  later.
- **Times** are microseconds since 1970, UTC.
- **Protection.** Conversations are end-to-end encrypted, unless they are started otherwise: bodies are the content of
  Matrix's `m.room.encrypted`, which the server can't read. Where the protection is `none` bodies are stored sealed, but
  the server could read them.
"""

index_router = APIRouter(tags=["server"])


@index_router.get("/v1/", **openapi.operation(answer=models.Index, example=examples.INDEX, token=False))
async def index(services: Edge) -> Response:
    """Where everything is."""
    return answer(
        models.Index(
            server=services.server_name,
            version=_VERSION,
            description="/openapi.json",
            live="/v1/live",
            live_description="/asyncapi.json",
            subprotocol=wire.SUBPROTOCOL,
            registration=services.settings.registration,
        )
    )


def make_app(services: Services, pages: Pages | None = None, more: APIRouter | None = None) -> FastAPI:
    """The application of one engine; `pages`: the web client, where it serves that, too; `more`: routes that only this
    engine has."""
    app = FastAPI(
        title="Signet",
        version=_VERSION,
        summary="An event-sourced messaging engine.",
        description=_DESCRIPTION,
        # FastAPI's pages load their scripts from somebody else's server, so there are none.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        exception_handlers={
            Refusal: _refused,
            DatabaseUnavailable: _away,
            RequestValidationError: _bad_parameter,
            HTTPException: _no_route,
            Exception: _failed,
        },
    )
    app.add_middleware(GateKeeper, services=services, refuse=partial(_problem, app))
    app.add_middleware(HangUp)  # outermost: it must see every answer
    app.add_middleware(CountRequests, services=services)
    app.state.services = services
    app.state.metrics = Metrics(services)
    app.include_router(index_router)
    app.include_router(health.router)
    for resource in (accounts, devices, conversations, messages, keys, media):
        app.include_router(resource.router, prefix="/v1")
    if more is not None:
        app.include_router(more)
    app.add_route("/asyncapi.json", _live_described, include_in_schema=False)
    app.add_route("/docs/live", _live_page, include_in_schema=False)
    if pages is not None:  # last: no route of the API may be one of theirs, or wait for them
        app.add_route("/", pages.page, include_in_schema=False)
        app.add_route("/assets/{name}", pages.asset, include_in_schema=False)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]  # FastAPI's own way to replace it
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _described(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = openapi.describe(app)
    return app.openapi_schema


# The description of the live protocol


async def _live_described(request: Request) -> Response:
    return Response(_live_document(request.app.state.services.settings)[0], media_type="application/json")


async def _live_page(request: Request) -> Response:
    page = _live_document(request.app.state.services.settings)[1]
    return Response(page, media_type="text/html", headers={"content-security-policy": live_page.POLICY})


@cache
def _live_document(settings: EdgeSettings) -> tuple[str, str]:
    document = asyncapi.describe(settings, version=_VERSION)
    return json.dumps(document), live_page.render(document)


# Refusals


def _problem(
    app: FastAPI, refusal: Refusal, *, status: int | None = None, headers: dict[str, str] | None = None
) -> Response:
    app.state.services.counts.refusals[refusal.code] += 1
    content = models.Problem(
        code=refusal.code, text=refusal.text, retry=refusal.reply.retry, retry_after_ms=refusal.retry_after_ms
    )
    return answer(content, status=status or refusal.reply.status, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    if error.reply.status == 401:
        return _problem(request.app, error, headers={"www-authenticate": "Bearer"})
    if error.retry_after_ms:
        return _problem(request.app, error, headers={"retry-after": str(ceil(error.retry_after_ms / 1_000))})
    return _problem(request.app, error)


async def _away(request: Request, error: Exception) -> Response:
    """The read models' database, for a while."""
    return _problem(request.app, away())


async def _bad_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _problem(request.app, Refusal("bad_frame", f"{first['loc'][-1]}: {first['msg']}"))


async def _no_route(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: no such route (404), or not with this method (405)."""
    assert isinstance(error, HTTPException)
    return _problem(request.app, Refusal("no_such_route"), status=error.status_code, headers=dict(error.headers or {}))


async def _failed(request: Request, error: Exception) -> Response:
    """A bug, or a damaged store; the server logs the error itself."""
    return _problem(request.app, Refusal("failed"))
