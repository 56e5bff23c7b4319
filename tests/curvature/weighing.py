"""A language model whose loss is a mean over tokens, more of some examples than of others, and its dense curvature."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

WORDS, WIDTH, LENGTH = 5, 3, 6
LENGTHS = np.array([6, 6, 1, 1, 1, 1, 5, 2])

_rng = np.random.default_rng(0)
TOKENS, LABELS = _rng.integers(0, WORDS, (2, len(LENGTHS), LENGTH)).astype(np.int32)
MASK = (np.arange(LENGTH) < LENGTHS[:, None]).astype(np.float32)
IGNORED = np.where(MASK > 0, LABELS, -100)
BATCH = (TOKENS, (LABELS, MASK))
PARAMS = {
    "embedding": _rng.standard_normal((WORDS, WIDTH)).astype(np.float32),
    "readout": _rng.standard_normal((WIDTH, WORDS)).astype(np.float32),
}


def model(params, tokens):
    """Logits (n, T, words)."""
    return jnp.tanh(params["embedding"][tokens]) @ params["readout"]


def masked_loss(outputs, targets):
    """Σ mask·nll / Σ mask."""
    labels, mask = targets
    nll = -jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[..., None], -1)[..., 0]
    return jnp.sum(mask * nll) / jnp.sum(mask)


def dense(batch=BATCH):
    """The Hessian, Gauss-Newton and empirical Fisher matrices of the whole loss, by derivatives of everything."""
    tokens, targets = batch
    flat, unravel = ravel_pytree(PARAMS)

    def outputs(w):
        return model(unravel(w), tokens)

    f = outputs(flat)
    J = jax.jit(jax.jacrev(outputs))(flat).reshape(f.size, -1)
    H = jax.jit(jax.hessian(lambda w: masked_loss(outputs(w), targets)))(flat)
    G = J.T @ jax.jit(jax.hessian(masked_loss))(f, targets).reshape(f.size, f.size) @ J
    residuals = jax.nn.softmax(f) - jax.nn.one_hot(targets[0], WORDS)
    gradients = jnp.einsum("ntc,ntcp->ntp", residuals, J.reshape(*f.shape, -1))
    F = jnp.einsum("nt,ntp,ntq->pq", targets[1], gradients, gradients) / targets[1].sum()
    return tuple(map(np.asarray, (H, G, F)))
