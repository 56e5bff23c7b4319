"""Networks scaled by hand in formulation 8 of muP under Adam, with one part of it left out at wish."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from sharplab.core.tree import named_leaves

BASE, FEATURES, CLASSES, TOKENS, LENGTH = 16, 6, 3, 5, 4
HIDDEN = {"hidden", "query", "key", "value", "out"}


def _normal(fan_in):
    return nnx.initializers.normal(fan_in**-0.5)


class Perceptron(nnx.Module):
    """Linear, LayerNorm, tanh, Linear, tanh, readout × multiplier."""

    def __init__(self, width, rngs, multiplier=None):
        self.stem = nnx.Linear(FEATURES, width, kernel_init=_normal(FEATURES), rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.hidden = nnx.Linear(width, width, kernel_init=_normal(width), rngs=rngs)
        self.readout = nnx.Linear(width, CLASSES, kernel_init=_normal(BASE), use_bias=False, rngs=rngs)
        self.multiplier = BASE / width if multiplier is None else multiplier

    def __call__(self, x):
        h = jnp.tanh(self.norm(self.stem(x)))
        return self.multiplier * self.readout(jnp.tanh(self.hidden(h)))


class Attention(nnx.Module):
    """Embedding, attention with two heads whose size grows, readout × multiplier; `power` of d divides qᵀk."""

    def __init__(self, width, rngs, power=1.0):
        def attend(query, key, value, **kwargs):
            d = query.shape[-1]
            return nnx.dot_product_attention(query * (2 * d / BASE) ** (0.5 - power), key, value)

        self.embed = nnx.Embed(TOKENS, width, embedding_init=nnx.initializers.normal(1.0), rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            2, width, attention_fn=attend, kernel_init=_normal(width), use_bias=False, decode=False, rngs=rngs
        )
        self.readout = nnx.Linear(width, CLASSES, kernel_init=_normal(BASE), use_bias=False, rngs=rngs)
        self.multiplier = BASE / width

    def __call__(self, tokens):
        h = self.embed(tokens)
        return self.multiplier * self.readout(h + self.attention(h))


def factors(width, wrong=None):
    """path → learning-rate factor, for the parameters of both."""

    def factor(path):
        hidden = path.endswith("kernel") and path.split("/")[-2] in HIDDEN
        return (wrong or {}).get(path, BASE / width if hidden else 1.0)

    return factor


def scaled_adam(learning_rate, wrong=None, decay=0.0, coupled=False, eps=1e-12):
    """width → Adam with muP's factors, except for those in `wrong`, a function of width."""

    def optimizer(width):
        factor = factors(width, wrong(width) if wrong else None)
        decayed = optax.add_decayed_weights(decay)
        scaled = optax.stateless(lambda updates, _: by_path(lambda path, u: factor(path) * u, updates))
        adam = optax.chain(optax.scale_by_adam(eps=eps), scaled)
        parts = (decayed, adam) if coupled else (adam, decayed)
        return optax.chain(*parts, optax.scale_by_learning_rate(learning_rate))

    return optimizer


def by_path(function, tree):
    return jax.tree.unflatten(jax.tree.structure(tree), [function(*item) for item in named_leaves(tree).items()])


def factor_table(width):
    """What `inspect_optimizer` takes as factors, for the perceptron."""
    params = nnx.state(nnx.eval_shape(lambda: Perceptron(width, nnx.Rngs(0))), nnx.Param)
    return {path: factors(width)(path) for path in named_leaves(params)}


def batch_of(model, examples=8):
    """Inputs and targets for a network of this class."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, CLASSES, examples).astype(np.int32)
    if model is Perceptron:
        return rng.standard_normal((examples, FEATURES)).astype(np.float32), targets
    tokens = rng.integers(0, TOKENS, (examples, LENGTH)).astype(np.int32)
    return tokens, rng.integers(0, CLASSES, (examples, LENGTH)).astype(np.int32)


class Lever(nnx.Module):
    """Inputs (n, 1) → (n, width): x w, with w = 0 at the start: every number is known in closed form."""

    def __init__(self, width, rngs):
        self.kernel = nnx.Param(jnp.zeros((1, width)))

    def __call__(self, x):
        return x @ self.kernel[...]
