"""Sweeps whose optimum, shift, noise and cliff are known."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharplab.records import Records


@dataclass(frozen=True)
class Sweep:
    """Loss = 1 + curvature·d² with d = log₂(learning rate / optimum), or with `skew` s > 0 the asymmetric
    1 + curvature·2(e^sd − sd − 1)/s² of the same curvature; it diverges at `cliff` octaves above the optimum."""

    shift: float = 0.0  # octaves per doubling
    widths: tuple[int, ...] = (8, 16, 32, 64)
    seeds: int = 4
    noise: float = 0.01  # of one run's loss
    seed_effect: float = 0.03  # common to all learning rates of a seed
    wander: float = 0.1  # octaves by which a seed's own optimum differs
    curvature: float = 0.12
    skew: float = 0.0
    cliff: float = 1.2
    cliff_wander: float = 0.2  # octaves

    def optimum(self, width: int) -> float:
        return 0.3 + self.shift * np.log2(width / self.widths[0])

    def edge(self, width: int) -> float:
        return self.optimum(width) + self.cliff

    def records(self, rng: np.random.Generator) -> Records:
        rows = []
        for width in self.widths:
            centre, edge = self.optimum(width), self.edge(width)
            own = centre + self.wander * rng.normal(size=self.seeds)
            ends = edge + self.cliff_wander * rng.normal(size=self.seeds)
            effects = self.seed_effect * rng.normal(size=self.seeds)

            def loss(x: float, own=own, ends=ends, effects=effects) -> np.ndarray:
                d = x - own
                s = self.skew
                valley = d**2 if s == 0 else 2 * (np.exp(s * d) - s * d - 1) / s**2
                loss = 1 + self.curvature * valley + effects + self.noise * rng.normal(size=self.seeds)
                return np.where(x > ends, np.inf, loss)

            for x, losses in _refined_grid(loss, centre).items():
                rows += [(width, 2.0**x, seed, value) for seed, value in enumerate(losses)]
        runs = pd.DataFrame(rows, columns=["width", "learning_rate", "seed", "eval_loss"])
        return Records(runs.assign(parameterization="mup"))


def _refined_grid(loss, centre: float) -> dict[float, np.ndarray]:
    """Octaves around, then half an octave on both sides of the best, as the lab's plan does."""
    measured = {float(x): loss(float(x)) for x in range(int(np.floor(centre)) - 3, int(np.ceil(centre)) + 4)}
    while True:
        best = min(measured, key=lambda x: measured[x].mean())
        missing = [x for x in (best - 0.5, best + 0.5) if x not in measured]
        if not missing:
            return dict(sorted(measured.items()))
        measured |= {x: loss(x) for x in missing}
