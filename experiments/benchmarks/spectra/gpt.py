"""A decoder-only transformer as GPT-2 has it, and text for it to learn from."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

SUCCESSORS = 8  # of each token, with probabilities ∝ 1/rank
INIT_STD = 0.02


def _linear(fan_in: int, fan_out: int, rngs: nnx.Rngs, std: float = INIT_STD) -> nnx.Linear:
    return nnx.Linear(fan_in, fan_out, kernel_init=nnx.initializers.normal(std), rngs=rngs)


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # Epsilon and variance as in PyTorch, so that the same network can be written there.
    return nnx.LayerNorm(width, epsilon=1e-5, use_fast_variance=False, rngs=rngs)


class Block(nnx.Module):
    """A transformer block: h ← h + attention(norm(h)); h ← h + mlp(norm(h))."""

    def __init__(self, width: int, heads: int, depth: int, rngs: nnx.Rngs) -> None:
        residual_std = INIT_STD / (2 * depth) ** 0.5
        self.norm1 = _norm(width, rngs)
        self.attend = _linear(width, 3 * width, rngs)
        self.mix = _linear(width, width, rngs, residual_std)
        self.norm2 = _norm(width, rngs)
        self.expand = _linear(width, 4 * width, rngs)
        self.contract = _linear(4 * width, width, rngs, residual_std)
        self.heads = heads

    def __call__(self, h_BxTxD: jax.Array) -> jax.Array:
        B, T, D = h_BxTxD.shape
        qkv_BxTx3xHxK = self.attend(self.norm1(h_BxTxD)).reshape(B, T, 3, self.heads, D // self.heads)
        q, k, v = (qkv_BxTx3xHxK[:, :, i] for i in range(3))
        scores_BxHxTxT = jnp.einsum("bihk,bjhk->bhij", q, k) / (D // self.heads) ** 0.5
        scores_BxHxTxT = jnp.where(jnp.tri(T, dtype=bool), scores_BxHxTxT, -jnp.inf)
        mixed_BxTxHxK = jnp.einsum("bhij,bjhk->bihk", jax.nn.softmax(scores_BxHxTxT), v)
        h_BxTxD = h_BxTxD + self.mix(mixed_BxTxHxK.reshape(B, T, D))
        return h_BxTxD + self.contract(jax.nn.gelu(self.expand(self.norm2(h_BxTxD)), approximate=True))


class GPT(nnx.Module):
    """A GPT-2: embeddings of tokens and positions, `depth` blocks, a norm, logits by the tokens' embedding."""

    def __init__(self, *, vocabulary: int, positions: int, width: int, depth: int, heads: int, rngs: nnx.Rngs) -> None:
        embed = nnx.initializers.normal(INIT_STD)
        self.tokens = nnx.Embed(vocabulary, width, embedding_init=embed, rngs=rngs)
        self.positions = nnx.Embed(positions, width, embedding_init=embed, rngs=rngs)
        self.blocks = nnx.List(Block(width, heads, depth, rngs) for _ in range(depth))
        self.norm = _norm(width, rngs)

    def forward(self, tokens_BxT: jax.Array) -> jax.Array:
        """Logits of the next token, shape (B, T, V)."""
        h_BxTxD = self.tokens(tokens_BxT) + self.positions(jnp.arange(tokens_BxT.shape[1]))[None]
        for block in self.blocks:
            h_BxTxD = block(h_BxTxD)
        return self.norm(h_BxTxD) @ self.tokens.embedding[...].T


def markov_text(vocabulary: int, sequences: int, length: int, seed: int) -> np.ndarray:
    """Token sequences of one Markov chain, which `vocabulary` alone determines, int32 of shape (sequences, length)."""
    successors = np.random.default_rng(0).integers(vocabulary, size=(vocabulary, SUCCESSORS))
    chances = 1 / np.arange(1, SUCCESSORS + 1)
    rng = np.random.default_rng(seed)
    ranks = rng.choice(SUCCESSORS, size=(length, sequences), p=chances / chances.sum())
    text = np.empty((length, sequences), np.int32)
    text[0] = rng.integers(vocabulary, size=sequences)
    for before, after, rank in zip(text[:-1], text[1:], ranks[1:], strict=True):
        after[:] = successors[before, rank]
    return text.T
