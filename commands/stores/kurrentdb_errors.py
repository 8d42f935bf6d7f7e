"""What the errors of KurrentDB's client mean for people."""

from kurrentdbclient.exceptions import (
    AccessDeniedError,
    CancelledByClientError,
    DeadlineExceededError,
    DiscoveryFailedError,
    GrpcDeadlineExceededError,
    InvalidCommitPositionError,
    ServiceUnavailableError,
    SSLError,
    UnauthenticatedError,
)


def explain(error: Exception) -> str:
    """What is the matter, and what to do."""
    return _what(error) + _remedy(error)


def _what(error: Exception) -> str:
    match error:
        case CancelledByClientError():
            # The client itself connects anew where one call finds that nobody is there, and ends all others.
            return "the connection was given up, since another call on it failed"
        case GrpcDeadlineExceededError() | TimeoutError():
            return "no answer in time"
        case _:
            # gRPC's texts are long, and the first line says what is the matter.
            return (str(error) or type(error).__name__).splitlines()[0][:200]


def _remedy(error: Exception) -> str:
    match error:
        case SSLError():
            return " (its certificate is not trusted: name its authority by TlsCaFile, or Tls=false where it has none)"
        case ServiceUnavailableError() | DiscoveryFailedError():
            return " (start it, or correct the URL; it may also be starting)"
        case UnauthenticatedError() | AccessDeniedError():
            return " (correct user and password in the URL)"
        case DeadlineExceededError() | TimeoutError() | CancelledByClientError():
            return " (it does not answer: look at the node and the network)"
        case InvalidCommitPositionError():
            return " (it is another log, or an older backup of it: restore the newer one, or rebuild the read models)"
        case _:
            return ""
