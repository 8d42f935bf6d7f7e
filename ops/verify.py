"""`signet test`: everything that CI checks, in one run, with one summary."""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import typer

from ops import browser, locks, webbuild
from ops.installing import SetupFailed

BIN = Path(sys.prefix) / "bin"
TOOLS = (
    ("ruff check", ["ruff", "check", "--quiet"]),
    ("ruff format", ["ruff", "format", "--check", "--quiet"]),
    ("mypy --strict", ["mypy"]),
    ("import contracts", ["lint-imports"]),
)
WORKERS = 3
"""One more than two cores: the scenarios often wait for disks and for clients that wait."""
GATED = ("domain", "commands", "projections")
BRANCHES_PERCENT_MIN = 95

SOAK = "soak"
"""In place of a path: the tests that are marked so, which nothing else runs."""
SOAK_TEST_MAX_S = 3_600
"""How long one of them may take."""

Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PATHS]...", help="Run pytest alone, and only on these; soak: the long runs."),
]
Keyword = Annotated[str | None, typer.Option("-k", metavar="EXPRESSION", help="Only tests whose names match.")]
Fast = Annotated[bool, typer.Option("--fast", help="Leave out coverage, and tests that are marked slow.")]


class Outcome(NamedTuple):
    """What a check found: `note` stands in the summary, `output` is shown at once where it failed."""

    passed: bool
    note: str = ""
    output: str = ""


Check = tuple[str, Callable[[], Outcome]]
"""Its name, and how it is done."""


class Line(NamedTuple):
    """One line of the summary."""

    name: str
    outcome: Outcome
    seconds: float


class Counts(NamedTuple):
    """How many tests ended how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else "")


def verify(paths: Paths = None, k: Keyword = None, fast: Fast = False) -> None:
    """Check the code as CI does, or run the tests that you name.

    Without PATHS or -k: ruff, mypy, the import contracts, the locks, the web client (its build, its types, its own
    tests, and whether a second build is the same), all tests, and the branches that they cover (at least 95 % in each
    of domain, commands and projections). Everything is run, whatever failed before it.

    `signet test` · `signet test --fast` · `signet test tests/domain -k leave`

    `signet test soak [PATHS] [-k EXPRESSION]` runs what is left out otherwise: the same scenarios, for minutes rather
    than seconds. Each tells its progress and its seed; SIGNET_TEST_SEED repeats one.

    What follows two dashes goes to pytest as it is: `signet test -- tests/domain -x -vv`
    """
    soak, named = split_soak(paths or [])
    selection = [*(["-k", k] if k else []), *marked(soak=soak, fast=fast)]
    if named or k or soak:
        if browser.is_for(named, locks.ROOT, Path.cwd()):
            browser.bring()
        config = ["-c", str(locks.ROOT / "pyproject.toml")]
        raise typer.Exit(run_pytest([*config, *selection, *(named or [str(locks.ROOT / "tests")])], Path.cwd()))
    raise typer.Exit(0 if check_all(selection, coverage=not fast) else 1)


def split_soak(paths: list[str]) -> tuple[bool, list[str]]:
    """Whether the long runs are meant, and the paths."""
    return (True, paths[1:]) if paths[:1] == [SOAK] else (False, paths)


def marked(*, soak: bool, fast: bool) -> list[str]:
    """Which marks choose the tests. Soak runs write to the terminal as they go."""
    if soak:
        return ["-m", "soak", "--capture=no", "--verbose", "-o", f"faulthandler_timeout={SOAK_TEST_MAX_S}"]
    return ["-m", "not slow and not soak"] if fast else []


def check_all(selection: list[str], coverage: bool) -> bool:
    """Run every check, then print the summary; whether all passed."""
    with TemporaryDirectory(prefix="signet-test-") as folder:
        results = Path(folder)
        tools: list[Check] = [*((name, partial(run_tool, command)) for name, command in TOOLS), ("locks", check_locks)]
        web: list[Check] = [
            ("web: build", build_web),
            ("web: types", partial(run_web, "check")),
            ("web: tests", partial(run_web, "test")),
            ("web: built again", compare_builds),
        ]
        tests: list[Check] = [
            ("tests", partial(run_tests, selection, results, coverage)),
            *((f"branches of {name}/", partial(check_branches, name, results)) for name in GATED if coverage),
        ]
        # Most of the first two work on one core, or wait. The tests would be slower beside them, and some look at what
        # was built.
        with ThreadPoolExecutor(2) as pool:
            summary = [line for lines in pool.map(run_checks, [tools, web]) for line in lines]
        summary += run_checks(tests)
        counts = read_counts(results)
    print_summary(summary, counts)
    return all(line.outcome.passed for line in summary)


def run_checks(checks: list[Check]) -> list[Line]:
    return [run_check(name, check) for name, check in checks]


def run_check(name: str, check: Callable[[], Outcome]) -> Line:
    print(f"── {name}", flush=True)
    started = time.monotonic()
    try:
        outcome = check()
    except SetupFailed as failure:
        outcome = Outcome(False, output=str(failure))
    if not outcome.passed and outcome.output:
        print(outcome.output.strip(), flush=True)
    return Line(name, outcome, time.monotonic() - started)


def run_tool(command: list[str]) -> Outcome:
    tool = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=locks.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return Outcome(tool.returncode == 0, output=tool.stdout)


def check_locks() -> Outcome:
    wrong = locks.check()
    return Outcome(not wrong, output="\n".join(wrong))


def build_web() -> Outcome:
    """Before the tests, some of which look at what was built."""
    webbuild.build(locks.ROOT)
    return Outcome(True)


def run_web(script: str) -> Outcome:
    passed, output = webbuild.run_script(locks.ROOT, script)
    return Outcome(passed, output=output)


def compare_builds() -> Outcome:
    """Whether the lock and the sources alone decide every byte."""
    different = webbuild.differences(locks.ROOT)
    return Outcome(not different, output="\n".join(different))


def run_tests(selection: list[str], results: Path, coverage: bool) -> Outcome:
    browser.bring()
    # In tests/conftest.py's order: else a module of one long test comes last, and a worker has nothing to do.
    spread = ["-n", str(WORKERS), "--dist", "loadscope", "--no-loadscope-reorder"]
    options = [*selection, *spread, f"--junitxml={results / 'junit.xml'}"]
    if coverage:
        # Of what is gated alone: to trace everything else takes a tenth of the time.
        options += [f"--cov={package}" for package in GATED]
        options += ["--cov-branch", "--cov-report=", f"--cov-report=json:{results / 'coverage.json'}"]
    exit_code = run_pytest(options, locks.ROOT)
    return Outcome(exit_code == 0, note="" if exit_code == 0 else f"pytest's exit code {exit_code}")


def run_pytest(options: list[str], folder: Path) -> int:
    """Run pytest in this terminal; its exit code. On Ctrl-C pytest itself winds up, and so its fixtures end servers."""
    # Tests start some hundreds of processes: without bytecode each compiles all that it imports, as do the workers.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.run([BIN / "pytest", *options], cwd=folder, env=environment).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def check_branches(package: str, results: Path) -> Outcome:
    """Whether the tests took enough of a package's branches; where not, the files that lack most."""
    path = results / "coverage.json"
    if not path.exists():
        return Outcome(False, note="no coverage was written")
    measured = json.loads(path.read_text())["files"]
    files = {name: file["summary"] for name, file in measured.items() if Path(name).parts[0] == package}
    total = sum(file.get("num_branches", 0) for file in files.values())
    percent = 100 * sum(file.get("covered_branches", 0) for file in files.values()) / total if total else 100.0
    return Outcome(
        percent >= BRANCHES_PERCENT_MIN,
        note=f"{percent:.1f} % of {total}",
        output=f"which are missing: .venv/bin/coverage report --show-missing --include='{package}/*'",
    )


def read_counts(results: Path) -> Counts:
    path = results / "junit.xml"
    if not path.exists():
        return Counts()
    suites = list(ET.parse(path).getroot().iter("testsuite"))
    tests, failures, errors, skipped = (
        sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    return Counts(tests - failures - errors - skipped, failures + errors, skipped)


def print_summary(summary: list[Line], counts: Counts) -> None:
    """The table, and last the line of the tests alone, which a CI can read."""
    print()
    for line in summary:
        verdict = "passed" if line.outcome.passed else "FAILED"
        print(f"{verdict}  {line.seconds:7.1f} s  {line.name:<24} {line.outcome.note}".rstrip())
    print(f"\n{counts}", flush=True)
