"""Products along a training run, each record starting from the eigenvectors of the one before."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sharplab.curvature import hessian
from sharplab.losses import cross_entropy
from sharplab.spectrum import eigsh
from spectra.contest import relative_error
from spectra.problems import Problem
from spectra.truth import extreme_eigenvalues, oracle_products


def along_training(
    problem: Problem, counts: Sequence[int], tol: float, records: int, starts: int, most: int
) -> list[dict[str, Any]]:
    """One row per k: products of warm records, and of cold runs as an oracle would stop them, with the true errors."""
    batch = problem.prepare(problem.raw(problem.examples, seed=0))
    rows: dict[int, dict[str, Any]] = {
        k: {"problem": problem.name, "k": k, "tol": tol, "values": [], "products": [], "errors": [], "oracle": []}
        for k in counts
    }
    vectors = dict.fromkeys(counts)
    for params in problem.trajectory(every=problem.steps // (records - 1)):
        op = hessian(cross_entropy, params, batch, model=problem.forward)
        truth, _ = extreme_eigenvalues(op, max(counts), "LA")
        needed = [
            oracle_products(op, {k: truth[:k] for k in counts}, [tol], seed=seed, most=most) for seed in range(starts)
        ]
        for k, row in rows.items():
            pairs = eigsh(op, k, tol=tol, start=vectors[k])
            vectors[k] = pairs.vectors
            row["values"].append(float(truth[0]))
            row["products"].append(int(pairs.matvecs))
            row["errors"].append(relative_error(pairs.values, truth[:k]))
            row["oracle"].append(float(np.median([by_k[k][tol] or most for by_k in needed])))
    return [row | {"ratio": _ratio(row)} for row in rows.values()]


def _ratio(row: dict[str, Any]) -> float:
    """Warm products to the cold oracle's; the first record, which is cold, is left out."""
    return sum(row["products"][1:]) / sum(row["oracle"][1:])
