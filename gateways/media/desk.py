"""Uploads and downloads: what is reserved, whether the object store has it, and who may fetch it.

The bytes never come by here: devices write to the object store and read from it, at addresses that are signed for one
object and a few minutes. What a device has written lies apart until it was moved and read through, and for a stored
object nobody ever has an address to write to.
"""

from typing import Final

from commands.ids import new_uuid
from domain.ids import AccountId, CommandId, ConversationId, MediaId, conversation_stream, media_id, media_stream
from domain.media import MediaKind, ReserveMedia, StoreMedia
from gateways.api.edge import execute
from gateways.auth import Caller
from gateways.media.access import away
from gateways.media.objects import Address, ObjectsUnavailable
from gateways.refusal import Refusal
from gateways.services import Services
from projections.media import MediaRow

CONVERSATIONS_MAX: Final = 100
"""In how many conversations it is looked for what the caller sees. Each costs some 0.1 ms, and its owner may name it in
thousands: clients say where they have seen it."""
_SPOILED: Final = frozenset(("wrong_size", "wrong_digest"))
"""Refusals after which what was uploaded is of no use."""


async def reserve(
    services: Services, who: Caller, command_id: CommandId, *, kind: MediaKind, size: int, digest: str
) -> tuple[MediaId, Address | None]:
    """The media's id, and where to upload it; None: it is stored. Raises Refusal."""
    bytes_max = services.settings.media.bytes_max(kind)
    if size > bytes_max:
        raise Refusal("too_large", f"of the kind {kind} at most {bytes_max} bytes")
    media = media_id(account=who.account, command_id=command_id)
    command = ReserveMedia(
        id=command_id, media=media, by=who.account, device=who.device, kind=kind, size=size, digest=digest
    )
    await execute(services, command, turn=who)
    row = await _row(services, media)
    if row is not None and row.phase == "stored":
        return media, None
    services.objects.room.promise(media, size)
    try:
        return media, (await services.objects.store()).upload_address(media, size)
    except ObjectsUnavailable as error:
        raise away(error) from error


async def complete(services: Services, who: Caller, media: MediaId) -> MediaRow:
    """Takes what was uploaded in, if it is what was reserved. Raises Refusal."""
    async with services.objects.lock(media):
        row = await _row(services, media)
        if row is None or row.owner != who.account:
            raise Refusal("no_such_media")
        if row.phase == "stored":
            return row
        if row.phase != "reserved":
            # Not looked at: what has expired may be shown by a message of the same moment, and its object stays.
            raise Refusal("media_expired")
        try:
            async with services.objects.queues.turn(who.account, row.size):
                await _take_in(services, who, row)
        except ObjectsUnavailable as error:
            services.objects.room.check(row.size)  # else that is why
            raise away(error) from error
        services.objects.room.release(media)
        return row


async def show(
    services: Services, who: Caller, media: MediaId, *, within: ConversationId | None
) -> tuple[MediaRow, Address]:
    """What it is, and where to fetch it. `within`: where it is named; None: the server looks. Raises Refusal:
    `no_such_media` to whoever may not have it, whether it exists or not."""
    row = await _row(services, media)
    if row is None or row.phase not in ("stored", "expired") or not await _may_see(services, who.account, row, within):
        if services.runners["media"].parked:
            raise Refusal("unavailable", "events that may name it wait for the operator")
        raise Refusal("no_such_media")
    try:
        return row, (await services.objects.store()).download_address(media)
    except ObjectsUnavailable as error:
        raise away(error) from error


async def _row(services: Services, media: MediaId) -> MediaRow | None:
    await services.catch_up("media")
    services.check_whole("media", media_stream(media))
    return await services.media.find(media)


async def _may_see(services: Services, account: AccountId, row: MediaRow, within: ConversationId | None) -> bool:
    """Its owner, as long as it has not expired; and whoever sees a message that names it."""
    if row.owner == account and (row.phase == "stored" or row.unnamed is None):
        return True
    await services.catch_up("inbox")
    named_in = [within] if within else await services.media.named_in(row.media, limit=CONVERSATIONS_MAX)
    for conversation in named_in:
        services.check_whole("inbox", conversation_stream(conversation))
        shown = await services.inbox.conversation(account, conversation)
        if shown is not None and await services.media.is_named(row.media, conversation, shown.visible):
            return True
    return False


async def _take_in(services: Services, who: Caller, row: MediaRow) -> None:
    """Raises Refusal and ObjectsUnavailable."""
    settled = await (await services.objects.store()).settle(row.media, row.size)
    command = StoreMedia(
        id=CommandId(new_uuid()),
        media=row.media,
        by=who.account,
        device=who.device,
        size=settled.size if settled else None,
        digest=settled.digest if settled else "",
    )
    try:
        await execute(services, command, turn=who)
    except Refusal as refusal:
        if refusal.code in _SPOILED:
            await (await services.objects.store()).discard(row.media)
        raise
