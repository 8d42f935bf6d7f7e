"""What a message says of the file that it shows: where its sealed bytes lie, their keys, and what they are."""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec

from signet_client import payloads
from signet_client.media.kinds import Kind

_Uuid = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", max_length=36)]
_Base64 = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9+/]{43}$", max_length=43)]
"""32 bytes."""
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
_Pixels = Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """One file in the object store."""

    media: _Uuid
    key: _Base64
    """Opens it: whoever reads the message has it, and the server has not."""
    digest: _Base64
    """SHA-256 of the ciphertext."""
    size: _Size
    """Bytes of plaintext."""

    @property
    def uuid(self) -> UUID:
        return UUID(self.media)

    @property
    def raw_key(self) -> bytes:
        return payloads.from_base64(self.key)

    @property
    def raw_digest(self) -> bytes:
        return payloads.from_base64(self.digest)


class Attachment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    kind: Kind
    name: Annotated[str, msgspec.Meta(max_length=1_024)]
    """What its sender calls it: `pictures.safe_name` makes of it a name for a file."""
    type: Annotated[str, msgspec.Meta(max_length=128)]
    """MIME."""
    file: Sealed
    width: _Pixels | None = None
    """Of a picture, as it is shown."""
    height: _Pixels | None = None
    preview: Sealed | None = None
    """A small JPEG."""

    @property
    def media(self) -> tuple[str, ...]:
        """The ids that the message's header names."""
        return (self.file.media,) if self.preview is None else (self.file.media, self.preview.media)


_FAILURES: Final = (msgspec.MsgspecError, RecursionError)


def attachment_of(said: Any) -> Attachment | None:
    """What stands in a message as its attachment; None where it is none that this client understands."""
    try:
        return None if said is None else msgspec.convert(said, Attachment)
    except _FAILURES:
        return None
