"""Sweeps drawn from the seeds of a real one, on which the analysis is calibrated where no formula knows the losses."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from sharplab.analysis.optima import Transfer, transfer
from sharplab.records import Records

COPIES = 4  # of all seeds, whose own estimate is the truth: the doubt about the valleys' shape alone is left to it


@dataclass(frozen=True)
class ResampledSweep:
    """Sweeps of a few seeds out of many, drawn with replacement and at each width apart.

    Attributes:
        runs: of one parameterization: width, learning_rate, seed and the metric, each width's seeds at all its rates.
        metric: the column of losses.
        seeds: how many are drawn at each width.
        shift: what the true shift is made to be, octaves per doubling of width, by moving the learning rates of each
            width alike; None leaves them.
    """

    runs: pd.DataFrame
    metric: str
    seeds: int
    shift: float | None = None

    @cached_property
    def truth(self) -> dict[str, np.ndarray]:
        """What the estimate from all seeds says, by name; the optimum, log₂ of the learning rate, of each width."""
        found = self._from_all(self._moved)
        return {
            "optimum": np.log2(found.optimum),
            "shift": np.array(found.shift),
            "regret": np.array(found.regret),
            "regret_fraction": np.array(found.regret_fraction),
        }

    def records(self, rng: np.random.Generator) -> Records:
        """The records of one draw."""
        drawn = []
        for _, table in self._moved.groupby("width"):
            by_seed = [one for _, one in table.groupby("seed")]
            chosen = rng.integers(len(by_seed), size=self.seeds)
            drawn += [by_seed[i].assign(seed=seed) for seed, i in enumerate(chosen)]
        return Records(pd.concat(drawn, ignore_index=True))

    @cached_property
    def _moved(self) -> pd.DataFrame:
        if self.shift is None:
            return self.runs
        width, rate = self.runs["width"], self.runs["learning_rate"]
        off = self.shift - self._from_all(self.runs).shift
        return self.runs.assign(learning_rate=rate * (width / width.min()) ** off)

    def _from_all(self, runs: pd.DataFrame) -> Transfer:
        seeds = runs["seed"].max() + 1
        copies = pd.concat([runs.assign(seed=runs["seed"] + i * seeds) for i in range(COPIES)])
        (found,) = transfer(Records(copies), metric=self.metric).values()
        return found
