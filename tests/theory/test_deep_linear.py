"""One step of a deep linear network: the loss along it by autodiff, the limit, and how it is approached."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.theory import one_step_limit, one_step_optimum
from sharplab.theory.deep_linear import _outputs_after

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4))
Y = X @ RNG.normal(size=4) + 0.3 * RNG.normal(size=6)


def drawn(width, depth, key):
    first, last, *hidden = jax.random.split(key, depth + 2)
    W0 = jax.random.normal(first, (width, X.shape[1])) / X.shape[1] ** 0.5
    v = jax.random.normal(last, (width,)) / width
    return W0, v, [jax.random.normal(one, (width, width)) / width**0.5 for one in hidden]


@pytest.mark.parametrize("depth", [1, 3])
def test_the_outputs_after_a_step_are_those_of_descent_and_the_optimum_its_best(depth, float64):
    width, key = 5, jax.random.key(depth)
    W0, v, hidden = drawn(width, depth, key)

    def outputs(hidden):
        h = W0 @ X.T
        for W in hidden:
            h = W @ h
        return v @ h

    def loss(hidden):
        return jnp.mean((outputs(hidden) - Y) ** 2) / 2

    gradient = jax.grad(loss)(hidden)

    def after(rate):
        return [W - rate * g for W, g in zip(hidden, gradient, strict=True)]

    coefficients = np.asarray(_outputs_after(jnp.asarray(X), jnp.asarray(Y), width, depth, key))
    for rate in (0.3, 2.0):
        assert rate ** np.arange(depth + 1) @ coefficients == pytest.approx(np.asarray(outputs(after(rate))))
    best = one_step_optimum(X, Y, width=width, depth=depth, key=key)
    grid = jnp.linspace(0, 80, 20_001)
    losses = jax.vmap(lambda rate: loss(after(rate)))(grid)
    assert best == pytest.approx(float(grid[jnp.argmin(losses)]), abs=5e-3) and best > 0


def test_the_limit_solves_its_least_squares_and_falls_as_the_inverse_depth():
    kernel = X @ X.T / X.shape[1]
    direction = kernel @ Y / len(Y)  # what a unit of rate adds to the outputs, per layer
    assert one_step_limit(X, Y, depth=1) == pytest.approx(np.linalg.lstsq(direction[:, None], Y)[0][0])
    assert one_step_limit(X, Y, depth=4) == pytest.approx(one_step_limit(X, Y, depth=1) / 4)


@pytest.mark.long
def test_the_optimum_comes_to_its_limit_as_the_root_of_the_width():
    limit = one_step_limit(X, Y, depth=2)

    def apart(width):
        found = [one_step_optimum(X, Y, width=width, depth=2, key=jax.random.key(seed)) for seed in range(32)]
        return np.median(np.abs(np.array(found) / limit - 1))

    # The median of 32 is known to some 20 %.
    narrow, wide = apart(48), apart(384)
    assert np.log(narrow / wide) / np.log(8) == pytest.approx(0.5, abs=0.2) and wide < 0.25


def test_what_is_wrong_is_named():
    with pytest.raises(ValueError, match="targets"):
        one_step_limit(X, Y[:2], depth=1)
    with pytest.raises(ValueError, match="targets"):
        one_step_optimum(X, 0 * Y, width=4, depth=1, key=jax.random.key(0))
    with pytest.raises(ValueError, match="depth"):
        one_step_limit(X, Y, depth=0)
