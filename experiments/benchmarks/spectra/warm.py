"""Products along a training run, each record starting from the eigenvectors of the one before."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature import hessian
from sharplab.losses import cross_entropy
from sharplab.spectrum import eigsh
from spectra.contest import relative_error
from spectra.problems import Problem, find
from spectra.truth import extreme_eigenvalues, oracle_products, random_start


def warm(problem: str, **settings: Any) -> list[dict[str, Any]]:
    """Products along the training of the problem of that name."""
    return along_training(find(problem), **settings)


def along_training(
    problem: Problem, counts: Sequence[int], tol: float, records: int, starts: int, most: int
) -> list[dict[str, Any]]:
    """Products of warm records with their true errors, and of runs that an oracle would stop: one row per k.

    "oracle" starts cold (median of `starts`), "warm_oracle" where the warm record does, at the sum of the last vectors;
    what that one needs, no stopping rule can save. The first record is cold.
    """
    batch = problem.prepare(problem.raw(problem.examples, seed=0))
    kept = ("values", "products", "errors", "oracle", "warm_oracle")
    rows: dict[int, dict[str, Any]] = {
        k: {"problem": problem.name, "k": k, "tol": tol} | {name: [] for name in kept} for k in counts
    }
    vectors = dict.fromkeys(counts)
    for params in problem.trajectory(every=problem.steps // (records - 1)):
        op = hessian(cross_entropy, params, batch, model=problem.forward)
        truth, _ = extreme_eigenvalues(op, max(counts), "LA")

        def needed(start: np.ndarray, counts: Sequence[int], op=op, truth=truth) -> dict[int, float]:
            found = oracle_products(op, {k: truth[:k] for k in counts}, [tol], start, most)
            return {k: by_tolerance[tol] or most for k, by_tolerance in found.items()}

        cold = [needed(random_start(op, seed), counts) for seed in range(starts)]
        for k, row in rows.items():
            row["oracle"].append(float(np.median([by_k[k] for by_k in cold])))
            from_last = cold[0] if vectors[k] is None else needed(_sum(vectors[k]), [k])
            row["warm_oracle"].append(from_last[k])
            pairs = eigsh(op, k, tol=tol, start=vectors[k])
            vectors[k] = pairs.vectors
            row["values"].append(float(truth[0]))
            row["products"].append(int(pairs.matvecs))
            row["errors"].append(relative_error(pairs.values, truth[:k]))
    return [
        row | {"ratio": _ratio(row, "products"), "warm_oracle_ratio": _ratio(row, "warm_oracle")}
        for row in rows.values()
    ]


def _sum(vectors: PyTree) -> np.ndarray:
    return np.asarray(jax.vmap(tree.ravel)(vectors).sum(axis=0))


def _ratio(row: dict[str, Any], name: str) -> float:
    """Warm products to the cold oracle's; the first record, which is cold, is left out."""
    return sum(row[name][1:]) / sum(row["oracle"][1:])
