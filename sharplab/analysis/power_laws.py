"""Power laws y = a·x^b through points: the exponent and the prefactor, with intervals."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sharplab.analysis.trend import Noise, pooled_noise, with_scatter
from sharplab.analysis.weighted_line import WeightedLine
from sharplab.core.arguments import checked
from sharplab.core.statistics import Interval


@dataclass(frozen=True)
class PowerLaw:
    """A law y = prefactor · x^exponent.

    Attributes:
        exponent, exponent_interval, prefactor, prefactor_interval: nan, and open intervals, where the points do not
            tell.
        points: how many were fitted.
        left_out: how many were missing, or had no logarithm.
        r_squared: the share of the variance of log y that the law explains; of gaps, fitted without a logarithm, the
            share of their squares.
        confidence: of the intervals.
    """

    exponent: float
    exponent_interval: Interval
    prefactor: float
    prefactor_interval: Interval
    points: int
    left_out: int
    r_squared: float
    confidence: float

    def predict(self, x: Any) -> np.ndarray:
        """The law's y at x."""
        return self.prefactor * np.asarray(x, float) ** self.exponent

    def __str__(self) -> str:
        low, high = self.exponent_interval
        return f"y = {self.prefactor:.3g} · x^{self.exponent:.3g}, exponent in [{low:.3g}, {high:.3g}]"


@checked()
def power_law(x: Any, y: Any, *, stderr: Any = None, confidence: float = 0.95) -> PowerLaw:
    """The power law through points: the least-squares line of log y against log x.

    Its intervals come from the scatter about the line (Student's t with n − 2 degrees of freedom), unless the noise is
    given: then points weigh as their noise says, and scatter beyond it raises the variance by its excess, with the
    degrees of freedom of both (Birge 1932; Welch and Satterthwaite). They cover at their rate under normal noise in
    log y (tests/analysis/test_power_laws.py); where points scatter about the line by twice their noise, leave the noise
    out (docs/statistics.md).

    Args:
        x: shape (n,).
        y: shape (n,), or (n, seeds) for repeated measurements, whose noise in log y is pooled over the points;
            missing seeds are nan.
        stderr: the standard error of each y, in its units, shape (n,), where y is (n,) and its noise is known.

    Raises:
        ValueError: for shapes that do not match, negative standard errors, and fewer than two different x with
            positive y.

    >>> law = power_law([1, 2, 4, 8], [3, 1.5, 0.75, 0.375])
    >>> print(law, law.points, law.predict(16).round(4))
    y = 3 · x^-1, exponent in [-1, -1] 4 0.1875
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.ndim != 1 or y.ndim not in (1, 2) or len(x) != len(y):
        raise ValueError(f"x must be (n,) and y (n,) or (n, seeds), not {x.shape} and {y.shape}.")
    errors = None if stderr is None else np.asarray(stderr, float)
    if errors is not None and (errors.shape != y.shape or y.ndim != 1 or not (errors >= 0).all()):
        raise ValueError("stderr must give one number of at least 0 for each y of shape (n,).")
    logs = np.log(y, where=(y > 0) & (y < np.inf), out=np.full(y.shape, np.nan)).reshape(len(x), -1)
    kept = (x > 0) & (x < np.inf) & ~np.isnan(logs).all(axis=1)
    if len(np.unique(x[kept])) < 2:
        raise ValueError("a power law needs positive y at two or more different positive x: give more points.")
    groups = [row[~np.isnan(row)] for row in logs[kept]]
    means = np.array([group.mean() for group in groups])
    noises: list[Noise] | None = None
    if errors is not None:
        noises = [Noise(float(error) ** 2, np.inf) for error in errors[kept] / y[kept]]
    elif y.ndim == 2 and (seeds := pooled_noise(groups)).df:
        noises = [seeds.scaled(1 / len(group)) for group in groups]
    return _fit(np.log(x[kept]), means, noises, left_out=int(np.sum(~kept)), confidence=confidence)


def _fit(x: np.ndarray, y: np.ndarray, noises: list[Noise] | None, *, left_out: int, confidence: float) -> PowerLaw:
    spare = len(x) - 2
    variances = np.ones_like(x) if noises is None else np.array([noise.variance for noise in noises])
    line = WeightedLine.through(x, y, np.maximum(variances, 1e-24))
    weights = 1 / line.variances
    about = float(np.sum(weights * (y - line.level) ** 2))
    if noises is None:
        ratio = Noise(line.squares / spare, spare) if spare else Noise(0.0, 0)
    else:
        ratio = with_scatter(line.squares, spare, min(noise.df for noise in noises))
    intercept = line.level - line.slope * line.centre
    per_intercept = 1 / np.sum(weights) + line.centre**2 / line.spread
    bottom, top = ratio.scaled(per_intercept).interval(intercept, confidence)
    return PowerLaw(
        exponent=line.slope,
        exponent_interval=ratio.scaled(1 / line.spread).interval(line.slope, confidence),
        prefactor=float(np.exp(intercept)),
        prefactor_interval=(float(np.exp(bottom)), float(np.exp(top))),
        points=len(x),
        left_out=left_out,
        r_squared=1 - line.squares / about if about > 0 else np.nan,
        confidence=confidence,
    )
