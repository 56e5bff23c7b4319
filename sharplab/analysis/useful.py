"""What tuning at a small size is worth: how fast a carried learning rate's loss vanishes, beside the loss's own gap."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from sharplab.analysis.curves import with_metric
from sharplab.analysis.grids import check_runs, grids_over, runs_by_name
from sharplab.analysis.limits import FEWEST_SIZES, UNKNOWN, Approach, approach
from sharplab.analysis.optima import optima_and_shift
from sharplab.analysis.parts import PartOfEach
from sharplab.analysis.regrets import benefit_of_tuning, excess_losses
from sharplab.analysis.seed_optima import SizeOptimum
from sharplab.analysis.spread import true_spread
from sharplab.analysis.trend import Measured, lies_outside, shrunk_noises
from sharplab.analysis.valley import Losses
from sharplab.core.arguments import checked, text
from sharplab.core.statistics import OPEN, Interval
from sharplab.records import Records, join_rates, some_records

Verdict = Literal["fast", "slow", "inconclusive"]


@dataclass(frozen=True)
class Usefulness:
    """What tuning one parameterization at small sizes is worth.

    Attributes:
        sizes: ascending.
        losses: the mean loss at each size's own optimum, L*(w), with t intervals of the seeds.
        loss: the law L*(w) = L∞ + a·w^−p: `limit` L∞ and `exponent` p.
        optimum: the law of log₂ of the best learning rate, x*(w) = x∞ + c·w^−q; `exponent` is q.
        misfit: E, how far the optima lie from the line x*(w) = c + s·log₂ w beyond their noise, in octaves:
            √(Σe²/(n−2)) of the true distances e.
        kappa: κ, the loss per octave² of a missed learning rate at the largest size, measured at half its best one.
        confidence: of all intervals.

    Limits and exponents are unknown below four sizes.
    """

    name: str
    over: str
    metric: str
    sizes: tuple[float, ...]
    losses: tuple[Measured, ...]
    loss: Approach
    optimum: Approach
    misfit: Measured
    kappa: Measured
    confidence: float

    lowest = PartOfEach[float]("losses", "value")
    lowest_interval = PartOfEach[Interval]("losses", "interval")

    @property
    def regret_exponent(self) -> Measured:
        """The exponent 2q of the regret κ(x*(w) − x∞)², in the limit, of the learning rate that is best at w."""
        q = self.optimum.exponent
        return Measured(2 * q.value, 2 * q.low, 2 * q.high)

    @property
    def advantage(self) -> Measured:
        """The exponent 2q of the regret less that of the loss, p; the two intervals join by their squares."""
        return self.regret_exponent.less(self.loss.exponent)

    @property
    def verdict(self) -> Verdict:
        """The verdict: "fast" where the advantage's interval lies above 0, "slow" where below, else "inconclusive"."""
        if not lies_outside(self.advantage.interval, 0.0):
            return "inconclusive"
        return "fast" if self.advantage.value > 0 else "slow"

    def limit_above(self, other: "Usefulness") -> Measured:
        """R(∞), how much higher this parameterization's loss is in the limit than the other's, as far as both go on."""
        return self.loss.limit.less(other.loss.limit)

    def table(self) -> pd.DataFrame:
        """The lowest loss of each size as a table."""
        return pd.DataFrame(
            {self.over: size} | loss.columns("lowest") for size, loss in zip(self.sizes, self.losses, strict=True)
        )

    def __str__(self) -> str:
        over, limit, carried = self.over, self.loss.limit, self.regret_exponent
        lines = [
            f"{self.name}: {self.metric} {self.losses[-1]:.4g} at the best learning rate of {over} {self.sizes[-1]}"
        ]
        if np.isnan(limit.value):
            lines.append(
                f"  towards which limit is not known: it takes {FEWEST_SIZES} sizes, none best at a grid's edge"
            )
        elif limit.interval == OPEN:
            lines.append(f"  these sizes do not tell towards which limit, nor whether there is one: {self.verdict}")
        else:
            lines.append(f"  as {over}^-p towards {limit:.4g}, p = {self.loss.exponent:.2g}")
            told = carried.interval != (0.0, np.inf)
            rate = (
                f"as {over}^-2q, 2q between {carried.low:.2g} and {carried.high:.2g}" if told else "at a rate not told"
            )
            lines.append(f"  what a carried learning rate loses vanishes {rate}: {self.verdict}")
        off = f"; optima lie off a line by {self.misfit:.2g} octaves" if np.isfinite(self.misfit.high) else ""
        lines.append(f"  to miss the best costs {self.kappa:.2g} per octave²{off}")
        return "\n".join(lines)


@checked(records=some_records, metric=text)
def usefulness(
    records: Records, *, over: str = "width", metric: str = "eval_loss", confidence: float = 0.95
) -> dict[str, Usefulness]:
    """What tuning at small sizes is worth: a `Usefulness` per parameterization of a sweep over sizes.

    Transfer is *fast* where what a learning rate carried from size w loses in the limit vanishes faster with w than the
    loss's own gap to its limit, and that alone makes tuning small worth its compute (arXiv 2512.22768). Near the
    optimum the carried one loses κ(x*(w) − x∞)², so that with x*(w) = x∞ + c·w^−q and L*(w) = L∞ + a·w^−p it is fast
    where 2q > p. Optima that do not move have no q: then the verdict is "inconclusive", and the regrets of `transfer`
    are the ones to read. E, κ and R(∞) are those of arXiv 2605.21486: `misfit`, `kappa`, `limit_above`.

    L*(w) is the mean over seeds of each seed's loss at the lowest point of the size's mean valley
    (`sharplab.analysis.mean_valley`). Both laws are fitted by profile likelihood (`sharplab.analysis.limits`), whose
    intervals are of the law and no surer than it: what no size shows of another limit they do not know.

    Raises:
        ValueError: as `transfer` does.

    >>> width, rate, seed = (a.ravel() for a in np.meshgrid(2.0 ** np.arange(3, 9), 2.0 ** np.arange(-4, 5), range(4)))
    >>> noise = 0.001 * np.random.default_rng(0).normal(size=width.size)
    >>> missed = np.log2(rate) - 1 + 8 / width
    >>> table = {"width": width, "learning_rate": rate, "seed": seed, "eval_loss": 1 + width**-0.5 + 0.1 * missed**2}
    >>> found = usefulness(Records(pd.DataFrame(table | {"eval_loss": table["eval_loss"] + noise})))["runs"]
    >>> print(f"{found.loss.exponent.value:.1f} {found.regret_exponent.value:.0f}", found.verdict)
    0.5 2 fast
    """
    records = with_metric(records, metric)
    check_runs(records.runs, [over], metric)
    runs = join_rates(records.runs)
    return {
        name: _usefulness(name, *grids_over(name, part, over, metric), over, metric, confidence)
        for name, part in runs_by_name(runs)
    }


def _usefulness(
    name: str, sizes: tuple[float, ...], grids: Sequence[Losses], over: str, metric: str, confidence: float
) -> Usefulness:
    optima, _ = optima_and_shift(sizes, grids)
    excesses, _ = excess_losses(grids)
    lowest = [np.empty(0) if excess is None else excess.lowest for excess in excesses]
    values = [float(each.mean()) if len(each) else np.nan for each in lowest]
    noises = shrunk_noises(lowest)
    at_edge = any(any(optimum.at_edge) for optimum in optima)
    return Usefulness(
        name=name,
        over=over,
        metric=metric,
        sizes=sizes,
        losses=tuple(Measured(v, *noise.interval(v, confidence)) for v, noise in zip(values, noises, strict=True)),
        loss=UNKNOWN if at_edge else approach(sizes, values, noises, confidence),
        optimum=UNKNOWN if at_edge else _approach_of(sizes, optima, confidence),
        misfit=Measured(np.nan, 0.0, np.inf) if at_edge else _misfit(sizes, optima, confidence),
        kappa=benefit_of_tuning(excesses, optima, confidence),
        confidence=confidence,
    )


def _approach_of(sizes: Sequence[float], optima: Sequence[SizeOptimum], confidence: float) -> Approach:
    noises = [optimum.difference_noise for optimum in optima]
    return approach(sizes, [optimum.value for optimum in optima], noises, confidence)


def _misfit(sizes: Sequence[float], optima: Sequence[SizeOptimum], confidence: float) -> Measured:
    """The distance of the optima from a line in log₂ size beyond their noise, by inverting a non-central F.

    The doubt about valleys' shapes is no scatter: it lowers the lower end, as noise would, and adds to the upper one.
    """
    spare = len(sizes) - 2
    values = np.array([optimum.value for optimum in optima])
    df = min(optimum.noise.df for optimum in optima)
    if spare < 1 or not df > 0 or not np.isfinite(values).all():
        return Measured(np.nan, 0.0, np.inf)
    scatter = float(np.mean([optimum.noise.variance for optimum in optima]))
    noise = float(np.mean([optimum.difference_noise.variance for optimum in optima]))
    z = np.vander(np.log2(np.asarray(sizes, float)), 2)
    square = float(np.sum((values - z @ np.linalg.lstsq(z, values)[0]) ** 2)) / spare
    low = true_spread(square, noise, spare, df, confidence).low
    high = true_spread(square, scatter, spare, df, confidence).high
    doubt = noise - scatter
    return Measured(float(np.sqrt(max(square - noise, 0.0))), low, float(np.sqrt(max(high**2, square) + doubt)))
