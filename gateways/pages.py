"""The web client's files: what was built into `web/dist`, at `/` and `/assets/NAME`, and nothing else of the disk.

A request's name is looked up in a list of what lies in the folder, and never becomes part of a path. The list is made
anew when index.html is another one, so a build beside a running engine shows at once. Each file may lie there as brotli
(`.br`) and gzip (`.gz`), too, as web/vite.config.ts writes them.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.types import Receive, Scope, Send

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The pages' Content-Security-Policy. The exception for WebAssembly, which is what encrypts, allows no `eval`."""

_GUARDS: Final = MappingProxyType(
    {
        "content-security-policy": POLICY,
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
)

_TYPES: Final = MappingProxyType(
    {
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".png": "image/png",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",  # else browsers refuse to compile it while it comes
        ".webmanifest": "application/manifest+json",
        ".woff2": "font/woff2",
    }
)
"""What is served at all: a system's own table of types may know less, or otherwise."""

_CODINGS: Final = (("br", ".br"), ("gzip", ".gz"))
"""Content codings with their suffixes, the smallest result first."""

_HASHED: Final = re.compile(r"-[\w-]{8}\.\w+$")
"""The end of a name that has its content's hash in it, as Vite gives them."""

_NOT_BUILT: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Signet</title></head><body>
<h1>The web client is not built</h1>
<p>The engine serves, and <code>./signet chat</code> works. To build the pages, start it by <code>./signet up</code>: it
says what is missing where it can't.</p>
<p>For programs: <a href="/openapi.json">HTTP</a>, <a href="/docs/live">the live path</a>.</p>
</body></html>
"""


class Pages:
    """The files of one folder, which need not be there yet. Its methods are Starlette's endpoints."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: _Listing = _NOTHING

    async def page(self, request: Request) -> Response:
        """The one page; the client tells its views apart by what follows `#`."""
        index = self._files().get("index.html")
        if index is None:
            return HTMLResponse(_NOT_BUILT, 503, {**_GUARDS, "cache-control": "no-store"})
        return _answer(request, index)

    async def asset(self, request: Request) -> Response:
        """What the page needs. Raises HTTPException(404)."""
        file = self._files().get(f"assets/{request.path_params['name']}")
        if file is None:
            raise HTTPException(404)
        return _answer(request, file)

    def _files(self) -> Mapping[str, "_File"]:
        try:
            found = os.stat(self._folder / "index.html")
        except OSError:
            return {}
        made_of = (found.st_ino, found.st_mtime_ns)
        if self._listed.made_of != made_of:
            try:
                self._listed = _Listing(made_of, {file.name: file for file in _list(self._folder)})
            except OSError:  # another build is being put in its place
                return {}
        return self._listed.files


@dataclass(frozen=True)
class _File:
    name: str
    """Below the folder: `assets/index-c0ffee00.js`."""
    tag: str
    """Another one where the content is another."""
    content_type: str
    codings: Mapping[str, Path]
    """Where the content lies in which coding; as it is, under the empty one."""

    @property
    def caching(self) -> str:
        return "public, max-age=31536000, immutable" if _HASHED.search(self.name) else "no-cache"


@dataclass(frozen=True)
class _Listing:
    made_of: tuple[int, int]
    """The index.html of the build that is listed."""
    files: Mapping[str, _File]


_NOTHING: Final = _Listing((0, 0), MappingProxyType({}))


def _list(folder: Path) -> Iterator[_File]:
    for path in [folder / "index.html", *(folder / "assets").glob("*")]:
        content_type = _TYPES.get(path.suffix)
        if content_type is None or not _is_own(path):
            continue
        name = str(path.relative_to(folder))
        packed = ((coding, path.with_name(path.name + suffix)) for coding, suffix in _CODINGS)
        yield _File(
            name=name,
            # The large files have their hash in the name already.
            tag=path.name if _HASHED.search(name) else hashlib.sha256(path.read_bytes()).hexdigest()[:16],
            content_type=content_type,
            codings={"": path, **{coding: each for coding, each in packed if _is_own(each)}},
        )


def _is_own(path: Path) -> bool:
    """A link could lead out of the folder."""
    return path.is_file() and not path.is_symlink()


def _answer(request: Request, file: _File) -> Response:
    accepted = _accepted(request.headers.get("accept-encoding", ""))
    coding = next((coding for coding, _ in _CODINGS if coding in accepted and coding in file.codings), "")
    tag = f'"{file.tag}.{coding}"' if coding else f'"{file.tag}"'
    headers = {
        **_GUARDS,
        "cache-control": file.caching,
        "etag": tag,
        "vary": "accept-encoding",
        "accept-ranges": "none",
    }
    if _names(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    try:
        found = os.stat(file.codings[coding])
    except OSError as error:  # another build is being put in its place
        raise HTTPException(404) from error
    if coding:
        headers["content-encoding"] = coding
    return _Whole(file.codings[coding], headers=headers, media_type=file.content_type, stat_result=found)


class _Whole(FileResponse):
    """Never a part of the file: of one that is packed, several parts in one answer would be labelled wrongly."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


def _accepted(header: str) -> list[str]:
    """The codings that the client names, but for those that it rules out (`q=0`)."""
    named = (each.partition(";") for each in header.lower().split(","))
    return [coding.strip() for coding, _, weight in named if not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight)]


def _names(header: str, tag: str) -> bool:
    """Whether an `If-None-Match` names this tag. A proxy that packs anew makes it weak."""
    return any(each.strip().removeprefix("W/") in (tag, "*") for each in header.split(","))
