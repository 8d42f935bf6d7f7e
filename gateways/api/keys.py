"""The key directory, and messages from device to device: Matrix's end-to-end part, in Matrix's shapes."""

import asyncio
from typing import Annotated, Final
from uuid import UUID, uuid5

import msgspec
from fastapi import APIRouter, Depends, Path, Response

from commands.ids import new_uuid
from domain.ids import AccountId, CommandId, DeviceId, account_stream, is_uuid
from gateways import keymodels
from gateways.api import keyexamples
from gateways.api.edge import Edge, Talk, Who, answer, body_of, execute
from gateways.history import inbox_row
from gateways.keys import checked_upload, claim
from gateways.mailbox import Address, Parcel
from gateways.openapi import operation
from gateways.refusal import Refusal
from gateways.sends import depth
from gateways.services import Services
from projections.attestations import AttestedDevice
from signet_client import matrix

router = APIRouter(tags=["keys"])

TYPE_CHARS_MAX: Final = 64
TRANSACTION_CHARS_MAX: Final = 128
CONTENT_BYTES_MAX: Final = 65_536
"""However short messages are to be: a key takes 2 kB."""
_DEVICES_A_COMMAND: Final = 16
"""A claim, or a parcel, counts as a command for each of so many devices."""


@router.post(
    "/keys/upload",
    **operation(
        body=keymodels.KeysUpload,
        body_example=keyexamples.UPLOAD,
        answer=keymodels.KeysUploaded,
        example=keyexamples.UPLOADED,
        refuses=("bad_signature", "device_exists", "id_taken", "no_keys", "too_many_keys", "too_large"),
    ),
)
async def upload_keys(
    services: Edge, who: Who, body: Annotated[keymodels.KeysUpload, Depends(body_of(keymodels.KeysUpload))]
) -> Response:
    """Publish the calling device's keys: its identity keys first, then one-time keys and a fallback key."""
    await services.catch_up("directory")
    row = await services.directory.device(who.account, who.device)
    if row is None:
        raise Refusal("device_revoked")
    command = await checked_upload(body, caller=who, key=row.key, server=services.server_name)
    await execute(services, command, turn=who)
    await services.catch_up("attestations")
    counts = await services.attestations.counts(who.account, who.device)
    return answer(keymodels.KeysUploaded(one_time_key_counts={matrix.SIGNED_CURVE25519: counts.one_time_keys}))


@router.post(
    "/keys/query",
    **operation(
        body=keymodels.KeysQuery,
        body_example=keyexamples.QUERY,
        answer=keymodels.KeysFound,
        example=keyexamples.FOUND,
        refuses=("too_large",),
    ),
)
async def query_keys(
    services: Edge, who: Who, body: Annotated[keymodels.KeysQuery, Depends(body_of(keymodels.KeysQuery))]
) -> Response:
    """The devices of these users, with the keys that they have published, and who has let them in.

    A user that is unknown has none.
    """
    await services.catch_up("attestations")
    found = keymodels.KeysFound(device_keys={})
    for user, wanted in body.device_keys.items():
        await asyncio.sleep(0)  # a thousand users take a tenth of a second
        account = _account(services, user)
        services.check_whole("attestations", account_stream(account))
        version = await services.attestations.list_version(account)
        if version >= 0 and body.versions.get(user) == version:
            continue
        devices = await services.attestations.devices(account)
        found.versions[user] = version
        found.device_keys[user] = {
            each.device: msgspec.json.decode(each.keys)
            for each in devices
            if each.keys is not None and each.active and (not wanted or each.device in wanted)
        }
        found.links[user] = [_link(each) for each in devices]
    return answer(found)


def _link(device: AttestedDevice) -> keymodels.DeviceLink:
    return keymodels.DeviceLink(
        device=device.device,
        key=device.key,
        active=device.active,
        by=device.linked_by,
        signature=device.link_signature,
    )


@router.post(
    "/keys/claim",
    **operation(
        body=keymodels.KeysClaim,
        body_example=keyexamples.CLAIM,
        answer=keymodels.KeysClaimed,
        example=keyexamples.CLAIMED,
        refuses=("too_large",),
    ),
)
async def claim_keys(
    services: Edge, who: Who, body: Annotated[keymodels.KeysClaim, Depends(body_of(keymodels.KeysClaim))]
) -> Response:
    """Take a one-time key of each of these devices, to begin an Olm session. Each key is handed out once, ever."""
    request = UUID(body.id or new_uuid())
    users = [
        (user, DeviceId(device))
        for user, devices in body.one_time_keys.items()
        for device, algorithm in devices.items()
        if algorithm == matrix.SIGNED_CURVE25519
    ]
    _take_commands(services, who, len(users))
    addresses = [(_account(services, user), device) for user, device in users]
    commands = [CommandId(str(uuid5(request, f"{account}\n{device}"))) for account, device in addresses]
    claimed: dict[str, dict[str, dict[str, keymodels.Object]]] = {}
    for (user, device), key in zip(users, await claim(services, addresses, by=who, commands=commands), strict=True):
        if key is not None:
            named = {f"{matrix.SIGNED_CURVE25519}:{key.id}": msgspec.json.decode(key.key)}
            claimed.setdefault(user, {})[device] = named
    return answer(keymodels.KeysClaimed(one_time_keys=claimed))


@router.put(
    "/sendToDevice/{type}/{transaction}",
    **operation(
        body=keymodels.ToDevice,
        body_example=keyexamples.TO_DEVICE,
        answer=keymodels.ToDeviceTaken,
        example=keyexamples.TO_DEVICE_TAKEN,
        refuses=("too_large",),
    ),
)
async def send_to_device(
    services: Edge,
    who: Who,
    type: Annotated[str, Path(description="Such as `m.room.encrypted`.")],
    transaction: Annotated[str, Path(description="Of the device's choosing: said again with it, it arrives once.")],
    body: Annotated[keymodels.ToDevice, Depends(body_of(keymodels.ToDevice))],
) -> Response:
    """Put something into the mailboxes of devices. It is there, on disk, until each device has said that it took it."""
    if len(type) > TYPE_CHARS_MAX or len(transaction) > TRANSACTION_CHARS_MAX:
        raise Refusal("too_large", "the type, or the transaction's id")
    _take_commands(services, who, sum(map(len, body.messages.values())))
    await services.catch_up("attestations")
    users: dict[Address, str] = {}
    contents: dict[Address, str] = {}
    refused: dict[str, dict[str, str]] = {}
    for user, devices in body.messages.items():
        account = _account(services, user)
        services.check_whole("attestations", account_stream(account))
        active = {each.device for each in await services.attestations.devices(account) if each.active}
        for name, content in devices.items():
            device = DeviceId(name)
            if device in active:
                users[account, device] = user
                contents[account, device] = _text(content)
            else:
                refused.setdefault(user, {})[name] = "no_such_device"
    parcel = Parcel(by=(who.account, who.device), type=type, transaction=transaction, contents=contents)
    for address in await services.mailbox.put(parcel):
        refused.setdefault(users[address], {})[address[1]] = "mailbox_full"
    return answer(keymodels.ToDeviceTaken(refused=refused))


def _text(content: keymodels.Object) -> str:
    """The content as JSON text. Raises Refusal."""
    text = msgspec.json.encode(content)
    if len(text) > CONTENT_BYTES_MAX:
        raise Refusal("too_large", f"a content has at most {CONTENT_BYTES_MAX} bytes")
    made = text.decode()
    if depth(made) > matrix.DEPTH_MAX:
        # What the device can't read it would never take, and get again and again.
        raise Refusal("bad_frame", f"a content is nested at most {matrix.DEPTH_MAX} deep")
    return made


@router.get(
    "/conversations/{conversation}/statements",
    **operation(
        answer=keymodels.Statements,
        example=keyexamples.STATEMENTS,
        refuses=("no_such_conversation", "not_a_member"),
    ),
)
async def list_statements(services: Edge, who: Who, talk: Talk) -> Response:
    """What the members' devices have signed of how far they have come: by it a client checks its ticks."""
    row = await inbox_row(services, who.account, talk)
    if row.role is None:
        raise Refusal("not_a_member")
    await services.catch_up("attestations")
    members = await services.inbox.members(talk)
    statements = [
        keymodels.Statement(
            account=each.account,
            device=each.device,
            delivered=each.delivered,
            read=each.read,
            undecryptable=each.undecryptable,
            repaired=each.repaired,
            signature=each.signature or "",
        )
        for each in await services.attestations.statements(talk)
        if each.account in members
    ]
    return answer(keymodels.Statements(conversation=talk, statements=statements))


def _account(services: Services, user: str) -> AccountId:
    try:
        account = matrix.account_of(user, services.server_name)
    except matrix.BadObject as error:
        raise Refusal("bad_frame", str(error)) from error
    if not is_uuid(account):
        raise Refusal("bad_frame", f"{user!r} is no user of {services.server_name}")
    return AccountId(account)


def _take_commands(services: Services, who: Who, devices: int) -> None:
    """Raises Refusal."""
    if devices > keymodels.DEVICES_MAX:
        raise Refusal("too_large", f"at most {keymodels.DEVICES_MAX} devices at once")
    for _ in range(0, max(devices, 1), _DEVICES_A_COMMAND):
        services.limits.take_commands(who.account, who.device)
