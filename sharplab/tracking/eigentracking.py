"""Eigenpairs tracked from record to record: started from the last ones, told apart by overlap, audited."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.loops import Loop, repeat_while
from sharplab.core.tree import PyTree
from sharplab.curvature import LinearOperator
from sharplab.spectrum.eigenpairs import Eigenpairs
from sharplab.spectrum.extremal import solve_extreme

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
    """One record of k eigenpairs."""

    pairs: Eigenpairs
    identities: jax.Array  # (k,)
    missed: jax.Array  # whether an audit found an eigenvalue above those tracked, which then replaced them


class _Pass(NamedTuple):
    """The best pairs so far, between the one or two solves of a record."""

    number: jax.Array
    pairs: Eigenpairs
    nearby: PyTree
    matvecs: jax.Array
    missed: jax.Array


def begin_tracking(like: PyTree, k: int) -> TrackedPairs:
    """The state before the first record of an operator on vectors like `like`."""
    count = min(k + 1, tree.size(like))
    zeros = jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), like)
    none = jnp.zeros((), jnp.int32)
    return TrackedPairs(zeros, jnp.full(count, -1, jnp.int32), none, none, none)


def track_eigenpairs(
    op: LinearOperator, tracked: TrackedPairs, key: jax.Array, *, k: int, tol: float, loop: Loop = "compiled"
) -> tuple[TrackedPairs, Tracked]:
    """The k largest eigenpairs of an operator at this record, from those of the last.

    Each record starts from the vectors of the last. The first is a cold solve (for k > 1 with a random vector looking
    for missed copies), and every eighth is followed by one: where that finds more than the errors of both explain, the
    record is marked and takes its pairs.
    """
    first = tracked.records == 0
    audit = (tracked.records + 1) % AUDIT_EVERY == 0

    def solve(state: _Pass) -> _Pass:
        cold = first | (state.number == 1)
        start = tree.where(cold, jax.tree.map(jnp.zeros_like, tracked.vectors), tracked.vectors)
        solution = solve_extreme(
            op, k, start, jax.random.fold_in(key, state.number), tol=tol, check_missed=cold if k > 1 else False, spare=1
        )
        new, old = solution.pairs, state.pairs
        higher = ((new.values - old.values) > new.errors + old.errors).any()
        take = (state.number == 0) | higher
        return _Pass(
            state.number + 1,
            tree.where(take, new, old),
            tree.where(take, solution.nearby, state.nearby),
            state.matvecs + new.matvecs,
            (state.number == 1) & higher,
        )

    none = jnp.zeros((), jnp.int32)
    begin = _Pass(none, _no_pairs(op, tracked.vectors, k), tracked.vectors, none, jnp.asarray(False))
    last = repeat_while(lambda s: s.number < jnp.where(audit, 2, 1), solve, begin, loop)

    identities, fresh = _identify(tracked, last.nearby)
    state = TrackedPairs(last.nearby, identities, fresh, tracked.records + 1, tracked.missed + last.missed)
    pairs = Eigenpairs(**{**vars(last.pairs), "matvecs": last.matvecs})
    return state, Tracked(pairs, identities[:k], last.missed)


def _no_pairs(op: LinearOperator, like: PyTree, k: int) -> Eigenpairs:
    unknown = jnp.full(k, jnp.nan, op.dtype)
    return Eigenpairs(
        values=unknown,
        vectors=jax.tree.map(lambda v: v[:k], like),
        residuals=unknown,
        errors=unknown,
        floor=unknown[0],
        matvecs=jnp.zeros((), jnp.int32),
        converged=jnp.zeros(k, bool),
    )


def _identify(tracked: TrackedPairs, vectors: PyTree) -> tuple[jax.Array, jax.Array]:
    """The identity of each vector: that of the earlier vector with more than half of its square, else a fresh one."""
    overlaps = jax.tree.reduce(
        jnp.add,
        jax.tree.map(
            lambda old, new: old.reshape(len(old), -1) @ new.reshape(len(new), -1).T, tracked.vectors, vectors
        ),
    )
    same = overlaps**2 > SAME  # (earlier, now)
    known = same.any(axis=0)
    inherited = tracked.identities[jnp.argmax(same, axis=0)]
    given = tracked.fresh + jnp.cumsum(~known) - 1
    return jnp.where(known, inherited, given).astype(jnp.int32), tracked.fresh + (~known).sum().astype(jnp.int32)
