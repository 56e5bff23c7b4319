"""The largest curvature dᵀAd over directions of norm 1, in the norm whose steepest descent an optimizer is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.arguments import checked, text
from sharplab.core.loops import Loop
from sharplab.core.tree import PyTree
from sharplab.curvature.linear_operator import LinearOperator, an_operator
from sharplab.curvature.preconditioned import precondition
from sharplab.spectrum.ascent import best_ascent
from sharplab.spectrum.eigenpairs import Eigenpairs
from sharplab.spectrum.extremal import solve_extreme
from sharplab.spectrum.products import each, loop_of, require_finite, widened
from sharplab.spectrum.unit_balls import UnitBall, named_ball

NORMS = ("spectral", "linf", "euclidean")
STARTS = 6  # the eigenvector of λmax, and random ones
FIRST_TOLERANCE = 1e-2  # of that eigenvector's eigenvalue


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["value", "direction", "per_layer", "converged", "gap", "gain", "lowest", "upper", "matvecs"],
    meta_fields=[],
)
@dataclass(frozen=True)
class NormSharpness:
    """The sharpness in a norm: a lower bound of S = max over ‖d‖ ≤ 1 of dᵀAd, with the d that has it.

    Attributes:
        value: dᵀAd of `direction`: S is no less. Where no positive curvature is found it is not above 0, and S is 0.
        direction: d like the operator's domain, with ‖d‖ = 1, or 0 where that is where all ascents end.
        per_layer: by path, the same with all of d in one leaf; None where not asked for. Where leaves do not interact
            S is their sum; else it may be more, and for A ⪰ 0 it is at most their number times their sum.
        converged: whether `gap` is within the tolerance: a point where ascents end, not that none elsewhere is higher.
        gap: 2(‖Ad‖* − dᵀAd), the most by which a point of the ball may be higher to first order (Frank-Wolfe).
        gain: by what share of `value` the last step of its ascent raised it, inf where none was made; of the Euclidean
            norm, the relative error that `eigsh` estimates.
        lowest: the least value at which one of the ascents ended: how much it matters where they begin.
        upper: λmax(A) · max ‖d‖₂², or 0 where that is less, which S does not exceed, as far as the error estimate of
            λmax holds.
        matvecs: the number of products made.
    """

    value: jax.Array
    direction: PyTree
    per_layer: dict[str, jax.Array] | None
    converged: jax.Array
    gap: jax.Array
    gain: jax.Array
    lowest: jax.Array
    upper: jax.Array
    matvecs: jax.Array


@checked(op=an_operator, norm=text)
def norm_sharpness(
    op: LinearOperator,
    norm: str = "spectral",
    *,
    per_layer: bool = False,
    matrices: Mapping[str, tuple[Sequence[int], Sequence[int]]] | None = None,
    tol: float = 1e-3,
    key: jax.Array | None = None,
) -> NormSharpness:
    """The sharpness S = max over ‖d‖ ≤ 1 of dᵀAd in a norm, a lower bound that ascents reached, by products alone.

    A step −η‖g‖* argmax over ‖d‖ ≤ 1 of ⟨g, d⟩, steepest descent in the norm, is stable on a quadratic of Hessian A
    where S < 2/η; a normalised one, −η argmax, lowers it where ηS < 2‖g‖*. S is at least 0, at d = 0.

    - "spectral", of Muon: the largest spectral norm of a matrix, all leaves of two axes being matrices. Leaves of one
      axis or none count by their largest modulus, as steps of Adam, which Muon leaves them to, have entries near ±1.
      For leaves with more axes say in `matrices` how they are matrices.
    - "linf", of Lion and of signs: the largest modulus of all entries. The maximum is NP-hard to find.
    - "euclidean", of gradient descent: S is λmax(A), found by `eigsh`.

    In the first two, d goes to polar factors and signs of Ad, from the eigenvector of λmax and five random vectors, in
    one program; the highest point is the answer. Values never fall along an ascent, whether A is definite or not.
    Where steps are scaled by factors D, as by muP, take `precondition(op, D)`.

    Args:
        op: the operator A.
        norm: "spectral", "linf" or "euclidean".
        per_layer: whether to find the value of each leaf by itself as well, at as many products each.
        matrices: by path, the axes that are rows and those that are columns of a leaf in the spectral norm, such as
            ((0, 1, 2), (3,)) of Flax's kernels of convolutions; along other axes lie matrices in parallel.
        tol: the share of the value that `gap` may be at the end, above 0; for "euclidean" the relative error.
        key: for the random vectors; a fixed one by default.

    Raises:
        ValueError: for an unknown norm, for leaves of more than two axes that `matrices` lacks, and, outside of `jit`,
            if products are not finite.

    Source: Islamov et al., arXiv 2603.05002.

    >>> A = LinearOperator(lambda v: lambda d: 0.1 * d + v * jnp.sum(v * d), jnp.eye(2) / 2**0.5, jnp.zeros((2, 2)))
    >>> [round(float(norm_sharpness(A, norm).value), 4) for norm in ("spectral", "euclidean")]
    [2.2, 1.1]
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be {', '.join(map(repr, NORMS[:-1]))} or {NORMS[-1]!r}, not {norm!r}.")
    if matrices and norm != "spectral":
        raise ValueError(f"matrices are of the norm 'spectral', and norm is {norm!r}: leave them out.")
    op = widened(op)
    key = jax.random.key(0) if key is None else key
    loop = loop_of(op, key)
    ball = None if norm == "euclidean" else named_ball(norm, op.domain, matrices or {})
    top = solve_extreme(op, 1, None, key, tol=tol if ball is None else FIRST_TOLERANCE).pairs
    require_finite(top.values)
    found = _of_eigenpair(top) if ball is None else _ascended(op, ball, top, key, tol, loop)
    if not per_layer:
        return found
    find = _layers_compiled if loop == "compiled" else _layers
    values, matvecs = find(op, ball, found.direction, key, tol, loop)
    by_path = dict(zip(tree.named_leaves(op.domain), values, strict=True))
    return replace(found, per_layer=by_path, matvecs=found.matvecs + matvecs.sum())


def _of_eigenpair(top: Eigenpairs) -> NormSharpness:
    value, residual, error = top.values[0], top.residuals[0], top.errors[0]
    return NormSharpness(
        value=value,
        direction=jax.tree.map(lambda v: v[0], top.vectors),
        per_layer=None,
        converged=top.converged[0],
        gap=2 * (jnp.hypot(value, residual) - value),
        gain=error / jnp.abs(value),
        lowest=value,
        upper=jnp.maximum(value + error, 0),
        matvecs=top.matvecs,
    )


def _ascended(
    op: LinearOperator, ball: UnitBall, top: Eigenpairs, key: jax.Array, tol: float, loop: Loop
) -> NormSharpness:
    ascend = _best_compiled if loop == "compiled" else best_ascent
    best = ascend(op, ball, top.vectors, key, STARTS, tol, loop)
    upper = jnp.maximum(top.values[0] + top.errors[0], 0) * ball.most_square(op.domain)
    return NormSharpness(
        value=best.value,
        direction=best.d,
        per_layer=None,
        converged=(best.gap <= tol * best.value) | (upper <= 0),
        gap=best.gap,
        gain=best.gain / jnp.abs(best.value),
        lowest=best.lowest,
        upper=upper,
        matvecs=top.matvecs + best.matvecs,
    )


_best_compiled = jax.jit(best_ascent, static_argnames=("ball", "count", "loop"))


def _layers(
    op: LinearOperator, ball: UnitBall | None, joint: PyTree, key: jax.Array, tol: float, loop: Loop
) -> tuple[jax.Array, jax.Array]:
    """The value of each leaf by itself, and the products made for it; `joint` is the direction of all."""
    leaves, treedef = jax.tree.flatten(op.domain)

    def one(number: jax.Array) -> tuple[jax.Array, jax.Array]:
        alone = jax.tree.unflatten(treedef, [(number == i).astype(op.dtype) for i in range(len(leaves))])
        # All leaves' operators are of one structure, so that one program serves them.
        layer = precondition(op, alone)
        start = tree.multiply(alone, joint)
        if ball is None:
            top = solve_extreme(layer, 1, start, key, tol=tol).pairs
            return top.values[0], top.matvecs
        best = best_ascent(layer, ball, jax.tree.map(lambda v: v[None], start), key, STARTS, tol, loop)
        return best.value, best.matvecs

    return each(one, jnp.arange(len(leaves)), loop)


_layers_compiled = jax.jit(_layers, static_argnames=("ball", "loop"))
