"""Whether the errors that `eigsh` states hold: on random matrices, whose eigenvalues are known exactly.

The matrices are diagonal, which Lanczos from a random start cannot tell from any other basis.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.curvature import LinearOperator
from sharplab.spectrum import eigsh

SIZE = 1000
COUNTS = (1, 3, 10)
TOLERANCES = (-4.0, -1.0)  # range of their logarithms to base 10


def _decaying(rng: np.random.Generator) -> np.ndarray:
    return np.arange(1, SIZE + 1) ** -rng.uniform(0.3, 2)


def _spiked(rng: np.random.Generator) -> np.ndarray:
    """A few outliers above a bulk, as of a classifier's Hessian."""
    bulk = 0.1 * rng.standard_normal(SIZE)
    spikes = rng.integers(1, 20)
    bulk[:spikes] = rng.uniform(0.2, 1, spikes)
    return bulk


def _clustered(rng: np.random.Generator) -> np.ndarray:
    """A few clusters, each a thousandth wide."""
    return rng.choice(rng.uniform(0, 1, 6), SIZE) * (1 + 1e-3 * rng.standard_normal(SIZE))


def _gapless(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, SIZE)


def _semicircle(rng: np.random.Generator) -> np.ndarray:
    return 2 * rng.beta(1.5, 1.5, SIZE) - 1


SPECTRA: Mapping[str, Callable[[np.random.Generator], np.ndarray]] = MappingProxyType(
    {
        "decaying": _decaying,
        "spiked": _spiked,
        "clustered": _clustered,
        "gapless": _gapless,
        "semicircle": _semicircle,
    }
)


def calibrate(problems: int) -> dict[str, Any]:
    """Over that many random problems: how often the true error is within `errors`, and by how much."""
    names = list(SPECTRA)
    cases = [_case(names[i % len(names)], COUNTS[i // len(names) % len(COUNTS)], seed=i) for i in range(problems)]
    return {"problems": problems, "all": _summary(cases)} | {
        name: _summary([case for case in cases if case["spectrum"] == name]) for name in names
    }


def _product(diagonal: jax.Array) -> Callable[[jax.Array], jax.Array]:
    return lambda v: diagonal * v


def _case(spectrum: str, k: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    diagonal = SPECTRA[spectrum](rng).astype(np.float32)
    tol = 10 ** rng.uniform(*TOLERANCES)
    pairs = eigsh(
        LinearOperator(_product, jnp.asarray(diagonal), jnp.zeros(SIZE)), k, tol=tol, key=jax.random.key(seed)
    )
    values = np.asarray(pairs.values, float)
    exact = np.sort(diagonal.astype(float))[::-1]
    nearest = np.min(np.abs(values[:, None] - exact), axis=1)
    return {
        "spectrum": spectrum,
        "true": np.abs(values - exact[:k]),
        "errors": np.asarray(pairs.errors, float),
        "bounded": nearest <= np.asarray(pairs.residuals, float),
        "converged": np.asarray(pairs.converged),
        "within": np.abs(values - exact[:k]) <= np.maximum(tol * np.abs(exact[:k]), float(pairs.floor)),
    }


def _summary(cases: list[dict[str, Any]]) -> dict[str, float]:
    """Shares of eigenvalues, and the median of the stated over the true error."""
    joined = {name: np.concatenate([case[name] for case in cases]) for name in cases[0] if name != "spectrum"}
    inexact = joined["true"] > 0
    return {
        "eigenvalues": len(joined["true"]),
        "within_errors": float(np.mean(joined["true"] <= joined["errors"])),
        "within_tolerance": float(np.mean(joined["within"])),
        "bounded_by_residuals": float(np.mean(joined["bounded"])),
        "converged": float(np.mean(joined["converged"])),
        "median_ratio": float(np.median(joined["errors"][inexact] / joined["true"][inexact])),
    }
