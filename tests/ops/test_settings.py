"""Settings: where they come from, which comes first, and that what can't be is refused with what to do."""

from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.settings import HOME, data_folder, load_settings


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIGNET_PORT", "SIGNET_HOST", "SIGNET_DATA", "SIGNET_LOG_LEVEL", "SIGNET_REGISTRATION"):
        monkeypatch.delenv(name, raising=False)


def write(folder: Path, toml: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "signet.toml").write_text(toml)
    return folder


def test_without_any_the_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    assert (settings.host, settings.port, settings.public_url) == ("127.0.0.1", 8700, None)
    assert settings.events_url == f"sqlite:///{tmp_path / 'log.db'}"
    assert settings.data == tmp_path


def test_the_command_line_comes_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 'port = 1\nhost = "127.0.0.2"\nlog_level = "error"')
    assert load_settings(tmp_path).port == 1
    monkeypatch.setenv("SIGNET_PORT", "2")
    monkeypatch.setenv("SIGNET_HOST", "127.0.0.3")
    settings = load_settings(tmp_path, port=3, host=None)
    assert (settings.port, settings.host, settings.log_level) == (3, "127.0.0.3", "error")


def test_the_folder_is_the_one_given_else_the_environments_else_the_checkouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data_folder(None) == HOME / ".data"
    monkeypatch.setenv("SIGNET_DATA", str(tmp_path / "env"))
    assert load_settings(None).data == tmp_path / "env"
    assert load_settings(tmp_path / "given").data == tmp_path / "given"
    monkeypatch.chdir(tmp_path)
    assert data_folder(Path("here")) == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder(Path("~/there")) == tmp_path / "there"


def test_a_list_has_commas_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 'trusted_proxies = ["10.0.0.1"]')
    monkeypatch.setenv("SIGNET_HOSTS", "chat.example, signet")
    settings = load_settings(tmp_path, public_url="https://Signet.example:8443/chat")
    assert settings.trusted_proxies == ("10.0.0.1",)
    assert settings.names == ("chat.example", "signet", "signet.example")
    assert settings.origins == ("https://Signet.example:8443",)


def test_by_default_no_proxy_is_trusted_and_no_name_added(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    assert (settings.trusted_proxies, settings.names, settings.origins) == ((), (), ())


def test_another_store_is_named_by_its_url(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, events="kurrentdb://ann:secret@db.example:2113?Tls=true")
    assert settings.events_url == "kurrentdb://ann:secret@db.example:2113?Tls=true"
    assert settings.events_shown == "kurrentdb://ann@db.example:2113"


@pytest.mark.parametrize("password", ["secret", "secr#et", "secr?et", "secr/et", "secr@et", "secr:et", "secr%zzet"])
@pytest.mark.parametrize("setting", ["events", "readmodels"])
def test_no_password_is_shown_whatever_is_in_it(tmp_path: Path, setting: str, password: str) -> None:
    settings = load_settings(tmp_path, **{setting: f"postgresql://ann:{password}@db.example/signet?password=secret"})
    shown = settings.events_shown if setting == "events" else settings.readmodels_shown
    assert shown == "postgresql://ann@db.example/signet"


def test_the_read_models_stand_in_the_data_folder_or_in_a_database(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    assert settings.readmodels_place == tmp_path / "readmodels"
    assert settings.readmodels_shown == str(tmp_path / "readmodels")
    url = "postgresql://ann:secret@db.example:5432/signet?sslmode=require"
    settings = load_settings(tmp_path, readmodels=url)
    assert (settings.readmodels_place, settings.readmodels_shown) == (url, "postgresql://ann@db.example:5432/signet")


@pytest.mark.parametrize(
    ("given", "who"),
    [
        ({}, "open"),
        ({"host": "localhost"}, "open"),
        ({"host": "::1"}, "open"),
        ({"host": "0.0.0.0"}, "invited"),
        ({"public_url": "https://chat.example"}, "invited"),
        ({"trusted_proxies": ["127.0.0.1"]}, "invited"),
        ({"registration": "invited"}, "invited"),
        ({"registration": "closed"}, "closed"),
        ({"registration": "open"}, "open"),
    ],
)
def test_registration_is_open_only_where_nobody_else_reaches_the_server(
    tmp_path: Path, given: dict[str, object], who: str
) -> None:
    """I12"""
    assert load_settings(tmp_path, **given).who_registers == who


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"port": 70_000}, "port: Input should be less than or equal to 65535 (got 70000)"),
        ({"host": "nowhere"}, "host: Value error, 'nowhere' does not appear to be an IPv4 or IPv6 address"),
        ({"public_url": "chat.example"}, "public_url: Value error, it begins with http:// or https://"),
        ({"log_level": "loud"}, "log_level: "),
        ({"trusted_proxies": "proxy.example"}, "trusted_proxies: Value error, 'proxy.example' does not appear to be"),
        ({"server_name": ""}, "server_name: "),
        ({"host": "0.0.0.0", "registration": "open"}, "anybody could register"),
        ({"public_url": "https://chat.example", "registration": "open"}, "anybody could register"),
        ({"events": "kurrentdb://127.0.0.1:2113", "message_bytes_max": 300_000}, "may be 262144 at most"),
    ],
)
def test_what_can_not_be_is_refused(tmp_path: Path, given: dict[str, object], said: str) -> None:
    with pytest.raises(OpsError) as refused:
        load_settings(tmp_path, **given)
    assert str(refused.value).startswith("a setting is wrong")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SIGNET_PROT", "the environment sets SIGNET_PROT, which is no setting; did you mean SIGNET_PORT?"),
        ("SIGNET_XYZZY", "Known are SIGNET_DATA, SIGNET_HOST"),
    ],
)
def test_a_setting_of_the_environment_that_nobody_knows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(OpsError, match="which is no setting") as refused:
        load_settings(tmp_path)
    assert said in str(refused.value)


def test_what_tests_are_told_is_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNET_TEST_SEED", "1")
    load_settings(tmp_path)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("prot = 1", "prot: there is no such setting; did you mean port?"),
        ("xyzzy = 1", "xyzzy: there is no such setting"),
        ("port = ", "signet.toml can't be read"),
        ("port = 'a lot'", "port: "),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, toml: str, said: str) -> None:
    write(tmp_path, toml)
    with pytest.raises(OpsError) as refused:
        load_settings(tmp_path)
    assert said in str(refused.value)
    assert str(tmp_path / "signet.toml") in str(refused.value)
