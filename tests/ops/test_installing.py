"""What the launcher installs, level by level, by uv and by pip, without a network: the locks name small wheels."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from ops import bootstrap, installing
from ops.locks import ROOT
from tests.ops.test_launcher import CODE
from tests.ops.wheels import BACKEND, put_wheel

BIG = b"# as large as a database\n" * 1000


class Checkout(NamedTuple):
    """A checkout whose engine needs `engine`, its analytics `database` as well, and its tests `tester`, too."""

    home: Path
    path: str
    """Where the launcher looks for uv."""

    def lock(self, *, engine: str = "1.0", database: str = "1.0") -> None:
        """Make the locks for these releases."""
        wheels = self.home / "wheels"
        lines = [put_wheel(wheels, "engine", engine), put_wheel(wheels, "database", database, database=BIG)]
        lines.append(put_wheel(wheels, "tester", "1.0"))
        for count, name in enumerate(bootstrap.LOCKS.values(), 1):
            (self.home / name).write_text("# made for a test\n" + "".join(lines[:count]))

    def launch(self, verb: str) -> subprocess.CompletedProcess[str]:
        """Start the launcher. It hands over to an `ops.cli` that there isn't."""
        wheels = str(self.home / "wheels")
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels, "PIP_CONFIG_FILE": os.devnull}
        offline |= {"UV_NO_INDEX": "1", "UV_FIND_LINKS": wheels, "UV_NO_CONFIG": "1", "UV_CACHE_DIR": f"{wheels}-uv"}
        return subprocess.run(
            [sys.executable, self.home / "signet", verb],
            cwd=self.home.parent,
            env={**os.environ, **offline, "PATH": self.path},
            capture_output=True,
            text=True,
        )

    def set_up(self, verb: str) -> str:
        """Start the launcher, which manages. What it said of the set-up."""
        run = self.launch(verb)
        assert "signet: ready." in run.stderr
        assert "\x1b" not in run.stderr
        return run.stderr

    def releases(self) -> dict[str, str]:
        """What is installed, but for what installs and this checkout itself."""
        have = installing.releases(self.home / ".venv")
        return {name: release for name, release in have.items() if name not in installing.NOT_LOCKED}

    def ready(self) -> list[str]:
        return [level for level in bootstrap.LOCKS if bootstrap.is_ready(self.home, level)]

    def module(self, name: str) -> Path:
        (path,) = self.home.glob(f".venv/lib/python*/site-packages/{name}.py")
        return path


each_installer = pytest.mark.parametrize("checkout", ["uv", "pip"], indirect=True)
"""Where the two differ; what is decided before either is called, the faster one shows."""


@pytest.fixture(params=["uv"])
def checkout(request: pytest.FixtureRequest, tmp_path: Path) -> Checkout:
    """One that has no `.venv` yet."""
    home = tmp_path / "checkout"
    for part in CODE:
        (home / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, home / part)
    for folder, name in (home, "signet"), (home / "client", "signet-client"):
        folder.mkdir(exist_ok=True)
        (folder / "backend.py").write_text(BACKEND)
        (folder / "pyproject.toml").write_text(
            f'[project]\nname = "{name}"\nversion = "1"\n'
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )
    (tmp_path / "bin").mkdir()
    if request.param == "uv":
        (tmp_path / "bin/uv").symlink_to(ROOT / ".venv/bin/uv")
    checkout = Checkout(home, str(tmp_path / "bin"))
    checkout.lock()
    return checkout


@pytest.mark.slow
def test_a_verb_brings_its_level_and_no_more(checkout: Checkout) -> None:
    said = checkout.set_up("up")
    assert "analytics" not in said
    assert checkout.releases() == {"engine": "1.0"}
    assert checkout.ready() == ["run"]
    checkout.set_up("test")
    assert checkout.releases() == {"engine": "1.0", "database": "1.0", "tester": "1.0"}
    assert checkout.ready() == ["run", "analytics", "dev"]


@pytest.mark.slow
@each_installer
def test_the_analytics_are_added_to_what_is_there(checkout: Checkout) -> None:
    checkout.set_up("up")
    before = checkout.module("engine").stat()
    said = checkout.set_up("analytics")
    assert "MB to download" in said
    assert "engine" not in said
    assert checkout.releases() == {"engine": "1.0", "database": "1.0"}
    assert checkout.module("engine").stat() == before
    assert "signet: " not in checkout.launch("analytics").stderr


@pytest.mark.slow
@each_installer
def test_without_network_the_analytics_fail_and_the_engine_goes_on(checkout: Checkout) -> None:
    checkout.set_up("up")
    (wheel,) = (checkout.home / "wheels").glob("database-*")
    away = wheel.rename(checkout.home / wheel.name)
    run = checkout.launch("analytics")
    assert run.returncode == 1
    assert "check the network" in run.stderr
    assert "Traceback" not in run.stderr
    assert checkout.ready() == ["run"]
    assert "signet: " not in checkout.launch("up").stderr
    away.rename(wheel)
    assert "MB to download" in checkout.set_up("analytics")


@pytest.mark.slow
def test_an_update_for_the_engine_keeps_the_analytics_and_brings_them_along(checkout: Checkout) -> None:
    checkout.set_up("analytics")
    checkout.lock(engine="2.0")
    before = checkout.module("database").stat()
    said = checkout.set_up("up")
    assert "MB to download" not in said
    assert checkout.releases() == {"engine": "2.0", "database": "1.0"}
    assert checkout.module("database").stat() == before
    checkout.lock(engine="3.0", database="2.0")
    checkout.set_up("up")
    assert checkout.releases() == {"engine": "3.0", "database": "2.0"}
    assert checkout.ready() == ["run", "analytics"]


@pytest.mark.slow
def test_an_engine_starts_though_the_analytics_could_not_be_updated(checkout: Checkout) -> None:
    checkout.set_up("analytics")
    checkout.lock(engine="2.0", database="2.0")
    (checkout.home / "wheels/database-2.0-py3-none-any.whl").unlink()
    run = checkout.launch("up")
    assert "going on without" in run.stderr
    assert "ops.cli" in run.stderr  # handed over
    assert checkout.ready() == ["run"]
    assert "signet: " not in checkout.launch("up").stderr


@pytest.mark.slow
@each_installer
def test_what_no_lock_names_any_more_goes(checkout: Checkout) -> None:
    checkout.set_up("analytics")
    engine = (checkout.home / bootstrap.LOCKS["run"]).read_text()
    (checkout.home / bootstrap.LOCKS["analytics"]).write_text(engine)
    checkout.set_up("analytics")
    assert checkout.releases() == {"engine": "1.0"}
    assert "signet-client" in installing.releases(checkout.home / ".venv")


@pytest.mark.slow
@each_installer
def test_what_a_killed_installer_left_is_completed(checkout: Checkout) -> None:
    checkout.set_up("up")
    stamp = bootstrap.stamp_path(checkout.home).read_text()
    checkout.set_up("analytics")
    module = checkout.module("database")
    for left in None, BIG[:100]:
        bootstrap.stamp_path(checkout.home).write_text(stamp)
        module.unlink()
        if left:
            module.write_bytes(left)
            (module.parent / "database-1.0.dist-info/RECORD").unlink()
        checkout.set_up("analytics")
        assert module.read_bytes() == BIG


@pytest.mark.slow
def test_an_update_that_was_killed_goes_on_and_keeps_the_analytics(checkout: Checkout) -> None:
    checkout.set_up("analytics")
    before = checkout.module("database").stat()
    checkout.lock(engine="2.0")
    bootstrap.void_stamp(checkout.home)
    checkout.module("engine").unlink()
    assert checkout.ready() == []
    checkout.set_up("up")
    assert checkout.releases() == {"engine": "2.0", "database": "1.0"}
    assert checkout.module("database").stat() == before
    assert checkout.ready() == ["run", "analytics"]


@pytest.mark.slow
def test_an_old_stamp_is_read(checkout: Checkout) -> None:
    """Before there were three levels, it named only the one that was asked for last."""
    checkout.set_up("test")
    path = bootstrap.stamp_path(checkout.home)
    path.write_text(json.dumps({**json.loads(path.read_text()), "levels": {"dev": "of old"}}))
    said = checkout.set_up("up")
    assert "updating" in said
    assert checkout.ready() == ["run", "analytics", "dev"]


def test_two_packages_may_share_a_file(tmp_path: Path) -> None:
    """As chdb and chdb-core do: what one of them wrote over is not what a killed installer left."""
    site = tmp_path / "lib/python3/site-packages"
    for name, size in (("chdb", 3), ("chdb_core", 5)):
        info = site / f"{name}-1.dist-info"
        info.mkdir(parents=True)
        (info / "RECORD").write_text(f"chdb.py,sha256=x,{size}\n")
    (site / "chdb.py").write_text("12345")
    assert installing.halves(tmp_path) == []
    (site / "chdb.py").write_text("1234")
    assert len(installing.halves(tmp_path)) == 2
