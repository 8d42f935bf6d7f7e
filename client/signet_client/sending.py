"""Messages on their way: from the outbox to their answer, each conversation's in the order in which they were made."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from signet_client import events, wire
from signet_client.backoff import backoff
from signet_client.errors import Refused, SignetError
from signet_client.gathered import Gathered
from signet_client.outbox import Outbox, Sent, Waiting
from signet_client.records import Outgoing

ENCRYPTED_BYTES: Final = 640
"""What an encrypted body takes beside four thirds of what it says, generously."""


class Encrypting(Protocol):
    """What makes the bytes of messages that are to be encrypted: `Composing` in composing.py."""

    def encrypt(self, message: Outgoing) -> Outgoing | None:
        """With header, body and signature; None: not everybody has the key yet, and `go_on` comes later."""
        ...

    def stale(self, message: Outgoing) -> Outgoing:
        """The message as it was before: others are to read it than those for whom it was encrypted."""
        ...

    def bring_again(self, message: Outgoing, answer: "asyncio.Future[Sent] | None") -> bool:
        """Whether its files are brought once more, and then the message: it is in the outbox no more."""
        ...


class Sending:
    """One device's outgoing messages. It stores nothing itself: what is to be stored goes to `gathered`."""

    def __init__(
        self, messages: Iterable[Outgoing], gathered: Gathered, write: Callable[[], None], encrypting: Encrypting
    ) -> None:
        """`messages` are those of earlier runs; `write` sends the gathered frames."""
        self._encrypting = encrypting
        self._outbox = Outbox(message for message in messages if message.refused is None)
        self._gathered = gathered
        self._write = write
        self.body_bytes_max = 0
        """What the server takes; 0: it has not been heard yet."""
        self._welcomed = False
        self._unstored: dict[str, Outgoing] = {}
        """What was answered with a seq beyond a hole: it stays in the outbox until it is an item."""

    # The connection

    def resume(self) -> None:
        """The server takes messages from now on."""
        self._welcomed = True
        for waiting in self._outbox.firsts():
            self._send_next(waiting.message.conversation)

    def replace(self, messages: Iterable[Outgoing]) -> None:
        """These are to be sent now, those that somebody waits for among them. Before the connection is resumed."""
        before, self._outbox = self._outbox, Outbox(())
        self._unstored.clear()
        for message in messages:
            waiting = before.get(message.id)
            self._outbox.add(Waiting(message, waiting.answer if waiting else None))

    def reset(self) -> None:
        """The connection is gone."""
        self._welcomed = False
        self._outbox.reset()

    def end(self, reason: SignetError) -> None:
        """Whoever waits for an answer that can't come any more is told so."""
        self._welcomed = False
        for answer in self._outbox.answers():
            if not answer.done():
                answer.set_exception(reason)

    def oldest(self) -> float:
        """When the message went out that has waited longest for its answer; infinity where none has."""
        return self._outbox.oldest()

    # Out

    def check_size(self, message: Outgoing) -> None:
        """Raises Refused where the server is known to take no message of this size: the frame would cost the
        connection."""
        size = _bytes_in(message.body)
        if message.clear is not None and not size:
            size = _bytes_in(message.clear) * 4 // 3 + ENCRYPTED_BYTES
        if self.body_bytes_max and size > self.body_bytes_max:
            text = f"this server takes messages of at most {self.body_bytes_max} bytes; this one has {size}"
            raise Refused("too_large", text, retry=False)

    def post(self, message: Outgoing) -> asyncio.Future[Sent]:
        """Takes a message that is in the store; the future has the answer."""
        answer: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        # Not everybody waits for the answer; a refusal is an event too.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._outbox.add(Waiting(message, answer))
        self._send_next(message.conversation)
        return answer

    def _send_next(self, conversation: str) -> None:
        """Sends the first message that may go out; those that are too large are given up, as if they were refused."""
        while (waiting := self._outbox.first(conversation)) is not None:
            try:
                self.check_size(waiting.message)
            except Refused as refused:
                self._give_up(waiting, refused)
            else:
                self._send(waiting)
                return

    def _send(self, waiting: Waiting) -> None:
        if not self._welcomed or waiting.sent_at or not self._encrypt(waiting):
            return
        waiting.sent_at = asyncio.get_running_loop().time()
        message = waiting.message
        self._gathered.frames.append(wire.Send(header=message.header, body=message.body, signature=message.signature))

    def _encrypt(self, waiting: Waiting) -> bool:
        """Whether it has the bytes that go out."""
        if not waiting.message.header:
            encrypted = self._encrypting.encrypt(waiting.message)
            if encrypted is None:
                return False
            waiting.message = encrypted
        return True

    def needing(self) -> list[str]:
        """The conversations in which a message could go out if it were encrypted."""
        if not self._welcomed:
            return []
        return [waiting.message.conversation for waiting in self._outbox.firsts() if not waiting.message.header]

    def go_on(self, conversation: str) -> None:
        """The message that is next there may be encrypted now, or must be looked at again."""
        self._send_next(conversation)

    def give_up(self, conversation: str, refused: Refused) -> None:
        """None of the messages that wait there to be encrypted can be sent."""
        while (waiting := self._outbox.first(conversation)) is not None and not waiting.message.header:
            self._give_up(waiting, refused)

    def _send_again(self, waiting: Waiting, sent_at: float) -> None:
        # After a reconnect it has gone out again already, or will.
        if waiting.sent_at == sent_at and waiting.message.id in self._outbox:
            waiting.sent_at = 0.0
            self._send(waiting)
            self._write()

    # Answers

    def accepted(self, accepted: wire.Accepted) -> wire.Message | None:
        """The message as an item; None where it was answered before."""
        waiting = self._outbox.pop(accepted.id)
        if waiting is None:
            return None
        message = waiting.message
        self._unstored[message.id] = message
        self._answer(waiting, accepted.c, accepted.seq, accepted.at)
        self._send_next(message.conversation)
        return _own_item(message, accepted)

    def settle(self, id_: str, item: wire.Message | None) -> None:
        """A message of this device is among the items: it leaves the outbox. Its answer may have been lost: then `item`
        is the answer."""
        waiting = self._outbox.pop(id_)
        if waiting is not None and item is not None:
            self._answer(waiting, item.c, item.seq, item.at)
            self._send_next(item.c)
        if waiting is not None or self._unstored.pop(id_, None) is not None:
            self._gathered.batch.sent.append(id_)

    def refused(self, refused: wire.Refused) -> bool:
        """Whether the refusal is of a message."""
        waiting = self._outbox.get(refused.id)
        if waiting is None:
            return False
        if refused.code == "stale_members" and waiting.message.clear is not None:
            waiting.message, waiting.sent_at = self._encrypting.stale(waiting.message), 0.0
        elif refused.code == "no_such_media" and self._encrypting.bring_again(waiting.message, waiting.answer):
            self._outbox.pop(refused.id)
            self._send_next(waiting.message.conversation)
        elif refused.retry:
            waiting.refusals += 1
            loop, told_s = asyncio.get_running_loop(), refused.retry_after_ms / 1_000
            # It counts as sent when it may be: the connection is not at fault for a long wait.
            waiting.sent_at = loop.time() + told_s
            loop.call_later(told_s + backoff(waiting.refusals), self._send_again, waiting, waiting.sent_at)
        else:
            self._give_up(waiting, Refused(refused.code, refused.text, retry=False))
            self._send_next(waiting.message.conversation)
        return True

    def _answer(self, waiting: Waiting, conversation: str, seq: int, at: int) -> None:
        sent = Sent(conversation=conversation, id=waiting.message.id, seq=seq, at=at)
        self._gathered.answers.append((waiting, sent))

    def _give_up(self, waiting: Waiting, refused: Refused) -> None:
        message = waiting.message
        self._outbox.pop(message.id)
        self._gathered.batch.refused.append((message.id, refused.code))
        self._gathered.answers.append((waiting, refused))
        self._gathered.events.append(
            events.SendRefused(conversation=message.conversation, id=message.id, code=refused.code, text=refused.text)
        )


def _bytes_in(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _own_item(message: Outgoing, accepted: wire.Accepted) -> wire.Message:
    # How many messages there are up to here, the answer doesn't say.
    return wire.Message(
        c=accepted.c,
        seq=accepted.seq,
        at=accepted.at,
        ordinal=0,
        own=0,
        header=message.header,
        body=message.body,
        signature=message.signature,
    )
