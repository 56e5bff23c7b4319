"""What a contestant is: a library's way to eigenvalues, with its products counted and its seconds limited."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh


class OutOfTime(Exception):
    """A contestant has used up the seconds of one solve."""


class Meter:
    """Counts products, and ends a solve that takes longer than `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begin()

    def begin(self) -> None:
        """Start from zero."""
        self.products, self._deadline = 0, perf_counter() + self.seconds

    def count(self) -> None:
        """One product is about to be made."""
        if perf_counter() > self._deadline:
            raise OutOfTime
        self.products += 1


@dataclass(frozen=True)
class Solution:
    """A solve's eigenvalues, the wanted ones first, its count of products, and its own estimates of the errors."""

    values: np.ndarray
    products: int
    claimed: np.ndarray | None = None


@dataclass(frozen=True)
class Contestant:
    """A library's way to the top of a Hessian's spectrum."""

    which: str  # "LA" for the largest eigenvalues, "LM" for the largest by modulus
    solve: Callable[[int, float, int], Solution]  # (k, tolerance, seed) → Solution, all else at the defaults
    compiles: bool = False  # in a solve's first call


def wanted_first(values: np.ndarray, which: str, k: int) -> np.ndarray:
    """The k wanted of all Ritz values."""
    return values[np.argsort(-(np.abs(values) if which == "LM" else values))][:k]


def arpack(operator: LinearOperator, meter: Meter, k: int, tol: float, seed: int) -> Solution:
    """The k largest eigenvalues by scipy from a random start; `meter` counts the products."""
    meter.begin()
    start = np.random.default_rng(seed).standard_normal(operator.shape[0]).astype(operator.dtype)
    values = eigsh(operator, k=k, which="LA", v0=start, return_eigenvectors=False, tol=tol)
    return Solution(wanted_first(values, "LA", k), meter.products)
