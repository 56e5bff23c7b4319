"""A trainer whose losses are a formula, to see what sweeps do with results without waiting for any."""

import math
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sharplab.sweep import Experiment
from sharplab.training.task import Run, Task
from sharplab.training.train import RunResult, Stopped, Watch

UNWATCHED = Watch()


def _one(task: Task) -> float:
    return 1.0


@dataclass
class FakeTrainer:
    """Loss 1 + (log₂(η/optimum))²/10 + seed/1000 at the end; divergence beyond `edge` times the optimum."""

    optimum: Callable[[Task], float] = _one
    edge: float = 8.0
    stop_after: int | None = None
    stop_with: type[BaseException] = RuntimeError
    shift: float = 0.0
    trained: list[tuple[Task, Run]] = field(default_factory=list)

    def __call__(self, task: Task, runs: Sequence[Run], watch: Watch = UNWATCHED) -> Iterator[tuple[RunResult, ...]]:
        for i, run in enumerate(runs):
            if self.stop_after is not None and len(self.trained) >= self.stop_after:
                raise self.stop_with("stopped")
            self.trained.append((task, run))
            assert len(self.trained) < 1000, "the same runs are trained again and again"
            watch.progress((i + 1) * task.steps, len(runs) * task.steps)
            yield (self.result(task, run),)

    def result(self, task: Task, run: Run) -> RunResult:
        """What this run leaves behind."""
        relative = run.learning_rate / self.optimum(task)
        diverged = relative > self.edge
        steps = np.array(task.record_steps)
        loss = 1 + self.shift + math.log2(relative) ** 2 / 10 + run.seed / 1000 + np.exp(-steps / 10)
        curves: dict[str, np.ndarray] = {"step": steps}
        for number, name in enumerate(task.observables):
            curves[name] = np.where(diverged & (steps > 0), np.nan, loss + number)
            if name.startswith("sharpness"):
                curves[f"{name}_matvecs"] = np.full(len(steps), 5, np.int32)
        setting = {"batching": "sequential", "loop": "compiled", "device": "formula"}
        return RunResult(run, curves, bool(diverged), 1 if diverged else -1, 0.5, setting)


@dataclass(frozen=True)
class SlowTrainer:
    """The same in other processes: `seconds` per run, and it stops when asked."""

    seconds: float = 0.05

    def __call__(self, task: Task, runs: Sequence[Run], watch: Watch = UNWATCHED) -> Iterator[tuple[RunResult, ...]]:
        for run_batch in FakeTrainer()(task, runs, watch):
            if watch.stop():
                raise Stopped
            time.sleep(self.seconds)
            yield run_batch


def experiment(**changes: object) -> Experiment:
    """A small sweep, with changes."""
    settings: dict = {
        "data": "gaussian-clusters",
        "widths": (4, 8),
        "depths": (2,),
        "learning_rates": (0.5, 1.0, 2.0),
        "seeds": 2,
        "steps": 8,
        "records": 3,
    }
    return Experiment(**{**settings, **changes})


@dataclass(frozen=True)
class FaultyTrainer:
    """A worker's misfortunes: `deaths` times it is killed at a group of `width`, and there is memory for so many runs.

    What it did is written down in `folder`, since it happens in other processes.
    """

    folder: Path
    width: int = 4
    deaths: int = 0
    most_runs: int = 1000

    def __call__(self, task: Task, runs: Sequence[Run], watch: Watch = UNWATCHED) -> Iterator[tuple[RunResult, ...]]:
        (self.folder / f"{uuid.uuid4().hex}.runs").write_text(str(len(runs)))
        for i in range(self.deaths * (task.width == self.width)):
            with suppress(FileExistsError):
                (self.folder / f"{i}.death").touch(exist_ok=False)
                signal.raise_signal(signal.SIGKILL)
        if len(runs) > self.most_runs:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
        yield from FakeTrainer()(task, runs, watch)

    def runs(self) -> list[int]:
        """Of the groups that were begun."""
        return sorted(int(path.read_text()) for path in self.folder.glob("*.runs"))
