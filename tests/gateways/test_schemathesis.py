"""I11: whatever a request says, the answer is one that the OpenAPI document tells of, and never a 500.

Requests are made from the document, right ones and wrong ones, and sent over a socket: by a stranger, and by somebody
who is logged in and has a conversation.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateways.http import make_app
from tests.gateways.live import WAIT_S, live_server
from tests.gateways.uploads import upload
from tests.s3 import Server

OPERATIONS: Final = {
    found.ok().label: found.ok()
    for found in schemathesis.openapi.from_dict(make_app(None).openapi()).get_all_operations()  # type: ignore[arg-type]
    if isinstance(found, Ok)
}
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


class Target:
    """An engine in a thread of its own, and somebody who is known to it."""

    def __init__(self, s3: Server) -> None:
        self.url = ""
        self.token = ""
        self.conversation = ""
        self.account = ""
        self.media = ""
        self._s3 = s3
        self._up: Future[None] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    def __enter__(self) -> "Target":
        self._thread.start()
        self._up.result(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with live_server(bucket=self._s3.place) as server:
                ann, bob = await server.engine.person("Ann"), await server.engine.person("Bob")
                self.conversation = await ann.start_group(bob)
                await ann.send(self.conversation, "hello")
                self.media = await upload(ann, b"what looks like a picture")
                self.url = f"http://127.0.0.1:{server.port}"
                self.token, self.account = ann.token, bob.account
                self._up.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if not self._up.done():
                self._up.set_exception(error)
            raise


@pytest.fixture(scope="module")
def target(s3: Server) -> Iterator[Target]:
    with Target(s3) as target:
        yield target


def ask(target: Target, label: str, *, examples: int) -> None:
    operation = OPERATIONS[label]
    cases = st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode])
    with requests.Session() as session:

        @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
        @given(case=cases, known=st.booleans(), logged_in=st.sampled_from([True, True, True, False]))
        def check(case: Case[Any], known: bool, logged_in: bool) -> None:
            if known:
                _name_what_exists(case, target)
            headers: dict[str, Any] = {"Authorization": f"Bearer {target.token}"} if logged_in else {}
            response = case.call(base_url=target.url, session=session, headers=headers)
            case.validate_response(response, checks=CHECKS)

        check()


def _known(target: Target) -> Sequence[tuple[str, str]]:
    return ("conversation", target.conversation), ("account", target.account), ("media", target.media)


def _name_what_exists(case: Case[Any], target: Target) -> None:
    for name, value in _known(target):
        if name in case.path_parameters:
            case.path_parameters[name] = value


@pytest.mark.parametrize("label", OPERATIONS)
def test_no_request_makes_the_server_fail(target: Target, label: str) -> None:
    ask(target, label, examples=15)


@pytest.mark.soak
@pytest.mark.parametrize("label", OPERATIONS)
def test_no_request_of_very_many_makes_the_server_fail(target: Target, label: str) -> None:
    ask(target, label, examples=500)
