"""The bar of long work: how far, how fast, and how long yet."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text


def progress_bar(unit: str) -> Progress:
    """On stderr. `unit`: of what a task's field `done` counts."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), _Rate(unit), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=4)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time or task.elapsed
        done = task.fields.get("done", task.completed)
        return Text(f"{done / elapsed:,.0f} {self._unit}/s" if elapsed and done else "")
