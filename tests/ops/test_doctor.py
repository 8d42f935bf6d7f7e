"""`signet doctor`: what is amiss is named, with what to do, and everything else is ok."""

import os
import re
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from commands.keyring import create_keyring
from commands.keyring_backup import back_up
from commands.stores import open_log
from gateways.media.place import Place
from gateways.media.s3 import Bucket
from ops import checkup, webbuild
from ops.checkup import CHECKS, look
from ops.child import free_port as free_port_of_nobody
from ops.cli import command_line
from ops.datafolder import KEYRING
from ops.engine import engine
from ops.errors import OpsError
from ops.findings import Finding
from ops.node import Node
from ops.settings import Settings, load_settings
from projections.models import newest_of_all
from signet_client import Client
from tests import postgres
from tests.commands.stores.appends import must_append, new_append, new_stream
from tests.s3 import Server


@pytest.fixture(autouse=True)
def free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SIGNET_")]:
        monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        monkeypatch.setenv("SIGNET_PORT", str(sock.getsockname()[1]))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    return data


def found(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in look(settings)}


def amiss(data: Path, **given: Any) -> dict[str, tuple[str, str]]:
    """Level and text of what is not ok, by name; each of them has a remedy. Where the tests run is left out."""
    findings = found(load_settings(data, **given))
    wrong = {name: each for name, each in findings.items() if each.level != "ok"}
    assert all(each.remedy for each in wrong.values())
    return {
        name: (each.level, each.text)
        for name, each in wrong.items()
        if name not in ("file system", "fsync", "open files", "web client")
    }


def test_before_the_first_start_all_is_well(tmp_path: Path) -> None:
    assert amiss(tmp_path / "nothing yet") == {}
    assert len(found(load_settings(tmp_path / "nothing yet"))) == len(CHECKS)
    assert not (tmp_path / "nothing yet").exists()


async def test_beside_a_running_engine_all_is_well(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with engine(data, {"log_level": "error"}) as running:
        await (await Client.register(running.url, "Ann", tmp_path / "ann.db")).close()
        code, report = run("--data", str(data))
        assert code == 0
        levels = {each["name"]: each["level"] for each in report["findings"]}
        texts = {each["name"]: each["text"] for each in report["findings"]}
    assert {name: level for name, level in levels.items() if level == "fail"} == {}
    assert levels["engine"] == levels["keyring"] == levels["log"] == levels["port"] == "ok"
    assert texts["engine"] == "ready"
    assert running.url in texts["port"]
    assert texts["log"].endswith("log.db: up to position 5")


async def test_a_log_on_a_server(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is needed before the first start; afterwards the keyring is."""
    server = postgres.shared(18)
    url = server.url(server.new_database())
    monkeypatch.setenv("SIGNET_EVENTS", url)
    code, report = run("--data", str(data))
    assert code == 0, report
    assert {each["name"]: each["text"] for each in report["findings"]}["log"].endswith(": there is none yet")
    log = open_log(url)
    await must_append(log, new_append(new_stream()))
    await log.close()
    code, report = run("--data", str(data))
    assert [each["name"] for each in report["findings"] if each["level"] == "fail"] == ["keyring"]


@pytest.fixture
def mortal() -> Iterator[postgres.Server]:
    server = postgres.Server.start(18)
    yield server
    server.stop()


async def refusal(data: Path) -> str:
    with pytest.raises(OpsError) as refused:
        async with Node.open(load_settings(data)):
            pass
    return str(refused.value)


async def test_a_standby_is_told_by_the_doctor_and_at_the_start(
    data: Path, mortal: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = mortal.new_database()
    monkeypatch.setenv("SIGNET_EVENTS", mortal.url(database))
    async with Node.open(load_settings(data)):
        pass
    mortal.kill()
    mortal.restart(standby=True)
    told = "it is a standby: name the primary in the URL"
    assert failures(data) == {"log": f"the event log at 127.0.0.1:{mortal.port}/{database}: {told}"}
    assert told in await refusal(data)
    monkeypatch.delenv("SIGNET_EVENTS")
    monkeypatch.setenv("SIGNET_READMODELS", mortal.url(database))
    assert failures(data) == {"read models": f"the read models at 127.0.0.1:{mortal.port}/{database}: {told}"}
    assert told in await refusal(data)


@pytest.mark.parametrize("before_the_first_start", [True, False])
async def test_a_database_that_is_only_to_be_read_is_told_by_the_doctor_and_at_the_start(
    data: Path, monkeypatch: pytest.MonkeyPatch, before_the_first_start: bool
) -> None:
    server = postgres.shared(18)
    database = server.new_database()
    for setting in ("SIGNET_EVENTS", "SIGNET_READMODELS"):
        monkeypatch.setenv(setting, server.url(database))
    if not before_the_first_start:
        async with Node.open(load_settings(data)):
            pass
    with server.admin() as admin:
        admin.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on".encode())
    failed = failures(data)
    assert failed.keys() == {"log", "read models"}
    for told in (*failed.values(), await refusal(data)):
        assert "it is only to be read: ALTER DATABASE (or ROLE) … SET default_transaction_read_only = off" in told


async def test_a_user_who_may_make_nothing_is_well_where_all_is_made(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = postgres.shared(18)
    database = server.new_database()
    for setting in ("SIGNET_EVENTS", "SIGNET_READMODELS"):
        monkeypatch.setenv(setting, server.url(database))
    async with Node.open(load_settings(data)):
        pass
    user = f"tenant_of_{database}"
    schemas = ["public", *(model.schema_name() for model in newest_of_all())]
    with server.admin(database) as admin:
        admin.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{postgres.PASSWORD}'".encode())
        for schema in schemas:
            admin.execute(f"GRANT USAGE ON SCHEMA {schema} TO {user}".encode())
            admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {user}".encode())
            admin.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {user}".encode())
    theirs = server.url(database, user=user)
    for setting in ("SIGNET_EVENTS", "SIGNET_READMODELS"):
        monkeypatch.setenv(setting, theirs)
    assert failures(data) == {}
    async with engine(data, {"events": theirs, "readmodels": theirs, "log_level": "error"}) as running:
        await (await Client.register(running.url, "Ann", data / "ann.db")).close()
    with server.admin(database) as admin:
        admin.execute(f"REVOKE INSERT ON stored_events FROM {user}".encode())
        admin.execute(f"DROP SCHEMA {schemas[1]} CASCADE".encode())
    failed = failures(data)
    assert "lacks rights: GRANT INSERT ON" in failed["log"]
    assert "may make no schema: GRANT CREATE ON DATABASE" in failed["read models"]


def failures(data: Path) -> dict[str, str]:
    _, report = run("--data", str(data))
    return {each["name"]: each["text"] for each in report["findings"] if each["level"] == "fail"}


def run(*arguments: str) -> tuple[int, dict[str, Any]]:
    """In a thread of its own where a loop runs: the checks have loops of their own."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(CliRunner().invoke, command_line(["doctor"]), ["doctor", *arguments, "--json"]).result()
    return result.exit_code, msgspec.json.decode(result.stdout)


def test_a_wrong_setting_is_a_finding(data: Path) -> None:
    (data / "signet.toml").write_text("prot = 1")
    code, report = run("--data", str(data))
    assert code == 1
    assert not report["ok"]
    assert [(each["name"], each["level"]) for each in report["findings"]] == [("settings", "fail")]
    assert "did you mean port?" in report["findings"][0]["text"]


def test_lines_are_for_people_too(data: Path) -> None:
    data.chmod(0o755)
    result = CliRunner().invoke(command_line(["doctor"]), ["doctor", "--data", str(data)])
    assert result.exit_code == 0
    assert f"warn  data folder: others on this machine may look into {data}" in result.stdout
    assert f"→ chmod 700 {data}" in result.stdout


def test_a_folder_of_others_or_a_keyring_that_others_may_read(data: Path) -> None:
    """I12"""
    data.chmod(0o755)
    (data / "keyring.db").touch(mode=0o644)
    wrong = amiss(data)
    assert wrong["data folder"][0] == "warn"
    assert wrong["keyring"][0] == "fail"


def test_a_keyring_that_is_missing_or_damaged(data: Path) -> None:
    (data / "log.db").touch()
    assert amiss(data)["keyring"] == ("fail", f"{data / 'keyring.db'} is missing")
    (data / "keyring.db").write_bytes(b"no keyring" * 1_000)
    assert amiss(data)["keyring"][0] == "fail"
    assert amiss(data)["keyring backup"][0] == "warn"


def test_a_keyring_without_a_backup_or_with_an_old_one(data: Path) -> None:
    create_keyring(data / KEYRING)
    assert amiss(data)["keyring backup"] == ("warn", "none was made")
    back_up(data / KEYRING, data.parent / "backup.db")
    assert amiss(data) == {}
    note = data / "keyring.backup.json"
    note.write_bytes(re.sub(rb'"at":"[^"]*"', b'"at":"2026-01-01T00:00:00+00:00"', note.read_bytes()))
    level, text = amiss(data)["keyring backup"]
    assert level == "warn"
    assert "days old" in text


def test_read_models_in_a_database_that_answers_and_one_that_doesn_t(data: Path) -> None:
    server = postgres.shared(18)
    database = server.new_database()
    [finding] = [each for each in look(load_settings(data, readmodels=server.url(database))) if "read" in each.name]
    assert (finding.level, finding.text.endswith(f"engine@127.0.0.1:{server.port}/{database}")) == ("ok", True)
    for url in (server.url(database, password="wrong"), server.url("nowhere"), "sqlite:///somewhere"):
        level, text = amiss(data, readmodels=url)["read models"]
        assert level == "fail"
        assert "wrong" not in text


def test_a_log_that_is_none(data: Path) -> None:
    (data / "log.db").write_bytes(b"no log at all" * 1_000)
    level, text = amiss(data)["log"]
    assert level == "fail"
    assert str(data / "log.db") in text


def test_a_port_that_somebody_else_has(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        assert amiss(data, port=port) == {"port": ("fail", f"127.0.0.1:{port} can't be had: Address already in use")}


def test_a_clock_that_went_back(data: Path) -> None:
    (data / "server.json").write_text('{"name": "localhost"}')
    ahead = (data / "server.json").stat().st_mtime + 3_600
    os.utime(data / "server.json", (ahead, ahead))
    level, text = amiss(data)["clock"]
    assert level == "fail"
    assert "before the last event or file" in text


def test_a_name_that_does_not_fit(data: Path) -> None:
    assert amiss(data, public_url="https://chat.example")["server name"][0] == "warn"
    (data / "server.json").write_text('{"name": "chat.example"}')
    assert amiss(data, public_url="https://chat.example", media_public_url="https://media.example") == {}
    assert amiss(data, server_name="other.example")["server name"][0] == "fail"


def test_who_is_reached_without_tls_is_told(data: Path) -> None:
    (data / "server.json").write_text('{"name": "chat.example"}')
    assert amiss(data, host="0.0.0.0")["reach"][0] == "warn"
    assert amiss(data, public_url="http://chat.example")["reach"][0] == "warn"


def _full(_: Path) -> int:
    return 1_000_000


def _low(_: Path) -> int:
    return 500_000_000


@pytest.mark.parametrize(("free", "level"), [(_full, "fail"), (_low, "warn")])
def test_a_disk_that_is_full(
    data: Path, monkeypatch: pytest.MonkeyPatch, free: Callable[[Path], int], level: str
) -> None:
    monkeypatch.setattr(checkup, "free_bytes", free)
    assert amiss(data)["disk"][0] == level


@pytest.mark.parametrize(("kind", "level"), [("tmpfs", "warn"), ("nfs4", "fail"), ("ext4", "ok"), ("", "ok")])
def test_a_file_system_that_does_not_hold(data: Path, monkeypatch: pytest.MonkeyPatch, kind: str, level: str) -> None:
    monkeypatch.setattr(checkup, "_file_system_of", lambda _: kind)
    assert found(load_settings(data))["file system"].level == level


def test_a_slow_disk_and_few_open_files(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "_fsyncs", lambda _: iter([1.0, 50.0, 60.0]))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 20_000))
    findings = found(load_settings(data))
    assert (findings["fsync"].level, findings["fsync"].text) == ("warn", "50.00 ms, 60.00 ms at worst")
    assert findings["open files"].remedy.startswith("ulimit -n 20000")


def test_a_check_that_breaks_fails_and_the_others_go_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> int:
        raise OSError("no such device")

    monkeypatch.setattr(checkup, "free_bytes", broken)
    findings = found(load_settings(data))
    assert (findings["disk"].level, findings["disk"].text) == ("fail", "no such device")
    assert len(findings) == len(CHECKS)


def media(data: Path, **given: Any) -> tuple[str, str]:
    finding = found(load_settings(data, **given))["media"]
    assert (finding.remedy == "") == (finding.level == "ok")
    return finding.level, finding.text


def test_media_in_the_data_folder(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    level, text = media(data)
    assert (level, text.startswith("rclone v"), text.endswith("there are none yet")) == ("ok", True, True)
    objects = data / "media/signet/objects"
    objects.mkdir(parents=True)
    (objects / "one").write_bytes(bytes(1_500))
    assert f"{data / 'media'} holds 1 files of 1.5 kB, and has room for" in media(data)[1]
    monkeypatch.setattr(sys, "executable", str(data / "python"))
    monkeypatch.setenv("PATH", str(data))
    assert media(data)[0] == "fail"


def test_a_web_client_that_is_not_built_or_of_other_sources(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = data / "checkout"
    dist = home / "web/dist"
    dist.mkdir(parents=True)
    page = home / "web/index.html"
    page.write_text("<p>one</p>")
    monkeypatch.setattr(checkup, "HOME", home)

    def level() -> tuple[str, bool]:
        finding = found(load_settings(data))["web client"]
        return finding.level, "./signet up" in finding.remedy

    assert level() == ("warn", True)
    (dist / "index.html").write_text("<p>one</p>")
    (dist / "signet-stamp.txt").write_text(webbuild.fingerprint(home))
    assert level() == ("ok", False)
    page.write_text("<p>two</p>")
    assert level() == ("warn", True)


def make_bucket(url: str) -> None:
    with closing(Bucket(Place.parse(url))) as bucket:
        bucket.check()


def test_media_in_an_s3(data: Path, s3: Server) -> None:
    url = s3.url.replace("@media", "@for-the-doctor")
    level, text = media(data, media=url)
    assert (level, "there is no bucket 'for-the-doctor'" in text) == ("warn", True)
    assert not (s3.folder / "for-the-doctor").exists(), "the doctor makes none"
    make_bucket(url)
    assert media(data, media=url) == ("ok", f"s3://for-the-doctor/a/b?endpoint={s3.endpoint}")
    level, text = media(data, media=url.replace("correct-horse", "battery-staple"))
    assert (level, "KEY:SECRET" in text, "battery" in text) == ("fail", True, False)
    assert media(data, media=url.replace(str(s3.port), str(free_port_of_nobody())))[0] == "fail"


def test_media_that_clients_elsewhere_can_t_reach(data: Path, s3: Server) -> None:
    make_bucket(s3.url)
    others: dict[str, Any] = {"public_url": "https://chat.example"}
    for place in ({}, {"media": s3.url}):
        level, text = media(data, **others, **place)
        assert (level, text.endswith("clients elsewhere can't reach it")) == ("warn", True)
        assert media(data, **others, **place, media_public_url="https://media.example")[0] == "ok"
