"""The devices of the caller's account."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from domain.account import LinkDevice, RevokeDevice
from domain.ids import CommandId, DeviceId, account_stream
from gateways import models
from gateways.api import examples
from gateways.api.edge import Edge, LateWho, QueryId, Who, answer, body_of, execute
from gateways.openapi import operation

router = APIRouter(prefix="/devices", tags=["devices"])


@router.get("", **operation(answer=models.Devices, example=examples.DEVICES))
async def list_devices(services: Edge, who: Who) -> Response:
    """All devices that the account has or had, in the order of their linking."""
    await services.catch_up("directory")
    services.check_whole("directory", account_stream(who.account))
    devices = [
        models.DeviceShown(device=row.device, key=row.key, active=row.active, linked_at=row.linked_at, by=row.by)
        for row in await services.directory.devices(who.account)
    ]
    return answer(models.Devices(account=who.account, devices=devices))


@router.post(
    "",
    **operation(
        body=models.Link,
        body_example=examples.LINK,
        answer=models.AccountChanged,
        example=examples.ACCOUNT_CHANGED,
        refuses=("bad_signature", "device_exists", "too_large"),
    ),
)
async def link_device(
    services: Edge, who: Who, body: Annotated[models.Link, Depends(body_of(models.Link))]
) -> Response:
    """Let a new device in, whose key the calling device has signed."""
    await services.auth.check_link(who, device=body.device, key=body.key, signature=body.signature)
    command = LinkDevice(
        id=CommandId(body.id),
        account=who.account,
        by=who.device,
        device=DeviceId(body.device),
        key=body.key,
        signature=body.signature,
    )
    accepted = await execute(services, command, turn=who)
    return answer(models.AccountChanged(id=body.id, account=who.account, at=accepted.at))


@router.delete(
    "/{device:path}",
    **operation(answer=models.AccountChanged, example=examples.ACCOUNT_CHANGED, refuses=("no_such_device",)),
)
async def revoke_device(
    services: Edge,
    who: LateWho,
    device: Annotated[str, Path(description="It may be the calling device itself.")],
    command_id: QueryId,
) -> Response:
    """Revoke a device, for ever: its tokens end, its connections are closed, and its name can't be linked again.

    A device that has revoked itself may say so again, with the same id and its old token, and gets the same answer.
    """
    command = RevokeDevice(id=command_id, account=who.account, by=who.device, device=DeviceId(device))
    accepted = await execute(services, command, turn=who)
    return answer(models.AccountChanged(id=command_id, account=who.account, at=accepted.at))
