"""Settings: by the command line, else the environment (SIGNET_…), else signet.toml in the data folder, else defaults.

A setting that nobody knows or that can't be is refused at the start, with what to do.
"""

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from gateways.limits import LimitSettings, Rate
from gateways.media.place import Place
from gateways.services import MediaLimits
from ops.datafolder import ANALYTICS, MEDIA
from ops.errors import OpsError

PREFIX: Final = "SIGNET_"
FILE_NAME: Final = "signet.toml"
KURRENTDB_MESSAGE_BYTES_MAX: Final = 262_144
"""It takes 1 MiB in an append, and a message may be twice as long as an event."""
_SECRET: Final = ("events", "readmodels", "media", "analytics", "metrics_token")
"""Settings that hold passwords or are some: what was given is not told."""
_NOT_SETTINGS: Final = ("SIGNET_TEST_", "SIGNET_DATA")
HOME: Final = Path(__file__).resolve().parent.parent


def _listed(value: Any) -> Any:
    return [each for part in value.split(",") if (each := part.strip())] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
"""A list; in the environment with commas between."""


def _a_rate(text: str) -> str:
    Rate.parse(text)
    return text


RateText = Annotated[str, AfterValidator(_a_rate)]
"""`50/s burst 500`: 500 at once, and 50 more in each second; per `s`, `min`, `hour` or `day`. `off`: no limit."""


class Settings(BaseSettings):
    """What a node can be told. Times end in their unit."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    data: Path
    """The folder that holds everything of one server."""
    host: str = "127.0.0.1"
    port: int = Field(default=8700, ge=0, le=65_535)
    """0: a free one."""
    public_url: str | None = None
    """The address by which others reach this server, behind a proxy for instance."""
    hosts: Names = ()
    """Names by which clients reach this server, beside `localhost`, its addresses, and those of `server_name` and
    `public_url`."""
    trusted_proxies: Names = ()
    """Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""
    events: str = ""
    """The URL of the event store: sqlite:, postgresql: or kurrentdb:, see docs/stores.md. Empty: SQLite in the data
    folder."""
    readmodels: str = ""
    """The URL of the PostgreSQL database that keeps the read models, postgresql:, see docs/stores.md. Empty: SQLite in
    the data folder."""
    server_name: str | None = Field(default=None, min_length=1, max_length=253)
    """Set at the first start, and never changed: devices sign it. Default: localhost."""
    registration: Literal["auto", "open", "invited", "closed"] = "auto"
    """Who may register accounts: everybody (open), who has an invitation (invited), nobody (closed). auto: everybody,
    where the server is bound to loopback and has no public address; elsewhere who has an invitation."""
    group_members_max: int = Field(default=1_024, ge=2, le=100_000)
    message_bytes_max: int = Field(default=65_536, ge=1_024, le=1_048_576)
    media: str = ""
    """The URL of the bucket for media: s3://[KEY:SECRET@]BUCKET[/PREFIX][?endpoint=URL&region=R], see docs/media.md.
    Empty: an S3 server on the folder `media` of the data folder, which the engine starts when it is first needed."""
    media_port: int = Field(default=0, ge=0, le=65_535)
    """Of the engine's own S3 server, for a proxy to pass on to; 0: a free one at each start."""
    media_public_url: str | None = None
    """The address by which clients reach that S3 server, where it is not the one by which the engine does."""
    media_image_bytes_max: int = Field(default=64 * 2**20, ge=1_024, le=5 * 2**30)
    media_video_bytes_max: int = Field(default=1_024 * 2**20, ge=1_024, le=5 * 2**30)
    media_audio_bytes_max: int = Field(default=256 * 2**20, ge=1_024, le=5 * 2**30)
    media_file_bytes_max: int = Field(default=2_048 * 2**20, ge=1_024, le=5 * 2**30)
    """Of all other files. Bytes of ciphertext, as for the three before it."""
    media_address_s: int = Field(default=900, ge=1, le=86_400)
    """How long an address for an upload or a download holds."""
    media_grace_s: float = Field(default=604_800, ge=0, le=31_536_000)
    """How long media may be named by no message before they are swept."""
    analytics: str = ""
    """The URL of a ClickHouse server for `signet analytics`: http[s]://user:password@host:port/database, see
    docs/analytics.md. Empty: an embedded one in the data folder."""
    metrics_token: str | None = Field(default=None, min_length=16, max_length=256)
    """What Prometheus shows as its bearer token at /metrics. Default: only who asks from this machine gets them, and
    nobody where there is a public_url."""
    sample_interval_s: float = Field(default=10.0, ge=0, le=86_400)
    """How long the background check rests between two conversations that it compares with the log; 0: no such check."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Limits; see gateways/limits.py. Commands are messages and whatever else changes something.
    limit_commands_device: RateText = "50/s burst 500"
    limit_commands_account: RateText = "100/s burst 1000"
    limit_receipts_device: RateText = "200/s burst 2000"
    limit_requests_account: RateText = "100/s burst 1000"
    limit_starts_account: RateText = "20/hour burst 50"
    """Conversations that an account starts."""
    limit_logins_device: RateText = "12/min burst 30"
    limit_logins_address: RateText = "2/s burst 300"
    limit_registrations_address: RateText = "20/hour burst 20"
    limit_connections_account: int = Field(default=32, ge=1, le=1_000)
    limit_connections_address: int = Field(default=500, ge=1, le=20_000)
    limit_conversations_account: int = Field(default=5_000, ge=1, le=100_000)
    """That an account is or was in: each welcome names them all."""
    limit_conversations_shared: int = Field(default=100, ge=1, le=100_000)
    """That two accounts share, before one may put the other into a further group."""
    limit_loopback: bool = False
    """Whether the limits by address hold for this machine's own address, too."""

    @field_validator("host")
    @classmethod
    def _an_address(cls, value: str) -> str:
        if value != "localhost":
            ipaddress.ip_address(value)
        return value

    @field_validator("public_url")
    @classmethod
    def _a_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("it begins with http:// or https://")
        return value

    @field_validator("analytics")
    @classmethod
    def _a_clickhouse(cls, value: str) -> str:
        if value and not (value.startswith(("http://", "https://")) and _has_address(value)):
            raise ValueError("it is ClickHouse's HTTP interface: http://user:password@host:8123/database")
        return value

    @field_validator("media")
    @classmethod
    def _a_place(cls, value: str) -> str:
        if value:
            Place.parse(value)
        return value

    @model_validator(mode="after")
    def _a_public_address(self) -> "Settings":
        if self.media_public_url is not None:
            Place.parse("s3://bucket", public_endpoint=self.media_public_url)
        return self

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            ipaddress.ip_network(each)
        return value

    @model_validator(mode="after")
    def _not_open_to_all(self) -> "Settings":
        if self.registration == "open" and not self.private:
            raise ValueError(
                "registration = open is only for a server on loopback without a public_url: anybody could register"
            )
        return self

    @model_validator(mode="after")
    def _not_too_large_to_store(self) -> "Settings":
        if self.events.startswith(("kurrentdb", "kdb")) and self.message_bytes_max > KURRENTDB_MESSAGE_BYTES_MAX:
            raise ValueError(
                f"message_bytes_max may be {KURRENTDB_MESSAGE_BYTES_MAX} at most where KurrentDB has the log"
            )
        return self

    @property
    def private(self) -> bool:
        """Only this machine reaches the server."""
        loopback = self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        return loopback and self.public_url is None and not self.trusted_proxies

    @property
    def who_registers(self) -> Literal["open", "invited", "closed"]:
        if self.registration == "auto":
            return "open" if self.private else "invited"
        return self.registration

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which clients may reach this server."""
        public = urlsplit(self.public_url or "").hostname
        return (*self.hosts, public) if public else self.hosts

    @property
    def origins(self) -> tuple[str, ...]:
        """Web pages that may connect, beside those that name this server as their own."""
        if self.public_url is None:
            return ()
        url = urlsplit(self.public_url)
        return (f"{url.scheme}://{url.netloc}",)

    @property
    def limits(self) -> LimitSettings:
        return LimitSettings(
            commands_device=Rate.parse(self.limit_commands_device),
            commands_account=Rate.parse(self.limit_commands_account),
            receipts_device=Rate.parse(self.limit_receipts_device),
            requests_account=Rate.parse(self.limit_requests_account),
            starts_account=Rate.parse(self.limit_starts_account),
            logins_device=Rate.parse(self.limit_logins_device),
            logins_address=Rate.parse(self.limit_logins_address),
            registrations_address=Rate.parse(self.limit_registrations_address),
            connections_account_max=self.limit_connections_account,
            connections_address_max=self.limit_connections_address,
            conversations_account_max=self.limit_conversations_account,
            conversations_shared_max=self.limit_conversations_shared,
            loopback=self.limit_loopback,
        )

    @property
    def events_url(self) -> str:
        return self.events or f"sqlite:///{self.data / 'log.db'}"

    @property
    def events_shown(self) -> str:
        """The URL without its password."""
        return _without_password(self.events_url)

    @property
    def media_shown(self) -> str:
        """Where media lie, without the secret."""
        return Place.parse(self.media).shown if self.media else str(self.data / MEDIA)

    @property
    def media_limits(self) -> MediaLimits:
        return MediaLimits(
            image=self.media_image_bytes_max,
            video=self.media_video_bytes_max,
            audio=self.media_audio_bytes_max,
            file=self.media_file_bytes_max,
        )

    @property
    def readmodels_place(self) -> Path | str:
        """A folder, or the URL of a database."""
        return self.readmodels or self.data / "readmodels"

    @property
    def readmodels_shown(self) -> str:
        """The same without the password."""
        return _without_password(self.readmodels) or str(self.readmodels_place)

    @property
    def analytics_shown(self) -> str:
        return _without_password(self.analytics) or f"embedded, in {self.data / ANALYTICS}"

    @property
    def has_no_log(self) -> bool:
        """There is none in the data folder, where it is to be."""
        return not self.events and not (self.data / "log.db").exists()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, _file_of(init_settings()))
        return init_settings, env_settings, toml


def load_settings(data: Path | None = None, **given: Any) -> Settings:
    """The settings of the server in this data folder; what is None in `given` was not given. Raises OpsError."""
    folder = data_folder(data)
    _check_environment(os.environ)
    try:
        return Settings(data=folder, **{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise OpsError(_explain(error, folder)) from error
    except (ValueError, OSError) as error:  # a file that is no TOML, or can't be read
        raise OpsError(f"{folder / FILE_NAME} can't be read: {error}. Mend it, or move it away.") from error


def data_folder(data: Path | None) -> Path:
    """The data folder that is meant: what was given, else SIGNET_DATA, else `.data` in the checkout."""
    return (data or Path(os.environ.get("SIGNET_DATA") or HOME / ".data")).expanduser().absolute()


def _has_address(url: str) -> bool:
    parts = urlsplit(url)
    try:
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # no port can be that
        return False


def _without_password(url: str) -> str:
    # Not by a parser: a password may hold whatever ends it by the rules, and drivers take it all the same.
    scheme, separator, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{login.partition(':')[0]}{at}{re.split('[?#]', place)[0]}"


def _file_of(given: Mapping[str, Any]) -> Path:
    return Path(given["data"]) / FILE_NAME


def _check_environment(environment: Mapping[str, str]) -> None:
    known = [name.upper() for name in Settings.model_fields]
    for name in environment:
        wanted = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and not name.startswith(_NOT_SETTINGS) and wanted not in known:
            # Without the prefix, or every two names would be alike.
            close = difflib.get_close_matches(wanted, known, 1)
            names = ", ".join(f"{PREFIX}{each}" for each in known)
            meant = f"; did you mean {PREFIX}{close[0]}?" if close else f". Known are {names}."
            raise OpsError(f"the environment sets {name}, which is no setting{meant}")


def _explain(error: ValidationError, folder: Path) -> str:
    lines = ["a setting is wrong (command line, environment SIGNET_…, or " + str(folder / FILE_NAME) + "):"]
    for each in error.errors():
        name = ".".join(str(part) for part in each["loc"])
        if each["type"] == "extra_forbidden":
            close = difflib.get_close_matches(name, Settings.model_fields, 1)
            lines.append(f"  {name}: there is no such setting" + (f"; did you mean {close[0]}?" if close else ""))
        else:
            got = f" (got {each['input']!r})" if name and name not in _SECRET else ""
            lines.append(f"  {name}: {each['msg']}{got}" if name else f"  {each['msg']}")
    return "\n".join(lines)
