"""A trainer whose losses are a formula, to see what sweeps do with results without waiting for any."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from sharplab.sweep import Experiment
from sharplab.training import Lane, LaneResult, Task


@dataclass
class FakeTrainer:
    """Loss 1 + (log₂(η/optimum))²/10 + seed/1000 at the end; divergence beyond `edge` times the optimum."""

    optimum: Callable[[Task], float] = lambda task: 1.0
    edge: float = 8.0
    stop_after: int | None = None
    stop_with: type[BaseException] = RuntimeError
    shift: float = 0.0
    trained: list[tuple[Task, Lane]] = field(default_factory=list)

    def __call__(
        self, task: Task, lanes: Sequence[Lane], *, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[LaneResult]:
        for i, lane in enumerate(lanes):
            if self.stop_after is not None and len(self.trained) >= self.stop_after:
                raise self.stop_with("stopped")
            self.trained.append((task, lane))
            assert len(self.trained) < 1000, "the same runs are trained again and again"
            if progress is not None:
                progress((i + 1) * task.steps, len(lanes) * task.steps)
            yield self.result(task, lane)

    def result(self, task: Task, lane: Lane) -> LaneResult:
        """What this lane leaves behind."""
        relative = lane.learning_rate / self.optimum(task)
        diverged = relative > self.edge
        steps = np.array(task.record_steps)
        loss = 1 + self.shift + math.log2(relative) ** 2 / 10 + lane.seed / 1000 + np.exp(-steps / 10)
        curves: dict[str, np.ndarray] = {"step": steps}
        for number, name in enumerate(task.observables):
            curves[name] = np.where(diverged & (steps > 0), np.nan, loss + number)
            if name.startswith("sharpness"):
                curves[f"{name}_matvecs"] = np.full(len(steps), 5, np.int32)
        setting = {"lane_mode": "sequential", "driver": "loop", "device": "formula"}
        return LaneResult(lane, curves, bool(diverged), 1 if diverged else -1, 0.5, setting)


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
