"""The key directory at the edge: what devices upload is checked here, signature by signature, before it becomes an
event."""

import asyncio
from collections.abc import Sequence
from typing import Final

from commands.ids import new_uuid
from commands.writer import Refused
from domain.codec import CODEC
from domain.ids import AccountId, CommandId, DeviceId, account_stream
from domain.keys import ClaimKey, OneTimeKeyClaimed, PublishKeys
from gateways.auth import Caller
from gateways.keymodels import KeysUpload, Object
from gateways.mailbox import Address
from gateways.refusal import Refusal
from gateways.services import Services
from signet_client import matrix

KEY_ID_CHARS_MAX: Final = 64
KEY_CHARS_MAX: Final = 4_096
"""Of identity keys, and of each one-time or fallback key, as canonical JSON. Clients need a few hundred; whoever asks
for the devices of a group gets all of it."""


async def checked_upload(upload: KeysUpload, *, caller: Caller, key: str, server: str) -> PublishKeys:
    """The command of an upload; `key`: the Ed25519 key with which the device was linked. Raises Refusal."""
    # 50 µs for each signature, and there may be a hundred.
    return await asyncio.to_thread(_checked, CommandId(new_uuid()), upload, caller, key, server)


def _checked(command: CommandId, upload: KeysUpload, caller: Caller, key: str, server: str) -> PublishKeys:
    user, device = matrix.user_id(caller.account, server), caller.device
    try:
        device_keys = None
        if upload.device_keys is not None:
            matrix.check_device_keys(upload.device_keys, user=user, device=device, key=key)
            device_keys = _text(upload.device_keys)
        fallback_key = None
        for name, signed in upload.fallback_keys.items():
            matrix.check_one_time_key(signed, user=user, device=device, key=key, fallback=True)
            fallback_key = (_key_id(name), _text(signed))
        one_time_keys: dict[str, str] = {}
        for name, signed in upload.one_time_keys.items():
            matrix.check_one_time_key(signed, user=user, device=device, key=key, fallback=False)
            one_time_keys[_key_id(name)] = _text(signed)
    except matrix.BadSignature as error:
        raise Refusal("bad_signature", str(error)) from error
    except matrix.BadObject as error:
        raise Refusal("bad_frame", str(error)) from error
    return PublishKeys(
        id=command,
        account=caller.account,
        device=device,
        device_keys=device_keys,
        one_time_keys=one_time_keys,
        fallback_key=fallback_key,
    )


def _text(signed: Object) -> str:
    text = matrix.canonical(signed)
    if len(text) > KEY_CHARS_MAX:
        raise Refusal("too_large", f"a key with all that is signed beside it has at most {KEY_CHARS_MAX} characters")
    return text


def _key_id(name: str) -> str:
    algorithm, _, id_ = name.partition(":")
    if algorithm != matrix.SIGNED_CURVE25519 or not 0 < len(id_) <= KEY_ID_CHARS_MAX or not id_.isprintable():
        raise Refusal("bad_frame", f"keys are named {matrix.SIGNED_CURVE25519}:<id>")
    return id_


async def claim(
    services: Services, addresses: Sequence[Address], *, by: Caller, commands: Sequence[CommandId]
) -> list[OneTimeKeyClaimed | None]:
    """A key of each device, None where it has none; claimed by these commands. Raises Refusal."""
    return list(
        await asyncio.gather(
            *(
                _claim_one(services, account, device, by, command)
                for (account, device), command in zip(addresses, commands, strict=True)
            )
        )
    )


async def _claim_one(
    services: Services, account: AccountId, device: DeviceId, by: Caller, command_id: CommandId
) -> OneTimeKeyClaimed | None:
    command = ClaimKey(id=command_id, account=account, device=device, by=by.account, by_device=by.device)
    reply = await services.writer.execute(command, turn=by)
    if isinstance(reply, Refused):
        refusal = Refusal(reply.code)
        if refusal.reply.retry:
            raise refusal
        return None
    # The answer names the event that was the command's first outcome; which key it was, the event says.
    found = await services.log.read_stream(account_stream(account), after=reply.seq - 2, limit=1)
    claimed = CODEC.decode(found[0]).entry.e
    assert isinstance(claimed, OneTimeKeyClaimed)
    return claimed
