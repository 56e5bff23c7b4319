"""The optimal learning rate from a sharpness: how far from its threshold optima lie, and how sure that is elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sharplab.analysis.readings import READINGS
from sharplab.core.arguments import checked, of, share
from sharplab.core.statistics import Interval

LEVEL = 0.8  # of prediction intervals
WITHIN = 1.0  # octaves of error up to which a prediction counts as right
FIXED = "fixed"  # the reading of no sharpness at all: one learning rate for all networks
SOURCES = (*READINGS, "recorded_rate", FIXED)


@dataclass(frozen=True)
class RateRule:
    """The rule log₂ optimum = log₂ reading + offset, of one optimizer.

    Attributes:
        offset: octaves, the mean over figures of each figure's mean.
        error: the root mean square error, in octaves, where a figure is predicted from the others: the square root of
            the mean over figures of each figure's mean square.
        right: the share of cases of a figure left out that are predicted within an octave, averaged over figures.
        figures, cases: how many it is from.
    """

    offset: float
    error: float
    right: float
    figures: int
    cases: int

    def predict(self, reading: float) -> float:
        """The optimal learning rate; nan of nan.

        Raises:
            ValueError: for a reading that is not positive.
        """
        if reading <= 0:
            raise ValueError(f"reading must be a positive learning rate, not {reading}.")
        return float(2.0 ** (np.log2(reading) + self.offset))

    def half_width(self, level: float = LEVEL) -> float:
        """Half the width of the prediction interval in octaves: t · error, of as many degrees as figures but one.

        The error holds the spread over figures, over the cases of one, and what the offset itself is unsure by.
        """
        return float(stats.t.ppf((1 + level) / 2, self.figures - 1) * self.error)

    def interval(self, reading: float, level: float = LEVEL) -> Interval:
        """The prediction interval for a case of a figure that the rule has not seen."""
        best, factor = self.predict(reading), 2.0 ** self.half_width(level)
        return best / factor, best * factor


_a_table = of(pd.DataFrame, "as sharplab.analysis.readings.readings makes them, with a column 'figure'")


@checked(cases=_a_table)
def fit_rules(cases: pd.DataFrame, reading: str) -> dict[str, RateRule]:
    """The rule of each optimizer, from two figures or more; optimizers of fewer have none.

    Args:
        cases: the columns figure, optimizer, optimum and the reading; cases without optimum or reading are left out.
        reading: a column of learning rates, or "fixed".

    Raises:
        ValueError: for a missing column.

    >>> table = {"figure": ["a", "a", "b", "c"], "early": [1.0, 2, 4, 8], "optimum": [4.0, 8, 16, 16]}
    >>> fit_rules(pd.DataFrame(table | {"optimizer": "sgd"}), "early")["sgd"]
    RateRule(offset=1.6666666666666667, error=0.7071067811865476, right=1.0, figures=3, cases=4)
    """
    parts = _gaps(cases, reading).groupby("optimizer")
    rules = {str(name): _rule(part["gap"].to_numpy(), part["figure"].to_numpy()) for name, part in parts}
    return {name: rule for name, rule in rules.items() if rule is not None}


def _rule(gaps: np.ndarray, figures: np.ndarray) -> RateRule | None:
    """The rule of one optimizer, from the gaps and figures (cases,); None of fewer than two figures."""
    names, of_case = np.unique(figures, return_inverse=True)
    if len(names) < 2:
        return None
    counts = np.bincount(of_case)
    means = np.bincount(of_case, gaps) / counts
    others = (means.sum() - means) / (len(means) - 1)  # the offset without each
    errors = gaps - others[of_case]
    squares, right = (np.bincount(of_case, values) / counts for values in (errors**2, np.abs(errors) <= WITHIN))
    return RateRule(float(means.mean()), float(np.sqrt(squares.mean())), float(right.mean()), len(names), len(gaps))


@checked(cases=_a_table, level=share)
def left_out(cases: pd.DataFrame, reading: str, *, level: float = LEVEL) -> pd.DataFrame:
    """The errors of the rules where each figure is predicted from all others.

    Returns:
        One row per case: those of `cases`, error (log₂ of the optimum over its prediction; NaN where no other two
        figures have its optimizer) and covered, whether the prediction interval holds the optimum.
    """
    parts = []
    for figure, part in _gaps(cases, reading).groupby("figure"):
        rules = fit_rules(cases[cases["figure"] != figure], reading)
        held = [rules.get(name) for name in part["optimizer"]]
        errors = part["gap"] - np.array([np.nan if rule is None else rule.offset for rule in held])
        widths = np.array([np.nan if rule is None else rule.half_width(level) for rule in held])
        parts.append(part.assign(error=errors, covered=(errors.abs() <= widths).where(errors.notna())))
    return pd.concat(parts, ignore_index=True) if parts else _gaps(cases, reading).assign(error=np.nan, covered=np.nan)


@dataclass(frozen=True)
class Share:
    """A share of cases, averaged over figures, with its interval."""

    value: float
    interval: Interval
    figures: int


def share_over_figures(held: pd.Series, figures: pd.Series, confidence: float = 0.95) -> Share:
    """The share of cases for which something held, with Jeffreys' interval of as many trials as there are figures.

    Each figure counts once, by the share of its own cases, as if these were one case: they are of one network as a
    rule, and right or wrong together. (0, 1) without figures.
    """
    known = held.notna()
    shares = held[known].astype(float).groupby(figures[known]).mean()
    if shares.empty:
        return Share(np.nan, (0.0, 1.0), 0)
    value = float(shares.mean())
    return Share(value, share_interval(value, len(shares), confidence), len(shares))


def share_interval(value: float, trials: int, confidence: float = 0.95) -> Interval:
    """Jeffreys' interval of a share of so many trials.

    >>> [round(end, 2) for end in share_interval(1.0, 15)]
    [0.85, 1.0]
    """
    ends = ((1 - confidence) / 2, (1 + confidence) / 2)
    low, high = stats.beta.ppf(ends, value * trials + 0.5, (1 - value) * trials + 0.5)
    return float(low) if value > 0 else 0.0, float(high) if value < 1 else 1.0


def all_rules(cases: pd.DataFrame) -> Mapping[str, Mapping[str, RateRule]]:
    """The rules of every source of a reading, by source and optimizer."""
    return {source: fit_rules(cases, source) for source in SOURCES}


def _gaps(cases: pd.DataFrame, reading: str) -> pd.DataFrame:
    """The cases that have both, with the octaves from reading to optimum."""
    for column in ("figure", "optimizer", "optimum", *((reading,) if reading != FIXED else ())):
        if column not in cases:
            raise ValueError(f"cases have no column {column!r}; they have {', '.join(cases)}.")
    read = 1.0 if reading == FIXED else cases[reading].astype(float)
    gap = np.log2(cases["optimum"].astype(float) / read)
    return cases.assign(gap=gap)[np.isfinite(gap)]
