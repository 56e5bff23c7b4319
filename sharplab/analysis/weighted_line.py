"""The weighted least-squares line through points whose variances are given."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WeightedLine:
    """The line y = level + slope·(x − centre), with x's weighted mean as centre."""

    slope: float
    level: float
    centre: float
    squares: float  # the residuals' sum of squares, in units of the variances
    spread: float  # the slope's precision, the weighted sum of squares of x − centre
    variances: np.ndarray  # of the points, positive, (n,)

    @classmethod
    def through(cls, x: np.ndarray, y: np.ndarray, variances: np.ndarray) -> "WeightedLine":
        """The line through the points (x, y), (n,), each weighted by 1/variance."""
        weights = 1 / variances
        centre, level = np.average(x, weights=weights), np.average(y, weights=weights)
        spread = float(np.sum(weights * (x - centre) ** 2))
        slope = float(np.sum(weights * (x - centre) * y) / spread)
        squares = float(np.sum(weights * (y - level - slope * (x - centre)) ** 2))
        return cls(slope, float(level), float(centre), squares, spread, variances)

    def log_likelihood(self, df: float) -> float:
        """The log likelihood of the values, flat in the coefficients, with variances known to df degrees of freedom."""
        known = np.sum(np.log(self.variances)) + np.log(np.sum(1 / self.variances) * self.spread)
        return float(-(known + (df + len(self.variances) - 2) * np.log1p(self.squares / df)) / 2)
