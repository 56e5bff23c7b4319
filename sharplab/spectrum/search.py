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
    absorb,
    empty_subspace,
    orthonormal,
    residuals,
    restarted,
    ritz_pairs,
    ritz_values_from,
    turned,
    with_direction,
)

SPARE_ROWS = 14  # of the basis, beyond twice the eigenpairs wanted
KEPT_SPARE = 3  # Ritz vectors kept across a restart, beyond those wanted
TRIAL = 10  # products at most on a random vector, before several eigenpairs are believed to be the extreme ones
SHORTEST_TRIAL = 4
REACH = 4  # what a trial may still gain, in gains of its last product
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


class Aim(NamedTuple):
    """Which eigenpairs are wanted; what a program is compiled for."""

    which: str
    k: int
    trials: bool  # whether missed eigenpairs may be looked for with a random vector

    def rows(self, size: int) -> int:
        """Vectors in the basis at most."""
        return min(2 * self.k + SPARE_ROWS, size + 1)

    @property
    def kept(self) -> int:
        """Ritz vectors that survive a restart."""
        return self.k + KEPT_SPARE

    def heights(self, values: jax.Array) -> jax.Array:
        """How far out each value is, per end of the spectrum that is searched: shape (ends, …)."""
        ends = {"LA": [values], "SA": [-values], "LM": [jnp.abs(values)], "BE": [values, -values]}
        return jnp.stack(ends[self.which])

    def least(self, wanted: jax.Array) -> jax.Array:
        """The height of the innermost wanted value, per end."""
        heights = self.heights(wanted)
        if self.which == "BE":
            mine = (jnp.arange(self.k) % 2) == jnp.arange(2)[:, None]
            heights = jnp.where(mine, heights, jnp.inf)
        return heights.min(axis=1)


class Trial(NamedTuple):
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
    trial: Trial
    matvecs: jax.Array


def begin(start: PyTree, key: jax.Array, look: jax.Array, aim: Aim) -> Search:
    """The state before the first product; `look`: whether to look for missed eigenpairs, where `aim` allows it."""
    space = empty_subspace(start, aim.rows(tree.size(start)))
    usable = (tree.norm(start) > 0) & jnp.isfinite(tree.norm(start))
    first = jax.lax.cond(usable, lambda: start, lambda: tree.normal(key, start))
    space = with_direction(space, tree.scale(1 / tree.norm(first), first), jnp.asarray(True))
    unknown = jnp.full(aim.k, jnp.inf, space.projected.dtype)
    return Search(
        space,
        ritz_pairs(space, PREFERENCES[aim.which]),
        unknown,
        unknown,
        unknown,
        _no_trial(space, aim, look),
        jnp.zeros((), jnp.int32),
    )


def _complete(space: Subspace) -> bool:
    """Whether all of the domain has room in the basis."""
    rows = len(space.projected)
    return tree.size(space.basis) == rows * (rows - 1)


def _room(space: Subspace, aim: Aim) -> jax.Array:
    """Products that can be made beside what a restart keeps, before the next one."""
    return len(space.projected) - 2 - aim.kept - space.pending


def _trial_length(space: Subspace, aim: Aim) -> jax.Array:
    return jnp.clip(_room(space, aim), 1, TRIAL)


def _no_trial(space: Subspace, aim: Aim, wanted: jax.Array) -> Trial:
    unknown = jnp.full(2 if aim.which == "BE" else 1, jnp.inf, space.projected.dtype)
    # Each trial leaves a pending row behind; in the end there is no room for another.
    possible = _complete(space) | (_room(space, aim) > SHORTEST_TRIAL)
    return Trial(jnp.full((), -1, jnp.int32), -unknown, ~(wanted & possible), wanted)


def take(search: Search, product: PyTree, tol: jax.Array, key: jax.Array, aim: Aim) -> Search:
    """The next state, given the product of A with `space.direction`."""
    before = search.ritz
    on_trial = converged(search, tol, aim).all()
    space = absorb(search.space, product, 0.1 * rounding_floor(search.space, before))
    ritz = ritz_pairs(space, PREFERENCES[aim.which])

    beyond = residuals(space, ritz)
    # Ritz values further in have not settled. If they bounded clusters too, estimates within them would be too small.
    settled = ritz.used & (jnp.arange(len(ritz.used)) < aim.k + 2)
    norms = jnp.where(settled, jnp.linalg.norm(beyond, axis=0), jnp.inf)
    wanted = slice(0, aim.k)
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
    found = found._replace(trial=_judge_trial(found, on_trial, tol, aim))
    return found._replace(space=_next_direction(found, beyond, tol, key, aim))


def crowded(search: Search, tol: jax.Array, aim: Aim) -> jax.Array:
    """Whether a restart must come first: the subspace is full, or a trial is to begin that would fill it."""
    space = search.space
    if _complete(space):
        return jnp.asarray(False)
    first = converged(search, tol, aim).all() & (search.trial.begin < 0) & ~search.trial.over
    # Each product appends a row at most; the last one, which converges, a random row besides.
    products = jnp.where(first, _trial_length(space, aim), 1)
    return space.taken + products > len(space.projected) - 1


def restart(search: Search, aim: Aim) -> Search:
    """The search with the best Ritz vectors and the pending rows alone, from which it goes on as before."""
    space = restarted(search.space, search.ritz, aim.kept)
    return search._replace(space=space, ritz=ritz_pairs(space, PREFERENCES[aim.which]))


def _judge_trial(found: Search, on_trial: jax.Array, tol: jax.Array, aim: Aim) -> Trial:
    if not aim.trials:
        return found.trial
    trial = found.trial
    first_row = jnp.where(trial.begin < 0, found.space.filled - 1, trial.begin)
    values, used = ritz_values_from(found.space, first_row)
    best = jnp.where(used, aim.heights(values), -jnp.inf).max(axis=1)
    change = jnp.where(jnp.isfinite(trial.best), jnp.abs(best - trial.best), jnp.inf)
    products = found.space.filled - first_row
    # What is small in the random vector grows slowly at first.
    settled = (best + REACH * change <= aim.least(found.ritz.values[: aim.k])).all() & (products >= SHORTEST_TRIAL)
    tried = Trial(first_row, best, settled | (products >= _trial_length(found.space, aim)), trial.wanted)
    moved = (found.change > allowed(found, tol, aim)).any()
    return tree.where(moved | ~on_trial, _no_trial(found.space, aim, trial.wanted), tried)


def _next_direction(search: Search, beyond: jax.Array, tol: jax.Array, key: jax.Array, aim: Aim) -> Subspace:
    """The worst residual; on trial a random vector, and then what its last product reaches beyond the filled rows."""
    space, trial = search.space, search.trial
    done = converged(search, tol, aim)
    on_trial = done.all()
    excess = jnp.where(search.ritz.used[: aim.k] & ~done, search.errors / allowed(search, tol, aim), -1)
    # Of a product all counts that is not in the filled rows: a missed copy of an eigenvalue may be what was pending.
    reached = space.projected[:, space.filled - 1]
    weights = jnp.where(on_trial, reached, beyond[:, jnp.argmax(excess)])

    fresh = ((on_trial & (trial.begin < 0)) | (space.pending == 0)) & ~(on_trial & trial.over)

    def drawn() -> tuple[PyTree, jax.Array]:
        v = tree.normal(jax.random.fold_in(key, search.matvecs), space.direction)
        q, rest, _ = orthonormal(space, v, jnp.zeros_like(reached))
        return q, rest > 0

    q, new = jax.lax.cond(fresh, drawn, lambda: (space.direction, jnp.asarray(False)))
    return turned(with_direction(space, q, new), jnp.where(fresh, 0, weights))


def rounding_floor(space: Subspace, ritz: RitzPairs) -> jax.Array:
    """The rounding of the product itself, as an error of an eigenvalue."""
    norm = spectral_scale(ritz)
    return jnp.maximum(ROUNDING * jnp.finfo(norm.dtype).eps * norm, space.asymmetry)


def spectral_scale(ritz: RitzPairs) -> jax.Array:
    """‖A‖ as far as it is known."""
    return jnp.max(jnp.where(ritz.used, jnp.abs(ritz.values), 0))


def allowed(search: Search, tol: jax.Array, aim: Aim) -> jax.Array:
    """The error at which each wanted value counts as converged, shape (k,)."""
    floor = rounding_floor(search.space, search.ritz)
    smallest = jnp.finfo(floor.dtype).tiny
    return jnp.maximum(jnp.maximum(tol * jnp.abs(search.ritz.values[: aim.k]), floor), smallest)


def converged(search: Search, tol: jax.Array, aim: Aim) -> jax.Array:
    """Which wanted values are, shape (k,)."""
    return search.ritz.used[: aim.k] & (search.errors <= allowed(search, tol, aim))


def unfinished(search: Search, tol: jax.Array, limit: jax.Array, size: int, aim: Aim) -> jax.Array:
    """Whether another product is to be made; `size` is that of the domain."""
    finite = jnp.isfinite(search.ritz.values).all()
    settled = converged(search, tol, aim).all() & search.trial.over
    return finite & ~settled & (search.space.filled < size) & (search.matvecs < limit)


def ritz_vectors(search: Search, count: int) -> PyTree:
    """The first `count` Ritz vectors, stacked."""
    mixing = search.ritz.coordinates[:, :count].T
    return jax.tree.map(lambda Q: combine_rows(mixing, Q), search.space.basis)
