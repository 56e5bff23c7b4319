"""What one product costs, in gradients and in arithmetic."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measures import in_turn, seconds_of, spread

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature import LinearOperator
from spectra.jaxed import Setup

PRODUCTS = 8  # per linearisation, about what a solve makes
MATRIX = 2048  # rows of the matrices that the machine's rate is measured by
LIMITS: Mapping[str, float] = {"hessian": 2.0, "gauss_newton": 4 / 3}  # gradients of arithmetic per product


def product_costs(setup: Setup, repetitions: int) -> dict[str, Any]:
    """Seconds of gradient and products, in turn; the arithmetic that they stand for; the machine's rate."""
    operators = {"hessian": setup.hessian, "gauss_newton": setup.gauss_newton}
    start = setup.direction()
    square = jax.random.normal(jax.random.key(0), (MATRIX, MATRIX))
    multiply = jax.jit(jnp.matmul)
    contestants: dict[str, Callable[[], float]] = {
        "gradient": lambda: seconds_of(setup.gradient),
        "matmul": lambda: seconds_of(multiply, square, square),
    }
    for name, op in operators.items():
        contestants[name] = _bind(lambda op: seconds_of(_repeated, op, start) / PRODUCTS, op)
        contestants[f"{name} alone"] = _bind(lambda op: seconds_of(op, start), op)
    for contestant in contestants.values():
        contestant()
    seconds = {name: np.array(values) for name, values in in_turn(contestants, repetitions).items()}

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
        found[name] = {
            "over_gradient": spread(seconds[name] / seconds["gradient"]),
            "alone_over_gradient": spread(seconds[f"{name} alone"] / seconds["gradient"]),
            "over_arithmetic": float(np.median(seconds[name]) * rate / (LIMITS[name] * flops)),
        }
    return found


def _bind(function: Callable[[LinearOperator], float], op: LinearOperator) -> Callable[[], float]:
    return lambda: function(op)


@jax.jit
def _repeated(op: LinearOperator, start: PyTree) -> PyTree:
    product = op.matvec()
    # Scaled, since a bare power of the matrix would overflow.
    return jax.lax.fori_loop(0, PRODUCTS, lambda _, v: tree.scale(1 / tree.norm(w := product(v)), w), start)


def _flops(setup: Setup) -> float:
    """Of one gradient, by XLA's count before it optimises."""
    lowered = jax.jit(jax.value_and_grad(setup.problem.objective)).lower(setup.params, setup.batch)
    return float(lowered.cost_analysis()["flops"])
