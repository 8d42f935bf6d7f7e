"""What every route does: know the caller, read the body within its limit, give commands to the writer, answer."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar

import msgspec
from fastapi import Depends, Path, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import ClientDisconnect

from commands.handlers import Command
from commands.writer import Accepted, Refused
from domain.account import AccountCommand
from domain.ids import CommandId, ConversationId, is_uuid
from domain.media import MediaCommand
from gateways.api import examples
from gateways.auth import Caller
from gateways.refusal import Refusal
from gateways.services import Services

T = TypeVar("T", bound=msgspec.Struct)

_HEADERS: Final = {"cache-control": "no-store"}
_DRAINED_BYTES_MAX: Final = 1_048_576
"""A body that is too large is received up to here, and dropped: a client that is still sending may miss the answer."""

_ACCOUNT_MODELS: Final = ("directory",)
_MEDIA_MODELS: Final = ("media",)
_CONVERSATION_MODELS: Final = ("messages", "inbox", "receipts")

_bearer = HTTPBearer(auto_error=False, description="A token of `POST /v1/token`.")


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Edge = Annotated[Services, Depends(_services)]


async def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


Whence = Annotated[str, Depends(_address)]
"""The address of the peer; that of a client behind a trusted proxy."""


async def _caller(
    services: Edge, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    if credentials is None:
        raise Refusal("not_authenticated")
    caller = services.auth.caller(credentials.credentials)
    services.limits.take_request(caller.account)
    return caller


Who = Annotated[Caller, Depends(_caller)]
"""The caller. It comes before the body in a route's parameters: a stranger's body is never read."""


async def _late_caller(
    services: Edge, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    if credentials is None:
        raise Refusal("not_authenticated")
    return services.auth.caller(credentials.credentials, revoked_too=True)


LateWho = Annotated[Caller, Depends(_late_caller)]
"""The caller, who may be revoked by now: only for a command whose decision asks whether its device is active."""


async def _talk(
    conversation: Annotated[str, Path(description="A conversation's id.", examples=[examples.GROUP])],
) -> ConversationId:
    if not is_uuid(conversation):
        raise Refusal("no_such_conversation")
    return ConversationId(conversation)


async def _command_id(
    id: Annotated[str, Query(description="The command's id, a uuid of the client's choosing.")],
) -> CommandId:
    if not is_uuid(id):
        raise Refusal("bad_frame", "id: a uuid, in lower case and with hyphens")
    return CommandId(id)


QueryId = Annotated[CommandId, Depends(_command_id)]
"""The id of a command without a body."""

Talk = Annotated[ConversationId, Depends(_talk)]
"""The conversation that the path names, whether it exists or not."""


def body_of(shape: type[T]) -> Callable[[Request, Services], Awaitable[T]]:
    """A dependency that reads the request's body as this struct. Raises Refusal: `too_large`, `bad_frame`."""
    decoder = msgspec.json.Decoder(shape)

    async def read(request: Request, services: Edge) -> T:
        data = await _read(request, services.settings.frame_bytes_max)
        try:
            return decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # the last: nested a thousand deep
            raise Refusal("bad_frame", str(error)) from error

    return read


async def _read(request: Request, bytes_max: int) -> bytes:
    data = bytearray()
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= bytes_max:
                data += chunk
            elif size > _DRAINED_BYTES_MAX:
                break
    except ClientDisconnect as error:
        raise Refusal("bad_frame", "the request broke off") from error
    if size > bytes_max:
        raise Refusal("too_large", f"a request's body has at most {bytes_max} bytes")
    return bytes(data)


async def execute(services: Services, command: Command, *, turn: Caller | str) -> Accepted:
    """Gives a command to the writer and waits until the read models show what it did. Raises Refusal; `unavailable` may
    also mean that the command is stored but does not show yet: sent again, it gets its answer."""
    if isinstance(turn, Caller):
        services.limits.take_commands(turn.account, turn.device)
    reply = await services.writer.execute(command, turn=turn)
    if isinstance(reply, Refused):
        raise Refusal(reply.code)
    await services.catch_up(*_shown_by(command), to=reply.position)
    return reply


def _shown_by(command: Command) -> tuple[str, ...]:
    """The read models that show what it did."""
    if isinstance(command, AccountCommand):
        return _ACCOUNT_MODELS
    return _MEDIA_MODELS if isinstance(command, MediaCommand) else _CONVERSATION_MODELS


def answer(content: msgspec.Struct, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(content),
        status_code=status,
        headers={**_HEADERS, **(headers or {})},
        media_type="application/json",
    )


def check_text(field: str, text: str, chars_max: int) -> None:
    """Whether a name or title can be shown: not blank, no control characters, not too long. Raises Refusal."""
    if len(text) > chars_max:
        raise Refusal("too_large", f"{field}: at most {chars_max} characters")
    if not text.strip() or any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text):
        raise Refusal("bad_frame", f"{field}: some visible text without control characters")
