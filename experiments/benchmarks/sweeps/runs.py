"""The runs that the contestants train."""

from collections.abc import Sequence
from dataclasses import dataclass

from sharplab.sweep import Experiment
from sharplab.sweep.plan import tasks
from sharplab.training.task import Task

DATA = "fashion-mnist-10k"


@dataclass(frozen=True)
class Runs:
    """A residual MLP of one width under muP with SGD, at every learning rate × so many seeds, twice over.

    Losses are recorded at the first and the last step, as `sharplab sweep` does unless told; no curvature.
    """

    width: int
    seeds: int  # of each half: the first is trained cold, the second warm
    learning_rates: Sequence[float] = (0.0625, 0.125, 0.1875, 0.25)  # at which no run diverges
    steps: int = 256
    batch_size: int = 128

    def seeds_of(self, half: int) -> tuple[int, ...]:
        """Seeds of the first (0) or the second (1) half."""
        return tuple(range(half * self.seeds, (half + 1) * self.seeds))

    def experiment(self, seeds: tuple[int, ...]) -> Experiment:
        """The experiment for `sharplab.run`."""
        return Experiment(
            widths=(self.width,),
            learning_rates=tuple(self.learning_rates),
            parameterizations=("mup",),
            seeds=seeds,
            data=DATA,
            steps=self.steps,
            batch_size=self.batch_size,
            records=2,
        )

    @property
    def task(self) -> Task:
        """The settings that all runs share."""
        return next(tasks(self.experiment((0,))))

    @property
    def count(self) -> int:
        """Runs of each half."""
        return len(self.learning_rates) * self.seeds
