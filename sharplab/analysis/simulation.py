"""Simulated sweeps of known optimum, shift, noise and edge of stability, on which the analysis is calibrated."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd

from sharplab.analysis.optima import transfer
from sharplab.core.statistics import Interval
from sharplab.records import Records


@dataclass(frozen=True)
class SimulatedSweep:
    """The truth about one parameterization, in x = log₂ of the learning rate.

    The loss is level + curvature·2(e^sd − 1 − sd)/s² with d = x − optimum and s the skew (s = 0: curvature·d²),
    steeper on the side of divergence. Normal draws, anew at each size, with these standard deviations: a seed moves its
    whole curve by `seed_effect`, its optimum by `optimum_sd`, the end of its stability, `edge` octaves above the
    optimum, by `edge_sd`, and each loss by `noise`.

    Attributes:
        shift: of the optimum, octaves per doubling of width.
        widths, seeds: the widths, and how many seeds each has.
        start: the optimum of the smallest width.
        outlier: octaves by which the optimum of one width, any of them, is off, up or down.
        refined: half octaves beside the best, as the lab's plan adds them, or a grid of octaves alone.

    >>> sweep = SimulatedSweep(shift=0.5, widths=(8, 16), seeds=(3, 3))
    >>> len(sweep.records(np.random.default_rng(0)).runs) > 30, sweep.edges - sweep.optima
    (True, array([2.3, 2.3]))
    """

    shift: float = 0.0
    widths: tuple[int, ...] = (8, 16, 32, 64)
    seeds: tuple[int, ...] = (5, 5, 5, 3)
    start: float = 0.3
    level: float = 0.5
    curvature: float = 0.05
    skew: float = 0.5
    noise: float = 0.004
    seed_effect: float = 0.01
    optimum_sd: float = 0.0
    outlier: float = 0.0
    edge: float = 2.3
    edge_sd: float = 0.1
    refined: bool = True

    def with_seeds(self, seeds: int) -> "SimulatedSweep":
        """The same sweep with this many seeds at every width."""
        return replace(self, seeds=(seeds,) * len(self.widths))

    @property
    def optima(self) -> np.ndarray:
        """The optimum of each width, (W,), without the outlier."""
        return self.start + self.shift * np.log2(np.array(self.widths) / self.widths[0])

    @property
    def edges(self) -> np.ndarray:
        """The edge of stability of each width, (W,)."""
        return self.optima + self.edge

    @property
    def regret(self) -> float:
        """The regret of the largest width at the smallest's optimum; inf from the edge of stability on."""
        distance = self.optima[0] - self.optima[-1]
        return float(self._excess(distance)) if distance < self.edge else np.inf

    @property
    def regret_fraction(self) -> float:
        """The regret in units of that of half the optimal learning rate."""
        return self.regret / float(self._excess(-1.0))

    @property
    def truth(self) -> Mapping[str, np.ndarray]:
        """The true values by name, see `Sweep`."""
        shift = np.array(self.shift)
        regrets = {"regret": np.array(self.regret), "regret_fraction": np.array(self.regret_fraction)}
        return {"optimum": self.optima, "edge": self.edges, "shift": shift, "edge_shift": shift} | regrets

    def _excess(self, d: np.ndarray | float) -> np.ndarray:
        """The loss above its lowest, d octaves from the optimum."""
        s = self.skew
        return self.curvature * (np.square(d) if s == 0 else 2 * (np.expm1(s * np.asarray(d)) - s * d) / s**2)

    def losses(self, optimum: float, x: np.ndarray, seeds: int, rng: np.random.Generator) -> np.ndarray:
        """The losses of one draw, (rates, seeds), inf where diverged."""
        # The mean of lopsided losses whose optima differ is lowest a little below their mean optimum.
        centre = optimum + self.skew * self.optimum_sd**2 / 2
        d = x[:, None] - centre - self.optimum_sd * rng.normal(size=seeds)
        loss = self.level + self._excess(d) + self.seed_effect * rng.normal(size=seeds)
        ends = optimum + self.edge + self.edge_sd * rng.normal(size=seeds)
        return np.where(x[:, None] > ends, np.inf, loss + self.noise * rng.normal(size=d.shape))

    def records(self, rng: np.random.Generator) -> Records:
        """The records of one draw, on the grid that the lab's plan would choose."""
        optima = self.optima
        if self.outlier:
            optima[rng.integers(len(optima))] += self.outlier * rng.choice([-1, 1])
        tables = []
        for width, seeds, optimum in zip(self.widths, self.seeds, optima, strict=True):
            x = np.arange(np.floor(optimum) - 3, np.ceil(optimum) + 4, 0.5)
            losses = self.losses(optimum, x, seeds, rng)
            kept = self._kept(losses.mean(axis=1))
            rates, columns = np.meshgrid(2.0 ** x[kept], np.arange(seeds), indexing="ij")
            rows = np.stack([np.full(rates.size, width), rates.ravel(), columns.ravel(), losses[kept].ravel()])
            tables.append(rows)
        width, rate, seed, loss = np.hstack(tables)
        table = {"width": width.astype(int), "learning_rate": rate, "seed": seed.astype(int), "eval_loss": loss}
        return Records(pd.DataFrame(table | {"parameterization": "mup"}))

    def _kept(self, means: np.ndarray) -> np.ndarray:
        """The learning rates trained: octaves, then half an octave on both sides of the best, until it has both."""
        kept = np.arange(len(means)) % 2 == 0
        while self.refined:
            best = np.where(kept, means, np.inf).argmin()
            missing = [i for i in (best - 1, best + 1) if 0 <= i < len(means) and not kept[i]]
            if not missing:
                break
            kept[missing] = True
        return kept


KINDS: Mapping[str, SimulatedSweep] = {
    "as the lab's sweeps": SimulatedSweep(),
    "a parabola, optima wander": SimulatedSweep(seeds=(3,) * 4, skew=0.0, optimum_sd=0.1),
    "shifting across the grid": SimulatedSweep(shift=0.3, optimum_sd=0.1),
    "shifting fast": SimulatedSweep(shift=-0.6, edge=3.0),
    "lopsided": SimulatedSweep(skew=1.5),
    "lopsided, octaves alone": SimulatedSweep(skew=1.0, refined=False),
    "hardly any noise": SimulatedSweep(noise=0.0005, seed_effect=0.0),
    "cliff at the optimum": SimulatedSweep(edge=0.3, shift=0.3, start=0.1),
    "cliff that wanders": SimulatedSweep(edge=1.0, edge_sd=0.4),
    "noisy": SimulatedSweep(noise=0.02),
    "optima that wander far": SimulatedSweep(optimum_sd=0.3, seeds=(3,) * 4),
    "two sizes": SimulatedSweep(widths=(8, 64), seeds=(5, 3)),
    "sizes apart by 3": SimulatedSweep(widths=(10, 30, 90), seeds=(4, 4, 3), shift=0.5),
}


class Sweep(Protocol):
    """Sweeps of which the truth is known."""

    @property
    def truth(self) -> Mapping[str, np.ndarray]:
        """The true values by name: "optimum" and "edge", log₂, of each size; "shift", "edge_shift" and regrets."""
        ...

    def records(self, rng: np.random.Generator) -> Records:
        """The records of one draw."""
        ...


def calibrate(sweep: Sweep, draws: int, seed: int = 0, metric: str = "eval_loss") -> pd.DataFrame:
    """The verdicts of `transfer` on that many draws of a sweep, and whether its intervals cover the truth.

    Of each draw's sizes a random one is taken, lest a draw count several times.

    Returns:
        One row per draw: columns of bool, by the names of the sweep's `truth`, and verdict.

    >>> found = calibrate(SimulatedSweep(), 20)
    >>> len(found), bool(found["shift"].sum() >= 15)
    (20, True)
    """
    rng, truth = np.random.default_rng(seed), sweep.truth
    rows = []
    for _ in range(draws):
        (found,) = transfer(sweep.records(rng), metric=metric).values()
        size = int(rng.integers(len(found.sizes)))
        intervals = {
            "optimum": _logs(found.optimum_interval[size]),
            "edge": _logs(found.edge_interval[size]),
            "shift": found.shift_interval,
            "edge_shift": found.edge_shift_interval,
            "regret": found.regret_interval,
            "regret_fraction": found.regret_fraction_interval,
        }
        covered = {name: _covers(intervals[name], np.ravel(true), size) for name, true in truth.items()}
        rows.append(covered | {"verdict": found.verdict})
    return pd.DataFrame(rows)


def _covers(interval: Interval, true: np.ndarray, size: int) -> bool:
    low, high = interval
    return bool(low <= true[size if len(true) > 1 else 0] <= high)


def _logs(rates: Interval) -> Interval:
    with np.errstate(divide="ignore"):  # an interval open below begins at a learning rate of 0
        low, high = np.log2(rates)
    return float(low), float(high)
