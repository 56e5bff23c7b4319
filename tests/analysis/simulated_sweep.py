"""Sweeps whose optimum, shift, noise, cliff and grid are known."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharplab.records import Records


@dataclass(frozen=True)
class Sweep:
    """One parameterization's truth, in x = log₂ of the learning rate.

    The loss is level + curvature·2(e^sd − 1 − sd)/s² with d = x − optimum and s the skew (s = 0: curvature·d²),
    steeper on the side of divergence. A seed moves its whole curve by `seed_effect`, its optimum by `wander`, the end
    of its stability, `cliff` octaves above the optimum, by `cliff_wander`, and each loss by `noise`.
    """

    shift: float = 0.0  # octaves per doubling
    widths: tuple[int, ...] = (8, 16, 32, 64)
    seeds: tuple[int, ...] = (5, 5, 5, 3)
    start: float = 0.3
    level: float = 0.5
    curvature: float = 0.05
    skew: float = 0.5
    noise: float = 0.004
    seed_effect: float = 0.01
    wander: float = 0.0
    cliff: float = 2.3
    cliff_wander: float = 0.1
    refined: bool = True  # half octaves beside the best, or a grid of octaves alone

    @property
    def optima(self) -> np.ndarray:
        return self.start + self.shift * np.log2(np.array(self.widths) / self.widths[0])

    @property
    def edges(self) -> np.ndarray:
        return self.optima + self.cliff

    def losses(self, optimum: float, x: np.ndarray, seeds: int, rng: np.random.Generator) -> np.ndarray:
        """(rates, seeds), inf where diverged."""
        d, s = x[:, None] - optimum - self.wander * rng.normal(size=seeds), self.skew
        valley = d**2 if s == 0 else 2 * (np.expm1(s * d) - s * d) / s**2
        loss = self.level + self.curvature * valley + self.seed_effect * rng.normal(size=seeds)
        ends = optimum + self.cliff + self.cliff_wander * rng.normal(size=seeds)
        return np.where(x[:, None] > ends, np.inf, loss + self.noise * rng.normal(size=d.shape))

    def records(self, rng: np.random.Generator) -> Records:
        """One draw, on the grid that the lab's plan would choose."""
        tables = []
        for width, seeds, optimum in zip(self.widths, self.seeds, self.optima, strict=True):
            x = np.arange(np.floor(optimum) - 3, np.ceil(optimum) + 4, 0.5)
            losses = self.losses(optimum, x, seeds, rng)
            kept = self._kept(losses.mean(axis=1))
            columns = np.meshgrid(2.0 ** x[kept], np.arange(seeds), indexing="ij")
            table = {"learning_rate": columns[0].ravel(), "seed": columns[1].ravel(), "eval_loss": losses[kept].ravel()}
            tables.append(pd.DataFrame(table | {"width": width}))
        return Records(pd.concat(tables, ignore_index=True).assign(parameterization="mup"))

    def _kept(self, means: np.ndarray) -> np.ndarray:
        """Octaves, then half an octave on both sides of the best, until it has both."""
        kept = np.arange(len(means)) % 2 == 0
        while self.refined:
            best = np.where(kept, means, np.inf).argmin()
            missing = [i for i in (best - 1, best + 1) if 0 <= i < len(means) and not kept[i]]
            if not missing:
                break
            kept[missing] = True
        return kept
