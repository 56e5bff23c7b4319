"""A decoder-only transformer for text."""

from math import sqrt

import jax
import jax.numpy as jnp
from flax import nnx

from sharplab.models.attention import TransformerBlock
from sharplab.models.layers import ScaledLinear, ScaledTable, linear, multiplier
from sharplab.models.norms import LayerNorm
from sharplab.scaling import Rule


class GPT(nnx.Module):
    """Token and position vectors, `depth` pre-LN causal blocks, final norm, readout: the logits of each next token.

    Inputs are integers of shape (B, T), at most `input_shape` = (T,) long; `classes` V is the vocabulary, and logits
    are (B, T, V). `width` N is the length of a token's vector, `depth` L the number of blocks of two residual branches
    each (attention, MLP), so there are 2L branches. Tokens and positions have variance ½ each at the start.

    Tied, one table E serves as both embedding and readout. It is drawn as an input weight, and read out with a
    multiplier that gives logits the size of an untied readout's. By the abc symmetry that readout is one of the same
    initial size as input weights: under "mup" (each of its forms) and "ntk" it asks for the input's learning rate
    too, for SGD and for Adam alike, so one learning rate serves both roles. Under "standard" it would ask for n times
    the input's (√n times with Adam) and gets the input's: there tying is not the untied network's scaling, and readouts
    learn more slowly the wider they are, as under "ntk". Under both a token's logit of itself is of
    size √n at the start; under "mup" it has one size at every width.

    Source: Radford et al., Language models are unsupervised multitask learners, 2019; nanodo for the form.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        classes: int,
        width: int,
        depth: int,
        rule: Rule,
        rngs: nnx.Rngs,
        tied: bool = False,
    ) -> None:
        self.tokens = ScaledTable(classes, width, rule=rule, rngs=rngs, gain=sqrt(0.5))
        self.positions = ScaledTable(input_shape[0], width, rule=rule, rngs=rngs, gain=sqrt(0.5))
        self.blocks = nnx.List(TransformerBlock(width, rule=rule, rngs=rngs, causal=True) for _ in range(depth))
        self.norm = LayerNorm(width, rule=rule)
        self.readout = None if tied else ScaledLinear(width, classes, role="output", rule=rule, rngs=rngs)
        untied_size = rule.multiplier("output", width) * rule.init_std("output", width)
        self.tied_multiplier = multiplier(untied_size / rule.init_std("input", 1, gain=sqrt(0.5)))

    def prepare(self, tokens_BxT: jax.Array) -> jax.Array:
        """The tokens as they are."""
        return tokens_BxT

    def forward(self, tokens_BxT: jax.Array) -> jax.Array:
        """Logits of the token after each, which no later token changes."""
        h_BxTxN = self.tokens(tokens_BxT) + self.positions(jnp.arange(tokens_BxT.shape[1]))[None]
        for block in self.blocks:
            h_BxTxN = block(h_BxTxN)
        h_BxTxN = self.norm(h_BxTxN)
        if self.readout is not None:
            return self.readout(h_BxTxN)
        return self.tied_multiplier * linear(h_BxTxN, self.tokens.rows[...].T)

    def __call__(self, tokens_BxT: jax.Array) -> jax.Array:
        return self.forward(self.prepare(tokens_BxT))
