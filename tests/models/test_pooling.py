"""A pooled linear layer against the plain form: values, derivatives of two orders through weights and inputs, ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import make_batch, make_recipe

from sharplab.models import figure1_convnet
from sharplab.models.pooling import pooled_linear


def plain(x, W):
    """As a sum in which only the first of the largest is not 0."""
    h = x @ W
    first = jax.lax.stop_gradient(h.argmax(axis=-2, keepdims=True))
    positions = jax.lax.broadcast_to_rank(jnp.arange(h.shape[-2])[:, None], h.ndim)
    return jax.nn.relu(jnp.where(positions == first, h, 0).sum(axis=-2))


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def close(ours, theirs, **tolerance):
    pairs = list(zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))
    return all(a.dtype == b.dtype and np.allclose(a, b, **tolerance) for a, b in pairs)


@pytest.mark.parametrize("shape", [(5, 4, 3), (2, 3, 3, 4, 3), (4, 3), (6, 2, 3), (0, 4, 3)])
def test_values_are_the_plain_ones_for_any_leading_axes(float64, shape):
    x, W = normal(0, *shape), normal(1, 3, 7)
    assert pooled_linear(x, W).shape == (*shape[:-2], 7)
    assert close(pooled_linear(x, W), plain(x, W), rtol=1e-14, atol=1e-14)


def two_layers(pool):
    """A loss of weights alone, the second layer's inputs and the multiplier of its outputs among what they change."""
    x = normal(0, 6, 4, 5)

    def loss(params):
        first, second, multiplier = params
        h = jnp.exp(multiplier) * pool(x, first)
        return jnp.sum(jnp.sin(pool(h.reshape(3, 2, -1), second)))

    return loss, (normal(1, 5, 8), normal(2, 8, 3), jnp.asarray(0.3))


def changes(mode, loss, params):
    direction = jax.tree.map(jnp.cos, params)
    gradient = jax.grad(loss)
    if mode == "gradient":
        return gradient(params)
    if mode == "jvp":
        return jax.jvp(loss, (params,), (direction,))
    if mode == "jvp of grad":
        return jax.jvp(gradient, (params,), (direction,))
    if mode == "grad of jvp":
        return jax.grad(lambda p: jax.jvp(loss, (p,), (direction,))[1])(params)
    if mode == "linearize":
        return jax.linearize(gradient, params)[1](direction)
    if mode == "checkpoint":
        return jax.linearize(jax.grad(jax.checkpoint(loss)), params)[1](direction)
    if mode == "in a loop":

        def step(p, _):
            return jax.tree.map(lambda w, d: w - 1e-3 * d, p, gradient(p)), None

        return jax.jvp(lambda p: jax.lax.scan(step, p, length=3)[0], (params,), (direction,))
    several = jax.tree.map(lambda p, d: jnp.stack([p, p + d]), params, direction)
    return jax.vmap(lambda p: jax.jvp(gradient, (p,), (direction,)))(several)


@pytest.mark.parametrize(
    "mode",
    [
        *("gradient", "jvp", "jvp of grad", "grad of jvp", "linearize", "in a loop"),
        *(pytest.param(mode, marks=pytest.mark.long) for mode in ("checkpoint", "vmap")),
    ],
)
def test_derivatives_are_the_plain_ones_through_weights_and_inputs(float64, mode):
    ours, theirs = (changes(mode, *two_layers(pool)) for pool in (pooled_linear, plain))
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(theirs)) > 0.1
    assert close(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.long
def test_third_derivative_is_the_plain_one(float64):
    def along(pool):
        loss, params = two_layers(pool)

        def line(t):
            return loss(jax.tree.map(lambda p: p + t * jnp.sin(p), params))

        return jax.grad(jax.grad(jax.grad(line)))(0.0)

    assert abs(along(plain)) > 0.1
    assert close(along(pooled_linear), along(plain), rtol=1e-11)


def test_of_equals_the_first_wins_and_nothing_at_or_below_zero(float64):
    x = jnp.array([[[1.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.0, 1.0]], [[0.0, 0.0]] * 4, [[0.0, -1.0]] * 4])
    W = jnp.array([[2.0], [1.0]])
    values, pull = jax.vjp(pooled_linear, x, W)
    assert values.ravel().tolist() == [2.0, 0.0, 0.0]
    to_x, to_W = pull(jnp.ones_like(values))
    assert np.array_equal(to_x, np.zeros(x.shape) + np.eye(12)[0].reshape(3, 4, 1) * np.reshape(W, (1, 1, 2)))
    assert np.array_equal(to_W, x[0, :1].T)


def test_of_equals_the_first_has_the_tangent_in_either_order(float64):
    x, W = jnp.ones((1, 4, 1)), jnp.ones((1, 1))
    to_x = jax.grad(lambda x: jnp.sum(pooled_linear(x, W) ** 2))
    assert np.array_equal(jax.jacfwd(to_x)(x).reshape(4, 4), np.diag([2.0, 0, 0, 0]))


def test_not_a_number_stays_one():
    x = jnp.array([[[1.0], [jnp.nan], [2.0]], [[-1.0], [-2.0], [jnp.nan]]])
    assert np.isnan(pooled_linear(x, jnp.ones((1, 1)))).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients_keep_the_type(dtype):
    x, W = normal(0, 5, 4, 3).astype(dtype), normal(1, 3, 7).astype(dtype)
    ours, theirs = (jax.value_and_grad(lambda W, f=f: f(x, W).sum())(W) for f in (pooled_linear, plain))
    tolerance = float(jnp.finfo(dtype).eps) * 8
    assert ours[1].dtype == dtype
    assert close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_patches_without_tangent_cost_no_product():
    x, W = normal(0, 5, 4, 3), normal(1, 3, 7)
    text = str(jax.make_jaxpr(jax.grad(lambda W: pooled_linear(x, W).sum()))(W))
    assert text.count("dot_general") == 2  # the outputs, and the gradient of W


def test_losses_of_the_network_are_those_of_the_plain_form_but_for_rounding(monkeypatch):
    images, classes = make_batch("figure1_convnet", examples=16)

    def losses():
        recipe = make_recipe("figure1_convnet", 8, "mean_field", base_width=1)
        batch, run, found = (recipe.prepare(images), classes), recipe.begin(0), []
        step = jax.jit(lambda *args: recipe.update(*args))  # one that jax has not traced yet
        for _ in range(5):
            run, loss, _ = step(run, 0.5, batch)
            found.append(float(loss))
        return found

    ours = losses()
    monkeypatch.setattr(figure1_convnet, "pooled_linear", plain)
    theirs = losses()
    assert theirs[-1] < theirs[0] - 1e-3
    assert np.allclose(ours[:2], theirs[:2], rtol=1e-6)
    assert np.allclose(ours, theirs, rtol=1e-4)
