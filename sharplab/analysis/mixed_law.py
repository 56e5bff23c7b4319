"""Linear laws through values that have noise of their own and scatter about the law beyond it."""

from dataclasses import dataclass

import numpy as np

from sharplab.analysis.trend import VARIANCE_FLOOR

TRIED, ROUNDS = 33, 6  # standard deviations between cells that are tried at once, and how often more finely
WIDEST = 3.0  # the largest of them, in units of the scatter about the unweighted law


@dataclass(frozen=True)
class MixedLaw:
    """The law y = X·b + u + e, with e of given variances and u of an unknown one, `between`.

    `between` maximises the restricted likelihood (REML; Patterson and Thompson, Biometrika 58, 1971). The covariance of
    the coefficients is raised by the weighted scatter where that is above 1 (Knapp and Hartung, Statistics in Medicine
    22, 2003), for Student's t with `df` degrees of freedom.
    """

    coefficients: np.ndarray  # (p,)
    covariance: np.ndarray  # (p, p)
    between: float  # the variance of u
    df: int  # values less coefficients

    @classmethod
    def through(cls, design: np.ndarray, values: np.ndarray, variances: np.ndarray) -> "MixedLaw":
        """The law through n > p values of such own variances, (n,), with a design of full rank, (n, p)."""
        df = len(values) - design.shape[1]
        own = np.maximum(variances, VARIANCE_FLOOR)
        residuals = values - design @ np.linalg.lstsq(design, values)[0]
        low, high = 0.0, WIDEST * np.sqrt(residuals @ residuals / df)
        sd = 0.0
        for _ in range(ROUNDS):
            tried = np.linspace(low, high, TRIED)
            i = int(np.argmax(_restricted_likelihood(design, values, own + tried[:, None] ** 2)))
            sd, low, high = tried[i], tried[max(i - 1, 0)], tried[min(i + 1, TRIED - 1)]
        total = own + sd**2
        inverse, coefficients, squares = _weighted(design, values, total)
        return cls(coefficients, inverse * max(1.0, float(squares) / df), float(sd**2), df)

    def at(self, row: np.ndarray) -> tuple[float, float]:
        """The law at one row of a design, (p,), and the variance of a new value about it, its own noise apart."""
        return float(row @ self.coefficients), float(row @ self.covariance @ row) + self.between


def _weighted(
    design: np.ndarray, values: np.ndarray, variances: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The inverse of X'WX, the coefficients, and the weighted sum of squares, for variances of shape (…, n)."""
    weighted = (design / variances[..., None]).mT  # (…, p, n)
    inverse = np.linalg.inv(weighted @ design)
    coefficients = (inverse @ weighted) @ values
    residuals = values - coefficients @ design.T
    return inverse, coefficients, np.sum(residuals**2 / variances, axis=-1)


def _restricted_likelihood(design: np.ndarray, values: np.ndarray, variances: np.ndarray) -> np.ndarray:
    inverse, _, squares = _weighted(design, values, variances)
    return -(np.sum(np.log(variances), axis=-1) - np.linalg.slogdet(inverse)[1] + squares) / 2
