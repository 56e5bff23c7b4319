"""Extreme eigenpairs of an operator, with error bounds and sharper error estimates."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import isfinite, sqrt

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from sharplab.core import tree
from sharplab.core.arguments import checked
from sharplab.core.heap import give_back_freed
from sharplab.core.loops import Loop
from sharplab.core.naming import lookup
from sharplab.core.tree import PyTree
from sharplab.curvature.linear_operator import LinearOperator, match_structure
from sharplab.spectrum.deflation import solve_one_by_one, without
from sharplab.spectrum.duality import from_range, solved_by_dual, to_range
from sharplab.spectrum.eigenpairs import Eigenpairs, Solution
from sharplab.spectrum.noise import noise
from sharplab.spectrum.perturbation import constant, differentiable, with_held_tracers
from sharplab.spectrum.products import (
    NOT_FINITE,
    flattened,
    is_split,
    loop_of,
    product,
    widened,
)
from sharplab.spectrum.rows import combine_rows
from sharplab.spectrum.target import PREFERENCES, Target
from sharplab.spectrum.thick_restart import State, ThickRestart, ritz_vectors

RANDOM_SHARE = 0.1  # of a warm start's norm: noise that holds eigenvectors orthogonal to the start
LEAST_SPARE = 3  # vectors that the search for an eigenpair keeps beside it
NEXT_SHARE = 0.3  # weight of start vectors beyond the k wanted, which may have come to the top since
LARGE = 1 << 24  # bytes of a vector, from which on what compiling has freed counts, and a millisecond does not
ASYMMETRY_LIMIT = 1e-2  # of ‖A‖: no rounding is that large


@checked()
def eigsh(
    op: LinearOperator | Callable[[PyTree], PyTree],
    k: int = 1,
    *,
    which: str = "LA",
    tol: float = 1e-3,
    max_matvecs: int | None = None,
    start: PyTree | None = None,
    key: jax.Array | None = None,
    basis: int | None = None,
) -> Eigenpairs:
    """The k extreme eigenpairs of a symmetric operator A of shape (P, P), by thick-restart Lanczos.

    It stops when the error estimates meet `tol`. For k > 1, some products are then spent on a random vector, to find
    further copies of a multiple eigenvalue, which one Krylov space does not hold. Memory: 2k + 14 vectors, and those of
    a product. Usable under `jit` and eagerly; models that convolve are solved faster eagerly on CPUs. Operators A = RᵀR
    with fewer outputs than parameters (Gauss-Newton, Fisher) are solved as RRᵀ.

    Its `values` can be differentiated in all that a `LinearOperator` holds, such as params, batch and metric:
    dλ_i = v_iᵀ (dA) v_i, one product more per eigenpair. It errs by the first power of the vector's error, where the
    value errs by the second, so take a smaller `tol` for it; of a multiple eigenvalue it is one of many, as none is
    defined. Vectors, residuals and errors have no gradient here: what depends on them gets NaN; `start` counts as
    constant. A penalty on sharpness is a term of the loss:

        def penalised(w):
            return loss(w, batch) + 0.1 * sl.eigsh(sl.hessian(loss, w, batch)).values[0]

        @jax.jit
        def step(w, opt_state):
            updates, opt_state = optimizer.update(jax.grad(penalised)(w), opt_state)
            return optax.apply_updates(w, updates), opt_state

    Args:
        op: a `LinearOperator`, or a function v → A v together with `start`, which can be differentiated in what it
            holds in its closure or what `jax.tree_util.Partial` binds.
        k: the number of eigenpairs, 1 … P.
        which: "LA" the largest, "SA" the smallest, "LM" the largest by modulus, "BE" from both ends in turn, beginning
            with the largest.
        tol: the relative error at which to stop, above 0.
        max_matvecs: the most products to make; 240 + 40k by default.
        start: one vector like the operator's domain, or a stack of them, such as an earlier `Eigenpairs.vectors`: the
            first vector is their sum and a tenth of random direction, so that a crossing is not missed. Integers are
            taken as floats.
        key: for the random directions; a fixed one by default.
        basis: the most vectors to keep, k + 3 or more, in place of 2k + 14. For one eigenpair at 1 to 1.2 times the
            products as a rule; several are then found one after another, at two to four times.

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
        start = _as_floats(start)
        op = LinearOperator(_plain, with_held_tracers(op, start), start)
    if k > op.shape[0]:
        raise ValueError(f"k is {k}: an operator of shape {op.shape} has 1 to {op.shape[0]} eigenpairs.")
    least = k + LEAST_SPARE
    if basis is not None and basis < least:
        raise ValueError(f"basis is {basis}: {k} eigenpairs need {least} vectors, k + {LEAST_SPARE}, or more.")
    if basis is not None and max_matvecs is not None and k > 1 and max_matvecs < 2 * k:
        raise ValueError(f"max_matvecs is {max_matvecs}: with basis, {k} eigenpairs take {2 * k} products or more.")
    limit = 240 + 40 * k if max_matvecs is None else max_matvecs
    key = jax.random.key(0) if key is None else key
    solution = solve_extreme(
        constant(op), k, constant(start), key, which=which, tol=tol, limit=limit, check_missed=k > 1, basis=basis
    )
    if not tree.is_traced(solution.scale):
        _check_sound(solution, 0.0 if op.error is None else float(op.error))
    return differentiable(op, solution.pairs)


def _check_sound(solution: Solution, error: float) -> None:
    # On the host: as arrays these comparisons would be programs of their own.
    scale, floor = float(solution.scale), float(solution.pairs.floor)
    if not isfinite(scale):
        raise ValueError(NOT_FINITE)
    if floor - error > ASYMMETRY_LIMIT * scale:
        if error:
            raise ValueError(
                "differences of gradients are no products of one matrix here, as where a gradient jumps (ReLU): use "
                "method='exact', or float64."
            )
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
    level: jax.Array | None = None,
    basis: int | None = None,
) -> Solution:
    """The k extreme eigenpairs as `eigsh` finds them, with NaN as the answer where products are not finite.

    Args:
        op, k, start, key, which, tol: as in `eigsh`.
        limit: the most products to make.
        check_missed: whether to look for missed eigenpairs with a random vector, an array where `jit` decides that.
        spare: the number of vectors that `nearby` holds beyond k, where there are so many.
        level: with "LA", that of the values which are wanted: those below, but for the first, need no products.
    """
    op = widened(op)
    start = None if start is None else _stacked(op.domain, start)
    spare = min(spare, op.shape[0] - k)
    solver = ThickRestart(
        Target(which, k, basis),
        jnp.asarray(tol, op.dtype),
        jnp.asarray(limit),
        key,
        None if check_missed is False else jnp.asarray(check_missed),
        op.error,
        level,
    )
    if solved_by_dual(op, k, which):
        dual_start = None if start is None else to_range(op, start)
        solution = _from_dual(op, _solve(op.dual(), solver, dual_start, spare))
        # A value that is zero but for rounding has no vector in the domain. Under jit that is reported, not mended.
        if tree.is_traced(solution) or jnp.isfinite(solution.pairs.residuals).all() or not jnp.isfinite(solution.scale):
            return solution
    return _solve(op, solver, start, spare)


def _as_floats(start: PyTree) -> PyTree:
    """The start with its integers as floats."""
    for path, leaf in tree.named_leaves(start).items():
        if not (isinstance(leaf, int | float) or jnp.issubdtype(getattr(leaf, "dtype", object), jnp.number)):
            raise ValueError(f"start must be arrays of numbers, and {path or 'it'} is {leaf!r}.")
    whole = jax.tree.map(lambda v: jnp.issubdtype(jnp.result_type(v), jnp.integer), start)
    return tree.floats(
        jax.tree.map(lambda v, is_whole: jnp.asarray(v, float) if is_whole else v, start, whole), "start"
    )


def _stacked(domain: PyTree, start: PyTree) -> PyTree:
    """One vector or a stack of them, as a stack in the domain's structure and types."""

    def stacked(v: jax.Array, like: jax.Array) -> jax.Array:
        if v.ndim == like.ndim:
            v = jnp.expand_dims(v, 0)
        if v.shape[1:] != like.shape:
            raise ValueError(f"start has a leaf of shape {v.shape} where {like.shape} or a stack of such is asked for.")
        return v.astype(like.dtype)

    return jax.tree.map(stacked, _as_floats(match_structure(domain, start, "start")), domain)


def _from_dual(op: LinearOperator, solution: Solution) -> Solution:
    """The solution for A = RᵀR, given that for RRᵀ."""
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


def _solve(op: LinearOperator, solver: ThickRestart, start: PyTree | None, spare: int) -> Solution:
    if solver.target.is_tight:
        if solver.target.k > 1:
            return solve_one_by_one(op, solver, start, _solve_tight)
        return _solve_tight(op, solver, start)
    loop, flat = loop_of(op, solver.key), not is_split(op.domain)
    first = _start_of(op, solver, start, flat)
    run = _run_compiled if loop == "compiled" else _run
    return run(solver, op, first, spare, flat, loop)


def _start_of(op: LinearOperator, solver: ThickRestart, start: PyTree | None, flat: bool) -> PyTree:
    if flat:
        return _flat_first_vector(op.domain, solver.target.k, start, solver.key, RANDOM_SHARE)
    return _laid_out(_first_vector(op.domain, solver.target.k, start, solver.key, RANDOM_SHARE), op.domain)


def _solve_tight(
    op: LinearOperator, solver: ThickRestart, start: PyTree | None, outside_of: PyTree | None = None
) -> Solution:
    """One eigenpair in a basis of few rows, from a first vector orthogonal to the rows `outside_of`."""
    loop, flat = loop_of(op, solver.key), not is_split(op.domain)
    first = _start_of(op, solver, start, flat)
    if outside_of is not None:
        first = _without(first, outside_of)
    first = jax.tree.map(lambda x: jnp.expand_dims(x, 0), first)
    large = not tree.is_traced((op, first)) and sum(x.nbytes for x in jax.tree.leaves(first)) >= LARGE
    if large and loop == "compiled":
        _run_in_place.lower(solver, op, first, flat, loop).compile()  # which the call below has then no need to do
        give_back_freed()
    state = (_run_in_place if loop == "compiled" else _run_tight)(solver, op, first, flat, loop)
    return _shaped(solver, state, op.domain, flat)


_without = jax.jit(without)


def _run(solver: ThickRestart, op: LinearOperator, first: PyTree, spare: int, flat: bool, loop: Loop) -> Solution:
    state = solver.run(product(flattened(op) if flat else op, loop), first, loop)
    return _result(solver, state, op.domain, spare, flat)


_run_compiled = jax.jit(_run, static_argnames=("spare", "flat", "loop"))


def _run_tight(solver: ThickRestart, op: LinearOperator, first: PyTree, flat: bool, loop: Loop) -> State:
    """The last state with the wanted Ritz vectors alone for a basis, which take the place of the `first` rows."""
    first = jax.tree.map(lambda x: x[0], first)
    state = solver.run(product(flattened(op) if flat else op, loop), first, loop)
    return state._replace(space=state.space._replace(basis=ritz_vectors(state, solver.target.k)))


_run_in_place = jax.jit(_run_tight, static_argnames=("flat", "loop"), donate_argnames="first")


@partial(jax.jit, static_argnames="flat")
def _shaped(solver: ThickRestart, state: State, domain: PyTree, flat: bool) -> Solution:
    nearby = state.space.basis
    if flat:
        nearby = jax.vmap(tree.unravel, (0, None))(nearby, domain)
    return solver.result(state, nearby)


@partial(jax.jit, static_argnames=("spare", "flat"))
def _result(solver: ThickRestart, state: State, domain: PyTree, spare: int, flat: bool) -> Solution:
    nearby = ritz_vectors(state, solver.target.k + spare)
    if flat:
        nearby = jax.vmap(tree.unravel, (0, None))(nearby, domain)
    return solver.result(state, nearby)


@partial(jax.jit, static_argnums=(1, 4))
def _flat_first_vector(domain: PyTree, k: int, start: PyTree | None, key: jax.Array, share: float) -> jax.Array:
    flat_start = None if start is None else jax.vmap(tree.ravel)(start)
    return _first_vector(jax.eval_shape(tree.ravel, domain), k, flat_start, key, share)


def _first_vector(domain: PyTree, k: int, start: PyTree | None, key: jax.Array, share: float) -> PyTree:
    """The first vector: noise, or the sum of the start vectors with noise of a `share` of its norm.

    The Krylov space of a sum holds all of them after as many products as there are vectors, while a block of them
    would need as many for each further power of A.
    """
    random = noise(key, 0, domain)
    if start is None:
        return random
    count = len(jax.tree.leaves(start)[0])
    sizes = jax.vmap(tree.norm)(start)
    # A vector of zeros or NaN, which a diverged run leaves, is no start.
    usable = jnp.isfinite(sizes) & (sizes > 0)
    weights = jnp.where(usable, jnp.where(jnp.arange(count) < k, 1, NEXT_SHARE) / jnp.where(usable, sizes, 1), 0)
    total = jax.tree.map(
        lambda v: combine_rows(weights, jnp.where(jnp.expand_dims(usable, range(1, v.ndim)), v, 0)), start
    )
    size = tree.norm(total)
    amount = jnp.where(size > 0, share * size / sqrt(tree.size(domain) / 3), 1)  # over about the norm of noise
    return jax.tree.map(lambda v, r: v + (amount * r).astype(v.dtype), total, random)


def _laid_out(v: PyTree, domain: PyTree) -> PyTree:
    """The vector v laid out over devices as the parameters are, and with it the whole basis."""

    def place(x: jax.Array, like: jax.Array) -> jax.Array:
        layout = None if tree.is_traced((x, like)) else getattr(like, "sharding", None)
        return jax.device_put(x, layout) if isinstance(layout, NamedSharding) else x

    return jax.tree.map(place, v, domain)
