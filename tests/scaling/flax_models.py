"""Modules of Flax's own layers, which know nothing of this library: build(width, rngs) or build(width, depth, rngs)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

CLASSES, FEATURES, TOKENS, LENGTH = 3, 5, 7, 6


class MLP(nnx.Module):
    """Two hidden layers, with biases."""

    def __init__(self, width, rngs, **layer):
        self.first = nnx.Linear(FEATURES, width, rngs=rngs, **layer)
        self.second = nnx.Linear(width, 2 * width, rngs=rngs, **layer)
        self.readout = nnx.Linear(2 * width, CLASSES, rngs=rngs, **layer)

    def __call__(self, x):
        return self.readout(jnp.tanh(self.second(jnp.tanh(self.first(x)))))


def multiple(size, of):
    """The size, up to a multiple."""
    return -(-int(size) // of) * of


class Gated(nnx.Module):
    """A gated feed-forward layer of 8/3 of the width, rounded up to a multiple of 32, as of LLaMA."""

    def __init__(self, width, rngs, of=32):
        hidden = multiple(8 * width / 3, of)
        self.embed = nnx.Linear(FEATURES, width, rngs=rngs)
        self.up, self.gate = (nnx.Linear(width, hidden, rngs=rngs) for _ in range(2))
        self.down = nnx.Linear(hidden, width, rngs=rngs)
        self.readout = nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x):
        h = self.embed(x)
        return self.readout(h + self.down(nnx.silu(self.gate(h)) * self.up(h)))


class ConvNet(nnx.Module):
    """Convolutions: of all channels, in groups, one channel each; BatchNorm; the mean over positions is read out."""

    def __init__(self, width, rngs):
        self.stem = nnx.Conv(2, width, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(width, use_running_average=False, rngs=rngs)
        self.grouped = nnx.Conv(width, 2 * width, (3, 3), feature_group_count=2, rngs=rngs)
        self.depthwise = nnx.Conv(2 * width, 2 * width, (3, 3), feature_group_count=2 * width, rngs=rngs)
        self.up = nnx.ConvTranspose(2 * width, width, (2, 2), strides=2, transpose_kernel=True, rngs=rngs)
        self.last_norm = nnx.GroupNorm(width, 2, rngs=rngs)
        self.readout = nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.stem(x)))
        x = self.up(jnp.tanh(self.depthwise(jnp.tanh(self.grouped(x)))))
        return self.readout(jnp.tanh(self.last_norm(x)).mean((1, 2)))


class Block(nnx.Module):
    """A pre-norm transformer block with two heads."""

    def __init__(self, width, rngs, **attention):
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, width, decode=False, rngs=rngs, **attention)
        self.up = nnx.Linear(width, 2 * width, rngs=rngs)
        self.down = nnx.Einsum("...f,fn->...n", (2 * width, width), (width,), rngs=rngs)

    def __call__(self, x, scale=1.0):
        x = x + scale * self.attention(self.norm(x), is_causal=True)
        return x + scale * self.down(jax.nn.gelu(self.up(x)))


class Transformer(nnx.Module):
    """A decoder, whose blocks are in a list or, stacked, in one module with an axis in front of every parameter."""

    def __init__(self, width, depth, rngs, *, stacked=False, tied=False, scale=1.0, **attention):
        self.embed = nnx.Embed(TOKENS, width, rngs=rngs)
        self.positions = nnx.Param(0.1 * jax.random.normal(rngs.params(), (LENGTH, width)), role="input")
        if stacked:
            make = nnx.vmap(lambda rngs: Block(width, rngs, **attention), in_axes=0, out_axes=0)
            self.blocks = nnx.split_rngs(splits=depth)(make)(rngs)
        else:
            self.blocks = nnx.List(Block(width, rngs, **attention) for _ in range(depth))
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.readout = None if tied else nnx.Linear(width, TOKENS, use_bias=False, rngs=rngs)
        self.stacked, self.scale, self.multiplier = stacked, scale, 1.0

    def __call__(self, tokens):
        x = self.embed(tokens) + self.positions[...][None]
        if self.stacked:
            graphdef, state = nnx.split(self.blocks)
            x, _ = jax.lax.scan(lambda x, params: (nnx.merge(graphdef, params)(x, self.scale), None), x, state)
        else:
            for block in self.blocks:
                x = block(x, self.scale)
        x = self.norm(x)
        return self.multiplier * (self.embed.attend(x) if self.readout is None else self.readout(x))


def batch(model):
    """Inputs and classes for `MLP`, `ConvNet`, or a transformer."""
    rng = np.random.default_rng(0)
    if model is MLP:
        return rng.standard_normal((8, FEATURES)), np.arange(8) % CLASSES
    if model is ConvNet:
        return rng.standard_normal((6, 4, 4, 2)), np.arange(6) % CLASSES
    tokens = rng.integers(0, TOKENS, (4, LENGTH + 1))
    return tokens[:, :-1], tokens[:, 1:]
