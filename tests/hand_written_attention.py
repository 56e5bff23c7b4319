"""Attention with a backward pass that JAX cannot differentiate, and the same attention as JAX derives it."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx


def plain(q, k, v):
    """Attention softmax(qkᵀ/√d) v of one head, arrays (n, T, d)."""
    return jax.nn.softmax(jnp.einsum("nqd,nkd->nqk", q, k) / q.shape[-1] ** 0.5) @ v


@jax.custom_jvp
def backward(q, k, v, g):
    p = jax.nn.softmax(jnp.einsum("nqd,nkd->nqk", q, k) / q.shape[-1] ** 0.5)
    of_p = jnp.einsum("nqd,nkd->nqk", g, v)
    of_scores = p * (of_p - jnp.sum(p * of_p, -1, keepdims=True)) / q.shape[-1] ** 0.5
    return of_scores @ k, jnp.swapaxes(of_scores, 1, 2) @ q, jnp.swapaxes(p, 1, 2) @ g


@backward.defjvp
def no_derivative(primals, tangents):
    raise TypeError("the backward pass has no derivative")


@jax.custom_vjp
def fused(q, k, v):
    return plain(q, k, v)


fused.defvjp(lambda q, k, v: (plain(q, k, v), (q, k, v)), lambda saved, g: backward(*saved, g))


class Attending(nnx.Module):
    """Embedding, attention as a residual branch, readout; tokens (n, T) → logits (n, T, 5)."""

    def __init__(self, attention, rngs):
        self.attention = attention
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), (5, 4)))
        self.qkv = nnx.Param(jax.random.normal(rngs.params(), (4, 12)) / 2)
        self.readout = nnx.Param(jax.random.normal(rngs.params(), (4, 5)) / 2)

    def __call__(self, tokens):
        h = self.embedding[...][tokens]
        return (h + self.attention(*jnp.split(h @ self.qkv[...], 3, -1))) @ self.readout[...]


@functools.cache  # one function each: many made anew would each compile
def attending(attention):
    """The network's function of (params, tokens), and its params."""
    graph, params = nnx.split(Attending(attention, nnx.Rngs(0)))

    def model(params, tokens):
        return nnx.merge(graph, params)(tokens)

    return model, params
