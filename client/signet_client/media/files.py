"""Files in messages: what `Client` offers of them."""

import asyncio
import io
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4, uuid5

from signet_client import events, payloads
from signet_client.api import Api
from signet_client.errors import SignetError
from signet_client.media import pictures, sealing
from signet_client.media.attachment import Attachment, Sealed
from signet_client.media.download import Ask, Moved, NotSaved, download, fetch
from signet_client.media.pictures import Prepared
from signet_client.media.sealing import Piece
from signet_client.media.transfer import Transfers
from signet_client.media.uploads import Uploads
from signet_client.messages import Message, encode_body
from signet_client.outbox import Sent
from signet_client.records import Outgoing, Upload, UploadFile
from signet_client.store import Store

_MEDIA: Final = UUID("5f0c2a34-61f5-4b0e-9a0c-5d1f6b1e7a04")
ATTACHMENT_BYTES: Final = 2_000
"""What an attachment takes in a message, generously."""
PREVIEW_BYTES_MAX: Final = 256 * 1024
"""A preview that says it is larger is none."""


class NoFile(SignetError):
    """The message shows none."""


class Files:
    def __init__(
        self,
        store: Store,
        account: str,
        api: Callable[[], Api],
        check: Callable[[Outgoing], None],
        post: Callable[[Outgoing], asyncio.Future[Sent]],
        emit: Callable[[events.Event], None],
    ) -> None:
        """`check`: raises Refused where a message is too large to be sent; `post`: as `Uploads` has it."""
        self._check = check
        self._account = account
        self._api = api
        self._transfers_made: Transfers | None = None
        self._sealing = asyncio.Lock()
        """One at a time: a picture is in memory meanwhile."""
        self._uploads = Uploads(store, api, lambda: self._transfers, post, emit)

    @property
    def _transfers(self) -> Transfers:
        if self._transfers_made is None:
            self._transfers_made = Transfers()
        return self._transfers_made

    def resume(self) -> None:
        self._uploads.resume()

    def check_running(self) -> None:
        self._uploads.check_running()

    def bring_again(self, message: Outgoing, answer: "asyncio.Future[Sent] | None") -> bool:
        return self._uploads.bring_again(message, answer)

    async def close(self, reason: SignetError) -> None:
        await self._uploads.close(reason)
        if self._transfers_made is not None:
            await self._transfers_made.close()

    async def post(
        self, conversation: str, path: Path, *, text: str, reply_to: int | None, counts: bool, as_is: bool
    ) -> asyncio.Future[Sent]:
        """Raises BadPicture, BadFile, SourceChanged, NotSaved, Refused (`too_large`), StoreFailed, ClientClosed."""
        # Before anything is sealed and uploaded for nothing.
        clear = encode_body(text, kind="file", reply_to=reply_to) + " " * ATTACHMENT_BYTES
        self._check(
            Outgoing(id="", conversation=conversation, header="", body="", signature="", clear=clear, counts=counts)
        )
        async with self._sealing:
            upload = await asyncio.to_thread(
                self._seal, conversation, path, text=text, reply_to=reply_to, counts=counts, as_is=as_is
            )
        return self._uploads.add(upload)

    async def save(self, message: Message, target: Path, moved: Moved) -> None:
        """Raises NoFile, and what `download` does."""
        sealed = _attachment_of(message).file
        await download(sealed, target, ask=self._ask(message), transfers=self._transfers, moved=moved)

    async def preview(self, message: Message) -> bytes | None:
        """The small JPEG of a picture; None: it has none. Raises NoFile, and what `fetch` does."""
        preview = _attachment_of(message).preview
        if preview is None or preview.size > PREVIEW_BYTES_MAX:
            return None
        # In memory: what was decrypted is on no disk where nobody asked for it.
        picture = io.BytesIO()
        await fetch(preview, picture, ask=self._ask(message), transfers=self._transfers, moved=_nothing)
        return picture.getvalue()

    def _ask(self, message: Message) -> Ask:
        return partial(self._api().media, conversation=message.conversation)

    # Sealing, in a thread

    def _seal(
        self, conversation: str, path: Path, *, text: str, reply_to: int | None, counts: bool, as_is: bool
    ) -> Upload:
        files: list[UploadFile] = []
        try:
            attachment = self._seal_all(pictures.examine(path, as_is=as_is), files)
        except BaseException:
            for file in files:
                (self._uploads.spool / file.media).unlink(missing_ok=True)
            raise
        body = encode_body(text, kind=attachment.kind, reply_to=reply_to, attachment=attachment)
        return Upload(
            message=str(uuid4()),
            conversation=conversation,
            name=attachment.name,
            clear=body,
            counts=counts,
            files=files,
        )

    def _seal_all(self, prepared: Prepared, files: list[UploadFile]) -> Attachment:
        """The file and its preview; `files` gets what is in the spool by then, also where it fails."""
        sealed = self._seal_one(prepared.pieces(), prepared.size, prepared.kind, files)
        preview = None
        if prepared.preview is not None:
            preview = self._seal_one([prepared.preview], len(prepared.preview), "preview", files)
        _sync(self._uploads.spool)
        return Attachment(
            kind=prepared.kind,
            name=prepared.name,
            type=prepared.type,
            file=sealed,
            width=prepared.width,
            height=prepared.height,
            preview=preview,
        )

    def _seal_one(self, pieces: Iterable[Piece], size: int, kind: str, files: list[UploadFile]) -> Sealed:
        """Into the spool, on disk."""
        command, key = str(uuid4()), sealing.new_key()
        media = uuid5(_MEDIA, f"{self._account}\n{command}")
        target_path = self._uploads.spool / str(media)
        try:
            self._uploads.spool.mkdir(mode=0o700, exist_ok=True)
            with target_path.open("wb") as target:
                digest = payloads.to_base64(sealing.seal(pieces, target, key=key, media=media, size=size))
                target.flush()
                os.fsync(target.fileno())
        except OSError as error:
            target_path.unlink(missing_ok=True)
            raise NotSaved(f"can't write {self._uploads.spool}: {error.strerror or error}") from error
        except BaseException:
            target_path.unlink(missing_ok=True)
            raise
        files.append(
            UploadFile(command=command, media=str(media), kind=kind, size=sealing.sealed_size(size), digest=digest)
        )
        return Sealed(media=str(media), key=payloads.to_base64(key), digest=digest, size=size)


def _attachment_of(message: Message) -> Attachment:
    if message.attachment is None:
        raise NoFile(f"message {message.seq} shows no file")
    return message.attachment


def _nothing(done: int, total: int) -> None:
    pass


def _sync(folder: Path) -> None:
    """The names of what stands in it are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
