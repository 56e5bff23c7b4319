"""The gradient noise scale, about the batch size beyond which larger ones save few steps."""

import jax
import jax.numpy as jnp


@jax.jit
def noise_scale(products: jax.Array, size: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """The noise scale tr Σ/‖g‖², with Σ the covariance of single examples' gradients, and its standard error.

    Both parts are without bias: ‖g‖² is the mean of g_aᵀg_b over pairs a ≠ b of batches, tr Σ is m times what the mean
    of ‖g_a‖² has more. Errors are of the jackknife over batches, by the first order of the quotient. Where ‖g‖²
    cannot be told from 0 the error exceeds the value, which may then be negative. Of fewer than 3 batches both are NaN.

    Args:
        products: g_aᵀ g_b of the gradients of K batches, shape (K, K).
        size: m, how many examples a batch has.

    Source: McCandlish et al., arXiv 1812.06162, appendix A.
    """
    count = len(products)
    if count < 3:
        unknown = jnp.full((), jnp.nan, products.dtype)
        return unknown, unknown
    squares, rows = jnp.diagonal(products), products.sum(1)
    noise, signal = _parts(squares.sum(), rows.sum(), count, size)
    noise_without, signal_without = _parts(squares.sum() - squares, rows.sum() - 2 * rows + squares, count - 1, size)
    value = noise / signal
    moved = (noise_without - value * signal_without) / signal
    return value, jnp.sqrt((count - 1) * jnp.var(moved))


def _parts(squares: jax.Array, total: jax.Array, count: int, size: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """(tr Σ, ‖g‖²), given the sums of ‖g_a‖² and of all products."""
    signal = (total - squares) / (count * (count - 1))
    return size * (squares / count - signal), signal
