"""`python -m ops.mutants`: breaks the code at random, one place at a time, and sees whether the tests notice.

mutmut's mutators say how code can be broken; its own runner is left out, since it needs another layout. Each mutant
runs in a copy of the checkout against the tests of its folder, those that are named after its module first, but not
those that are marked slow: what they alone would notice counts as not noticed. One that makes the tests hang is
noticed, too.
"""

import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal, NamedTuple

import libcst
import pytest
import typer
from libcst.metadata import MetadataWrapper
from mutmut.mutation.file_mutation import Mutation, MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

from ops import locks
from ops.errors import OpsError

FOLDERS = ("domain", "commands", "projections")
KILLED_PERCENT_MIN = 90
PATIENCE = 5
"""A mutant's tests may take so many times as long as those of the unbroken code, and `GRACE_S` besides."""
GRACE_S = 30

QUICK = "not slow and not soak"

_Function = libcst.FunctionDef
Verdict = Literal["killed", "hung", "SURVIVED"]

Seed = Annotated[int | None, typer.Option(help="Repeats a sample; by default another one each time.")]
Sample = Annotated[int, typer.Option(min=1, help="How many mutants, at random.")]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="This mutant instead; repeatable.")]
Folders = Annotated[list[str] | None, typer.Argument(metavar="[FOLDERS]...", help="By default " + ", ".join(FOLDERS))]


class Mutant(NamedTuple):
    """One way in which a file can be broken."""

    path: str
    """Of the file, in the checkout."""
    number: int
    """Which of the file's mutants it is; stands as long as the file does."""
    code: str
    diff: str

    @property
    def name(self) -> str:
        return f"{self.path}#{self.number}"


class Tried(NamedTuple):
    mutant: Mutant
    verdict: Verdict
    seconds: float


def run(folders: Folders = None, seed: Seed = None, sample: Sample = 100, only: Only = None) -> None:
    """Break the code at random, and see whether the tests notice.

    Prints each mutant's fate, then the survivors as diffs. Fails where less than 90 % were noticed.
    """
    seed = random.randrange(1_000_000) if seed is None else seed
    names = only or choose(locks.ROOT, folders or FOLDERS, seed=seed, count=sample)
    print(f"seed {seed}, {len(names)} mutants", flush=True)
    with copied(locks.ROOT) as tree:
        limits = {folder: baseline_s(tree, folder) * PATIENCE + GRACE_S for folder in {top(name) for name in names}}
        tried = [try_out(tree, mutant(tree, name), limits[top(name)]) for name in names]
    sys.exit(0 if report(tried) >= KILLED_PERCENT_MIN else 1)


# What can be broken


def choose(root: Path, folders: Sequence[str], *, seed: int, count: int) -> list[str]:
    """The names of so many mutants, at random, in the order of their files."""
    everything = [
        f"{path}#{number}"
        for folder in folders
        for path in sorted(file.relative_to(root).as_posix() for file in (root / folder).rglob("*.py"))
        for number in range(len(mutations_of(root / path)[1]))
    ]
    chosen = random.Random(seed).sample(range(len(everything)), min(count, len(everything)))
    return [everything[index] for index in sorted(chosen)]


def mutations_of(file: Path) -> tuple[libcst.Module, list[Mutation]]:
    """What mutmut would do to the file's functions, in order."""
    visitor = MutationVisitor(mutation_operators, IgnoredCode(set(), set(), set()))
    module = MetadataWrapper(libcst.parse_module(file.read_text())).visit(visitor)
    # What stands outside of functions (constants, defaults of fields) it leaves out when it runs, too.
    return module, [each for each in visitor.mutations if isinstance(each.contained_by_top_level_function, _Function)]


def mutant(root: Path, name: str) -> Mutant:
    path, _, number = name.partition("#")
    try:
        module, mutations = mutations_of(root / path)
        chosen = mutations[int(number)]
    except (OSError, ValueError, IndexError) as error:
        raise OpsError(f"there is no mutant {name}: write it as the report does, domain/ticks.py#12") from error
    broken = module.deep_replace(chosen.original_node, chosen.mutated_node)
    assert isinstance(broken, libcst.Module)
    diff = difflib.unified_diff(module.code.splitlines(), broken.code.splitlines(), path, path, n=2, lineterm="")
    return Mutant(path, int(number), broken.code, "\n".join(diff))


def top(name: str) -> str:
    return name.partition("/")[0]


# Trying


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """A copy of the checkout's files, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    with TemporaryDirectory(prefix="signet-mutants-") as folder:
        for name in filter(None, listed.split("\0")):
            if (root / name).is_file():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, Path(folder) / name)
        yield Path(folder)


def baseline_s(tree: Path, folder: str) -> float:
    """How long the folder's quick tests take as they are. Raises OpsError where they fail."""
    started = time.monotonic()
    if fails(tree, [f"tests/{folder}"], limit_s=900):
        raise OpsError(f"the tests of {folder}/ fail already: mend them first")
    return time.monotonic() - started


def try_out(tree: Path, mutant: Mutant, limit_s: float) -> Tried:
    file = tree / mutant.path
    whole = file.read_text()
    started = time.monotonic()
    file.write_text(mutant.code)
    try:
        noticed = any(fails(tree, tests, limit_s) for tests in tests_of(tree, mutant))
        verdict: Verdict = "killed" if noticed else "SURVIVED"
    except subprocess.TimeoutExpired:
        verdict = "hung"
    finally:
        file.write_text(whole)
    tried = Tried(mutant, verdict, time.monotonic() - started)
    print(f"{tried.verdict:<8}  {tried.seconds:6.1f} s  {mutant.name}", flush=True)
    return tried


def tests_of(tree: Path, mutant: Mutant) -> list[list[str]]:
    """What pytest is given, one run after the other until one fails: the module's own tests, then its folder's."""
    module = Path(mutant.path)
    own = sorted((tree / "tests" / module.parent).glob(f"test_{module.stem}*.py"))
    return [*([[str(file) for file in own]] if own else []), [f"tests/{top(mutant.path)}"]]


def fails(tree: Path, tests: list[str], limit_s: float) -> bool:
    """Whether a test fails, or can't even be collected. Raises TimeoutExpired."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", QUICK, *tests]
    # CI: Hypothesis takes the same examples each time. No bytecode: two mutants may have one length and one second.
    environment = os.environ | {"CI": "true", "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        command, cwd=tree, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        return process.wait(limit_s) not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# What came of it


def report(tried: list[Tried]) -> float:
    """Prints it; how many percent were noticed."""
    survivors = [each.mutant for each in tried if each.verdict == "SURVIVED"]
    for survivor in survivors:
        print(f"\n{survivor.name}\n{survivor.diff}")
    noticed = len(tried) - len(survivors)
    percent = 100 * noticed / len(tried)
    print(f"\n{noticed} of {len(tried)} mutants were noticed ({percent:.0f} %), {len(survivors)} survived", flush=True)
    return percent


if __name__ == "__main__":
    try:
        typer.run(run)
    except OpsError as error:
        sys.exit(f"mutants: {error}")
