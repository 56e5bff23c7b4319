"""The final loss of a run told from its first part: by earlier runs near it, by collapse, or by the annealing law."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import integrate, stats

from sharplab.analysis.trend import Measured
from sharplab.core.arguments import checked, positive, several, share
from sharplab.core.naming import lookup
from sharplab.studies.annealing import AnnealingLaw

BINS = 50  # of a run; its final loss is the geometric mean of the last
START = 0.1  # share of the first part that collapse leaves out, where curves still remember their common start
TOLERANCE = 0.05
SCHEDULES = 0.05  # mean difference of learning rates over their peak, up to which runs have the same schedule
METHODS: Mapping[str, str] = {
    "proximity": "the geometric mean of the earlier runs of this schedule whose first part is near",
    "collapse": "that of all earlier runs of this schedule, each times what it lacks or exceeds in the first part",
    "law": "the annealing law through the first part alone",
    "mean": "the geometric mean of all earlier runs, whatever the first part",
}

Run = tuple[Any, Any, Any]  # learning rates, steps and losses, as of `sharplab.AnnealingLaw.fit`


@dataclass(frozen=True)
class FinalLoss:
    """The final loss of a run, told from its first part.

    Attributes:
        loss: with its interval; all NaN where the method tells nothing, as proximity without a run that is near.
        near: the numbers of the earlier runs it is told from; none by the law, which asks no other run.
    """

    loss: Measured
    near: tuple[int, ...]


@checked(complete=several, tolerance=positive, confidence=share)
def final_loss(
    part: Run,
    complete: Sequence[Run],
    *,
    method: str = "proximity",
    tolerance: float = TOLERANCE,
    confidence: float = 0.9,
    groups: Sequence[Hashable] | None = None,
) -> FinalLoss:
    """The final loss of a run of which a part is known: the geometric mean of its losses over the last fiftieth.

    Curves are compared at shares of their runs, by the means of their log losses in fiftieths. An earlier run is near
    where the root mean square of the differences over the part that is known is at most `tolerance`. Proximity and
    collapse ask runs of the same schedule alone, of learning rates over their peak that are alike within 0.05 in the
    mean, as what is still to be annealed does not show in the part that is known.

    The interval is ± t times the root mean square of the errors that the method makes on the earlier runs, each stopped
    as early and told from those of other groups: it holds for a run that is to them as they are to each other. t is
    Student's, of one degree of freedom fewer than there are groups.

    Args:
        part: (learning rates, steps, losses): the learning rates of the whole run, (T,), and the losses (n,) after so
            many steps (n,), as far as they are known.
        complete: earlier runs likewise, known to their end.
        method: out of "proximity", "collapse" (each curve times a factor is every other), "law" (`AnnealingLaw` through
            the part alone, which wants learning rates that fall in it) and "mean" (of all, to compare with).
        tolerance: of the natural logarithm, about the relative difference of losses.
        confidence: of the interval, between 0 and 1.
        groups: of the earlier runs, such as their setting, seeds of which are told by each other; by default each run
            is its own.

    Raises:
        ValueError: for a bad argument, named, and for earlier runs that are not complete.

    >>> steps = np.arange(1, 101)
    >>> runs = [(np.full(100, 0.1), steps, floor + 1 / steps) for floor in (0.2, 0.201, 0.202, 0.4, 0.404)]
    >>> rates, _, losses = runs[0]
    >>> print(f"{final_loss((rates, steps[:40], losses[:40]), runs[1:]).loss:.2f}")
    0.21 [0.21, 0.22]
    """
    lookup("method", method, METHODS)
    wholes = _wholes("complete", complete)
    known = _logs("part", part)
    bins = int(np.flatnonzero(np.isfinite(known)).max(initial=-1)) + 1
    if not 0 < bins < BINS:
        raise ValueError("part must have losses of a fiftieth of the run or more, and end before the last one.")
    labels = _labels(groups, len(wholes))
    parts = [_stopped(run, bins) for run in complete]
    laws = np.array([_by_law(each) for each in parts]) if method == "law" else np.full(len(parts), np.nan)
    shapes = np.array([_shape(run) for run in complete])
    stopped, firsts = _common([known, *(_logs("complete", each) for each in parts)], wholes)
    others = _Others(firsts, wholes[:, -1], stopped[1:], laws, shapes, labels, method, tolerance)
    own = _by_law(part) if method == "law" else np.nan
    every = np.ones(len(wholes), bool)
    value, near = others.tell(stopped[0], own, _shape(part), every)
    return FinalLoss(others.with_interval(value, every, confidence), tuple(near.tolist()))


@checked(runs=several, stops=several, methods=several, tolerance=positive, confidence=share)
def left_out(
    runs: Sequence[Run],
    *,
    stops: Sequence[float] = (0.25, 0.5),
    methods: Sequence[str] = tuple(METHODS),
    tolerance: float = TOLERANCE,
    confidence: float = 0.9,
    groups: Sequence[Hashable] | None = None,
) -> pd.DataFrame:
    """How well each method tells the final losses of complete runs, each stopped early and told from other groups.

    A row per run, stop (share of the run) and method: final, predicted with _low and _high, error (of the logarithm),
    near (how many runs it was told from) and covered, which is missing where nothing was predicted. The interval of a
    run is of errors on the others alone. Arguments are those of `final_loss`.
    """
    for method in methods:
        lookup("method", method, METHODS)
    if not len(stops) or not all(1 / BINS <= stop < 1 for stop in stops):
        raise ValueError(f"stops must be shares of a run, from {1 / BINS} on and below 1, not {list(stops)}.")
    wholes = _wholes("runs", runs)
    labels, shapes, rows = _labels(groups, len(wholes)), np.array([_shape(run) for run in runs]), []
    for stop in stops:
        bins = int(stop * BINS + 1e-9)
        parts = [_stopped(run, bins) for run in runs]
        stopped, firsts = _common([_logs("runs", part) for part in parts], wholes)
        laws = np.array([_by_law(part) for part in parts]) if "law" in methods else np.full(len(parts), np.nan)
        for method in methods:
            others = _Others(firsts, wholes[:, -1], stopped, laws, shapes, labels, method, tolerance)
            for i in range(len(wholes)):
                apart = labels != labels[i]
                value, near = others.tell(stopped[i], laws[i], shapes[i], apart)
                loss = others.with_interval(value, apart, confidence)
                final = float(np.exp(wholes[i, -1]))
                row = {"run": i, "stop": stop, "method": method, "final": final, **loss.columns("predicted")}
                covered = loss.low <= final <= loss.high if np.isfinite(value) else None
                rows.append(row | {"error": value - wholes[i, -1], "near": len(near), "covered": covered})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Others:
    """Complete runs: mean log losses in the first bins and the last, what was known when stopped, laws, schedules."""

    firsts: np.ndarray
    finals: np.ndarray
    stopped: np.ndarray
    laws: np.ndarray
    shapes: np.ndarray
    labels: np.ndarray
    method: str
    tolerance: float

    def tell(self, part: np.ndarray, law: float, shape: np.ndarray, among: np.ndarray) -> tuple[float, np.ndarray]:
        """The logarithm of the final loss of a part, NaN if it is not told, and the runs that it is told from."""
        if self.method == "law":
            return law, np.array([], int)
        off = self.firsts - part
        if self.method != "mean":
            among = among & (np.mean(np.abs(self.shapes - shape), axis=1) <= SCHEDULES)
        if self.method == "proximity":
            among = among & (np.sqrt(np.mean(off**2, axis=1)) <= self.tolerance)
        numbers = np.flatnonzero(among)
        if not len(numbers):
            return np.nan, numbers
        shift = off[numbers, int(START * len(part)) :].mean(axis=1) if self.method == "collapse" else 0.0
        return float(np.mean(self.finals[numbers] - shift)), numbers

    def with_interval(self, value: float, among: np.ndarray, confidence: float) -> Measured:
        """The loss of this logarithm, with the interval of the errors on some runs, without bound for one group.

        Runs of one group err alike, so that there are as many errors as groups.
        """
        if np.isnan(value):
            return Measured(np.nan, np.nan, np.nan)
        numbers = np.flatnonzero(among)
        told = []
        for j in numbers:
            apart = among & (self.labels != self.labels[j])
            told.append(self.tell(self.stopped[j], self.laws[j], self.shapes[j], apart)[0] - self.finals[j])
        squares = pd.Series(told).where(np.isfinite(told)).pow(2).groupby(self.labels[numbers]).mean().dropna()
        half = np.inf
        if len(squares) > 1:
            half = stats.t.ppf((1 + confidence) / 2, len(squares) - 1) * np.sqrt(squares.mean())
        return Measured(*np.exp([value, value - half, value + half]).tolist())


def _labels(groups: Sequence[Hashable] | None, runs: int) -> np.ndarray:
    """A number per group."""
    if groups is None:
        return np.arange(runs)
    if isinstance(groups, str) or len(groups) != runs:
        raise ValueError(f"groups must be a list with one for each of the {runs} runs.")
    return pd.factorize(pd.Series(list(groups), dtype=object))[0]


def _read(name: str, run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not isinstance(run, Sequence) or len(run) != 3:
        raise ValueError(f"{name} must be (learning rates, steps, losses), for each run.")
    rates, steps, losses = (np.asarray(each, float) for each in run)
    if rates.ndim != 1 or steps.shape != losses.shape or steps.ndim != 1 or not len(rates):
        raise ValueError(f"{name} must have a learning rate for each step of the run, and a loss for each of steps.")
    if not (np.isfinite(losses).all() and (losses > 0).all()):
        raise ValueError(f"{name} must have positive, finite losses: leave out runs that diverged.")
    if not (np.diff(steps) > 0).all() or not ((steps >= 0) & (steps <= len(rates))).all():
        raise ValueError(f"{name} must have steps that rise, from 0 on and up to {len(rates)}, its learning rates.")
    return rates, steps, losses


def _logs(name: str, run: Run) -> np.ndarray:
    """The mean log loss in each bin of the share of a run, (BINS,), NaN where its middle is not between records."""
    rates, steps, losses = _read(name, run)
    if not len(steps):
        return np.full(BINS, np.nan)
    shares, edges = steps / len(rates), np.arange(BINS + 1) / BINS
    at = np.union1d(shares, edges)
    areas = integrate.cumulative_trapezoid(np.interp(at, shares, np.log(losses)), at, initial=0.0)
    means: np.ndarray = np.diff(areas[np.searchsorted(at, edges)]) * BINS
    middles = (np.arange(BINS) + 0.5) / BINS
    return np.where((shares[0] <= middles) & (middles <= shares[-1]), means, np.nan)


def _shape(run: Run) -> np.ndarray:
    """The learning rates over their peak in the middle of each bin of the share of the run, (BINS,)."""
    rates = np.asarray(run[0], float)
    if not np.isfinite(rates).all() or not rates.max() > 0 or rates.min() < 0:
        raise ValueError("learning rates of a run must be finite numbers from 0 on, not all 0.")
    at: np.ndarray = rates[((np.arange(BINS) + 0.5) / BINS * len(rates)).astype(int)] / rates.max()
    return at


def _wholes(name: str, runs: Sequence[Run]) -> np.ndarray:
    """The mean log losses of complete runs, (n, BINS)."""
    wholes = np.array([_logs(name, run) for run in runs]).reshape(-1, BINS)
    if not len(wholes) or np.isnan(wholes[:, -1]).any():
        raise ValueError(f"{name} must be one run or more, each with losses up to the last fiftieth of its steps.")
    return wholes


def _common(stopped: Sequence[np.ndarray], wholes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean log losses of stopped parts and of complete runs in the bins that all of them have, (n, bins) each.

    With few records one part may end a bin before another.
    """
    parts = np.array(stopped)
    common = np.isfinite(parts).all(axis=0) & np.isfinite(wholes).all(axis=0)
    if not common.any():
        raise ValueError("runs must have losses in a fiftieth that is common to all of them, before they are stopped.")
    return parts[:, common], wholes[:, common]


def _stopped(run: Run, bins: int) -> Run:
    """The run as it is known after so many bins."""
    rates, steps, losses = (np.asarray(each, float) for each in run)
    first = steps <= len(rates) * bins / BINS + 1e-9
    return rates, steps[first], losses[first]


def _by_law(part: Run) -> float:
    """The logarithm of the final loss by the law through a part, NaN where that tells none."""
    rates, steps, losses = (np.asarray(each, float) for each in part)
    try:
        law = AnnealingLaw.fit([(rates, steps, losses)])
    except ValueError:
        return np.nan
    last = np.unique(np.linspace(len(rates) * (1 - 1 / BINS), len(rates), 20).round())
    losses = law.predict(rates, last[last > 0])
    return float(np.log(losses).mean()) if (losses > 0).all() else np.nan
