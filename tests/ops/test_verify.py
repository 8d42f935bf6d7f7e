"""`signet test` reports what was found, and ends on a line that a CI can read."""

import json
from pathlib import Path

import pytest

from ops.verify import (
    Counts,
    Line,
    Outcome,
    check_branches,
    marked,
    print_summary,
    read_counts,
    run_check,
    run_pytest,
)


def write_coverage(results: Path, covered: int) -> None:
    files = {
        "domain/rules.py": {"summary": {"num_branches": 20, "covered_branches": covered}},
        "ops/cli.py": {"summary": {"num_branches": 100, "covered_branches": 0}},
    }
    (results / "coverage.json").write_text(json.dumps({"files": files}))


@pytest.mark.parametrize(("covered", "passed"), [(20, True), (19, True), (18, False)])
def test_each_package_has_to_earn_its_branches(tmp_path: Path, covered: int, passed: bool) -> None:
    write_coverage(tmp_path, covered)
    outcome = check_branches("domain", tmp_path)
    assert outcome.passed is passed
    assert outcome.note == f"{covered * 5:.1f} % of 20"


def test_no_coverage_is_a_failure(tmp_path: Path) -> None:
    assert not check_branches("domain", tmp_path).passed


def test_the_tests_are_counted(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(
        '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>'
    )
    assert read_counts(tmp_path) == Counts(passed=3, failed=3, skipped=3)


def test_the_last_line_is_the_count_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary([Line("mypy", Outcome(False, "2 errors"), 1.25)], Counts(7, 1))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "7 passed, 1 failed"
    assert "FAILED      1.2 s  mypy                     2 errors" in lines


def test_what_a_failed_check_printed_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_check("ruff", lambda: Outcome(True, output="unseen")).outcome.passed
    assert not run_check("mypy", lambda: Outcome(False, output="rules.py:3: wrong")).outcome.passed
    shown = capsys.readouterr().out
    assert "rules.py:3: wrong" in shown
    assert "unseen" not in shown


@pytest.mark.parametrize(
    ("soak", "fast", "expression"),
    [(False, False, None), (False, True, "not slow and not soak"), (True, False, "soak"), (True, True, "soak")],
)
def test_long_runs_are_run_by_their_own_verb_alone(soak: bool, fast: bool, expression: str | None) -> None:
    """Without a mark named, pyproject.toml leaves them out; one that is named stands in place of that."""
    options = marked(soak=soak, fast=fast)
    assert options[:2] == (["-m", expression] if expression else [])


def test_tests_run_with_bytecode_whatever_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = -p no:schemathesis -p no:hypothesispytest -p no:asyncio\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it() -> None:\n    assert not sys.dont_write_bytecode\n"
    )
    assert run_pytest([str(tmp_path)], tmp_path) == 0
