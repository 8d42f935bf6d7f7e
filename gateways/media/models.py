"""What the HTTP API takes and gives of media."""

from typing import Annotated, Final

import msgspec

from domain.media import MediaKind
from gateways.models import Uuid

MEDIA_BYTES_MAX: Final = 5 * 2**30
"""What S3 takes in one upload; each kind has a limit of its own, which is lower."""

Digest = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9+/]{43}$", min_length=43, max_length=43)]
"""SHA-256, unpadded base64."""


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Reserve(_Model, frozen=True, kw_only=True):
    """What a device is about to upload: ciphertext."""

    id: Uuid
    """The command's id, a uuid of the client's choosing. The media's id is the uuid (version 5) of
    `5f0c2a34-61f5-4b0e-9a0c-5d1f6b1e7a04` and the text of account and this id with a line break between: the device
    knows it before it asks. Sent again it reserves nothing more, and gets a new address."""
    kind: MediaKind
    """What it is, as far as the server is to know; each kind has a limit."""
    size: Annotated[int, msgspec.Meta(ge=1, le=MEDIA_BYTES_MAX)]
    """In bytes."""
    digest: Digest
    """SHA-256 of the bytes that will be uploaded, unpadded base64."""


class Address(_Model, frozen=True, kw_only=True):
    """A request to be made of the object store, without this server's token."""

    method: str
    url: str
    headers: dict[str, str]
    """To be sent with it, as they stand here: they are signed."""
    expires_in_s: int
    """From when it was made; then the object store refuses it."""


class Reserved(_Model, frozen=True, kw_only=True):
    media: Uuid
    upload: Address | None
    """None: it is stored already."""


class Stored(_Model, frozen=True, kw_only=True):
    """The object store has it, and the log says so: messages may name it."""

    media: Uuid
    size: int
    digest: Digest


class MediaShown(_Model, frozen=True, kw_only=True):
    media: Uuid
    size: int
    digest: Digest
    download: Address
    """It takes ranges, as HTTP has them."""
