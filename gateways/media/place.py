"""Where media lie: `s3://[KEY:SECRET@]BUCKET[/PREFIX][?endpoint=URL&region=REGION]`.

Without KEY and SECRET those are used that boto3 finds: in the environment, in a profile, or of the machine's role.
Without `endpoint` it is Amazon's S3.
"""

import re
from typing import Final, NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

EXAMPLE: Final = "s3://KEY:SECRET@bucket/prefix?endpoint=https://s3.example.org&region=eu-west-1"

_BUCKET: Final = re.compile("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"(?!\.{1,2}(/|$))[\w.-]+(/(?!\.{1,2}(/|$))[\w.-]+)*", re.ASCII)
_REGION: Final = re.compile("[a-z0-9-]+")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket, or a part of one, and how it is reached."""

    bucket: str
    prefix: str = ""
    """What all keys begin with, without the slash that follows."""
    endpoint: str | None = None
    """`https://host:port`; None: Amazon's."""
    region: str | None = None
    key: str | None = None
    """None: boto3 looks for key and secret by itself."""
    secret: str | None = None
    public_endpoint: str | None = None
    """Where clients reach what the engine reaches by `endpoint`: addresses for them are signed for this host, so a
    proxy on the way must leave path and Host as they are. None: by the same endpoint."""

    @classmethod
    def parse(cls, url: str, *, public_endpoint: str | None = None) -> "Place":
        """Raises ValueError, which says what to write and tells no secret."""
        return _Reader(url).read(_checked_endpoint(public_endpoint, "the public address of the media"))

    @property
    def shown(self) -> str:
        """For people and logs: without key and secret."""
        options = {"endpoint": self.endpoint, "region": self.region}
        query = "&".join(f"{name}={value}" for name, value in options.items() if value)
        return f"s3://{self.bucket}{self.prefix and '/'}{self.prefix}{query and '?'}{query}"

    def __repr__(self) -> str:
        return f"Place({self.shown})"


class _Reader:
    def __init__(self, url: str) -> None:
        self._url = url

    def read(self, public_endpoint: str | None) -> Place:
        parts = self._split()
        login, at, bucket = parts.netloc.rpartition("@")
        key, _, secret = login.partition(":")
        if at and not (key and secret):
            self._refuse("before the @ stand key and secret, with a colon between them")
        if not _BUCKET.fullmatch(bucket):
            self._refuse("a bucket's name has 3 to 63 small letters, digits, dots and hyphens")
        prefix = parts.path.strip("/")
        if prefix and not _PREFIX.fullmatch(prefix):
            self._refuse("a prefix has letters, digits and . _ - between its slashes")
        options = self._options(parts.query)
        return Place(
            bucket=bucket,
            prefix=prefix,
            endpoint=_checked_endpoint(options.get("endpoint"), f"the endpoint in {self._shown()}"),
            region=options.get("region"),
            key=unquote(key) if at else None,
            secret=unquote(secret) if at else None,
            public_endpoint=public_endpoint,
        )

    def _split(self) -> SplitResult:
        parts = self._parsed()
        if parts.scheme != "s3":
            self._refuse("it begins with s3://")
        if "@" in parts.path + parts.query + parts.fragment:
            # What stands before it would be taken for the bucket, and told to everybody.
            self._refuse("write / ? # and @ in a secret as %2F %3F %23 and %40")
        if parts.fragment:
            self._refuse("it has no part that begins with #")
        return parts

    def _parsed(self) -> SplitResult:
        try:
            return urlsplit(self._url)
        except ValueError:  # its text may quote the secret
            self._refuse("brackets stand only in an endpoint, around an IPv6 address")

    def _options(self, query: str) -> dict[str, str]:
        options = dict(parse_qsl(query, keep_blank_values=True))
        if unknown := options.keys() - {"endpoint", "region"}:
            self._refuse(f"there is no option {min(unknown)!r}, only endpoint and region")
        if not _REGION.fullmatch(options.get("region", "-")):
            self._refuse("a region has small letters, digits and hyphens")
        return options

    def _refuse(self, reason: str) -> NoReturn:
        raise ValueError(f"{self._shown()} is no place for media: {reason}. Write {EXAMPLE}") from None

    def _shown(self) -> str:
        """Also of a URL that can't be parsed: a secret ends at its last @, and without one it can't be told apart."""
        scheme, _, rest = self._url.partition("://")
        _, at, bucket = rest.rpartition("@")
        if at:
            return f"{scheme}://***@{bucket}"
        return f"{scheme}://***" if ":" in rest.partition("?")[0] else self._url


def _checked_endpoint(endpoint: str | None, what: str) -> str | None:
    """Without the slash at its end. Raises ValueError."""
    if endpoint is None:
        return None
    if not _is_endpoint(endpoint):
        raise ValueError(f"{what} is a scheme and a host: write https://s3.example.org or http://127.0.0.1:9000")
    return endpoint.rstrip("/")


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        named = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return named and "@" not in text and not (parts.path.strip("/") or parts.query or parts.fragment)
