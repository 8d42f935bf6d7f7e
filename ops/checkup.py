"""What `signet doctor` looks at. Each check is a function from the settings to what it found, and changes nothing."""

import asyncio
import os
import platform
import resource
import shutil
import socket
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Final

import apsw
import httpx

from commands.keyring import FileKeyring
from commands.keyring_backup import last_backup, remedy
from commands.stores import check_store, open_log
from domain.codec import CODEC, Event
from domain.log import START, NoLog, StoreError
from ops.datafolder import DISK_MIN_BYTES, KEYRING, free_bytes, is_owned, read_server_file
from ops.errors import OpsError
from ops.findings import Finding, fail, ok, warn
from ops.media.health import check_media
from ops.settings import HOME, Settings
from ops.webbuild import DIST, is_built
from projections.catalogue import find_serving, serving_kind
from projections.database import CantOpen
from projections.models import MODELS
from projections.readmodel import ReadModelError

SQLITE_MIN: Final = (3, 35)
"""For what the read models' statements use."""
FSYNCS: Final = 20
FSYNC_SLOW_MS: Final = 10.0
DISK_LOW_BYTES: Final = 1_000_000_000
FILES_LOW: Final = 4_096
BACKUP_OLD_D: Final = 7
CLOCK_OFF_S: Final = 2.0
READY_MAX_S: Final = 5.0
BUILDS_WEB: Final = "./signet up builds it, and says what is missing where it can't"
_IN_MEMORY: Final = ("tmpfs", "ramfs")
_ON_A_NETWORK: Final = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs")


def check_python(_: Settings) -> Finding:
    text = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < (3, 11):  # noqa: UP036 - somebody may have started it past the launcher
        return fail("python", text, "install Python 3.11 or newer")
    return ok("python", text)


def check_sqlite(_: Settings) -> Finding:
    """Both: Python's module has the invitations, `apsw` all else."""
    versions = {"apsw": apsw.sqlite_lib_version(), "Python's module": sqlite3.sqlite_version}
    text = ", ".join(f"{version} in {where}" for where, version in versions.items())
    if any(tuple(map(int, each.split(".")[:2])) < SQLITE_MIN for each in versions.values()):
        return fail("sqlite", text, f"{'.'.join(map(str, SQLITE_MIN))} is needed: install a newer Python")
    return ok("sqlite", text)


def check_folder(settings: Settings) -> Finding:
    data = settings.data
    if not data.exists():
        if not os.access(_standing(data), os.W_OK):
            return fail("data folder", f"{data} can't be made", "name another one by --data")
        return ok("data folder", f"{data} is made at the first start")
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        return fail("data folder", f"{data} can't be written by this user", _chown(data))
    foreign = [path.name for path in (data, *data.iterdir()) if path.lstat().st_uid != os.geteuid()]
    if foreign:
        return fail("data folder", f"{', '.join(sorted(foreign))} in {data} belong to another user", _chown(data))
    if stat.S_IMODE(data.stat().st_mode) & 0o077:
        return warn("data folder", f"others on this machine may look into {data}", f"chmod 700 {data}")
    return ok("data folder", str(data))


def check_file_system(settings: Settings) -> Finding:
    kind = _file_system_of(_standing(settings.data))
    if kind in _ON_A_NETWORK:
        return fail("file system", f"{kind}: SQLite's locks don't hold there", "put the data folder on a local disk")
    if kind in _IN_MEMORY:
        return warn("file system", f"{kind}: all is lost when the machine stops", "put the data folder on a disk")
    return ok("file system", kind or "unknown here")


def check_disk(settings: Settings) -> Finding:
    free = free_bytes(_standing(settings.data))
    text = f"{free / 1e9:.1f} GB free"
    if free < DISK_MIN_BYTES:
        return fail("disk", text, "make room: a full disk refuses every message")
    return warn("disk", text, "make room soon") if free < DISK_LOW_BYTES else ok("disk", text)


def check_fsync(settings: Settings) -> Finding:
    """How long it takes until something is on disk, as each batch of messages must be."""
    took = sorted(_fsyncs(_standing(settings.data)))
    middle, worst = took[len(took) // 2], took[-1]
    text = f"{middle:.2f} ms, {worst:.2f} ms at worst"
    if middle > FSYNC_SLOW_MS:
        return warn("fsync", text, "messages wait for it: put the data folder on a faster disk")
    return ok("fsync", text)


def check_files(_: Settings) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES_LOW:
        advice = f"ulimit -n {hard if hard != resource.RLIM_INFINITY else 20_000}, or LimitNOFILE= in the unit"
        return warn("open files", f"{soft} at most, and each connection is one", advice)
    return ok("open files", "no limit" if soft == resource.RLIM_INFINITY else f"{soft} at most")


def check_log(settings: Settings) -> Finding:
    """Whether it can be reached, read and written, by the checks that the engine makes when it opens it."""
    if settings.has_no_log:
        return ok("log", "there is none yet")
    try:
        check_store(settings.events_url)
        head = asyncio.run(_head(settings))
    except NoLog:
        return ok("log", f"{settings.events_shown}: there is none yet")
    except StoreError as error:
        return fail("log", str(error), "mend it: without the log nothing goes")
    return ok("log", f"{settings.events_shown}: " + ("it is empty" if head == START else f"up to position {head}"))


def check_readmodels(settings: Settings) -> Finding:
    """Whether an engine could open them, as far as it can be told beside one that has them open."""
    if settings.readmodels:
        from projections.postgres import check_postgres

        try:
            check_postgres(settings.readmodels, [_schema(settings.readmodels, name) for name in MODELS])
        except (CantOpen, ReadModelError) as error:
            return fail("read models", str(error), "mend it: nothing can be read without them")
    return ok("read models", settings.readmodels_shown)


def _schema(place: str, name: str) -> str:
    serving = find_serving(place, name)
    return serving_kind(serving).schema_name(serving.build.number)


def check_keyring(settings: Settings) -> Finding:
    path = settings.data / KEYRING
    if not path.exists():
        if _has_events(settings):
            return fail("keyring", f"{path} is missing", remedy(path))
        return ok("keyring", "there is none yet")
    with closing(FileKeyring(path, read_only=True)) as keyring:
        keyring.find("")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return fail("keyring", f"others on this machine may read {path}", f"chmod 600 {path}")
    return ok("keyring", str(path))


def _has_events(settings: Settings) -> bool:
    """Texts in them may be sealed. A log that can't be read has a finding of its own."""
    if not settings.events:
        return not settings.has_no_log
    try:
        return asyncio.run(_head(settings)) > START
    except StoreError:
        return False


def check_backup(settings: Settings) -> Finding:
    """The keyring's: newcomers get new keys every day."""
    path = settings.data / KEYRING
    if not path.exists():
        return ok("keyring backup", "there is nothing to back up yet")
    last = last_backup(path)
    if last is None:
        return warn("keyring backup", "none was made", "signet keyring backup PATH, daily, onto another disk")
    age_d = (datetime.now(UTC) - datetime.fromisoformat(last.at)).days
    text = f"{last.path}, {last.at}, {last.keys} keys"
    if age_d > BACKUP_OLD_D:
        return warn("keyring backup", f"{text}: {age_d} days old", "signet keyring backup PATH, daily")
    return ok("keyring backup", text)


def check_name(settings: Settings) -> Finding:
    server = read_server_file(settings.data)
    name = server.name if server is not None else settings.server_name
    if server is not None and settings.server_name not in (None, server.name):
        advice = f"take server_name = {settings.server_name!r} out of the settings: devices have signed the first one"
        return fail("server name", f"it is {server.name!r} since the first start", advice)
    if name in (None, "localhost") and not settings.private:
        text = "it is 'localhost', and others reach this server"
        advice = "set server_name before the first start: devices sign it, and it never changes"
        return warn("server name", text, advice)
    return ok("server name", repr(name or "localhost"))


def check_port(settings: Settings) -> Finding:
    """Free, or this server's own."""
    server = read_server_file(settings.data)
    if server is not None and server.url is not None and is_owned(settings.data):
        return ok("port", f"served at {server.url} by process {server.pid}")
    address = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((settings.host, settings.port))
        except OSError as error:
            return fail("port", f"{address} can't be had: {error.strerror}", "set another port, or end who has it")
    return ok("port", f"{address} is free")


def check_engine(settings: Settings) -> Finding:
    """What the running engine says of itself."""
    server = read_server_file(settings.data)
    if server is None or server.url is None or not is_owned(settings.data):
        return ok("engine", "none runs on this folder")
    try:
        answer = httpx.get(f"{server.url}/readyz", timeout=READY_MAX_S, trust_env=False)
        checks = answer.json()["checks"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return fail("engine", f"{server.url} does not answer: {error!r}", "look into its log; start it anew")
    wrong = [f"{each['name']}: {each.get('detail') or 'not ready'}" for each in checks if not each["ok"]]
    if wrong:
        return fail("engine", "; ".join(wrong), "see what it says, and its log")
    return ok("engine", "ready")


def check_clock(settings: Settings) -> Finding:
    """It should not stand before what has happened already."""
    now = time.time()
    newest = max((path.stat().st_mtime for path in settings.data.glob("*")), default=0.0)
    if not settings.events and not settings.has_no_log:
        last = asyncio.run(_last_event(settings))
        newest = max(newest, last.entry.at / 1e6 if last is not None else 0)
    if newest > now + CLOCK_OFF_S:
        text = f"it is {newest - now:.0f} s before the last event or file of the data folder"
        return fail("clock", text, "set the clock, and keep it by NTP: events carry its time")
    return ok("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def check_reach(settings: Settings) -> Finding:
    """Who reaches it, and whether by TLS."""
    url = settings.public_url
    registration = f"registration: {settings.who_registers}"
    if settings.private:
        return ok("reach", f"this machine only; {registration}")
    if url is None:
        advice = "put a proxy that ends TLS before it, bind to loopback, and set public_url"
        return warn("reach", f"others reach {settings.host} without TLS; {registration}", advice)
    if not url.startswith("https://"):
        return warn("reach", f"{url} is without TLS; {registration}", "let a proxy end TLS, and write https://")
    proxy = shutil.which("haproxy")
    where = f"haproxy at {proxy}" if proxy else "a proxy that is not on this machine, or is no haproxy"
    return ok("reach", f"{url}, TLS by {where}; {registration}")


def check_web(_: Settings) -> Finding:
    """Whether there are pages to serve, and of these sources."""
    if not (HOME / DIST / "index.html").exists():
        return warn("web client", "it is not built: browsers get a page that says so", BUILDS_WEB)
    if not is_built(HOME):
        return warn("web client", "what is served was built from other sources than lie there", BUILDS_WEB)
    return ok("web client", "built")


CHECKS: Final[tuple[Callable[[Settings], Finding], ...]] = (
    check_python,
    check_sqlite,
    check_folder,
    check_file_system,
    check_disk,
    check_fsync,
    check_files,
    check_log,
    check_readmodels,
    check_keyring,
    check_backup,
    check_name,
    check_port,
    check_engine,
    check_clock,
    check_reach,
    check_media,
    check_web,
)


def look(settings: Settings) -> Iterator[Finding]:
    """All findings, one by one. A check that breaks is one that fails."""
    for check in CHECKS:
        try:
            yield check(settings)
        except Exception as error:  # whatever it is, the others go on
            name = check.__name__.removeprefix("check_").replace("_", " ")
            yield fail(name, str(error) or repr(error), "" if isinstance(error, OpsError) else "see the text")


def _chown(data: Path) -> str:
    return f"run it as the folder's owner, or: chown -R $USER {data}"


def _standing(path: Path) -> Path:
    """The folder itself, or the nearest one above that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def _file_system_of(path: Path) -> str:
    """As /proc/mounts calls it; empty where there is no such file."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    real = path.resolve()
    above = [(len(place), kind) for _, place, kind, *_ in mounts if real.is_relative_to(place)]
    return max(above, default=(0, ""))[1]


def _fsyncs(folder: Path) -> Iterator[float]:
    """Milliseconds of each."""
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FSYNCS):
            file.write(bytes(4_096))
            file.flush()
            began = perf_counter()
            os.fsync(file.fileno())
            yield (perf_counter() - began) * 1_000


async def _head(settings: Settings) -> int:
    log = open_log(settings.events_url, read_only=True)
    try:
        return await log.head()
    finally:
        await log.close()


async def _last_event(settings: Settings) -> Event | None:
    log = open_log(settings.events_url, read_only=True)
    try:
        found = await log.read_last(1)
        return CODEC.decode(found[0]) if found else None
    finally:
        await log.close()
