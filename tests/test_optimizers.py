"""Named optimizers: their metric is the diagonal that steps are made of, their threshold is where they diverge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.naming import lookup
from sharplab.optimizers import OPTIMIZERS

FACTORS = {"a": 2.0, "b": 0.5}
PARAMS = {"a": jnp.array([1.0, -1.0]), "b": jnp.array([3.0])}
CURVATURE = {"a": jnp.array([1.0, 0.5]), "b": jnp.array([3.0])}  # effective: 2, 1, 1.5


def descend(optimizer, learning_rate, steps):
    """The norm along steps −η · factors · direction on a diagonal quadratic."""
    params, state, norms = PARAMS, optimizer.direction.init(PARAMS), []
    for _ in range(steps):
        gradient = jax.tree.map(jnp.multiply, CURVATURE, params)
        direction, state = optimizer.direction.update(gradient, state, params)
        params = jax.tree.map(lambda w, f, u: w - learning_rate * f * u, params, FACTORS, direction)
        norms.append(float(sum(jnp.sum(w**2) for w in jax.tree.leaves(params)) ** 0.5))
    return norms


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_quadratic_diverges_exactly_beyond_the_threshold(name):
    optimizer = OPTIMIZERS[name]
    effective_sharpness = 2.0
    edge = next(rate for rate in np.geomspace(1e-3, 1e3, 6001) if optimizer.threshold(rate) < effective_sharpness)
    assert descend(optimizer, 0.97 * edge, 200)[-1] < 0.1
    assert descend(optimizer, 1.03 * edge, 200)[-1] > 10


def test_sgd_metric_is_the_learning_rate_factors():
    optimizer = OPTIMIZERS["sgd"]
    assert optimizer.metric(FACTORS, optimizer.direction.init(PARAMS)) == FACTORS
    assert optimizer.threshold(0.5) == 4


def test_unknown_optimizer_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="unknown optimizer 'sdg': did you mean 'sgd'"):
        lookup("optimizer", "sdg", OPTIMIZERS)
