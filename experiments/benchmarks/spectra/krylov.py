"""Searches that several contestants share: scipy's ARPACK, and Lanczos runs cut short after the fact."""

from collections.abc import Callable, Iterator
from math import ceil

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal
from scipy.sparse.linalg import LinearOperator, eigsh

from spectra.contestant import Meter, Setting, Solution, wanted_first

FIRST_DEPTH, LAST_DEPTH = 32, 512
GROWTH = 1.25  # from one basis size to the next


def arpack(operator: LinearOperator, meter: Meter, k: int, setting: Setting, seed: int) -> Solution:
    """The k largest eigenvalues from a random start; `meter` counts the products.

    `setting` is a tolerance, or a whole number: the size of the basis, to be filled once.
    """
    meter.begin()
    start = np.random.default_rng(seed).standard_normal(operator.shape[0]).astype(operator.dtype)
    # At a tolerance of 1 whatever the first basis holds is taken.
    limits = {"ncv": setting, "tol": 1.0} if isinstance(setting, int) else {"tol": setting}
    values = eigsh(operator, k=k, which="LA", v0=start, return_eigenvectors=False, **limits)
    return Solution(wanted_first(values, "LA", k), meter.products)


def basis_ladder(solve: Callable[[int, Setting, int], Solution], k: int, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """Pairs (basis size, eigenvalues) from small to large."""
    size = k + 2
    while size <= LAST_DEPTH:
        yield size, solve(k, size, seed).values
        size = ceil(GROWTH * size)


def depths(size: int) -> Iterator[tuple[int, int]]:
    """Pairs (steps already seen, steps to make) of Lanczos runs, each twice as deep as the one before."""
    seen, depth = 0, FIRST_DEPTH
    while depth <= min(LAST_DEPTH, size):
        yield seen, depth
        seen, depth = depth, 2 * depth


def truncations(
    diagonal: np.ndarray, off_diagonal: np.ndarray, k: int, seen: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """Pairs (steps, the k largest Ritz values after so many) of one Lanczos run, for more than `seen` steps."""
    a, b = np.asarray(diagonal, float), np.asarray(off_diagonal, float)
    for steps in range(max(k, seen + 1), len(a) + 1):
        yield steps, wanted_first(eigvalsh_tridiagonal(a[:steps], b[: steps - 1]), "LA", k)
