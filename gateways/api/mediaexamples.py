"""The examples of media: Anna sends a picture."""

from typing import Final

from domain.ids import AccountId, CommandId, media_id
from gateways.api.examples import ANNA, START
from gateways.media import models
from signet_client import payloads

_ID: Final = START.id
_MEDIA: Final = media_id(account=AccountId(ANNA), command_id=CommandId(_ID))
_DIGEST: Final = payloads.to_base64(bytes(range(32)))
_SIZE: Final = 41_234

RESERVE: Final = models.Reserve(id=_ID, kind="image", size=_SIZE, digest=_DIGEST)
RESERVED: Final = models.Reserved(
    media=_MEDIA,
    upload=models.Address(
        method="PUT",
        url=f"http://127.0.0.1:41234/signet/incoming/{_MEDIA}?X-Amz-Signature=…",
        headers={"content-length": str(_SIZE)},
        expires_in_s=900,
    ),
)
STORED: Final = models.Stored(media=_MEDIA, size=_SIZE, digest=_DIGEST)
SHOWN: Final = models.MediaShown(
    media=_MEDIA,
    size=_SIZE,
    digest=_DIGEST,
    download=models.Address(
        method="GET",
        url=f"http://127.0.0.1:41234/signet/objects/{_MEDIA}?X-Amz-Signature=…",
        headers={},
        expires_in_s=900,
    ),
)
