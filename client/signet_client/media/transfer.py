"""The bytes' own way: from a file to the object store, and back. The server only says where."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import httpx
import msgspec

from signet_client.connection import tls_context
from signet_client.errors import SignetError, Unreachable

PIECE_BYTES: Final = 1024 * 1024
TIMEOUT: Final = httpx.Timeout(15.0, read=60.0, write=60.0)
"""For each piece, not for the whole."""


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
    """Raises Unreachable, where to try again may help; AddressRefused; ObjectLost."""

    def __init__(self) -> None:
        # No proxies from the environment, as for the server itself.
        self._http = httpx.AsyncClient(verify=tls_context(), timeout=TIMEOUT, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def upload(self, address: Address, path: Path, moved: Callable[[int], None]) -> None:
        """All of the file; `moved` hears how many bytes have gone so far."""
        request = self._http.build_request(
            address.method, address.url, headers=address.headers, content=_pieces(path, moved)
        )
        try:
            response = await self._http.send(request)
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        _check(response)

    async def download(self, address: Address, *, start: int) -> AsyncIterator[bytes]:
        """What there is from byte `start` on, in pieces as they come."""
        headers = {**address.headers, "range": f"bytes={start}-"} if start else address.headers
        try:
            async with self._http.stream(address.method, address.url, headers=headers) as response:
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


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    status = response.status_code
    if status == httpx.codes.NOT_FOUND:
        raise ObjectLost("the object store has no such object; ask the server's operator for `signet media verify`")
    if status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS:
        raise Unreachable(f"the object store can't serve now ({status})")
    raise AddressRefused(f"the object store refuses the address ({status})")


def _unreachable(error: httpx.HTTPError) -> Unreachable:
    return Unreachable(f"the object store can't be reached: {str(error) or type(error).__name__}")
