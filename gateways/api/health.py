"""For operators and what watches over the server: is it alive, is it ready, what does it do."""

import hmac
import ipaddress
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse

from gateways import models
from gateways.api import examples
from gateways.api.edge import Edge, answer
from gateways.metrics import CONTENT_TYPE
from gateways.openapi import EVERYWHERE, described, operation, refusals
from gateways.refusal import Refusal

router = APIRouter(tags=["operators"])

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


async def _is_operator(request: Request, services: Edge) -> bool:
    """By the token, where one is set; else whoever asks from this machine, and not through a proxy."""
    token = services.settings.metrics_token
    if token is not None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), token.encode())
    if not services.settings.trusts_loopback or any(name in request.headers for name in _FORWARDED):
        return False
    return request.client is not None and _is_loopback(request.client.host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


Operator = Annotated[bool, Depends(_is_operator)]
"""Whether the caller is an operator."""


@router.get("/healthz", **operation(answer=models.Health, example=models.Health(), token=False))
async def health() -> Response:
    """Whether the process answers."""
    return answer(models.Health())


_ready = operation(answer=models.Ready, example=examples.READY, token=False)
_ready["responses"][503] = described("Not ready.", models.Ready, {"example": msgspec.to_builtins(examples.NOT_READY)})


@router.get("/readyz", **_ready)
async def ready(services: Edge, operator: Operator) -> Response:
    """Whether the engine can do its work: 200 if so, else 503, with what is wrong.

    The details are for operators: from the machine itself, or with the token of `metrics_token`.
    """
    found = await services.readiness.look()
    checks = [models.Check(name=name, ok=not wrong, detail=wrong if operator else "") for name, wrong in found.items()]
    is_ready = all(check.ok for check in checks)
    return answer(models.Ready(ready=is_ready, checks=checks), status=200 if is_ready else 503)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"description": "Prometheus' text format."}, **refusals(["not_authenticated", *EVERYWHERE])},
)
async def metrics(request: Request, operator: Operator) -> Response:
    """Metrics for Prometheus.

    For operators: from the machine itself, or with the token of `metrics_token`.
    """
    if not operator:
        raise Refusal("not_authenticated", "metrics: from the machine itself, or with the setting metrics_token")
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE)
