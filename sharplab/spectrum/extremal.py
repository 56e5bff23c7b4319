"""Eigenpairs at the ends of a spectrum, with bounds that hold and estimates that are sharp."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.loops import Loop, repeat_while
from sharplab.core.naming import lookup
from sharplab.core.tree import PyTree
from sharplab.curvature.operator import LinearOperator, match_structure
from sharplab.spectrum import search as searching
from sharplab.spectrum.duality import from_range, solved_by_dual, to_range
from sharplab.spectrum.products import loop_of
from sharplab.spectrum.rows import combine_rows
from sharplab.spectrum.search import PREFERENCES, Search, Target

RANDOM_SHARE = 0.1  # of a warm start's norm, so that an eigenvector orthogonal to it can rise
NEXT_SHARE = 0.3  # of vectors given beyond the k wanted, which may have come to the top since
ASYMMETRY_LIMIT = 1e-2  # of ‖A‖: no rounding is that large


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "vectors", "residuals", "errors", "floor", "matvecs", "converged"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Eigenpairs:
    """Approximate eigenpairs θ, v of A with ‖v‖ = 1, in the order of preference.

    Attributes:
        values: θ, shape (k,).
        vectors: v, a pytree with a leading axis k.
        residuals: ‖A v − θ v‖ plus `floor`, shape (k,): some eigenvalue lies that near to θ, always.
        errors: an estimate of |θ − λ|, shape (k,): that of Kato and Temple (`spectrum.bounds.kato_temple`), but no less
            than what the products still change in θ (`spectrum.bounds.remaining_change`), nor than `floor`.
        floor: the rounding of the product itself, as an error of an eigenvalue.
        matvecs: how many products were made.
        converged: errors ≤ max(tol·|θ|, floor), shape (k,).
    """

    values: jax.Array
    vectors: PyTree
    residuals: jax.Array
    errors: jax.Array
    floor: jax.Array
    matvecs: jax.Array
    converged: jax.Array


def eigsh(
    op: LinearOperator | Callable[[PyTree], PyTree],
    k: int = 1,
    *,
    which: str = "LA",
    tol: float = 1e-3,
    max_matvecs: int | None = None,
    start: PyTree | None = None,
    key: jax.Array | None = None,
) -> Eigenpairs:
    """The k extreme eigenpairs of a symmetric operator A of shape (P, P), by thick-restart Lanczos.

    Stops when the error estimates meet `tol`. For k > 1, some products are then spent on a random vector: it finds
    what one Krylov space cannot show, further copies of a multiple eigenvalue. Memory: 2k + 14 vectors, and those of a
    product. Usable under `jit` and eagerly; models that convolve on CPUs are best solved eagerly, where each product is
    dispatched by itself. Operators A = RᵀR with fewer outputs than parameters (Gauss-Newton, Fisher) are solved as RRᵀ.

    Args:
        op: a `LinearOperator`, or a function v → A v together with `start`.
        k: how many eigenpairs, 1 … P.
        which: "LA" the largest, "SA" the smallest, "LM" the largest by modulus, "BE" from both ends in turn, beginning
            with the largest.
        tol: the relative error at which to stop.
        max_matvecs: the most products to make; 240 + 40k unless told.
        start: one vector like the operator's domain, or a stack of them, such as an earlier `Eigenpairs.vectors`: the
            search begins with their sum and a tenth of random direction, so that a crossing is not missed.
        key: for the random directions; a fixed one unless told.

    Raises:
        ValueError: for a bad argument; and, outside of `jit`, if products are not finite or not symmetric (under `jit`
            the values are then NaN, or `converged` False).

    References: Parlett, The Symmetric Eigenvalue Problem (1998), §11; Stathopoulos & Saad, ETNA 7 (1998) for restarts.

    >>> A = LinearOperator(lambda d: lambda v: d * v, jnp.array([1.0, 2.0, 5.0]), jnp.zeros(3))
    >>> top = eigsh(A, 2)
    >>> [round(float(x), 4) for x in top.values], [bool(c) for c in top.converged]
    ([5.0, 2.0], [True, True])
    """
    lookup("which", which, PREFERENCES)
    if not isinstance(op, LinearOperator):
        if start is None:
            raise ValueError("a plain function op needs start=, a vector that shows what it acts on.")
        op = LinearOperator(_plain, op if isinstance(op, Partial) else Partial(op), start)
    if not 1 <= k <= op.shape[0]:
        raise ValueError(f"k is {k}: an operator of shape {op.shape} has 1 to {op.shape[0]} eigenpairs.")
    limit = 240 + 40 * k if max_matvecs is None else max_matvecs
    solution = solve_extreme(
        op, k, start, jax.random.key(0) if key is None else key, which=which, tol=tol, limit=limit, check_missed=k > 1
    )
    if not isinstance(solution.scale, jax.core.Tracer):
        _check_sound(solution)
    return solution.pairs


class Solution(NamedTuple):
    """What a solve leaves behind."""

    pairs: Eigenpairs
    nearby: PyTree  # the wanted vectors and the next ones, stacked: to start a later solve from
    scale: jax.Array  # ‖A‖ as far as it is known


def _check_sound(solution: Solution) -> None:
    if not jnp.isfinite(solution.scale):
        raise ValueError("the operator's product is not finite: check params and batch for NaN or inf.")
    if solution.pairs.floor > ASYMMETRY_LIMIT * solution.scale:
        raise ValueError(
            "the operator's products are not those of one symmetric matrix: dropout, batch statistics or a data source "
            "that shuffles or augments change them from product to product; switch these off."
        )


def _plain(function: Callable[[PyTree], PyTree]) -> Callable[[PyTree], PyTree]:
    return function


def solve_extreme(
    op: LinearOperator,
    k: int,
    start: PyTree | None,
    key: jax.Array,
    *,
    which: str = "LA",
    tol: float = 1e-3,
    limit: int = 240,
    check_missed: bool | jax.Array = False,
    spare: int = 0,
) -> Solution:
    """`eigsh` for callers that take NaN, from an operator that is not finite, as an answer.

    `check_missed`: whether to look for missed eigenpairs with a random vector, an array where `jit` decides that;
    `spare`: how many vectors `nearby` holds beyond k.
    """
    start = None if start is None else _stacked(op.domain, start)
    target, check_missed = Target(which, k, check_missed is not False), jnp.asarray(check_missed)
    if solved_by_dual(op, k, which):
        below = None if start is None else to_range(op, start)
        solution = _from_dual(op, _solve(op.dual(), target, below, key, check_missed, tol, limit, spare))
        # A value that is zero but for rounding has no vector to lift. Under jit that is reported, not mended.
        if _under_jit(solution) or jnp.isfinite(solution.pairs.residuals).all() or not jnp.isfinite(solution.scale):
            return solution
    return _solve(op, target, start, key, check_missed, tol, limit, spare)


def _under_jit(values: PyTree) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def _stacked(domain: PyTree, start: PyTree) -> PyTree:
    """One vector or a stack of them, as a stack in the domain's structure."""
    start = match_structure(domain, start, "start")
    return jax.tree.map(lambda v, like: jnp.reshape(v, (-1, *jnp.shape(like))), start, domain)


def _from_dual(op: LinearOperator, solution: Solution) -> Solution:
    nearby, norms = from_range(op, solution.nearby)
    pairs = solution.pairs
    k = len(pairs.values)
    norms = norms[:k]
    # ‖A v − θ v‖ = ‖Rᵀr‖/‖Rᵀu‖ for the residual r in the range, and ‖Rᵀr‖ ≤ √‖A‖·‖r‖.
    stretch = jnp.sqrt(solution.scale + pairs.residuals) / jnp.where(norms > 0, norms, 1)
    known = norms**2 > pairs.floor
    return solution._replace(
        nearby=nearby,
        pairs=replace(
            pairs,
            vectors=jax.tree.map(lambda v: v[:k], nearby),
            residuals=jnp.where(known, jnp.maximum(stretch, 1) * pairs.residuals, jnp.inf),
            converged=pairs.converged & known,
        ),
    )


def _solve(
    op: LinearOperator,
    target: Target,
    start: PyTree | None,
    key: jax.Array,
    check_missed: jax.Array,
    tol: float,
    limit: int,
    spare: int,
) -> Solution:
    flat = not _split(op.domain)
    if flat:
        # A random vector of one array is a program several times smaller than one of a network's many leaves.
        flat_start = None if start is None else jax.vmap(tree.ravel)(start)
        first = _first(jax.eval_shape(tree.ravel, op.domain), target.k, flat_start, key)
    else:
        first = _laid_out(_first(op.domain, target.k, start, key), op.domain)
    tolerance, most = jnp.asarray(tol, jnp.result_type(op.dtype, jnp.float32)), jnp.asarray(limit)
    if loop_of(op, key) == "compiled":
        return _solve_compiled(op, first, key, check_missed, tolerance, most, target, spare, flat)

    def product(v: PyTree) -> PyTree:
        return _ravel_once(op(_unravel_once(v, op.domain))) if flat else op(v)

    search = _run_loops(
        lambda s: _unfinished_once(s, tolerance, most, op.shape[0], target),
        lambda s: _needs_restart_once(s, tolerance, target),
        lambda s: _restart_once(s, target),
        lambda s: _take_once(s, product(_direction_once(s)), tolerance, key, target),
        _begin_once(first, key, check_missed, target),
        "python",
    )
    return _finish_once(search, op.domain, tolerance, target, spare, flat)


def _run_loops(
    unfinished: Callable[[Search], jax.Array],
    needs_restart: Callable[[Search], jax.Array],
    restart: Callable[[Search], Search],
    take: Callable[[Search], Search],
    search: Search,
    loop: Loop,
) -> Search:
    """Products, and restarts between them: loops of their own, since a branch would copy the basis."""

    def grow(search: Search) -> Search:
        search = repeat_while(needs_restart, restart, search, loop)  # once at most
        return repeat_while(lambda s: unfinished(s) & ~needs_restart(s), take, search, loop)

    return repeat_while(unfinished, grow, search, loop)


def _split(domain: PyTree) -> bool:
    """Whether parameters are split over devices; then so is the basis, leaf by leaf, else it is of flat vectors."""
    layouts = [] if _under_jit(domain) else [getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(domain)]
    return any(isinstance(layout, NamedSharding) and not layout.is_fully_replicated for layout in layouts)


def _first(domain: PyTree, k: int, start: PyTree | None, key: jax.Array) -> PyTree:
    """The vector to begin with: noise, or the sum of the given ones with some noise.

    One vector for all, since the Krylov space of a sum holds them all after as many products as they are, while a
    block of them would need as many for each further power of A.
    """
    noise = tree.normal(key, domain)
    noise = tree.scale(1 / tree.norm(noise), noise)
    if start is None:
        return noise
    count = len(jax.tree.leaves(start)[0])
    sizes = jax.vmap(tree.norm)(start)
    # A start of zeros or NaN, as a run that has diverged leaves behind, is no start.
    usable = jnp.isfinite(sizes) & (sizes > 0)
    weights = jnp.where(usable, jnp.where(jnp.arange(count) < k, 1, NEXT_SHARE) / jnp.where(usable, sizes, 1), 0)
    total = jax.tree.map(
        lambda v: combine_rows(weights, jnp.where(jnp.expand_dims(usable, range(1, v.ndim)), v, 0)), start
    )
    size = tree.norm(total)
    share = jnp.where(size > 0, RANDOM_SHARE * size, 1)
    return jax.tree.map(lambda v, r: v + (share * r).astype(v.dtype), total, noise)


def _laid_out(v: PyTree, domain: PyTree) -> PyTree:
    """v laid out over devices as the parameters are, and with it all vectors of the search."""

    def place(x: jax.Array, like: jax.Array) -> jax.Array:
        layout = None if _under_jit((x, like)) else getattr(like, "sharding", None)
        return jax.device_put(x, layout) if isinstance(layout, NamedSharding) else x

    return jax.tree.map(place, v, domain)


def _finish(search: Search, domain: PyTree, tol: jax.Array, target: Target, spare: int, flat: bool) -> Solution:
    wanted = slice(0, target.k)
    values = jnp.where(search.ritz.used[wanted], search.ritz.values[wanted], jnp.nan)
    nearby = searching.ritz_vectors(search, min(target.k + spare, len(search.space.projected)))
    if flat:
        nearby = jax.vmap(tree.unravel, (0, None))(nearby, domain)
    floor = searching.rounding_floor(search.space, search.ritz)
    pairs = Eigenpairs(
        values=values,
        vectors=jax.tree.map(lambda v: v[wanted], nearby),
        residuals=search.residuals + floor,
        errors=search.errors,
        floor=floor,
        matvecs=search.matvecs,
        converged=searching.converged(search, tol, target) & jnp.isfinite(values),
    )
    return Solution(pairs, nearby, searching.spectral_scale(search.ritz))


@partial(jax.jit, static_argnames=("target", "spare", "flat"))
def _solve_compiled(
    op: LinearOperator,
    first: PyTree,
    key: jax.Array,
    check_missed: jax.Array,
    tol: jax.Array,
    limit: jax.Array,
    target: Target,
    spare: int,
    flat: bool,
) -> Solution:
    matvec = op.matvec()

    def product(v: PyTree) -> PyTree:
        return tree.ravel(matvec(tree.unravel(v, op.domain))) if flat else matvec(v)

    search = _run_loops(
        lambda s: searching.unfinished(s, tol, limit, op.shape[0], target),
        lambda s: searching.needs_restart(s, tol, target),
        lambda s: searching.restart(s, target),
        lambda s: searching.take(s, product(s.space.direction), tol, key, target),
        searching.begin(first, key, check_missed, target),
        "compiled",
    )
    return _finish(search, op.domain, tol, target, spare, flat)


_ravel_once, _unravel_once = jax.jit(tree.ravel), jax.jit(tree.unravel)
_direction_once = jax.jit(lambda search: search.space.direction)
_begin_once = jax.jit(searching.begin, static_argnames="target")
_take_once = jax.jit(searching.take, static_argnames="target", donate_argnames="search")
_restart_once = jax.jit(searching.restart, static_argnames="target", donate_argnames="search")
_needs_restart_once = jax.jit(searching.needs_restart, static_argnames="target")
_unfinished_once = jax.jit(searching.unfinished, static_argnames=("size", "target"))
_finish_once = jax.jit(_finish, static_argnames=("target", "spare", "flat"))
