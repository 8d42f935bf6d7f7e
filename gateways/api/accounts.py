"""Challenges, accounts, tokens."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from domain.account import ChangeProfile, RegisterAccount
from domain.ids import AccountId, CommandId, DeviceId, account_stream
from gateways import models
from gateways.api import examples
from gateways.api.edge import Edge, Whence, Who, answer, body_of, check_text, execute
from gateways.items import sealed, unsealed
from gateways.openapi import operation
from gateways.refusal import Refusal
from gateways.services import Services

router = APIRouter(tags=["accounts"])

_REGISTRATIONS = "registrations"
"""The writer's turn of all registrations together: a flood of them delays no device that is in."""


@router.get("/challenge", **operation(answer=models.Challenge, example=examples.CHALLENGE, token=False))
async def challenge(services: Edge) -> Response:
    """A nonce to sign, good for one minute.

    Ask for one to register and for each token.
    """
    return answer(models.Challenge(nonce=services.auth.challenge(), server=services.server_name))


@router.post(
    "/accounts",
    **operation(
        body=models.Register,
        body_example=examples.REGISTER,
        answer=models.AccountChanged,
        example=examples.ACCOUNT_CHANGED,
        refuses=(
            "registration_closed",
            "invitation_needed",
            "bad_invitation",
            "bad_signature",
            "not_authenticated",
            "id_taken",
            "too_large",
            "rate_limited",
        ),
        token=False,
    ),
)
async def register(
    services: Edge, address: Whence, body: Annotated[models.Register, Depends(body_of(models.Register))]
) -> Response:
    """Register an account with its first device.

    The account's id is derived from the command's id and the device's key, or from the command's id alone where `named`
    says so: a repeated registration gives the same account. Where the server can be reached from elsewhere it takes an
    invitation, or is closed.
    """
    _check_may_register(services, body)
    check_text("name", body.name, services.settings.name_chars_max)
    command_id = CommandId(body.id)
    account = services.auth.check_registration(
        nonce=body.nonce,
        command_id=command_id,
        device=body.device,
        key=body.key,
        signature=body.signature,
        address=address,
        by_key=body.named == "key",
    )
    if services.settings.registration == "invited":
        await services.invitations.use(body.invitation or "", account)
    command = RegisterAccount(
        id=command_id,
        account=account,
        name=sealed(body.name, account, services.sealer),
        device=DeviceId(body.device),
        key=body.key,
        signature=body.signature,
    )
    accepted = await execute(services, command, turn=_REGISTRATIONS)
    return answer(models.AccountChanged(id=body.id, account=account, at=accepted.at))


def _check_may_register(services: Services, body: models.Register) -> None:
    if services.settings.registration == "closed":
        raise Refusal("registration_closed")
    if services.settings.registration == "invited" and body.invitation is None:
        raise Refusal("invitation_needed")


@router.post(
    "/token",
    **operation(
        body=models.LogIn,
        body_example=examples.LOG_IN,
        answer=models.Token,
        example=examples.TOKEN,
        refuses=("bad_signature", "not_authenticated", "device_revoked", "too_large", "rate_limited"),
        token=False,
    ),
)
async def token(
    services: Edge, address: Whence, body: Annotated[models.LogIn, Depends(body_of(models.LogIn))]
) -> Response:
    """Log a device in: a bearer token for an hour.

    It ends when the device is revoked, and when the server starts anew. A device has at most eight; a ninth ends the
    oldest.
    """
    granted, expires_at = await services.auth.token(
        nonce=body.nonce, account=body.account, device=body.device, signature=body.signature, address=address
    )
    return answer(models.Token(token=granted, account=body.account, device=body.device, expires_at=expires_at))


@router.get(
    "/accounts/{account}",
    **operation(answer=models.AccountShown, example=examples.ACCOUNT_SHOWN, refuses=("no_such_account",)),
)
async def show_account(
    services: Edge, who: Who, account: Annotated[str, Path(description="Its id, or `me`.")]
) -> Response:
    """An account's name, for everybody who knows its id."""
    wanted = who.account if account == "me" else AccountId(account)
    await services.catch_up("directory")
    services.check_whole("directory", account_stream(wanted))
    name = await services.directory.name_of(wanted)
    if name is None:
        raise Refusal("no_such_account")
    return answer(models.AccountShown(account=wanted, name=unsealed(name, services.sealer)))


@router.put(
    "/accounts/me/name",
    **operation(
        body=models.Rename,
        body_example=examples.RENAME,
        answer=models.AccountChanged,
        example=examples.ACCOUNT_CHANGED,
        refuses=("too_large",),
    ),
)
async def rename_account(
    services: Edge, who: Who, body: Annotated[models.Rename, Depends(body_of(models.Rename))]
) -> Response:
    """Change the caller's name."""
    check_text("name", body.name, services.settings.name_chars_max)
    name = sealed(body.name, who.account, services.sealer)
    command = ChangeProfile(id=CommandId(body.id), account=who.account, by=who.device, name=name)
    accepted = await execute(services, command, turn=who)
    return answer(models.AccountChanged(id=body.id, account=who.account, at=accepted.at))
