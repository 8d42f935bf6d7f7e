"""The command line: every verb is there, and failures end on a message and an exit code."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ops import cli
from ops.errors import OpsError
from ops.settings import HOME


def signet(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", "-m", "ops.cli", *arguments], cwd=cwd, capture_output=True, text=True)


def test_help_names_every_verb_without_loading_one(tmp_path: Path) -> None:
    run = signet("--help", cwd=tmp_path)
    assert run.returncode == 0
    assert [verb.name for verb in cli.VERBS if f" {verb.name} " not in run.stdout] == []


@pytest.mark.parametrize("verb", cli.VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_code_that_explains_itself(verb: cli.Verb) -> None:
    code = cli.load(verb)
    assert isinstance(code, typer.Typer) or code.__doc__


def test_only_the_engine_loads_what_serves() -> None:
    """FastAPI and uvicorn cost half of what a verb takes to start."""
    modules = sorted({verb.target.partition(":")[0] for verb in cli.VERBS if verb.name != "up"})
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=HOME, capture_output=True, text=True, check=True)
    assert {"ops.node", "gateways.http", "fastapi", "uvicorn"}.isdisjoint(run.stdout.split())


def test_an_unknown_verb_is_a_mistake_of_usage(tmp_path: Path) -> None:
    run = signet("fly", cwd=tmp_path)
    assert run.returncode == 2
    assert "fly" in run.stderr


def test_a_folder_of_the_users_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops/cli.py").write_text("raise SystemExit(7)\n")
    assert signet("--help", cwd=tmp_path).returncode == 0


def fail() -> None:
    """Fails."""
    raise OpsError("the port 80 is taken: choose another with --port")


def test_an_error_of_ours_is_a_message_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "VERBS", (cli.Verb("fail", f"{__name__}:fail", "Fails."),))
    monkeypatch.setattr(sys, "argv", ["signet", "fail"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "signet: the port 80 is taken: choose another with --port\n"
