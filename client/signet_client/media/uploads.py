"""Files on their way out: sealed, kept beside the store, uploaded, and then the message that shows them is sent.

    examine → seal into the spool → [in the store] → reserve → upload → complete → [in the outbox] → as every message

What is in the store goes out, however often the client is killed, and whatever it was waiting for. The spool is a
folder beside the store, with ciphertext only. Messages with files keep their order within a conversation; messages
without overtake them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from signet_client import events
from signet_client.api import Reserved
from signet_client.backoff import backoff
from signet_client.errors import ClientClosed, Refused, SignetError, Unreachable
from signet_client.media.attachment import attachment_of
from signet_client.media.transfer import Address, AddressRefused, ObjectLost, Transfers
from signet_client.messages import decode_body
from signet_client.outbox import Sent
from signet_client.records import Outgoing, Upload, UploadFile
from signet_client.store import Store

UPLOADS_MAX: Final = 2
"""How many files are uploaded at a time."""
TELL_EVERY_S: Final = 0.1
TRIES_MAX: Final = 5
"""How often it may be uploaded for nothing, or the object store refuse it, before it is given up."""
_AGAIN: Final = frozenset(("not_uploaded", "wrong_size", "wrong_digest", "media_expired"))
"""Refusals after which it is uploaded once more: something on the way has changed or lost it."""
_FINAL: Final = frozenset(("too_large", "id_taken", "bad_frame", "no_such_media", "device_revoked"))
"""Refusals of the file itself, or of this device. After all others it is tried again: a sealed copy is not thrown away
since a server was started anew."""

_LOG: Final = logging.getLogger("signet_client")


class Asking(Protocol):
    """What is asked of the server: `Api` in api.py."""

    async def reserve_media(self, file: UploadFile) -> Reserved: ...

    async def complete_media(self, media: str) -> None: ...


class Uploads:
    """One device's. It runs from `resume` to `close`."""

    def __init__(
        self,
        store: Store,
        asking: Callable[[], Asking],
        transfers: Callable[[], Transfers],
        post: Callable[[Outgoing], asyncio.Future[Sent]],
        emit: Callable[[events.Event], None],
    ) -> None:
        """`post` puts the message into the outbox, and in the same transaction takes the upload out of the store."""
        self._store = store
        self._asking = asking
        self._transfers = transfers
        self._post = post
        self._emit = emit
        self._slots = asyncio.Semaphore(UPLOADS_MAX)
        self._turns: dict[str, asyncio.Lock] = {}
        self._answers: dict[str, asyncio.Future[Sent]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False
        self._again: set[str] = set()
        """Messages whose files were brought once more: once is enough."""

    @property
    def spool(self) -> Path:
        """The folder of the sealed files, by their media ids."""
        return self._store.path.with_name(self._store.path.name + ".media")

    def resume(self) -> None:
        """Goes on with what earlier runs have left, and clears away what belongs to nothing."""
        self._running = True
        waiting = self._store.uploads()
        kept = {file.media for upload in waiting for file in upload.files}
        if self.spool.exists():
            for path in self.spool.iterdir():
                if path.name not in kept:
                    path.unlink()
        for upload in waiting:
            self._begin(upload)

    def check_running(self) -> None:
        """Raises ClientClosed."""
        if not self._running:
            raise ClientClosed("the client is not running: files are taken while `async with client:` runs")

    def add(self, upload: Upload) -> asyncio.Future[Sent]:
        """Takes what is sealed in the spool into the store, and begins; the future has the answer to the message.
        Raises ClientClosed and StoreFailed."""
        self.check_running()
        self._store.put_upload(upload)
        answer: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        # Not everybody waits for the answer; a refusal is an event too.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._answers[upload.message] = answer
        self._begin(upload)
        return answer

    def bring_again(self, message: Outgoing, answer: "asyncio.Future[Sent] | None") -> bool:
        """A message that the server refuses, since it was restored and has lost that its files are stored: the object
        store may have them still. False: this device has not uploaded them."""
        if message.id in self._again:
            return False
        clear = message.clear or message.body
        body = decode_body(clear)
        attachment = attachment_of(body.attachment) if body is not None else None
        files = [self._store.uploaded(media) for media in attachment.media] if attachment is not None else []
        if attachment is None or None in files:
            return False
        upload = Upload(
            message=message.id,
            conversation=message.conversation,
            name=attachment.name,
            clear=clear,
            counts=message.counts,
            files=[file for file in files if file is not None],
        )
        self._again.add(message.id)
        self._store.put_upload(upload)
        if answer is not None:
            self._answers[message.id] = answer
        self._begin(upload)
        return True

    async def close(self, reason: SignetError) -> None:
        self._running = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(reason)

    def _begin(self, upload: Upload) -> None:
        task = asyncio.create_task(self._run(upload))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, upload))

    def _ended(self, upload: Upload, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        _LOG.error("an upload failed; the next start of the client goes on with it", exc_info=error)
        if (answer := self._answers.pop(upload.message, None)) is not None and not answer.done():
            answer.set_exception(error)

    async def _run(self, upload: Upload) -> None:
        async with self._turns.setdefault(upload.conversation, asyncio.Lock()):
            try:
                async with self._slots:
                    progress = _Progress(upload, self._emit)
                    for file in upload.files:
                        await self._bring(file, progress)
                self._send(upload)
            except Refused as refused:
                self._give_up(upload, refused)
        for file in upload.files:
            (self.spool / file.media).unlink(missing_ok=True)

    def _send(self, upload: Upload) -> None:
        message = Outgoing(
            id=upload.message,
            conversation=upload.conversation,
            header="",
            body="",
            signature="",
            clear=upload.clear,
            counts=upload.counts,
        )
        sent = self._post(message)
        if (answer := self._answers.pop(upload.message, None)) is not None:
            sent.add_done_callback(lambda done: _hand_on(done, answer))

    def _give_up(self, upload: Upload, refused: Refused) -> None:
        self._store.drop_upload(upload.message)
        self._store.settle()
        self._emit(
            events.SendRefused(
                conversation=upload.conversation, id=upload.message, code=refused.code, text=refused.text
            )
        )
        if (answer := self._answers.pop(upload.message, None)) is not None and not answer.done():
            answer.set_exception(refused)

    async def _bring(self, file: UploadFile, progress: "_Progress") -> None:
        """Returns when the server has it. Raises Refused where it never will."""
        bringing = _Bringing(file, self.spool / file.media, self._asking(), self._transfers(), progress)
        while not await bringing.step():  # noqa: ASYNC110 - it is the step that takes time
            await asyncio.sleep(bringing.wait_s)
        self._store.put_uploaded(file)


class _Bringing:
    """One file on its way. A step that fails is made again, from where it was."""

    def __init__(
        self, file: UploadFile, sealed: Path, asking: Asking, transfers: Transfers, progress: "_Progress"
    ) -> None:
        self._file = file
        self._sealed = sealed
        self._asking = asking
        self._transfers = transfers
        self._progress = progress
        self._uploaded = False
        """The object store has answered that it has it."""
        self._failures = 0
        self._spoiled = 0
        """How often it was uploaded for nothing."""
        self.wait_s = 0.0
        """Before the next step."""

    async def step(self) -> bool:
        """Whether the server has it now. Raises Refused where it never will."""
        self._failures += 1
        self.wait_s = backoff(self._failures)
        try:
            await self._try()
        except Refused as refused:
            self._weigh(refused)
        except (AddressRefused, ObjectLost) as error:
            self._spoil(Refused("not_uploaded", str(error), retry=False))
        except Unreachable as error:
            self._progress.trouble(str(error))
        else:
            self._progress.done(self._file)
            return True
        return False

    async def _try(self) -> None:
        if not self._uploaded:
            reserved = await self._asking.reserve_media(self._file)
            if reserved.media != self._file.media:
                raise Refused("bad_frame", "the server takes it for another file", retry=False)
            if reserved.upload is None:
                return
            # Without it the object store may still have what an earlier life of the server has taken in.
            if self._sealed.exists():
                await self._upload(reserved.upload)
        await self._asking.complete_media(self._file.media)

    async def _upload(self, address: Address) -> None:
        try:
            await self._transfers.upload(address, self._sealed, self._file.size, self._progress.moved)
        except OSError as error:
            raise Refused("not_uploaded", f"its sealed copy can't be read: {error}", retry=False) from error
        self._uploaded = True

    def _weigh(self, refused: Refused) -> None:
        if refused.code in _FINAL or (refused.code in _AGAIN and not self._sealed.exists()):
            raise refused
        if refused.code in _AGAIN:
            self._uploaded = False
            self._spoil(refused)
        else:
            # Nothing is said of the file: it is kept.
            self.wait_s += refused.retry_after_s
            self._progress.trouble(refused.text)

    def _spoil(self, refused: Refused) -> None:
        self._spoiled += 1
        if self._spoiled == TRIES_MAX:
            raise refused
        self._progress.trouble(refused.text)


class _Progress:
    """Tells how far the files of a message are, now and then."""

    def __init__(self, upload: Upload, emit: Callable[[events.Event], None]) -> None:
        self._upload = upload
        self._emit = emit
        self._total = sum(file.size for file in upload.files)
        self._before = 0
        self._told = 0.0

    def trouble(self, text: str) -> None:
        """Why it is not further, and is tried again."""
        self._tell(self._before, trouble=text)

    def moved(self, done: int) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told >= TELL_EVERY_S:
            self._told = now
            self._tell(self._before + done)

    def done(self, file: UploadFile) -> None:
        self._before += file.size
        self._tell(self._before)

    def _tell(self, done: int, *, trouble: str = "") -> None:
        upload = self._upload
        self._emit(
            events.Uploading(
                conversation=upload.conversation,
                id=upload.message,
                name=upload.name,
                done=done,
                total=self._total,
                trouble=trouble,
            )
        )


def _hand_on(sent: asyncio.Future[Sent], answer: asyncio.Future[Sent]) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # nobody waits any more
        if sent.cancelled():
            answer.cancel()
        elif (error := sent.exception()) is not None:
            answer.set_exception(error)
        else:
            answer.set_result(sent.result())
