"""The search for extreme eigenpairs as a pure step, to be repeated under either loop until it is done."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.spectrum.bounds import kato_temple, remaining_change
from sharplab.spectrum.rows import combine_rows
from sharplab.spectrum.subspace import (
    RitzPairs,
    Subspace,
    empty_subspace,
    orthonormal,
    residuals,
    restarted,
    ritz_pairs,
    ritz_values_from,
    rotated,
    with_direction,
    with_product,
)

SPARE_ROWS = 14  # of the basis, beyond twice the eigenpairs wanted
KEPT_SPARE = 3  # Ritz vectors kept across a restart, beyond those wanted
CHECK = 10  # products at most on a random vector, before several eigenpairs are believed to be the extreme ones
SHORTEST_CHECK = 4
REACH = 4  # what a check may still gain, in gains of its last product
ROUNDING = 32  # units of ε·‖A‖ that a product's own rounding is taken to reach at least


def _both_ends(values: jax.Array, used: jax.Array) -> jax.Array:
    from_below = jnp.cumsum(used) - 1
    from_above = used.sum() - 1 - from_below
    return -jnp.minimum(2 * from_above, 2 * from_below + 1)


# (ascending values, used) → how much each is wanted
PREFERENCES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "LA": lambda values, used: values,
    "SA": lambda values, used: -values,
    "LM": lambda values, used: jnp.abs(values),
    "BE": _both_ends,
}


class Target(NamedTuple):
    """Which eigenpairs are wanted; what a program is compiled for."""

    which: str
    k: int
    check_missed: bool  # whether missed eigenpairs may be looked for with a random vector

    def rows(self, size: int) -> int:
        """Vectors in the basis at most."""
        return min(2 * self.k + SPARE_ROWS, size + 1)

    @property
    def kept(self) -> int:
        """Ritz vectors that survive a restart."""
        return self.k + KEPT_SPARE

    def oriented(self, values: jax.Array) -> jax.Array:
        """How far out each value is, per end of the spectrum that is searched: shape (ends, …)."""
        ends = {"LA": [values], "SA": [-values], "LM": [jnp.abs(values)], "BE": [values, -values]}
        return jnp.stack(ends[self.which])

    def least(self, wanted: jax.Array) -> jax.Array:
        """The height of the innermost wanted value, per end."""
        oriented = self.oriented(wanted)
        if self.which == "BE":
            mine = (jnp.arange(self.k) % 2) == jnp.arange(2)[:, None]
            oriented = jnp.where(mine, oriented, jnp.inf)
        return oriented.min(axis=1)


class MissedCheck(NamedTuple):
    """The Krylov space of a random vector orthogonal to all that was found: does it hold an eigenpair missed?"""

    begin: jax.Array  # its first row in the basis; -1 while there is none
    best: jax.Array  # the height of its most extreme Ritz value, per end
    over: jax.Array  # whether it has shown that nothing was missed; so from the beginning, where nothing is looked for
    wanted: jax.Array


class Search(NamedTuple):
    """All that passes from product to product."""

    space: Subspace
    ritz: RitzPairs
    residuals: jax.Array  # (k,)
    errors: jax.Array  # (k,): estimates
    change: jax.Array  # (k,): what the last product changed in the values
    check: MissedCheck
    matvecs: jax.Array


def begin(start: PyTree, key: jax.Array, check_missed: jax.Array, target: Target) -> Search:
    """The state before the first product; `check_missed` counts only where `target` allows it."""
    space = empty_subspace(start, target.rows(tree.size(start)))
    usable = (tree.norm(start) > 0) & jnp.isfinite(tree.norm(start))
    first = jax.lax.cond(usable, lambda: start, lambda: tree.normal(key, start))
    space = with_direction(space, tree.scale(1 / tree.norm(first), first), jnp.asarray(True))
    unknown = jnp.full(target.k, jnp.inf, space.projected.dtype)
    return Search(
        space,
        ritz_pairs(space, PREFERENCES[target.which]),
        unknown,
        unknown,
        unknown,
        _no_check(space, target, check_missed),
        jnp.zeros((), jnp.int32),
    )


def _complete(space: Subspace) -> bool:
    """Whether all of the domain has room in the basis."""
    rows = len(space.projected)
    return tree.size(space.basis) == rows * (rows - 1)


def _rows_left(space: Subspace, target: Target) -> jax.Array:
    """Products that can be made beside what a restart keeps, before the next one."""
    return len(space.projected) - 2 - target.kept - space.pending


def _check_length(space: Subspace, target: Target) -> jax.Array:
    return jnp.clip(_rows_left(space, target), 1, CHECK)


def _no_check(space: Subspace, target: Target, wanted: jax.Array) -> MissedCheck:
    unknown = jnp.full(2 if target.which == "BE" else 1, jnp.inf, space.projected.dtype)
    # Each check leaves a pending row behind; in the end there is no room for another.
    possible = _complete(space) | (_rows_left(space, target) > SHORTEST_CHECK)
    return MissedCheck(jnp.full((), -1, jnp.int32), -unknown, ~(wanted & possible), wanted)


def take(search: Search, product: PyTree, tol: jax.Array, key: jax.Array, target: Target) -> Search:
    """The next state, given the product of A with `space.direction`."""
    before = search.ritz
    checking = converged(search, tol, target).all()
    space = with_product(search.space, product, 0.1 * rounding_floor(search.space, before))
    ritz = ritz_pairs(space, PREFERENCES[target.which])

    beyond = residuals(space, ritz)
    # Ritz values further in have not settled. If they bounded clusters too, estimates within them would be too small.
    settled = ritz.used & (jnp.arange(len(ritz.used)) < target.k + 2)
    norms = jnp.where(settled, jnp.linalg.norm(beyond, axis=0), jnp.inf)
    wanted = slice(0, target.k)
    change = jnp.where(before.used[wanted], jnp.abs(ritz.values - before.values)[wanted], jnp.inf)
    sharp = kato_temple(ritz.values, norms, ritz.used)
    # The next Ritz value is not the next eigenvalue while the space is small, least of all after a warm start:
    # what the products still change tells so.
    estimate = jnp.maximum(sharp[wanted], remaining_change(change, search.change))
    floor = rounding_floor(space, ritz)
    found = search._replace(
        space=space,
        ritz=ritz,
        residuals=norms[wanted],
        errors=jnp.maximum(jnp.where(norms[wanted] <= floor, 0, estimate), floor),
        change=change,
        matvecs=search.matvecs + 1,
    )
    found = found._replace(check=_updated_check(found, checking, tol, target))
    return found._replace(space=_next_direction(found, beyond, tol, key, target))


def needs_restart(search: Search, tol: jax.Array, target: Target) -> jax.Array:
    """Whether a restart must come first: the subspace is full, or a check is to begin that would fill it."""
    space = search.space
    if _complete(space):
        return jnp.asarray(False)
    first = converged(search, tol, target).all() & (search.check.begin < 0) & ~search.check.over
    # Each product appends a row at most; the last one, which converges, a random row besides.
    products = jnp.where(first, _check_length(space, target), 1)
    return space.in_use + products > len(space.projected) - 1


def restart(search: Search, target: Target) -> Search:
    """The search with the best Ritz vectors and the pending rows alone, from which it goes on as before."""
    space = restarted(search.space, search.ritz, target.kept)
    return search._replace(space=space, ritz=ritz_pairs(space, PREFERENCES[target.which]))


def _updated_check(found: Search, checking: jax.Array, tol: jax.Array, target: Target) -> MissedCheck:
    if not target.check_missed:
        return found.check
    check = found.check
    first_row = jnp.where(check.begin < 0, found.space.filled - 1, check.begin)
    values, used = ritz_values_from(found.space, first_row)
    best = jnp.where(used, target.oriented(values), -jnp.inf).max(axis=1)
    change = jnp.where(jnp.isfinite(check.best), jnp.abs(best - check.best), jnp.inf)
    products = found.space.filled - first_row
    # What is small in the random vector grows slowly at first.
    settled = (best + REACH * change <= target.least(found.ritz.values[: target.k])).all() & (
        products >= SHORTEST_CHECK
    )
    tried = MissedCheck(first_row, best, settled | (products >= _check_length(found.space, target)), check.wanted)
    moved = (found.change > allowed(found, tol, target)).any()
    return tree.where(moved | ~checking, _no_check(found.space, target, check.wanted), tried)


def _next_direction(search: Search, beyond: jax.Array, tol: jax.Array, key: jax.Array, target: Target) -> Subspace:
    """The worst residual; in a check a random vector, and then what its last product reaches beyond the filled rows."""
    space, check = search.space, search.check
    done = converged(search, tol, target)
    checking = done.all()
    excess = jnp.where(search.ritz.used[: target.k] & ~done, search.errors / allowed(search, tol, target), -1)
    # Of a product all counts that is not in the filled rows: a missed copy of an eigenvalue may be what was pending.
    reached = space.projected[:, space.filled - 1]
    weights = jnp.where(checking, reached, beyond[:, jnp.argmax(excess)])

    fresh = ((checking & (check.begin < 0)) | (space.pending == 0)) & ~(checking & check.over)

    def drawn() -> tuple[PyTree, jax.Array]:
        v = tree.normal(jax.random.fold_in(key, search.matvecs), space.direction)
        q, rest, _ = orthonormal(space, v, jnp.zeros_like(reached))
        return q, rest > 0

    q, new = jax.lax.cond(fresh, drawn, lambda: (space.direction, jnp.asarray(False)))
    return rotated(with_direction(space, q, new), jnp.where(fresh, 0, weights))


def rounding_floor(space: Subspace, ritz: RitzPairs) -> jax.Array:
    """The rounding of the product itself, as an error of an eigenvalue."""
    norm = spectral_scale(ritz)
    return jnp.maximum(ROUNDING * jnp.finfo(norm.dtype).eps * norm, space.asymmetry)


def spectral_scale(ritz: RitzPairs) -> jax.Array:
    """‖A‖ as far as it is known."""
    return jnp.max(jnp.where(ritz.used, jnp.abs(ritz.values), 0))


def allowed(search: Search, tol: jax.Array, target: Target) -> jax.Array:
    """The error at which each wanted value counts as converged, shape (k,)."""
    floor = rounding_floor(search.space, search.ritz)
    smallest = jnp.finfo(floor.dtype).tiny
    return jnp.maximum(jnp.maximum(tol * jnp.abs(search.ritz.values[: target.k]), floor), smallest)


def converged(search: Search, tol: jax.Array, target: Target) -> jax.Array:
    """Which wanted values are, shape (k,)."""
    return search.ritz.used[: target.k] & (search.errors <= allowed(search, tol, target))


def unfinished(search: Search, tol: jax.Array, limit: jax.Array, size: int, target: Target) -> jax.Array:
    """Whether another product is to be made; `size` is that of the domain."""
    finite = jnp.isfinite(search.ritz.values).all()
    settled = converged(search, tol, target).all() & search.check.over
    return finite & ~settled & (search.space.filled < size) & (search.matvecs < limit)


def ritz_vectors(search: Search, count: int) -> PyTree:
    """The first `count` Ritz vectors, stacked."""
    mixing = search.ritz.coordinates[:, :count].T
    return jax.tree.map(lambda Q: combine_rows(mixing, Q), search.space.basis)
