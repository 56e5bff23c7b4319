"""Thick-restart Lanczos for extreme eigenpairs, as pure functions of a state under either loop.

For several eigenpairs a Krylov space shows one copy of a multiple eigenvalue at most. So when the wanted pairs have
converged, a *check* multiplies a random vector orthogonal to all rows, and then what its products reach: a Ritz value
further out than a wanted one is an eigenpair that was missed, and the iteration goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.loops import Loop, repeat_while
from sharplab.core.tree import PyTree
from sharplab.spectrum.bounds import kato_temple, remaining_change
from sharplab.spectrum.eigenpairs import Eigenpairs, Solution
from sharplab.spectrum.noise import noise
from sharplab.spectrum.rows import combine_rows
from sharplab.spectrum.subspace import (
    RitzPairs,
    Subspace,
    compressed,
    known_ritz_pairs,
    orthonormal,
    projected_product,
    residuals,
    restarted,
    ritz_pairs,
    ritz_values_from,
    rotated,
    subspace_of,
    with_direction,
    with_product,
    with_row_written,
)
from sharplab.spectrum.target import Target

LONGEST_CHECK = 10  # products on a random vector, before several eigenpairs are believed to be the extreme ones
SHORTEST_CHECK = 4
REACH = 4  # what a check may still gain, in gains of its last product
ROUNDING = 32  # units of ε·‖A‖ that a product's own rounding is taken to reach at least


class MissedCheck(NamedTuple):
    """The state of a check for missed eigenpairs."""

    first_row: jax.Array  # of the basis, from which on it belongs to the check; −1 while there is none
    best: jax.Array  # the most extreme Ritz value of these rows, oriented, shape (ends,)
    done: jax.Array  # whether nothing was missed; True from the beginning where there is no check


class State(NamedTuple):
    """What passes from product to product."""

    space: Subspace
    ritz: RitzPairs
    residuals: jax.Array  # (k,)
    errors: jax.Array  # (k,): estimates
    change: jax.Array  # (k,): what the last product changed in the values
    check: MissedCheck
    matvecs: jax.Array
    unit: jax.Array  # the power of two that all of these are in units of, so that no square leaves the range of floats
    converged: jax.Array  # (k,): which of the wanted values are within the tolerance
    finished: jax.Array  # whether no further product is to be made
    full: jax.Array  # whether a restart is to come before it


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["tol", "limit", "key", "check_missed", "error", "level"],
    meta_fields=["target"],
)
@dataclass(frozen=True)
class ThickRestart:
    """The solver of one eigenvalue problem: what it is asked for, and its steps as pure functions.

    Attributes:
        target: the eigenpairs wanted.
        tol: the relative error at which to stop.
        limit: the most products to make.
        key: for random directions.
        check_missed: whether to check for missed eigenpairs, a boolean; None compiles no check at all.
        error: of products, beyond their rounding; None where they have no other.
        level: below which values of the target "LA" need not converge; None where all shall.
    """

    target: Target
    tol: jax.Array
    limit: jax.Array
    key: jax.Array
    check_missed: jax.Array | None = None
    error: jax.Array | None = None
    level: jax.Array | None = None

    def run(self, matvec: Callable[[PyTree], PyTree], start: PyTree, loop: Loop) -> State:
        """The last state from `start`; under "python" each product is dispatched by itself."""

        def extend(state: State) -> State:
            return self.step(state, matvec(next_direction(state)))

        def grow(state: State) -> State:
            # Loops of their own, the first of one step at most: a branch would copy the basis.
            state = repeat_while(self.needs_restart, self.restart, state, loop)
            return repeat_while(self.has_room, extend, state, loop)

        step = extend if self.target.is_tight else grow
        return repeat_while(lambda state: ~self.terminate(state), step, self.init(start), loop)

    @partial(jax.jit, inline=True)
    def init(self, start: PyTree) -> State:
        """The state before the first product, of a start that is neither zero nor NaN."""
        space = subspace_of(tree.scale(1 / tree.norm(start), start), self.target.rows(tree.size(start)))
        if self.target.is_tight:
            space = space._replace(projected=jnp.pad(space.projected, (0, 1)))
        unknown = jnp.full(self.target.k, jnp.inf, space.projected.dtype)
        return State(
            space=space,
            ritz=known_ritz_pairs(jnp.zeros_like(unknown, shape=len(space.projected)), 0),
            residuals=unknown,
            errors=unknown,
            change=unknown,
            check=self._no_check(space),
            matvecs=jnp.zeros((), jnp.int32),
            unit=jnp.zeros((), space.projected.dtype),
            converged=jnp.isnan(unknown),
            finished=self.limit <= 0,
            full=jnp.asarray(False),
        )

    @partial(jax.jit, donate_argnames="state", inline=True)
    def step(self, state: State, product: PyTree) -> State:
        """The next state, given the product of A with `next_direction(state)`."""
        before, k = state.ritz, self.target.k
        checking = state.converged.all()
        unit = jnp.where(state.unit > 0, state.unit, tree.binary_size(product))
        product = tree.scale(jnp.where(unit > 0, 1 / unit, 1), product)
        negligible, slot = 0.1 * rounding_floor(state.space, before), state.space.in_use
        if self.target.is_tight:
            space, last = projected_product(state.space, product, negligible)
        else:
            space, last = with_product(state.space, product, negligible), None
        ritz = ritz_pairs(space, self.target.preference)

        residual = residuals(space, ritz)
        # Ritz values further in have not settled; as bounds of clusters they would make estimates too small.
        settled = ritz.used & (jnp.arange(len(ritz.used)) < k + 2)
        norms = jnp.where(settled, jnp.linalg.norm(residual, axis=0), jnp.inf)
        change = jnp.where(before.used[:k], jnp.abs(ritz.values - before.values)[:k], jnp.inf)
        sharp = kato_temple(ritz.values, norms, ritz.used)
        # The next Ritz value is not the next eigenvalue while the space is small, least of all after a warm start:
        # what the products still change tells so.
        estimate = jnp.maximum(sharp[:k], remaining_change(change, state.change))
        floor = self._floor(space, ritz, unit)
        state = state._replace(
            space=space,
            ritz=ritz,
            residuals=norms[:k],
            errors=jnp.maximum(jnp.where(norms[:k] <= floor, 0, estimate), floor),
            change=change,
            matvecs=state.matvecs + 1,
            unit=unit,
        )
        state = state._replace(converged=self._converged(state))
        state = state._replace(check=self._updated_check(state, checking))
        if last is None:
            state = state._replace(space=self._with_next_direction(state, residual))
        else:
            state = self._with_last_row(state, last, slot, residual)
        return state._replace(finished=self._finished(state), full=self._full(state))

    def terminate(self, state: State) -> jax.Array:
        """Whether no further product is to be made."""
        return state.finished

    def needs_restart(self, state: State) -> jax.Array:
        """Whether the subspace is full, or a check is to begin that would fill it."""
        return state.full

    @partial(jax.jit, inline=True)
    def has_room(self, state: State) -> jax.Array:
        """Whether a product is to be made without a restart before it."""
        return ~(state.finished | state.full)

    @partial(jax.jit, donate_argnames="state", inline=True)
    def restart(self, state: State) -> State:
        """The state with the best Ritz vectors and the pending rows alone, from which the iteration goes on."""
        kept = self.target.kept
        space = restarted(state.space, state.ritz, kept)
        return state._replace(space=space, ritz=known_ritz_pairs(state.ritz.values, kept), full=jnp.asarray(False))

    def result(self, state: State, nearby: PyTree) -> Solution:
        """The solution, given the first k Ritz vectors and any more, stacked."""
        k, unit = self.target.k, jnp.where(state.unit > 0, state.unit, 1)
        values = jnp.where(state.ritz.used[:k], state.ritz.values[:k], jnp.nan)
        floor = self._floor(state.space, state.ritz, state.unit)
        pairs = Eigenpairs(
            values=unit * values,
            vectors=jax.tree.map(lambda v: v[:k], nearby),
            residuals=unit * (state.residuals + floor),
            errors=unit * state.errors,
            floor=unit * floor,
            matvecs=state.matvecs,
            converged=state.converged & jnp.isfinite(values),
        )
        return Solution(pairs, nearby, unit * spectral_scale(state.ritz))

    def _finished(self, state: State) -> jax.Array:
        finite = jnp.isfinite(state.ritz.values).all()
        settled = state.converged.all() & state.check.done
        return ~(finite & ~settled & (state.space.filled < state.space.size) & (state.matvecs < self.limit))

    def _full(self, state: State) -> jax.Array:
        space = state.space
        if _holds_domain(space) or self.target.is_tight:
            return jnp.asarray(False)
        first = state.converged.all() & (state.check.first_row < 0) & ~state.check.done
        # Each product appends a row at most; the last one, which converges, a random row besides.
        products = jnp.where(first, self._check_length(space), 1)
        return space.in_use + products > len(space.projected) - 1

    def _converged(self, state: State) -> jax.Array:
        """Which of the wanted values have converged, or need not, shape (k,)."""
        used = state.ritz.used[: self.target.k]
        converged = used & (state.errors <= self._allowed(state))
        return converged if self.level is None else converged | self._below(state, self.level)

    def _below(self, state: State, level: jax.Array) -> jax.Array:
        """Which of the wanted values lie below a level: the first that does with its error, and all behind it."""
        k = self.target.k
        most = state.unit * (state.ritz.values[:k] + state.errors)
        return jnp.cumsum(state.ritz.used[:k] & (most < level)) > 0

    def _allowed(self, state: State) -> jax.Array:
        """The error at which each wanted value counts as converged, shape (k,)."""
        floor = self._floor(state.space, state.ritz, state.unit)
        smallest = jnp.finfo(floor.dtype).tiny
        return jnp.maximum(jnp.maximum(self.tol * jnp.abs(state.ritz.values[: self.target.k]), floor), smallest)

    def _floor(self, space: Subspace, ritz: RitzPairs, unit: jax.Array) -> jax.Array:
        """What products are off, as an error of an eigenvalue."""
        floor = rounding_floor(space, ritz)
        return floor if self.error is None else floor + self.error / jnp.where(unit > 0, unit, 1)

    def _rows_left(self, space: Subspace) -> jax.Array:
        """The number of products until the next restart, beside what that keeps."""
        return len(space.projected) - 2 - self.target.kept - space.pending

    def _check_length(self, space: Subspace) -> jax.Array:
        return jnp.clip(self._rows_left(space), 1, LONGEST_CHECK)

    def _no_check(self, space: Subspace) -> MissedCheck:
        unknown = jnp.full(2 if self.target.which == "BE" else 1, -jnp.inf, space.projected.dtype)
        wanted = jnp.asarray(False) if self.check_missed is None else self.check_missed
        # Each check leaves a pending row behind; in the end there is no room for another.
        possible = _holds_domain(space) | (self._rows_left(space) > SHORTEST_CHECK)
        return MissedCheck(jnp.full((), -1, jnp.int32), unknown, ~(wanted & possible))

    def _updated_check(self, state: State, checking: jax.Array) -> MissedCheck:
        check, space = state.check, state.space
        if self.check_missed is None:
            return check
        first_row = jnp.where(check.first_row < 0, space.filled - 1, check.first_row)
        values, used = ritz_values_from(space, first_row)
        best = jnp.where(used[None], self.target.oriented(values), -jnp.inf).max(axis=1)
        change = jnp.where(jnp.isfinite(check.best), jnp.abs(best - check.best), jnp.inf)
        products = space.filled - first_row
        inside = (best + REACH * change <= self._innermost(state)).all()
        # What is small in the random vector grows slowly at first.
        done = (inside & (products >= SHORTEST_CHECK)) | (products >= self._check_length(space))
        change = state.change if self.level is None else jnp.where(self._below(state, self.level), 0, state.change)
        moved = (change > self._allowed(state)).any()
        return tree.where(moved | ~checking, self._no_check(space), MissedCheck(first_row, best, done))

    def _innermost(self, state: State) -> jax.Array:
        """The oriented value beyond which nothing is missed, shape (ends,): of the last wanted pair, or the level."""
        innermost = self.target.innermost(state.ritz.values[: self.target.k])
        if self.level is None:
            return innermost
        level = self.level / jnp.where(state.unit > 0, state.unit, 1)
        return jnp.where(self._below(state, self.level).any(), level, innermost)

    def _with_last_row(self, state: State, q: PyTree, slot: jax.Array, residual: jax.Array) -> State:
        """The state with q, which belongs in that row of a basis of few, and the residual of the Ritz pair next."""
        space, ritz, rounding = state.space, state.ritz, rounding_floor(state.space, state.ritz)
        full = space.in_use > space.rows
        # Loops of one step at most: a branch would copy the basis.
        space = _if(slot < space.rows, lambda space: with_row_written(space, q, slot), space)
        space = _if(full, lambda space: compressed(space, ritz, q, self.target.preference), space)
        if space.rows > 4:  # which a product after the first ones always fills
            space = rotated(space, jnp.where(full, 0, residual[:, 0]))
        # What is forgotten has shown the size of A, and so what products are off.
        space = space._replace(asymmetry=jnp.maximum(space.asymmetry, rounding))
        known = known_ritz_pairs(ritz.values.at[1].set(spectral_scale(ritz)), 2)
        return state._replace(space=space, ritz=tree.where(full, known, ritz))

    def _with_next_direction(self, state: State, residual: jax.Array) -> Subspace:
        """The subspace with the worst residual as direction; in a check, a random vector and then its products."""
        space, check, k = state.space, state.check, self.target.k
        if k == 1 and self.check_missed is None:
            return space  # one row is pending, or the space is exhausted and its Ritz pair converged
        checking = state.converged.all()
        excess = jnp.where(state.ritz.used[:k] & ~state.converged, state.errors / self._allowed(state), -1)
        # All of a product outside of the filled rows counts: what was pending may be a missed copy of an eigenvalue.
        reached = space.projected[:, space.filled - 1]
        weights = jnp.where(checking, reached, residual[:, jnp.argmax(excess)])

        fresh = ((checking & (check.first_row < 0)) | (space.pending == 0)) & ~(checking & check.done)

        def drawn() -> tuple[PyTree, jax.Array]:
            v = noise(self.key, state.matvecs, space.direction)
            q, rest, _ = orthonormal(space, v, jnp.zeros_like(reached))
            return q, rest > 0

        q, new = jax.lax.cond(fresh, drawn, lambda: (space.direction, jnp.asarray(False)))
        return rotated(with_direction(space, q, new), jnp.where(fresh, 0, weights))


@partial(jax.jit, inline=True)
def next_direction(state: State) -> PyTree:
    """The vector to multiply next."""
    return state.space.direction


def ritz_vectors(state: State, count: int) -> PyTree:
    """The first `count` Ritz vectors, stacked; fewer where the basis has fewer rows."""
    mixing = state.ritz.coordinates[:, :count].T
    return jax.tree.map(lambda Q: combine_rows(mixing, Q), state.space.basis)


def rounding_floor(space: Subspace, ritz: RitzPairs) -> jax.Array:
    """The rounding of the product itself, as an error of an eigenvalue."""
    norm = spectral_scale(ritz)
    return jnp.maximum(ROUNDING * jnp.finfo(norm.dtype).eps * norm, space.asymmetry)


def spectral_scale(ritz: RitzPairs) -> jax.Array:
    """The largest modulus of a Ritz value, a lower bound of ‖A‖."""
    return jnp.max(jnp.where(ritz.used, jnp.abs(ritz.values), 0))


def _if(condition: jax.Array, change: Callable[[Subspace], Subspace], space: Subspace) -> Subspace:
    return jax.lax.fori_loop(0, jnp.where(condition, 1, 0), lambda _, space: change(space), space)


def _holds_domain(space: Subspace) -> bool:
    """Whether the basis has a row for each dimension of the domain."""
    return space.size == space.rows - 1
