"""The standards of the contest: eigenvalues to the last digits, and how few products would have done."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse.linalg import eigsh as arpack_eigsh

from sharplab.curvature import LinearOperator
from spectra.jaxed import Setup
from spectra.problems import find

RESIDUAL = 1e-8  # relative; the eigenvalue's error is of its square
ROUGHLY = 1e-2  # relative

Needed = dict[int, dict[float, int | None]]


def extreme_eigenvalues(op: LinearOperator, k: int, which: str) -> tuple[np.ndarray, np.ndarray]:
    """The k first eigenvalues by ARPACK, with estimates of their relative errors.

    The estimates are those of Kato and Temple, r²/gap to the next of the k (for the last to the one before it), but
    no less than rounding.
    """
    matrix = op.to_scipy()
    size = matrix.shape[0]
    start = np.random.default_rng(1).standard_normal(size).astype(matrix.dtype)
    values, vectors = arpack_eigsh(matrix, k=k, which=which, v0=start, tol=RESIDUAL, ncv=min(4 * k + 20, size - 1))
    residuals = [np.linalg.norm(matrix @ v - value * v) for value, v in zip(values, vectors.T, strict=True)]
    order = np.argsort(-(np.abs(values) if which == "LM" else values))
    values, residuals = values[order], np.asarray(residuals)[order]
    gaps = [np.min(np.abs(np.delete(values, i) - values[i])) if k > 1 else np.inf for i in range(k)]
    rounding = np.finfo(matrix.dtype).eps * np.abs(values).max()
    return values, np.maximum(np.minimum(residuals, residuals**2 / gaps), rounding) / np.abs(values)


def both_orders(op: LinearOperator, k: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`extreme_eigenvalues` by "LA" and by "LM", which are the same where no negative one is large."""
    largest = extreme_eigenvalues(op, k, "LA")
    lowest = arpack_eigsh(op.to_scipy(), k=1, which="SA", tol=ROUGHLY, return_eigenvectors=False)[0]
    alike = -lowest * (1 + 2 * ROUGHLY) < largest[0][-1]
    return {"LA": largest, "LM": largest if alike else extreme_eigenvalues(op, k, "LM")}


def random_start(op: LinearOperator, seed: int) -> np.ndarray:
    """The first vector of a cold run."""
    return np.random.default_rng(seed).standard_normal(op.shape[0]).astype(op.dtype)


def oracle_products(
    op: LinearOperator, truth: Mapping[int, Sequence[float]], tolerances: Sequence[float], start: np.ndarray, most: int
) -> Needed:
    """The number of products after which a Lanczos run has the k largest eigenvalues, by k and tolerance.

    The run keeps all its vectors and reorthogonalises them fully: from its start, no method that sees the operator
    through products alone does with fewer. `truth[k]` are the k eigenvalues; None means more than `most`.
    """
    needed: Needed = {k: dict.fromkeys(tolerances) for k in truth}
    for steps, values in enumerate(_plain_lanczos(op, start, min(most, op.shape[0])), 1):
        for k, wanted in truth.items():
            error = np.max(np.abs(values[:k] - np.asarray(wanted)) / np.abs(wanted)) if steps >= k else np.inf
            needed[k] |= {tol: steps for tol in tolerances if needed[k][tol] is None and error <= tol}
        if all(count is not None for counts in needed.values() for count in counts.values()):
            break
    return needed


def _plain_lanczos(op: LinearOperator, start: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """The Ritz values after each step, descending."""
    matrix = op.to_scipy()
    basis = np.empty((most, matrix.shape[0]), matrix.dtype)
    projected = np.zeros((most, most))
    q = start
    for j in range(most):
        basis[j] = q / np.linalg.norm(q)
        q = matrix @ basis[j]
        column = np.zeros(j + 1)
        for _ in range(2):
            part = basis[: j + 1] @ q
            q = q - part @ basis[: j + 1]
            column += part
        projected[: j + 1, j] = projected[j, : j + 1] = column
        yield np.linalg.eigvalsh(projected[: j + 1, : j + 1])[::-1]


def truth(problem: str, count: int) -> dict[str, Any]:
    """The first `count` eigenvalues of either order; a job to be run in double precision."""
    op = Setup.load(find(problem)).hessian
    found: dict[str, Any] = {"dtype": str(op.dtype), "parameters": op.shape[0], "relative_errors": {}}
    for which, (values, errors) in both_orders(op, count).items():
        found[which] = values.tolist()
        found["relative_errors"][which] = errors.tolist()
    return found


def oracle(
    problem: str, truth: list[float], counts: list[int], tolerances: list[float], starts: int, most: int
) -> dict[str, Any]:
    """The products that a cold Lanczos run needs by k and tolerance, one number per start."""
    op = Setup.load(find(problem)).hessian
    wanted = {k: truth[:k] for k in counts}
    runs = [oracle_products(op, wanted, tolerances, random_start(op, seed), most) for seed in range(starts)]
    return {str(k): {f"{tol:g}": [run[k][tol] for run in runs] for tol in tolerances} for k in counts}
