"""The log-determinant and the effective dimension of an operator, by quadrature."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from sharplab.core.arguments import checked, finite
from sharplab.curvature.linear_operator import LinearOperator, an_operator
from sharplab.spectrum.density import spectral_density
from sharplab.spectrum.estimate import Estimate


@checked(op=an_operator, shift=finite)
def logdet(
    op: LinearOperator, shift: float | jax.Array, *, steps: int = 64, probes: int = 8, key: jax.Array | None = None
) -> Estimate:
    """The log-determinant log det(A + shift·I) = Σ_i log(λ_i + shift), by stochastic Lanczos quadrature.

    Its standard error covers sampling and quadrature; the latter grows with the condition number of A + shift·I.
    Eigenvalues below the rounding of products, ε‖A‖, are not told apart: keep the shift well above.

    Args:
        op: A, of shape (P, P).
        shift: must exceed −λ_min.
        steps, probes, key: as in `spectral_density`.

    Raises:
        ValueError: outside of `jit`, if A + shift·I is found not to be positive definite (under `jit` the value is
            NaN); an eigenvalue below −shift that no probe sees is not noticed.

    References: Ubaru, Chen & Saad, SIAM J. Matrix Anal. Appl. 38 (2017).

    >>> A = LinearOperator(lambda d: lambda v: d * v, jnp.array([0.0, 1.0, 3.0]), jnp.zeros(3))
    >>> round(float(logdet(A, 1.0)), 4)  # log(1·2·4)
    2.0794
    """
    return _trace_of(_log, op, shift, steps, probes, key)


@checked(op=an_operator, shift=finite)
def effective_dimension(
    op: LinearOperator, shift: float | jax.Array, *, steps: int = 64, probes: int = 8, key: jax.Array | None = None
) -> Estimate:
    """The effective dimension tr(A (A + shift·I)⁻¹) = Σ_i λ_i/(λ_i + shift), by stochastic Lanczos quadrature.

    Of a positive semi-definite A it counts the directions with λ ≫ shift: those that data determine against a
    prior of precision `shift`.

    Args:
        op: A, of shape (P, P).
        shift: must exceed −λ_min.
        steps, probes, key: as in `spectral_density`.

    Raises:
        ValueError: outside of `jit`, if A + shift·I is found not to be positive definite (under `jit` the value is
            NaN); an eigenvalue below −shift that no probe sees is not noticed.

    References: MacKay, Neural Computation 4 (1992), eq. 4.9 (there γ); Maddox, Benton & Wilson, 2003.02139.

    >>> A = LinearOperator(lambda d: lambda v: d * v, jnp.array([0.0, 1.0, 3.0]), jnp.zeros(3))
    >>> round(float(effective_dimension(A, 1.0)), 4)  # 0 + 1/2 + 3/4
    1.25
    """
    return _trace_of(_share, op, shift, steps, probes, key)


def _log(shift: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.log(x + shift)


def _share(shift: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.where(x + shift > 0, x / (x + shift), jnp.nan)


def _trace_of(
    function: Callable[[jax.Array, jax.Array], jax.Array],
    op: LinearOperator,
    shift: float | jax.Array,
    steps: int,
    probes: int,
    key: jax.Array | None,
) -> Estimate:
    found = spectral_density(op, steps=steps, probes=probes, key=key)
    shift = jnp.asarray(shift, found.nodes.dtype)
    lowest = found.nodes.min()
    if not isinstance(lowest + shift, jax.core.Tracer) and lowest <= -shift:
        raise ValueError(
            f"shift must exceed {-float(lowest):g} to make A + shift·I positive, not {float(shift):g}: "
            f"A has eigenvalues down to {float(lowest):g} or less."
        )
    mean = found.integrate(partial(function, shift))
    return Estimate(found.size * mean.value, found.size * mean.stderr, mean.matvecs)
