"""Eigenvalues from every library alike, each stopped by its own rule.

At its top nothing here knows jax or PyTorch, of which a contestant's process holds one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import numpy as np
from harness import peak_memory

from spectra.contestant import Contestant, Meter, OutOfTime, Solution

UNFINISHED: Mapping[str, Any] = {"finished": False}


@dataclass(frozen=True)
class Terms:
    """The terms that contestants meet on."""

    tolerances: tuple[float, ...]  # true relative errors to reach, from loose to tight
    starts: int  # solves per row, each from a random start of its own
    patience: float  # seconds for a row's solves, after which no further start is made


@dataclass(frozen=True)
class Library:
    """The packages that a contestant's numbers depend on."""

    module: str  # whose presence says that it is installed
    packages: tuple[str, ...]


LIBRARIES: Mapping[str, Library] = {
    "sharplab": Library("sharplab", ("sharplab", "jax")),
    "scipy": Library("scipy", ("scipy", "jax")),
    "curvlinops": Library("curvlinops", ("curvlinops-for-pytorch", "scipy", "torch")),
    "pyhessian": Library("pyhessian", ("pyhessian", "torch")),
    "eigenthings lanczos": Library("hessian_eigenthings", ("hessian-eigenthings", "torch")),
    "eigenthings power": Library("hessian_eigenthings", ("hessian-eigenthings", "torch")),
}


def installed() -> dict[str, bool]:
    """The contestants, and whether the library of each is installed."""
    return {name: find_spec(library.module) is not None for name, library in LIBRARIES.items()}


def relative_error(values: Sequence[float] | np.ndarray, truth: Sequence[float] | np.ndarray) -> float:
    """The largest of |θ_i − λ_i|/|λ_i| over all of `truth`; inf where there are too few values."""
    values, truth = np.asarray(values, float), np.asarray(truth, float)
    if len(values) < len(truth):
        return float("inf")
    return float(np.max(np.abs(values[: len(truth)] - truth) / np.abs(truth)))


def own_rows(contestant: Contestant, truth: Sequence[float], terms: Terms) -> Iterator[dict[str, Any]]:
    """Products, seconds and true errors of solves that the contestant ends itself, per tolerance."""
    finished = True
    for tol in terms.tolerances:
        # What was too much at a loose tolerance is not tried at a tighter one.
        row = _solves(contestant, truth, tol, terms) if finished else UNFINISHED
        finished = row["finished"]
        yield {"stopping": "own", "tol": tol} | row


def _solves(contestant: Contestant, truth: Sequence[float], tol: float, terms: Terms) -> Mapping[str, Any]:
    """One solve per start."""
    k = len(truth)
    seconds: list[float] = []
    solutions: list[Solution] = []
    try:
        first_seconds = [_timed(contestant, k, tol, seed=0)[1]] if contestant.compiles else []
        while len(solutions) < terms.starts and sum(seconds) <= terms.patience:
            solution, elapsed = _timed(contestant, k, tol, seed=len(solutions))
            solutions.append(solution)
            seconds.append(elapsed)
    except OutOfTime:
        return UNFINISHED
    claims = [s.claimed for s in solutions if s.claimed is not None]
    return {
        "finished": True,
        "products": [s.products for s in solutions],
        "seconds": seconds,
        "first_seconds": first_seconds,
        "errors": [relative_error(s.values, truth) for s in solutions],
        "claimed": [float(np.max(claim / np.abs(truth))) for claim in claims],
    }


def _timed(contestant: Contestant, k: int, tol: float, seed: int) -> tuple[Solution, float]:
    began = perf_counter()
    solution = contestant.solve(k, tol, seed)
    return solution, perf_counter() - began


def enter(name: str, problem: dict[str, Any], path: str, seconds: float) -> Contestant:
    """The contestant of that name, set up on the problem of the file `path`."""
    meter = Meter(seconds)
    if "torch" in LIBRARIES[name].packages:
        from spectra import networks, pytorch

        return pytorch.CONTESTANTS[name](networks.load(problem, path), meter)
    from spectra import jaxed
    from spectra.problems import Problem

    return jaxed.CONTESTANTS[name](jaxed.Setup.load(Problem(**problem)), meter)


def contest(
    contestant: str, made: dict[str, Any], truth: dict[str, list[float]], counts: list[int], terms: dict[str, Any]
) -> dict[str, Any]:
    """Rows of one contestant on one problem; a solve longer than `made["seconds"]` is given up."""
    entered = enter(contestant, **made)
    rows = []
    for k in counts:
        rows += [{"k": k} | row for row in own_rows(entered, truth[entered.which][:k], Terms(**terms))]
    versions = {package: version(package) for package in LIBRARIES[contestant].packages}
    return {"which": entered.which, "rows": rows, "peak_bytes": peak_memory(), "versions": versions}
