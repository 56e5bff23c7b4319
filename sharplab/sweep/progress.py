"""How far a sweep is: a bar in a terminal, now and then a line elsewhere."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from sharplab.sweep.plan import Group

LINE_SECONDS = 10.0


class Progress:
    """Counts the planned cost of groups, so that what is left is in proportion to the time it takes."""

    def __init__(self, bar: Bar | None, console: Console) -> None:
        self._bar, self._console = bar, console
        self._task = bar.add_task("planning", total=None) if bar else None
        self._total = self._done = self._share = 0.0
        self._label = ""
        self._began = self._said = time.monotonic()

    def plan(self, groups: Sequence[Group]) -> None:
        """More groups are to come."""
        self._total = self._done + sum(group.cost for group in groups)

    def begin(self, group: Group) -> None:
        """This group trains now."""
        task = group.task
        self._label = f"{task.model} {task.parameterization} width {task.width}, {len(group.lanes)} runs"
        self._group_cost, self._share = group.cost, 0.0
        self._show()

    def advance(self, done: int, total: int) -> None:
        """So much of the current group is through."""
        self._share = self._group_cost * done / total
        self._show()

    def end(self, group: Group) -> None:
        """The group is stored."""
        self._done, self._share = self._done + group.cost, 0.0
        self._show()

    def _show(self) -> None:
        done = self._done + self._share
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=self._label, completed=done, total=self._total)
        elif time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            elapsed = self._said - self._began
            left = f", about {elapsed * (self._total / done - 1):.0f} s left" if done > 0 else ""
            self._console.print(f"  {done / self._total:4.0%}  {self._label}; {elapsed:.0f} s{left}", highlight=False)


@contextmanager
def show_progress() -> Iterator[Progress]:
    """A `Progress` on standard error."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield Progress(None, console)
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        yield Progress(bar, console)
