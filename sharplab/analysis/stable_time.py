"""The approach to the edge of stability: how fast the sharpness rises, when it crosses, how long it stays above."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharplab.analysis.curves import curves_by_name
from sharplab.analysis.trend import Measured, pooled_noise
from sharplab.core.arguments import checked
from sharplab.records import Records, some_records

Threshold = float | Callable[[float], float]
ALONG_UPDATE = ("critical_sharpness", "update_sharpness", "midpoint_sharpness")  # a step raises the loss above 2/η
# Curvatures in the optimizer's metric, to which its threshold belongs; "sharpness" is in the norm of steps without one.
_IN_METRIC = re.compile(r"(directional_|batch_)?sharpness|(hessian|gauss_newton|above_threshold)_[1-9]\d*")
RISEN = 0.9  # of its maximum: where a curve that stays below the threshold counts as risen
MEASURES = ("above", "rate", "rate_per_time", "crossing", "plateau")


@dataclass(frozen=True)
class Stability:
    """The measures of one parameterization's runs at the stability threshold.

    Attributes:
        runs: one row per run: size, learning_rate, seed, threshold, and
            above: the share of the steps with the quantity above the threshold, `below` the rest; straight lines
                join the records. Lowest and highest: of all values less, and plus, the eigenvalue's error.
            rate: progressive sharpening, octaves per step from the first record to the crossing, or to nine tenths of
                the maximum where there is none (so that a plateau's noise does not set it). 0 where the first record
                is above that, nan where it is above the threshold. (Where the quantity falls before it rises, drop its
                first records.)
            rate_per_time: the same per unit of η·step.
            crossing: the step at which the quantity first reaches the threshold; inf where it does not. It lies
                between the last record that is surely below, and the first that is surely above.
            plateau: the mean over the second half of training, over the threshold; low and high by the error.
            left_out: records without a value.
        confidence: of the seeds' intervals in `table()`.
    """

    name: str
    quantity: str
    over: str
    runs: pd.DataFrame
    confidence: float

    def table(self) -> pd.DataFrame:
        """The means over seeds, one row per size and learning rate, with t intervals from the noise of each.

        Sizes that never cross have none, and say nothing of others'; one with a single seed has the noise that the
        others share. The crossing's is over the seeds that cross; `crossed` is the share of them.
        """
        rows = []
        for rate, runs in self.runs.groupby("learning_rate"):
            groups = dict(iter(runs.groupby(self.over)))
            shared = {name: pooled_noise([_finite(group[name]) for group in groups.values()]) for name in MEASURES}
            for size, group in groups.items():
                row = {self.over: size, "learning_rate": rate, "seeds": len(group)}
                row["crossed"] = float(np.isfinite(group["crossing"]).mean())
                for name in MEASURES:
                    values = _finite(group[name])
                    mean = float(values.mean()) if len(values) else np.nan
                    noise = pooled_noise([values]) if len(values) > 1 else shared[name]
                    interval = noise.scaled(1 / max(len(values), 1)).interval(mean, self.confidence)
                    row |= Measured(mean, *interval).columns(name)
                rows.append(row)
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.quantity} at the edge of stability, means over seeds"]
        for row in self.table().to_dict("records"):
            lines.append(
                f"  {self.over} {row[self.over]:>5}, η = {row['learning_rate']:g}: rises by {row['rate']:.3g} octaves "
                f"per step, {row['crossed']:.0%} cross (at step {row['crossing']:.3g}), above for {row['above']:.0%} "
                f"of the time; late {row['plateau']:.3g} [{row['plateau_low']:.3g}, {row['plateau_high']:.3g}] "
                "of the threshold"
            )
        return "\n".join(lines)


@checked(records=some_records)
def stability(
    records: Records,
    *,
    over: str = "width",
    quantity: str = "sharpness",
    threshold: Threshold | None = None,
    confidence: float = 0.95,
) -> dict[str, Stability]:
    """The time above the stability threshold, and how runs get there: a `Stability` per parameterization.

    Args:
        records: with curves of the quantity, of one setting apart from size, learning rate and seed.
        quantity: a column of the curves; "<quantity>_error" is its error where there is such a column.
        threshold: a number, or a function of the base learning rate; None for `threshold_of` the quantity under the
            runs' optimizer at a constant learning rate. "sharpness_raw" has that of SGD where the runs have no
            parameterization, whose learning-rate factors it does not know.

    Raises:
        ValueError: for missing curves or columns, mixed settings, two curves of one run, fewer than two records of a
            run, and where the quantity has no threshold under the optimizer, or no single one, and none is given.

    >>> step = np.arange(0, 101, 10)
    >>> keys = {"width": 8, "learning_rate": 0.25, "seed": 0}
    >>> curves = pd.DataFrame({"step": step, "sharpness": 2.0 ** (step / 20)} | keys)
    >>> found = stability(Records(pd.DataFrame([keys | {"optimizer": "sgd"}]), curves))["runs"]
    >>> found.runs[["threshold", "above", "rate", "crossing"]]
       threshold  above  rate  crossing
    0        8.0    0.4  0.05      60.0
    """
    curves = curves_by_name(records, quantity, over)
    threshold_at = threshold if callable(threshold) else _threshold_at(records.runs, quantity, threshold)
    found = {}
    for name, table in curves:
        rows = []
        for keys, run in table.groupby([over, "learning_rate", "seed"]):
            if run["step"].duplicated().any():
                raise ValueError(
                    f"{name} has two curves of {over} {keys[0]}, learning_rate {keys[1]:g}, seed {keys[2]}: "
                    "keep one, as by records.select(...)."
                )
            edge = float(threshold_at(keys[1]))
            if not 0 < edge < np.inf:
                raise ValueError(f"threshold must be positive and finite, not {edge!r} at learning_rate {keys[1]:g}.")
            row = dict(zip((over, "learning_rate", "seed"), keys, strict=True)) | {"threshold": edge}
            rows.append(row | _measure(run.sort_values("step"), quantity, edge, row))
        found[name] = Stability(name, quantity, over, pd.DataFrame(rows), confidence)
    return found


def threshold_of(optimizer: str, quantity: str) -> Callable[[float], float]:
    """The learning rate η → the threshold of a recorded quantity under an optimizer, by name.

    It is 2/η along the optimizer's own update, whatever the optimizer, and the optimizer's own for curvatures in its
    metric, and for the "sharpness" in the norm of its steps (see `sharplab.optimizers`).

    Raises:
        ValueError: for a quantity that the optimizer's threshold does not belong to.

    >>> threshold_of("momentum", "sharpness")(0.5), threshold_of("momentum", "critical_sharpness")(0.5)
    (7.6, 4.0)
    """
    from sharplab.optimizers import OPTIMIZERS, find_optimizer  # here, for tables are analysed without jax

    if quantity in ALONG_UPDATE:
        return lambda eta: 2 / eta
    chosen = find_optimizer(optimizer)
    edge, in_metric = chosen.threshold, _IN_METRIC.fullmatch(quantity)
    if edge is None:
        raise ValueError(f"{optimizer} has no stability threshold: give threshold, a number or a function of the rate.")
    as_it_is = quantity == "sharpness_raw" and chosen.preconditioner is OPTIMIZERS["sgd"].preconditioner
    in_norm = quantity == "sharpness" and bool(chosen.norms)
    if not (as_it_is or in_norm or (in_metric and chosen.preconditioner is not None)):
        raise ValueError(
            f"quantity {quantity!r} has no known threshold under {optimizer}, whose own is of 'sharpness': take it, or "
            f"one of {', '.join(ALONG_UPDATE)}, or give threshold, a number or a function of the rate."
        )
    return edge


def _threshold_at(runs: pd.DataFrame, quantity: str, threshold: float | None) -> Callable[[float], float]:
    if threshold is not None:
        return lambda rate: threshold
    if "optimizer" not in runs:
        raise ValueError("the runs have no column 'optimizer': give threshold, as by threshold=lambda eta: 2 / eta.")
    if "schedule" in runs and runs["schedule"].iloc[0] != "constant":
        raise ValueError(
            f"under the schedule {runs['schedule'].iloc[0]!r} the learning rate, and so the threshold, changes along "
            "a run: give threshold."
        )
    if quantity == "sharpness_raw" and "parameterization" in runs:
        raise ValueError(
            "quantity 'sharpness_raw' does not know of the parameterization's learning-rate factors, as the threshold "
            'does: take "sharpness", or give threshold.'
        )
    return threshold_of(runs["optimizer"].iloc[0], quantity)


def _measure(run: pd.DataFrame, quantity: str, edge: float, key: dict) -> dict:
    """The measures of one run, from its records in order."""
    finite = np.isfinite(run[quantity].to_numpy(float))
    steps = run["step"].to_numpy(float)[finite]
    if len(steps) < 2:
        where = ", ".join(f"{name} {value}" for name, value in key.items())
        raise ValueError(f"a run has fewer than two records of {quantity!r} ({where}): leave it out.")
    values = run[quantity].to_numpy(float)[finite] / edge
    errors = np.zeros_like(values)
    if f"{quantity}_error" in run:
        errors = np.nan_to_num(run[f"{quantity}_error"].to_numpy(float)[finite]) / edge
    above = Measured(*(_share_above(steps, values + sign * errors) for sign in (0, -1, 1)))
    rate = _sharpening(steps, values, errors)
    late, eta = steps >= steps[-1] / 2, float(key["learning_rate"])
    plateau, error = values[late].mean(), errors[late].mean()
    return {
        **above.columns("above"),
        "below": 1 - above.value,
        **rate.columns("rate"),
        **Measured(rate.value / eta, rate.low / eta, rate.high / eta).columns("rate_per_time"),
        **_first_reach(steps, values, errors, 1.0).columns("crossing"),
        **Measured(plateau, plateau - error, plateau + error).columns("plateau"),
        "left_out": int(np.sum(~finite)),
    }


def _finite(values: pd.Series) -> np.ndarray:
    array = values.to_numpy(float)
    return array[np.isfinite(array)]


def _share_above(steps: np.ndarray, values: np.ndarray) -> float:
    """The share of the time in which the line through the values is above 1."""
    low, high = np.sort([values[:-1] - 1, values[1:] - 1], axis=0)
    crosses = (low < 0) & (high > 0)
    # There the part above is as long as its end above is high.
    above = np.where(crosses, high / np.where(crosses, high - low, 1.0), high > 0)
    return float(np.sum(above * np.diff(steps)) / (steps[-1] - steps[0]))


def _first_reach(steps: np.ndarray, values: np.ndarray, errors: np.ndarray, level: float) -> Measured:
    """The step where the line through the values first reaches a level, or inf, between the records around it."""
    reached, possible, sure = (np.flatnonzero(v >= level) for v in (values, values + errors, values - errors))
    first = float(steps[max(possible[0] - 1, 0)]) if len(possible) else np.inf
    last = float(steps[sure[0]]) if len(sure) else np.inf
    if not len(reached):
        return Measured(np.inf, first, last)
    i = slice(max(reached[0] - 1, 0), reached[0] + 1)
    return Measured(float(np.interp(level, values[i], steps[i])), first, last)


def _sharpening(steps: np.ndarray, values: np.ndarray, errors: np.ndarray) -> Measured:
    """The octaves per step on the way up, with what errors and the records' spacing leave open."""
    start, error = values[0], errors[0]
    if start >= 1 or start <= error:
        return Measured(np.nan, np.nan, np.nan)
    top = 1.0 if values.max() >= 1 else RISEN * values.max()
    if top <= start:
        return Measured(0.0, 0.0, 0.0)
    end = _first_reach(steps, values, errors, top)
    octaves = np.log2(top / np.array([start, start + error, start - error]))
    with np.errstate(divide="ignore"):
        rate, slow, fast = np.maximum(octaves, 0.0) / (np.array([end.value, end.high, end.low]) - steps[0])
    return Measured(float(rate), float(slow), float(fast))
