"""What a type checker knows of the public names: `make lint` reads this file, nothing runs it.

A comment that ignores an error is an error itself where there is none (warn_unused_ignores).
"""

from typing import assert_type

import jax.numpy as jnp

import sharplab as sl


def loss(params: dict[str, jnp.ndarray], batch: jnp.ndarray) -> jnp.ndarray:
    return jnp.mean(batch @ params["w"])


operator = sl.hessian(loss, {"w": jnp.ones(3)}, jnp.eye(3))
assert_type(operator, sl.LinearOperator)
assert_type(sl.eigsh(operator, k=2), sl.Eigenpairs)
assert_type(sl.spectral_density(operator), sl.SpectralDensity)
assert_type(sl.trace(operator), sl.Estimate)
assert_type(sl.parameterization("mup"), sl.Parameterization)
experiment = sl.Experiment(widths=(8, 16), learning_rates=(0.5, 1.0), seeds=2)
assert_type(experiment, sl.Experiment)
records = sl.run(experiment, "runs")
assert_type(records, sl.Records)
assert_type(sl.load("runs"), sl.Records)
assert_type(sl.transfer(records, over="width"), dict[str, sl.Transfer])
assert_type(sl.sweep.product(experiment, gamma=(0.5, 1.0)), tuple[sl.Experiment, ...])

# Mistakes, which a checker must see.
print(sl.eigsch)  # type: ignore[attr-defined]
sl.Experiment(learning_rates=(0.5,), width=8)  # type: ignore[call-arg]
print(sl.losses.cross_entropie)  # type: ignore[attr-defined]
