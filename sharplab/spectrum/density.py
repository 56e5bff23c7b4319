"""The density of eigenvalues by stochastic Lanczos quadrature, with its error."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sharplab.core.arguments import checked
from sharplab.core.loops import Loop
from sharplab.curvature.linear_operator import LinearOperator, an_operator
from sharplab.spectrum.estimate import Estimate, mean_of, with_rounding
from sharplab.spectrum.products import (
    each,
    loop_of,
    product,
    rademacher,
    require_at_least,
    require_finite,
    rounding_of,
    widened,
)
from sharplab.spectrum.tridiagonal import Rule, gauss_rule, tridiagonalize


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["nodes", "weights", "coarser", "matvecs"],
    meta_fields=["size", "rounding"],
)
@dataclass(frozen=True)
class SpectralDensity:
    """The density φ(t) = (1/P) Σ_i δ(t − λ_i) of eigenvalues, by a quadrature rule for each random probe.

    Attributes:
        nodes: shape (probes, steps), ascending in each row.
        weights: shape (probes, steps); each row sums to 1, unused slots are 0.
        coarser: the rules (nodes, weights) of about three quarters of the steps, shaped alike; the difference between
            both tells the error of the quadrature.
        matvecs: the number of products made.
        size: P.
        rounding: ε of the products, where they are of fewer bits than the nodes; 0 where they are not.

    Every standard error here is √(sampling² + quadrature²): the spread over probes ÷ √probes, and the change that
    the last quarter of the steps made.
    """

    nodes: jax.Array
    weights: jax.Array
    coarser: Rule
    matvecs: jax.Array
    size: int
    rounding: float = 0.0

    def integrate(self, function: Callable[[jax.Array], jax.Array]) -> Estimate:
        """The integral ∫ f φ = tr f(A)/P of a function that works elementwise on arrays (probes, steps).

        A function with values of shape (..., probes, steps) gives an estimate of shape (...).
        """
        values, coarser_values = function(self.nodes), function(self.coarser.nodes)
        eps = max(self.rounding, float(jnp.finfo(self.nodes.dtype).eps))
        mean, stderr = _mean(self.weights, values, self.coarser.weights, coarser_values, eps)
        return Estimate(mean, stderr, self.matvecs)

    def moment(self, p: int) -> jax.Array:
        """The moment tr(Aᵖ)/P, without quadrature error for p < 2·steps."""
        return self.integrate(lambda x: x**p).value

    def moment_stderr(self, p: int) -> jax.Array:
        """The standard error of `moment(p)`."""
        return self.integrate(lambda x: x**p).stderr

    def density(self, grid: ArrayLike, width: float | None = None) -> jax.Array:
        """The density smoothed by a Gaussian of standard deviation `width`, shaped like `grid`; it integrates to 1.

        The default of `width` is `default_width(grid)`.
        """
        return self._smoothed(grid, width).value

    def density_stderr(self, grid: ArrayLike, width: float | None = None) -> jax.Array:
        """The standard error of the smoothed `density(grid, width)`."""
        return self._smoothed(grid, width).stderr

    def default_width(self, grid: ArrayLike) -> jax.Array:
        """The default width: 5 standard deviations of the spectrum ÷ steps, but at least the grid's mean spacing.

        The first is the distance of neighbouring nodes in the middle of an even spectrum; a narrower bump than
        the second would fall between the points of the grid.
        """
        grid = jnp.asarray(grid, self.nodes.dtype)
        variance = self.moment(2) - self.moment(1) ** 2
        resolved = 5 * jnp.sqrt(jnp.maximum(variance, 0)) / self.nodes.shape[1]
        spacing = jnp.ptp(grid) / max(grid.size - 1, 1)
        smallest = jnp.sqrt(jnp.finfo(grid.dtype).tiny)  # a zero operator on a grid of one point
        return jnp.maximum(jnp.maximum(resolved, spacing), smallest)

    def _smoothed(self, grid: ArrayLike, width: float | None) -> Estimate:
        grid = jnp.asarray(grid, self.nodes.dtype)
        return self.integrate(partial(_bumps, grid, self.default_width(grid) if width is None else width))


@partial(jax.jit, static_argnames="eps")
def _mean(
    weights: jax.Array, values: jax.Array, coarser_weights: jax.Array, coarser_values: jax.Array, eps: float
) -> tuple[jax.Array, jax.Array]:
    weights, coarser_weights = (jax.lax.broadcast_to_rank(w, values.ndim) for w in (weights, coarser_weights))
    mean, sampling = mean_of(jnp.sum(weights * values, axis=-1))
    quadrature = mean - jnp.sum(coarser_weights * coarser_values, axis=-1).mean(-1)
    magnitude = jnp.sum(weights * jnp.abs(values), axis=-1).mean(-1)
    return mean, with_rounding(eps, jnp.hypot(sampling, quadrature), magnitude)


@jax.jit
def _bumps(grid: jax.Array, sigma: jax.Array, nodes: jax.Array) -> jax.Array:
    away = (grid[..., None, None] - jnp.expand_dims(nodes, range(grid.ndim))) / sigma
    return jnp.exp(-(away**2) / 2) / (sigma * jnp.sqrt(2 * jnp.pi))


@checked(op=an_operator)
def spectral_density(
    op: LinearOperator, *, steps: int = 64, probes: int = 8, key: jax.Array | None = None
) -> SpectralDensity:
    """The density φ(t) = (1/P) Σ_i δ(t − λ_i) of the eigenvalues of a symmetric A of shape (P, P).

    For each probe z of random signs, `steps` of Lanczos with full reorthogonalisation give the Gauss rule of the
    measure Σ_i (u_iᵀz)²/P δ(t − λ_i), whose expectation is φ. Makes steps · probes products, fewer where a Krylov
    space is exhausted. Memory: `steps` vectors. Usable under `jit` and eagerly.

    Args:
        op: the operator.
        steps: the nodes of each rule, at most P; 64 resolve single outliers, and the bulk to some per cent of its
            width.
        probes: the number of independent probes.
        key: for the probes; a fixed one by default.

    Raises:
        ValueError: if steps or probes are fewer than 2; and, outside of `jit`, if a product is not finite.

    References: Ubaru, Chen & Saad, SIAM J. Matrix Anal. Appl. 38 (2017); Ghorbani, Krishnan & Xiao, 1901.10159.

    >>> A = LinearOperator(lambda d: lambda v: d * v, jnp.array([1.0, 1.0, 4.0]), jnp.zeros(3))
    >>> found = spectral_density(A)
    >>> round(float(found.moment(2)), 4)  # tr(A²)/3
    6.0
    """
    require_at_least("steps", steps, 2)
    require_at_least("probes", probes, 2)
    key = jax.random.key(0) if key is None else key
    loop, keys = loop_of(op, key), jax.random.split(key, probes)
    run = _rules_compiled if loop == "compiled" else _rules
    fine, coarser, matvecs = run(op, keys, min(steps, op.shape[0]), loop)
    require_finite(fine)
    return SpectralDensity(fine.nodes, fine.weights, coarser, matvecs, op.shape[0], rounding_of(op))


def _rules(op: LinearOperator, keys: jax.Array, steps: int, loop: Loop) -> tuple[Rule, Rule, jax.Array]:
    # Orthogonality does not survive the short mantissas that accelerators multiply float32 with by default.
    with jax.default_matmul_precision("highest"):
        op = widened(op)
        matvec = product(op, loop)
        fewer = max(1, 3 * steps // 4)
        # Of an even spectrum, rules of odd and even length differ where two even ones may err alike.
        fewer -= fewer > 1 and (steps - fewer) % 2 == 0

        def one(key: jax.Array) -> tuple[Rule, Rule, jax.Array]:
            T = tridiagonalize(matvec, rademacher(key, op.domain), steps, loop)
            # In an exhausted space the rule is exact, and there is no coarser one to compare it with.
            count = jnp.where(T.exhausted, T.filled, fewer)
            fine = gauss_rule(T.diagonal, T.off_diagonal, T.filled)
            return fine, gauss_rule(T.diagonal, T.off_diagonal, count), T.filled

        fine, coarser, matvecs = each(one, keys, loop)
    return fine, coarser, matvecs.sum()


_rules_compiled = jax.jit(_rules, static_argnames=("steps", "loop"))
