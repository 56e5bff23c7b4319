"""A one-layer causal transformer, small enough for dense curvature: several predictions per example."""

import jax
import jax.numpy as jnp
from flax import nnx

VOCABULARY, LENGTH, WIDTH, HEADS = 5, 4, 4, 2


class AttentionModel(nnx.Module):
    """Embedding, causal attention as a residual branch, tanh, readout; tokens (n, T) → logits (n, T, V)."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        def matrix(rows, columns):
            return nnx.Param(jax.random.normal(rngs.params(), (rows, columns)) / rows**0.5)

        self.embedding = matrix(VOCABULARY, WIDTH)
        self.positions = matrix(LENGTH, WIDTH)
        self.qkv, self.mix = matrix(WIDTH, 3 * WIDTH), matrix(WIDTH, WIDTH)
        self.readout = matrix(WIDTH, VOCABULARY)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        n, T = tokens.shape
        h = self.embedding[...][tokens] + self.positions[...][None, :T]
        q, k, v = (x.reshape(n, T, HEADS, -1) for x in jnp.split(h @ self.qkv[...], 3, -1))
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / (WIDTH // HEADS)
        weights = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -1e9))
        h = h + jnp.einsum("nhqk,nkhd->nqhd", weights, v).reshape(n, T, WIDTH) @ self.mix[...]
        return jnp.tanh(h) @ self.readout[...]
