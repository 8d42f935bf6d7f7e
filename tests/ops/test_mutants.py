"""The tool that breaks code: what it breaks is repeatable, and it tells what was noticed from what was not."""

import subprocess
from pathlib import Path

import pytest

from ops import mutants
from ops.errors import OpsError

CODE = '''
LIMIT = 3

def fits(number: int) -> bool:
    """Whether it does."""
    return number < LIMIT

def doubled(number: int) -> int:
    return number * 2
'''
TESTS = """
from domain.toy import doubled, fits

def test_fits() -> None:
    assert fits(2) and not fits(4)

def test_doubled() -> None:
    assert doubled(2) == 4
"""

# Its tests need none of the plugins that are installed, and those take most of the time that pytest takes to start.
CONFIG = "[pytest]\naddopts = -p no:schemathesis -p no:hypothesispytest -p no:xdist -p no:pytest_cov -p no:asyncio\n"
FILES = {
    "domain/__init__.py": "",
    "domain/toy.py": CODE,
    "tests/domain/test_toy.py": TESTS,
    "pytest.ini": CONFIG,
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def everything(tree: Path) -> list[mutants.Mutant]:
    names = mutants.choose(tree, ["domain"], seed=1, count=1_000)
    return [mutants.mutant(tree, name) for name in names]


def test_a_seed_repeats_its_sample(tree: Path) -> None:
    samples = [mutants.choose(tree, ["domain"], seed=seed, count=2) for seed in (1, 1, 2, 3, 4, 5)]
    assert samples[0] == samples[1]
    assert len(set(map(tuple, samples))) > 1
    assert all(len(set(sample)) == 2 for sample in samples)


def test_only_what_stands_in_functions_is_broken_and_the_diff_tells_how(tree: Path) -> None:
    broken = everything(tree)
    assert len(broken) >= 3
    assert all("-LIMIT" not in each.diff and each.code != CODE for each in broken)
    assert any("-    return number < LIMIT\n+    return number <= LIMIT" in each.diff for each in broken)


def test_what_the_tests_notice_is_killed_and_the_rest_survives(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at_the_limit, of_the_factor = everything(tree)[:2]
    tried = [mutants.try_out(tree, each, limit_s=60) for each in (at_the_limit, of_the_factor)]
    # Nobody tries 3.
    assert [each.verdict for each in tried] == ["SURVIVED", "killed"]
    assert (tree / "domain/toy.py").read_text() == CODE
    assert mutants.report(tried) == 50
    assert at_the_limit.diff in capsys.readouterr().out


def test_slow_tests_are_not_asked(tree: Path) -> None:
    (tree / "tests/domain/test_toy.py").write_text(
        "import pytest\n\n@pytest.mark.slow\ndef test_never() -> None:\n    assert False\n"
    )
    assert mutants.try_out(tree, everything(tree)[0], limit_s=60).verdict == "SURVIVED"


def test_one_that_hangs_is_noticed(tree: Path) -> None:
    (tree / "tests/domain/test_toy.py").write_text("def test_waits() -> None:\n    __import__('time').sleep(600)\n")
    assert mutants.try_out(tree, everything(tree)[0], limit_s=3).verdict == "hung"


def test_the_unbroken_code_must_pass(tree: Path) -> None:
    assert mutants.baseline_s(tree, "domain") > 0
    (tree / "tests/domain/test_toy.py").write_text("def test_fails() -> None:\n    assert False\n")
    with pytest.raises(OpsError, match="mend them first"):
        mutants.baseline_s(tree, "domain")


@pytest.mark.parametrize("name", ["domain/toy.py#999", "domain/none.py#1", "domain/toy.py", "domain/toy.py#x"])
def test_a_name_that_is_none_is_refused(tree: Path, name: str) -> None:
    with pytest.raises(OpsError, match="there is no mutant"):
        mutants.mutant(tree, name)


def test_the_copy_has_what_git_knows_of(tree: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    (tree / ".gitignore").write_text("*.db\n")
    (tree / "log.db").write_text("")
    with mutants.copied(tree) as copy:
        assert (copy / "domain/toy.py").read_text() == CODE
        assert not (copy / "log.db").exists()
