"""docs/read-models.md: the worked example is the code that runs."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINES_MAX = 60


def test_the_example_is_the_model_itself() -> None:
    """What it does is tested in tests/projections/test_statistics.py."""
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "read-models.md").read_text(), re.DOTALL)
    assert (ROOT / "projections" / "statistics.py").read_text().endswith(example)
    assert len(example.splitlines()) < LINES_MAX
