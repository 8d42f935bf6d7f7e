"""What can go wrong, in one tree.

SignetError
├── StoreInUse        another process has this device's store open
├── StoreFailed       the store could not be read or written
├── NoDevice          the store holds no device yet
├── Refused           the server refused a command (`code`, `text`, `retry`)
├── Unreachable       the server could not be reached, or answered with nothing of the protocol
├── Disconnected      the server closed the live connection for good (`number`, `text`)
├── ClientClosed      the client is not running
├── EventsMissed      a reader of `events()` was too slow; the store has everything
└── of files, in media/
    ├── NoFile          a message shows none
    ├── BadFile         there is no file to be read there
    ├── BadPicture      a picture is damaged, too large, or tells what can't be taken out
    ├── SourceChanged   a file was written to while it was being sealed
    ├── NotSaved        a file, or its sealed copy, can't be written where it is to be
    ├── Tampered        what came is not the file that was sealed
    ├── ObjectLost      the object store lacks what the server says that it has
    └── AddressRefused  the object store refuses an address again and again
"""


class SignetError(Exception):
    """The root: catch this one to catch everything that the client raises on purpose."""


class StoreInUse(SignetError):
    """A device's store has one owner, since two would acknowledge for each other what only one of them holds."""


class StoreFailed(SignetError):
    """The store could not be read or written (disk full, not a store, no right). The client has stopped, and
    acknowledged nothing that isn't stored."""


class NoDevice(SignetError):
    """The store holds no device: register an account, or link a device to one."""


class Refused(SignetError):
    """The server refused a command; nothing of it was stored."""

    def __init__(self, code: str, text: str, *, retry: bool, retry_after_s: float = 0) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        """A code of `codes.REPLIES`, or one of a newer server."""
        self.text = text
        self.retry = retry
        """Whether the same command, with the same id, may succeed later."""
        self.retry_after_s = retry_after_s
        """Sooner it is sure to be refused again; 0: the server did not say."""


class Unreachable(SignetError):
    """The server could not be reached. Whether it did the command is not known; saying it again is safe, since the
    command's id is kept by the call."""


class Disconnected(SignetError):
    """The server closed the connection and said not to connect again until something has changed."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"{number}: {text}")
        self.number = number
        """A number of `codes.DISCONNECTS`, 4500 to 4999."""
        self.text = text


class ClientClosed(SignetError):
    """The client is not running; what was to be sent stays in the outbox and goes out when it is opened again."""


class EventsMissed(SignetError):
    """More events came than a reader of `events()` took. Nothing is lost: read on from the store."""
