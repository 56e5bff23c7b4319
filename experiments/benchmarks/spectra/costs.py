"""The cost of one product, in gradients and in arithmetic, and of one record of the curvature, in gradients."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import in_turn, seconds_of, spread

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature import LinearOperator, critical_sharpness
from sharplab.spectrum import eigsh
from spectra.jaxed import Setup
from spectra.problems import find

PRODUCTS = 8  # per linearisation, about what a solve makes
MATRIX = 2048  # rows of the matrices that the machine's rate is measured by
RECORD_TOLERANCE = 1e-2  # of λmax in a record
RATE = 0.2  # the learning rate between two records, in units of 2/λmax
LIMITS: Mapping[str, float] = {"hessian": 2.0, "gauss_newton": 4 / 3}  # gradients of arithmetic per product


def product_costs(problem: str, repetitions: int) -> dict[str, Any]:
    """Seconds of gradient and products, in turn; the arithmetic that they stand for; the machine's rate."""
    setup = Setup.load(find(problem))
    operators = {"hessian": setup.hessian, "gauss_newton": setup.gauss_newton}
    start = setup.direction()
    square = jax.random.normal(jax.random.key(0), (MATRIX, MATRIX))
    contestants: dict[str, Callable[[], float]] = {
        "gradient": partial(seconds_of, setup.gradient),
        "matmul": partial(seconds_of, jax.jit(jnp.matmul), square, square),
    }
    for name, op in operators.items():
        contestants[name] = partial(seconds_of, _repeated, op, start)
        contestants[f"{name} alone"] = partial(seconds_of, op, start)
    seconds = in_turn(contestants, repetitions, warm_up=True)

    rate = 2 * MATRIX**3 / np.median(seconds["matmul"])
    flops = _flops(setup)
    found = {
        "parameters": setup.problem.parameters,
        "gradient_seconds": spread(seconds["gradient"]),
        "gradient_flops": flops,
        "matmul_flops_per_second": float(rate),
        "gradient_over_arithmetic": float(np.median(seconds["gradient"]) * rate / flops),
    }
    for name in operators:
        each = seconds[name] / PRODUCTS
        found[name] = {
            "over_gradient": spread(each / seconds["gradient"]),
            "alone_over_gradient": spread(seconds[f"{name} alone"] / seconds["gradient"]),
            "over_arithmetic": float(np.median(each) * rate / (LIMITS[name] * flops)),
        }
    return found


def record_costs(problem: str, repetitions: int) -> dict[str, Any]:
    """Records of critical sharpness along SGD's update and of a certified λmax: value, calls and cost in gradients.

    Calls are evaluations of the loss and Hessian products. The next record goes on from the answer one step of SGD
    before it, as a tracker's do.
    """
    setup = Setup.load(find(problem))
    gradient = setup.gradient()[1]
    top = eigsh(setup.hessian, tol=RECORD_TOLERANCE)
    before = replace(setup, params=tree.moved(setup.params, RATE * 2 / top.values[0], gradient))

    def critical(at: Setup, update: PyTree, start: float | None = None) -> tuple[jax.Array, jax.Array]:
        found = critical_sharpness(at.problem.objective, at.params, update, at.batch, start=start)
        return found.value, found.evaluations

    def largest(start: PyTree | None = None) -> tuple[jax.Array, jax.Array]:
        found = eigsh(setup.hessian, tol=RECORD_TOLERANCE, start=start)
        return found.values[0], found.matvecs

    descent = partial(tree.scale, -1.0)
    start = 2 / float(critical(before, descent(before.gradient()[1]))[0])
    vectors = eigsh(before.hessian, tol=RECORD_TOLERANCE).vectors
    records: dict[str, Callable[[], tuple[jax.Array, jax.Array]]] = {
        "critical sharpness, first": partial(critical, setup, descent(gradient)),
        "critical sharpness, next": partial(critical, setup, descent(gradient), start),
        "λmax to 1 %, first": largest,
        "λmax to 1 %, next": partial(largest, vectors),
    }
    timed = {name: partial(seconds_of, call) for name, call in ({"gradient": setup.gradient} | records).items()}
    seconds = in_turn(timed, repetitions, warm_up=True)
    found = {}
    for name, record in records.items():
        value, calls = record()
        cost = spread(seconds[name] / seconds["gradient"])
        found[name] = {"value": float(value), "calls": int(calls), "over_gradient": cost}
    return found


@jax.jit
def _repeated(op: LinearOperator, start: PyTree) -> PyTree:
    product = op.matvec()
    # Scaled, since a bare power of the matrix would overflow.
    return jax.lax.fori_loop(0, PRODUCTS, lambda _, v: tree.scale(1 / tree.norm(w := product(v)), w), start)


def _flops(setup: Setup) -> float:
    """Floating-point operations of one gradient, by XLA's count before it optimises."""
    lowered = jax.jit(jax.value_and_grad(setup.problem.objective)).lower(setup.params, setup.batch)
    return float(lowered.cost_analysis()["flops"])
