"""Eigenpairs tracked from record to record: started from the last ones, told apart by overlap, audited."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.loops import Loop, repeat_while
from sharplab.core.tree import PyTree
from sharplab.curvature import LinearOperator
from sharplab.curvature.factor import Structure
from sharplab.spectrum.eigenpairs import Eigenpairs, Solution
from sharplab.spectrum.extremal import solve_extreme
from sharplab.spectrum.products import flattened, is_split, widened

AUDIT_EVERY = 8  # records: so often, a cold solve checks the one that began from the last vectors
SAME = 0.5  # squared overlap above which two vectors of different records are the same one: no two can both have it


class TrackedPairs(NamedTuple):
    """What passes from record to record: the k eigenvectors and the next one, which may come to the top."""

    vectors: PyTree  # leading axis k + 1; zeros before the first record
    identities: jax.Array  # (k + 1,) numbers that stay with a vector through crossings
    fresh: jax.Array  # the first number not yet given
    records: jax.Array
    missed: jax.Array  # audits so far that found an eigenvalue above those tracked


class Tracked(NamedTuple):
    """One record of k eigenpairs, or of as many as there are."""

    pairs: Eigenpairs
    identities: jax.Array  # (k,)
    missed: jax.Array  # whether an audit found an eigenvalue above those tracked, which then replaced them


class _Pass(NamedTuple):
    """The best solution so far, between the one or two solves of a record."""

    number: jax.Array
    solution: Solution  # its vectors are those nearby
    matvecs: jax.Array
    missed: jax.Array


def begin_tracking(like: PyTree, k: int) -> TrackedPairs:
    """The state before the first record of an operator on vectors like `like`."""
    return _no_records(Structure.of(like).wide, min(k + 1, tree.size(like)))


@partial(jax.jit, static_argnums=(0, 1))  # one program, where each array of zeros would be one
def _no_records(structure: Structure, count: int) -> TrackedPairs:
    zeros = jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), structure.abstract)
    none = jnp.zeros((), jnp.int32)
    return TrackedPairs(zeros, jnp.full(count, -1, jnp.int32), none, none, none)


def track_eigenpairs(
    op: LinearOperator,
    tracked: TrackedPairs,
    key: jax.Array,
    *,
    k: int,
    tol: float,
    loop: Loop = "compiled",
    level: jax.Array | None = None,
) -> tuple[TrackedPairs, Tracked]:
    """The k largest eigenpairs of an operator at this record, from those of the last; all, if it has fewer.

    With a `level`, of those k the ones above it: others are NaN, and cost products only until the first of them is seen
    to lie below.

    Each record starts from the vectors of the last. The first is a cold solve (for k > 1 with a random vector looking
    for missed copies), and every eighth is followed by one: where that finds more than the errors of both explain, the
    record is marked and takes its pairs.
    """
    first = tracked.records == 0
    audit = (tracked.records + 1) % AUDIT_EVERY == 0
    op = widened(op)
    k = min(k, op.shape[0])
    flat = not is_split(op.domain)
    solved, before = (flattened(op), jax.vmap(tree.ravel)(tracked.vectors)) if flat else (op, tracked.vectors)

    def solve(state: _Pass) -> _Pass:
        cold = first | (state.number == 1)
        start = jax.tree.map(lambda v: jnp.where(cold, 0, v), before)
        key_of_solve = jax.random.fold_in(key, state.number)
        check = cold if k > 1 else False
        found = solve_extreme(solved, k, start, key_of_solve, tol=tol, check_missed=check, spare=1, level=level)
        new, old = (pairs if level is None else _raised(pairs, level) for pairs in (found.pairs, state.solution.pairs))
        higher = ((new.values - old.values) > new.errors + old.errors).any()
        return _Pass(
            state.number + 1,
            tree.where((state.number == 0) | higher, _without_vectors(found), state.solution),
            state.matvecs + new.matvecs,
            (state.number == 1) & higher,
        )

    none = jnp.zeros((), jnp.int32)
    begin = _Pass(none, _no_solution(op, before, k), none, jnp.asarray(False))
    last = repeat_while(lambda s: s.number < jnp.where(audit, 2, 1), solve, begin, loop)

    found, nearby = last.solution.pairs, last.solution.nearby
    if level is None:
        identities, fresh = _identify(tracked, before, nearby)
    else:
        # Of those below only the first is kept: the others have not converged, and would spoil the next start.
        kept = jnp.arange(len(tracked.identities)) <= jnp.sum(found.values > level)
        nearby = jax.tree.map(lambda v: jnp.where(jnp.expand_dims(kept, range(1, v.ndim)), v, 0), nearby)
        identities = jnp.where(kept, _identify(tracked, before, nearby)[0], -1)
        fresh = jnp.maximum(tracked.fresh, identities.max() + 1)
        found = _above(found, level)
    if flat:
        nearby = jax.vmap(tree.unravel, (0, None))(nearby, op.domain)
    missed = jnp.where(last.missed, tracked.missed + 1, tracked.missed)
    state = TrackedPairs(nearby, identities, fresh, tracked.records + 1, missed)
    pairs = replace(found, vectors=jax.tree.map(lambda v: v[:k], nearby), matvecs=last.matvecs)
    return state, Tracked(pairs, identities[:k], last.missed)


def _above(pairs: Eigenpairs, level: jax.Array) -> Eigenpairs:
    """The pairs with NaN in the place of those that do not lie above a level."""
    values, residuals, errors = (
        jnp.where(pairs.values > level, x, jnp.nan) for x in (pairs.values, pairs.residuals, pairs.errors)
    )
    return replace(pairs, values=values, residuals=residuals, errors=errors)


def _raised(pairs: Eigenpairs, level: jax.Array) -> Eigenpairs:
    """The pairs with those below a level lifted to it: how far below they lie is not known."""
    errors = jnp.where(pairs.values > level, pairs.errors, 0)
    return replace(pairs, values=jnp.maximum(pairs.values, level), errors=errors)


def _without_vectors(solution: Solution) -> Solution:
    return solution._replace(pairs=replace(solution.pairs, vectors=None))


def _no_solution(op: LinearOperator, nearby: PyTree, k: int) -> Solution:
    unknown = jnp.full(k, jnp.nan, op.dtype)
    pairs = Eigenpairs(
        values=unknown,
        vectors=None,
        residuals=unknown,
        errors=unknown,
        floor=unknown[0],
        matvecs=jnp.zeros((), jnp.int32),
        converged=jnp.zeros(k, bool),
    )
    return Solution(pairs, nearby, unknown[0])


def _identify(tracked: TrackedPairs, before: PyTree, vectors: PyTree) -> tuple[jax.Array, jax.Array]:
    """The identity of each vector: that of the earlier vector with more than half of its square, else a fresh one."""
    overlaps = jax.tree.reduce(jnp.add, jax.tree.map(_products, before, vectors))
    same = overlaps**2 > SAME  # (earlier, now)
    known = same.any(axis=0)
    inherited = tracked.identities[jnp.argmax(same, axis=0)]
    given = tracked.fresh + jnp.cumsum(~known) - 1
    return jnp.where(known, inherited, given).astype(jnp.int32), tracked.fresh + (~known).sum().astype(jnp.int32)


def _products(old: jax.Array, new: jax.Array) -> jax.Array:
    """The inner products of the rows of two stacks of one leaf."""
    return old.reshape(len(old), -1) @ new.reshape(len(new), -1).T
