"""The bytes' own way: from a file to the object store, and back. The server only says where."""

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import httpx
import msgspec

from signet_client.connection import tls_context
from signet_client.errors import SignetError, Unreachable

PIECE_BYTES: Final = 128 * 1024
_LOST: Final = "the object store has no such object; ask the server's operator for `signet media verify`"
TIMEOUT: Final = httpx.Timeout(15.0, read=60.0, write=120.0)
"""For each piece, not for the whole: a line of 1 kB/s will do."""


def _without_signatures(record: logging.LogRecord) -> bool:
    """httpx logs the address of each request: for as long as it holds, whoever reads it there may fetch the object."""
    if isinstance(record.args, tuple):
        record.args = tuple(each.copy_with(query=None) if isinstance(each, httpx.URL) else each for each in record.args)
    return True


logging.getLogger("httpx").addFilter(_without_signatures)


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A request that the server has signed, for the object store."""

    method: str
    url: str
    headers: dict[str, str]
    expires_in_s: int


class AddressRefused(SignetError):
    """The object store refuses the address, which may have expired: ask the server for another one."""


class ObjectLost(SignetError):
    """The server names an object that the object store does not have: its operator has to bring it back."""


class Transfers:
    """Asks for nothing but what it was made for, whatever an address says that the server names, and follows nobody
    elsewhere. Raises Unreachable, where to try again may help, and AddressRefused."""

    def __init__(self) -> None:
        # No proxies from the environment, as for the server itself.
        self._http = httpx.AsyncClient(verify=tls_context(), timeout=TIMEOUT, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def upload(self, address: Address, path: Path, size: int, moved: Callable[[int], None]) -> None:
        """All of the file, `size` bytes; `moved` hears how many have gone so far. Raises OSError, too."""
        url = _checked(address, "PUT")
        headers = {**_signed(address), "content-length": str(size)}
        try:
            response = await self._http.put(url, headers=headers, content=_pieces(path, moved))
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        _check(response)

    async def download(self, address: Address, *, start: int) -> AsyncIterator[bytes]:
        """What there is from byte `start` on, in pieces as they come. Raises ObjectLost, too."""
        url = _checked(address, "GET")
        headers = {**_signed(address), "range": f"bytes={start}-"} if start else _signed(address)
        try:
            async with self._http.stream("GET", url, headers=headers) as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    raise ObjectLost(_LOST)
                if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return  # there is no more
                _check(response)
                # By this header, since rclone answers ranges with 200.
                if start and not response.headers.get("content-range", "").startswith(f"bytes {start}-"):
                    raise Unreachable("the object store does not know ranges")
                async for piece in response.aiter_raw():
                    yield piece
        except httpx.HTTPError as error:
            raise _unreachable(error) from error


async def _pieces(path: Path, moved: Callable[[int], None]) -> AsyncIterator[bytes]:
    done = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
            done += len(piece)
            moved(done)


def _checked(address: Address, method: str) -> httpx.URL:
    """Where the request goes."""
    try:
        url = httpx.URL(address.url)
    except (httpx.InvalidURL, ValueError) as error:
        raise AddressRefused(f"the server names no address: {error}") from error
    if address.method != method or url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise AddressRefused(f"the server names an address for something else than {method}")
    return url


def _signed(address: Address) -> dict[str, str]:
    """What an object store may have signed, and nothing that would speak for this machine to somebody else."""
    return {
        name: value
        for name, value in address.headers.items()
        if name.isascii() and name.lower().startswith("x-amz-") and value.isascii() and value.isprintable()
    }


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    status = response.status_code
    if status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS:
        raise Unreachable(f"the object store can't serve now ({status})")
    raise AddressRefused(f"the object store refuses the address ({status})")


def _unreachable(error: httpx.HTTPError) -> Unreachable:
    return Unreachable(f"the object store can't be reached: {str(error) or type(error).__name__}")
