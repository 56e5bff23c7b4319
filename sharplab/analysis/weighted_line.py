"""Weighted least-squares lines through points whose variances are given."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class WeightedLine:
    """The line y = level + slope·(x − centre), with x's weighted mean as centre.

    Of x with leading axes there is a line for each, and its numbers are arrays, (…).
    """

    slope: Any
    level: Any
    centre: Any
    squares: Any  # the residuals' sum of squares, in units of the variances
    spread: Any  # the slope's precision, the weighted sum of squares of x − centre
    variances: np.ndarray  # of the points, positive, (n,)

    @classmethod
    def through(cls, x: np.ndarray, y: np.ndarray, variances: np.ndarray) -> "WeightedLine":
        """The line through the points x, (…, n), and y, (n,), each weighted by 1/variance."""
        weights = 1 / variances
        centre, level = np.average(x, axis=-1, weights=weights), np.average(y, weights=weights)
        off = x - centre[..., None]
        spread = off**2 @ weights
        slope = off @ (weights * y) / spread
        squares = (y - level - slope[..., None] * off) ** 2 @ weights
        return cls(slope, level, centre, squares, spread, variances)

    def log_likelihood(self, df: float) -> float:
        """The log likelihood of the values, flat in the coefficients, with variances known to df degrees of freedom."""
        known = np.sum(np.log(self.variances)) + np.log(np.sum(1 / self.variances) * self.spread)
        return float(-(known + (df + len(self.variances) - 2) * np.log1p(self.squares / df)) / 2)
