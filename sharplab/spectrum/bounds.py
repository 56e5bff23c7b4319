"""Error estimates of Ritz values."""

import jax
import jax.numpy as jnp

CLOSEST = 100  # |θ| ÷ the distance at which an eigenvalue must be reckoned with that no Ritz value shows


def kato_temple(values: jax.Array, residuals: jax.Array, used: jax.Array) -> jax.Array:
    """Estimates of |θ_i − λ_i| from the residuals r_i = ‖A y_i − θ_i y_i‖ of Ritz pairs, shape (m,).

    Each other Ritz value θ_j bounds a cluster: the Ritz values nearer to θ_i. With the rest of the spectrum at a
    distance δ_ij = |θ_i − θ_j| − r_j or more, |θ_i − λ_i| ≤ Σ_cluster r²/δ_ij; for the nearest θ_j this is the
    inequality of Kato and Temple. The least over j is taken, or r_i, which always bounds the distance to some
    eigenvalue, if that is less. It is an estimate, since the rest of the spectrum is known by Ritz values only, and one
    of these may blend two eigenvalues. So no δ above |θ_i|/100 is believed, which makes such errors rare.

    Args:
        values: θ, shape (m,).
        residuals: r, shape (m,); inf where it was not measured.
        used: which slots hold a Ritz pair, shape (m,).

    References: Kato, J. Phys. Soc. Japan 4 (1949); Mathias, SIAM J. Matrix Anal. Appl. 19 (1998) for clusters.

    >>> estimates = kato_temple(jnp.array([3.0, 1.0]), jnp.array([0.1, 0.0]), jnp.array([True, True]))
    >>> [round(float(e), 4) for e in estimates]
    [0.1, 0.0]
    >>> estimates = kato_temple(jnp.array([3.0, 1.0]), jnp.array([0.003, 0.0]), jnp.array([True, True]))
    >>> [round(float(e), 6) for e in estimates]  # 0.003²/0.03
    [0.0003, 0.0]
    """
    distance = jnp.abs(values[:, None] - values[None])
    nearer = (distance[:, None, :] < distance[:, :, None]) & used[None, None]
    cluster = jnp.sum(jnp.where(nearer, residuals[None, None] ** 2, 0), axis=-1)
    gap = distance - jnp.where(jnp.isfinite(residuals), residuals, 0)[None]
    gap = jnp.minimum(gap, jnp.abs(values)[:, None] / CLOSEST)
    sharp = jnp.where(used[None] & (gap > 0), cluster / gap, jnp.inf)
    return jnp.minimum(residuals, sharp.min(axis=1))


SLOWEST = 0.8  # the largest ratio of successive changes that is believed
SAFETY = 2.0


def remaining_change(change: jax.Array, before: jax.Array) -> jax.Array:
    """An estimate of what later products still change in a value, if the changes decay as the last two did.

    With c the last change and ρ its ratio to the one before, at most 0.8 (and 0.8 where the one before is unknown,
    given as inf), the changes to come add up to c·ρ/(1 − ρ). Twice that is returned.

    >>> [round(float(x), 4) for x in remaining_change(jnp.array([0.1, 0.1]), jnp.array([1.0, jnp.inf]))]
    [0.0222, 0.8]
    """
    known = jnp.isfinite(before) & (before > 0)
    ratio = jnp.where(known, jnp.minimum(change / jnp.where(known, before, 1), SLOWEST), SLOWEST)
    return jnp.where(change > 0, SAFETY * change * ratio / (1 - ratio), 0)
