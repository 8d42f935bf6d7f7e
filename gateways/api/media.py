"""Pictures and other files: where to upload them, and where to fetch them. The server gets and gives addresses only;
what lies there is ciphertext, and its keys stand in messages."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from domain.ids import CommandId, ConversationId, MediaId, is_uuid
from gateways.api import mediaexamples
from gateways.api.edge import Edge, Who, answer, body_of
from gateways.media import desk, models
from gateways.media.objects import Address
from gateways.openapi import operation
from gateways.refusal import Refusal

router = APIRouter(prefix="/media", tags=["media"])


async def _media(media: Annotated[str, Path(description="A media's id.")]) -> MediaId:
    if not is_uuid(media):
        raise Refusal("no_such_media")
    return MediaId(media)


Named = Annotated[MediaId, Depends(_media)]


async def _within(
    conversation: Annotated[str | None, Query(description="In which a message names it.")] = None,
) -> ConversationId | None:
    return ConversationId(conversation) if conversation is not None and is_uuid(conversation) else None


Within = Annotated[ConversationId | None, Depends(_within)]


@router.post(
    "",
    **operation(
        body=models.Reserve,
        body_example=mediaexamples.RESERVE,
        answer=models.Reserved,
        example=mediaexamples.RESERVED,
        refuses=("too_large", "id_taken", "media_expired", "storage_full"),
    ),
)
async def reserve_media(
    services: Edge, who: Who, body: Annotated[models.Reserve, Depends(body_of(models.Reserve))]
) -> Response:
    """Reserve room for a file, and get the address to upload it to.

    Where the address has expired before the upload was done, reserve it again with the same id.
    """
    media, address = await desk.reserve(
        services, who, CommandId(body.id), kind=body.kind, size=body.size, digest=body.digest
    )
    return answer(models.Reserved(media=media, upload=None if address is None else _shown(address)))


@router.post(
    "/{media}/complete",
    **operation(
        answer=models.Stored,
        example=mediaexamples.STORED,
        refuses=("no_such_media", "not_uploaded", "wrong_size", "wrong_digest", "media_expired"),
    ),
)
async def complete_media(services: Edge, who: Who, media: Named) -> Response:
    """Say that the file is uploaded: the server reads it through, and stores it if it is what was reserved.

    From then on the account may name it in messages; if none does within some days, it is deleted. Said again it
    changes nothing.
    """
    row = await desk.complete(services, who, media)
    return answer(models.Stored(media=row.media, size=row.size, digest=row.digest))


@router.get(
    "/{media}",
    **operation(answer=models.MediaShown, example=mediaexamples.SHOWN, refuses=("no_such_media",)),
)
async def show_media(services: Edge, who: Who, media: Named, within: Within) -> Response:
    """The address to fetch a file from: for who has uploaded it, and who sees a message that names it.

    Without the conversation's id only so many of those are looked at in which it is named.
    """
    row, address = await desk.show(services, who, media, within=within)
    shown = models.MediaShown(media=row.media, size=row.size, digest=row.digest, download=_shown(address))
    return answer(shown)


def _shown(address: Address) -> models.Address:
    return models.Address(
        method=address.method, url=address.url, headers=address.headers, expires_in_s=address.expires_in_s
    )
