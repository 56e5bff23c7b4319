"""Sweeps whose optimum, noise, cliff and grid are known, to see what the analysis makes of them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharplab.records import Records


@dataclass(frozen=True)
class Sweep:
    """One parameterization's truth, in log₂ of the learning rate (x) and of the size.

    The loss is floor + valley(x − optimum) with valley(z) = 2·curvature·(e^{skew·z} − 1 − skew·z)/skew², whose
    minimum lies at z = 0 and which is steeper on the side of divergence; in the limit skew → 0 it is
    curvature·z². A seed moves the whole curve by `common`, the optimum by `wander`, each run by `noise`, and the
    end of stability, `cliff` octaves above the optimum, by `edge_noise`.
    """

    sizes: tuple[int, ...] = (8, 16, 32, 64)
    seeds: tuple[int, ...] = (5, 5, 5, 3)
    optimum: float = 0.3
    shift: float = 0.0
    bend: float = 0.0
    floor: float = 0.5
    curvature: float = 0.05
    skew: float = 0.5
    common: float = 0.01
    wander: float = 0.0
    noise: float = 0.004
    cliff: float = 2.3
    edge_noise: float = 0.1
    low: float = -3.0
    high: float = 7.0
    step: float = 1.0
    refined: bool = True

    def optima(self) -> np.ndarray:
        """log₂ of the best learning rate of each size."""
        x = np.log2(np.array(self.sizes) / self.sizes[0])
        # Any bend leaves the least-squares slope over equally spaced sizes as it is.
        curved = x**2 - np.polyval(np.polyfit(x, x**2, 1), x) if self.bend else 0.0 * x
        return self.optimum + self.shift * x + self.bend * curved

    def losses(self, optimum: float, rates: np.ndarray, seeds: int, random: np.random.Generator) -> np.ndarray:
        """(rates, seeds), inf where diverged."""
        z = rates[:, None] - optimum - self.wander * random.standard_normal(seeds)
        valley = self.curvature * 2 * (np.expm1(self.skew * z) - self.skew * z) / self.skew**2
        level = self.floor + self.common * random.standard_normal(seeds)
        loss = level + valley + self.noise * random.standard_normal(z.shape)
        edges = optimum + self.cliff + self.edge_noise * random.standard_normal(seeds)
        return np.where(rates[:, None] > edges, np.inf, loss)

    def records(self, random: np.random.Generator, name: str = "mup") -> Records:
        """One draw, on the grid and its refinement by √2 around the best."""
        tables = []
        for size, seeds, optimum in zip(self.sizes, self.seeds, self.optima(), strict=True):
            rates = np.arange(self.low, self.high + 0.25, 0.5 if self.refined else self.step)
            losses = self.losses(optimum, rates, seeds, random)
            kept = self._kept(rates, losses.mean(axis=1))
            table = pd.DataFrame(losses[kept], index=2.0 ** rates[kept], columns=range(seeds))
            table = table.rename_axis(index="learning_rate", columns="seed").stack().rename("eval_loss").reset_index()
            tables.append(table.assign(width=size))
        return Records(pd.concat(tables, ignore_index=True).assign(parameterization=name))

    def _kept(self, rates: np.ndarray, means: np.ndarray) -> np.ndarray:
        """The coarse grid, then half steps beside the best until it has both."""
        kept = np.isclose((rates - self.low) % self.step, 0)
        while self.refined:
            best = np.where(kept, means, np.inf).argmin()
            beside = [i for i in (best - 1, best + 1) if 0 <= i < len(rates) and not kept[i]]
            if not beside:
                break
            kept[beside] = True
        return kept
