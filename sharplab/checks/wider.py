"""The check that wider is better: at one learning rate, a wider network's loss is no higher at any step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pandas as pd

from sharplab.checks.comparison import Comparison, check_counts
from sharplab.checks.trainee import Build, Loss, OptimizerLike, make_trainee
from sharplab.checks.verdict import Verdict, judge, overall
from sharplab.core.arguments import checked
from sharplab.core.statistics import OPEN, Interval, mean_interval
from sharplab.training.recipe import Recipe, RunState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class WiderIsBetter:
    """Training losses of several widths at one learning rate: made by `wider_is_better`.

    Attributes:
        losses: the columns width, seed, step and loss, of the network after so many steps.
        tolerance: a rise from one width to the next that does not matter, as part of the first width's first loss.
    """

    losses: pd.DataFrame
    tolerance: float

    def table(self) -> pd.DataFrame:
        """The losses, in the columns width, seed, step and loss."""
        return self.losses.copy()

    def rises(self) -> pd.DataFrame:
        """The rises loss(wider) − loss(narrower) of neighbouring widths, at steps 1, 2, 4, … and the last.

        `rise` is the mean over seeds, `low` and `high` bound it with 95 % confidence (paired t); a network whose loss
        is not finite counts as infinitely bad. `verdict` compares the interval with the tolerance.
        """
        return self._rises.copy()

    @cached_property
    def _rises(self) -> pd.DataFrame:
        last = int(self.losses["step"].max())
        steps = sorted({2**i for i in range(last.bit_length())} | {last})
        table = self.losses.pivot(index=["width", "step"], columns="seed", values="loss")
        table = table.where(np.isfinite(table), np.inf)
        widths = sorted(self.losses["width"].unique())
        first = float(table.loc[(widths[0], 0)].mean())
        allowed = self.tolerance * abs(first) if np.isfinite(first) else 0.0
        rows = []
        for (narrow, wide), step in ((pair, step) for pair in pairwise(widths) for step in steps):
            before, after = (table.loc[(width, step)].to_numpy() for width in (narrow, wide))
            rise, interval = _rise(before, after)
            verdict = judge(interval, (-np.inf, allowed))
            rows.append((narrow, wide, step, rise, *interval, verdict))
        return pd.DataFrame(rows, columns=["narrow", "wide", "step", "rise", "low", "high", "verdict"])

    @property
    def verdict(self) -> Verdict:
        """ "fails" if the loss rises with width at any step, "holds" if it is known not to, else "inconclusive"."""
        return overall(self._rises["verdict"])

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences that say where wider is worse, or may be."""
        rows = self._rises[self._rises["verdict"] == self.verdict]
        if self.verdict == "holds":
            return ()
        if rows["rise"].isna().any():
            alike = int(rows["rise"].isna().sum())
            return (
                f"at {alike} of {len(self._rises)} widths and steps as many seeds diverge: take a lower learning rate.",
            )
        if self.verdict == "inconclusive":
            return (f"at {len(rows)} of {len(self._rises)} widths and steps seeds differ too much: take more of them.",)
        worst = rows.loc[rows.groupby(["narrow", "wide"])["rise"].idxmax()]
        return tuple(
            f"from width {row.narrow} to {row.wide} the loss after step {row.step} rises by {row.rise:.3g} "
            f"({row.low:.3g} to {row.high:.3g}): wider networks take too large steps at this learning rate."
            for row in worst.itertuples()
        )

    def draw(self) -> "Figure":
        """The figure of the loss against step, a line per width."""
        from sharplab.checks.drawing import draw_wider

        return draw_wider(self.losses)

    def __str__(self) -> str:
        return "\n".join([f"wider is better: {self.verdict}", *(f"  {reason}" for reason in self.reasons)])


def _rise(before: np.ndarray, after: np.ndarray) -> tuple[float, Interval]:
    more = int(np.isinf(after).sum()) - int(np.isinf(before).sum())
    if more:
        return more * np.inf, (more * np.inf, more * np.inf)
    if np.isinf(before).any():  # as many diverge: what the others say is not the mean over all
        return np.nan, OPEN
    return mean_interval(after - before, CONFIDENCE)


@checked()
def wider_is_better(
    build: Build,
    *,
    widths: Sequence[int],
    batch: Any,
    loss: Loss,
    optimizer: OptimizerLike = "adam",
    learning_rate: float = 2**-8,
    base: int | None = None,
    steps: int = 32,
    seeds: int = 5,
    tolerance: float = 0.05,
) -> WiderIsBetter:
    """The training losses of several widths at one learning rate on one batch, and whether they rise with width.

    Under muP a wider network is no worse at any step.

    Args:
        build, widths, batch, loss, optimizer, learning_rate, base: as of `coordinate_check`.
        steps, seeds: how many; each width is drawn from the same seeds.
        tolerance: a rise of the loss that does not matter, as part of the first loss.

    Raises:
        ValueError: for fewer than two widths or seeds, no steps, or unknown names.

    Source: Yang et al., arXiv 2203.03466, section 8 and appendix.
    """
    check_counts(steps=steps, seeds=seeds)
    trainee = make_trainee(build, optimizer, learning_rate, base)
    return WiderIsBetter(_losses(Comparison.of(trainee, widths, batch, loss), steps, seeds), tolerance)


def _losses(compared: Comparison, steps: int, seeds: int) -> pd.DataFrame:
    rows = []
    for width, seed, recipe, run in compared.draw(seeds):
        trajectory = []
        for _ in range(steps + 1):
            run, value = _step(recipe, run, compared.batch)
            trajectory.append(value)
        rows += [(width, seed, step, float(value)) for step, value in enumerate(jax.device_get(trajectory))]
    return pd.DataFrame(rows, columns=["width", "seed", "step", "loss"])


@partial(jax.jit, static_argnums=0)
def _step(recipe: Recipe, run: RunState, batch: Any) -> tuple[RunState, jax.Array]:
    """The run after a step, and the loss before it."""
    return recipe.update(run, 1.0, batch)[:2]
