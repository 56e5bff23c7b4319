"""One measurement in a process of its own: `python -m spectra.worker '{"job": …}'`, the answer as JSON in a file.

A contestant's process holds its own libraries alone; peak memory is the process's.
"""

import json
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

from spectra.contest import Contestant, Meter, Terms, median_seconds, oracle_rows, own_rows

# By contestant: what its numbers depend on, its own package first.
PACKAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sharplab": ("sharplab", "jax"),
        "matfree": ("matfree", "jax"),
        "scipy": ("scipy", "jax"),
        "curvlinops": ("curvlinops-for-pytorch", "scipy", "torch"),
        "pyhessian": ("pyhessian", "torch"),
        "eigenthings lanczos": ("hessian-eigenthings", "torch"),
        "eigenthings power": ("hessian-eigenthings", "torch"),
    }
)


def peak_memory() -> int:
    """The most bytes that this process has held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def enter(name: str, problem: dict[str, Any], path: str, seconds: float) -> tuple[Contestant, Any]:
    """The contestant of that name, set up on the problem, and its gradient."""
    meter = Meter(seconds)
    if "torch" in PACKAGES[name]:
        from spectra import networks, pytorch

        twin = networks.load(problem, path)
        return pytorch.CONTESTANTS[name](twin, meter), twin.loss_and_gradient
    from spectra import jaxed
    from spectra.problems import Problem

    setup = jaxed.Setup.load(Problem(**problem))
    return jaxed.CONTESTANTS[name](setup, meter), setup.gradient


def contest(
    contestant: str,
    problem: dict[str, Any],
    path: str,
    truth: dict[str, list[float]],
    counts: list[int],
    terms: dict[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Rows of one contestant on one problem; a solve longer than `seconds` is given up."""
    agreed = Terms(**terms)
    entered, gradient = enter(contestant, problem, path, seconds)
    found: dict[str, Any] = {
        "gradient_seconds": median_seconds(gradient),
        "product_seconds": median_seconds(entered.product),
        "gauss_newton_seconds": median_seconds(entered.gauss_newton) if entered.gauss_newton else None,
        "which": entered.which,
    }
    rows = []
    for k in counts:
        exact = truth[entered.which][:k]
        for kind in (own_rows, oracle_rows):
            rows += [{"k": k} | row for row in kind(entered, exact, agreed)]
    return found | {"rows": rows, "peak_bytes": peak_memory()}


def memory(contestant: str, problem: dict[str, Any], path: str, tol: float, seconds: float) -> dict[str, Any]:
    """Peak memory and time of λ₁ alone, or of one gradient for comparison, with the file already read."""
    began = perf_counter()
    if contestant == "gradient":
        _, gradient = enter("sharplab", problem, path, seconds)
        before = peak_memory()
        gradient()
        return {"before_bytes": before, "peak_bytes": peak_memory(), "gradient_seconds": median_seconds(gradient, 3)}
    entered, _ = enter(contestant, problem, path, seconds)
    before, loaded = peak_memory(), perf_counter()
    assert entered.own is not None, "a contestant without stopping rule cannot end itself"
    solution = entered.solve(1, entered.own(tol), 0)
    return {
        "before_bytes": before,
        "peak_bytes": peak_memory(),
        "setup_seconds": loaded - began,
        "solve_seconds": perf_counter() - loaded,
        "products": solution.products,
        "value": float(solution.values[0]),
    }


def make(problem: str) -> dict[str, Any]:
    """Train the network of that name, unless its file is there; the file, and the problem's own fields."""
    from spectra import problems

    found = problems.find(problem)
    return {"path": str(problems.make(found)), "problem": asdict(found)}


def truth(problem: str, count: int) -> dict[str, Any]:
    """The first `count` eigenvalues of either order; to be run in double precision."""
    from spectra import jaxed, problems
    from spectra.truth import both_orders

    op = jaxed.Setup.load(problems.find(problem)).hessian
    found: dict[str, Any] = {"dtype": str(op.dtype), "parameters": op.shape[0], "relative_errors": {}}
    for which, (values, errors) in both_orders(op, count).items():
        found[which] = values.tolist()
        found["relative_errors"][which] = errors.tolist()
    return found


def oracle(
    problem: str, truth: list[float], counts: list[int], tolerances: list[float], starts: int, most: int
) -> dict[str, Any]:
    """By k and tolerance, the products that a cold Lanczos run needs, one number per start."""
    from spectra import jaxed, problems
    from spectra.truth import oracle_products, random_start

    op = jaxed.Setup.load(problems.find(problem)).hessian
    wanted = {k: truth[:k] for k in counts}
    runs = [oracle_products(op, wanted, tolerances, random_start(op, seed), most) for seed in range(starts)]
    return {str(k): {f"{tol:g}": [run[k][tol] for run in runs] for tol in tolerances} for k in counts}


def costs(problem: str, repetitions: int) -> dict[str, Any]:
    """Products in gradients and in arithmetic."""
    from spectra import jaxed, problems
    from spectra.costs import product_costs

    return product_costs(jaxed.Setup.load(problems.find(problem)), repetitions)


def warm(problem: str, **settings: Any) -> list[dict[str, Any]]:
    """Products along its training."""
    from spectra import problems
    from spectra.warm import along_training

    return along_training(problems.find(problem), **settings)


def calibration(problems: int) -> dict[str, Any]:
    """Stated against true errors on random matrices."""
    from spectra.calibration import calibrate

    return calibrate(problems)


JOBS = {job.__name__: job for job in (contest, memory, make, truth, oracle, costs, warm, calibration)}


def main() -> None:
    """Do the job of the first argument and write what it found to the file of the second."""
    settings = json.loads(sys.argv[1])
    found = JOBS[settings.pop("job")](**settings)
    if settings.get("contestant") in PACKAGES:
        found |= {"versions": {package: version(package) for package in PACKAGES[settings["contestant"]]}}
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
