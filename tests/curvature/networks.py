"""Networks whose parameters are pytrees of every kind, with their curvature as dense float64 matrices."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import attention_model
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from jax.flatten_util import ravel_pytree
from problems import cast, make_batch, make_recipe

from sharplab.losses import cross_entropy, squared_error


class Network(NamedTuple):
    """What the operators are made of; `model` and `loss` live on, so that programs are compiled once."""

    model: Callable
    loss: Callable
    params: object
    batch: tuple


class Curvature(NamedTuple):
    """Dense matrices in the order of `ravel_pytree`, for N predictions of C outputs and P parameters."""

    hessian: np.ndarray  # (P, P)
    gauss_newton: np.ndarray  # (P, P)
    jacobian: np.ndarray  # (N·C, P)
    scores: np.ndarray  # (N, C): gradients of each prediction's own loss in its outputs

    @property
    def empirical(self) -> np.ndarray:
        """The empirical Fisher, as a sum of outer products of per-prediction gradients."""
        N, C = self.scores.shape
        gradients = np.einsum("nc,ncp->np", self.scores, self.jacobian.reshape(N, C, -1))
        return gradients.T @ gradients / N


def tanh_mlp(params, x):
    hidden = jnp.tanh(x @ params["first"]["kernel"] + params["first"]["bias"][None])
    return hidden @ params["second"]


def tuple_mlp(params, x):
    first, (second, bias) = params
    return jax.nn.gelu(x @ first) @ second + bias[None]


class LinenMLP(linen.Module):
    """Two layers of Flax Linen."""

    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(jnp.tanh(linen.Dense(4)(x)))


LINEN = LinenMLP()
ATTENTION, ATTENTION_STATE = nnx.split(attention_model.AttentionModel(nnx.Rngs(0)))


def attention(params, tokens):
    return nnx.merge(ATTENTION, params)(tokens)


def vectors(examples: int = 7) -> tuple:
    """Inputs (n, 4) and classes out of 3."""
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal((examples, 4)), jnp.float32), jnp.asarray(
        rng.integers(0, 3, examples), jnp.int32
    )


def _dict_mlp() -> Network:
    k = jax.random.split(jax.random.key(1), 3)
    first = {"kernel": jax.random.normal(k[0], (4, 5)), "bias": jax.random.normal(k[1], (5,))}
    return Network(tanh_mlp, cross_entropy, {"first": first, "second": jax.random.normal(k[2], (5, 3))}, vectors())


def _tuple_mlp() -> Network:
    k = jax.random.split(jax.random.key(2), 3)
    params = (jax.random.normal(k[0], (4, 5)), [jax.random.normal(k[1], (5, 3)), jnp.zeros(3)])
    x, _ = vectors()
    return Network(tuple_mlp, squared_error, params, (x, jax.random.normal(k[2], (len(x), 3))))


def _linen_mlp() -> Network:
    x, y = vectors()
    return Network(LINEN.apply, cross_entropy, LINEN.init(jax.random.key(3), x), (x, y))


def _convnet() -> Network:
    recipe = make_recipe("figure1_convnet", 4)
    images, classes = make_batch("figure1_convnet", examples=6)
    return Network(recipe.forward, recipe.loss, recipe.begin(jnp.asarray(3)).params, (recipe.prepare(images), classes))


def _attention() -> Network:
    rng = np.random.default_rng(4)
    tokens = jnp.asarray(rng.integers(0, attention_model.VOCABULARY, (5, attention_model.LENGTH + 1)), jnp.int32)
    return Network(attention, cross_entropy, ATTENTION_STATE, (tokens[:, :-1], tokens[:, 1:]))


MAKERS = {"dict": _dict_mlp, "tuple": _tuple_mlp, "linen": _linen_mlp, "convnet": _convnet, "attention": _attention}
STEPS = (0, 30)
CASES = [(name, steps) for name in MAKERS for steps in STEPS]


def network(name: str, steps: int = 0) -> Network:
    """The network in float32 after some steps of gradient descent."""
    with jax.enable_x64(False):
        return _trained(name, steps)


def in_precision(name: str, steps: int = 0, dtype: object = np.float64) -> Network:
    """The same with parameters and batch in another precision."""
    made = network(name, steps)
    return made._replace(params=cast(made.params, dtype), batch=cast(made.batch, dtype))


@cache
def _trained(name: str, steps: int) -> Network:
    made = MAKERS[name]()

    def objective(w):
        return made.loss(made.model(w, made.batch[0]), made.batch[1])

    gradient = jax.jit(jax.grad(objective))
    params = made.params
    for _ in range(steps):
        params = jax.tree.map(lambda w, g: w - 0.2 * g, params, gradient(params))
    return made._replace(params=params)


@cache
def _dense(name: str) -> Callable:
    made = network(name)

    @jax.jit
    def matrices(params, batch):
        inputs, targets = batch
        flat, unravel = ravel_pytree(params)
        outputs = made.model(params, inputs)

        def model(w):
            return made.model(unravel(w), inputs).reshape(-1)

        def loss(f):
            return made.loss(f.reshape(outputs.shape), targets)

        J = jax.jacrev(model)(flat)
        rows = outputs.reshape(-1, outputs.shape[-1])
        scores = len(rows) * jax.grad(loss)(rows)
        hessian = jax.hessian(lambda w: loss(model(w)))(flat)
        return Curvature(hessian, J.T @ jax.hessian(loss)(outputs.reshape(-1)) @ J, J, scores)

    return matrices


@cache
def curvature(name: str, steps: int = 0) -> Curvature:
    """By `jax.hessian` and `jax.jacrev`, which know no operator."""
    made = network(name, steps)
    with jax.enable_x64(True):
        found = _dense(name)(cast(made.params, np.float64), cast(made.batch, np.float64))
        return Curvature(*map(np.asarray, found))


def close(found, exact, dtype=np.float64) -> bool:
    """Equal up to the rounding of some hundred sums."""
    assert np.abs(exact).max() > 1e-6
    return (
        found.shape == exact.shape and np.abs(found - exact).max() <= 2000 * np.finfo(dtype).eps * np.abs(exact).max()
    )
