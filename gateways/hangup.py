"""Ends the connection of whoever sends a body that nobody reads."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DIGITS_MAX: Final = 5
"""Of the length that a request states: what is shorter than 100,000 bytes costs less than a new connection."""


class HangUp:
    """ASGI middleware. An answer that is given before the request's body was read to its end (a refusal, or a route
    that takes none) closes the connection where that body is long: else the server would go on to receive, and drop,
    all that comes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_long_body(scope):
            await self._app(scope, receive, send)
            return
        unread = True

        async def receive_body() -> Message:
            nonlocal unread
            message = await receive()
            unread = message.get("more_body", False)
            return message

        async def send_answer(message: Message) -> None:
            if unread and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive_body, send_answer)


def _has_long_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and len(value) > _DIGITS_MAX)
        for name, value in scope["headers"]
    )
