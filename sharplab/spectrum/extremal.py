"""The eigenvalue at an end of a spectrum, with a bound that holds and an estimate that is sharp."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from sharplab import tree
from sharplab.curvature.operator import LinearOperator
from sharplab.drivers import Driver, choose_driver, repeat_while
from sharplab.naming import lookup
from sharplab.spectrum.lanczos import (
    LanczosState,
    RitzPairs,
    combine_rows,
    lanczos_step,
    ritz_pairs,
    start_lanczos,
    thick_restart,
)
from sharplab.tree import PyTree

BASIS_ROWS = 24  # the most vectors kept; a cold solve to 1e-3 rarely needs more than 10
KEPT_ROWS = 8  # of them, across a restart
RANDOM_SHARE = 0.1  # of a warm start's norm, so that an eigenvector orthogonal to it can rise
ROUNDING = 32  # units of ε·‖A‖ that a product's own rounding is taken to reach at least

PREFERENCES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "LA": lambda values: values,
    "SA": lambda values: -values,
    "LM": jnp.abs,
}


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "vectors", "residuals", "errors", "floor", "matvecs", "converged"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Eigenpairs:
    """Approximate eigenpairs θ, v of A with ‖v‖ = 1.

    Attributes:
        values: θ, shape (k,).
        vectors: v, a pytree with a leading axis k.
        residuals: ‖A v − θ v‖ plus `floor`, shape (k,): some eigenvalue lies that near to θ, always.
        errors: the estimate ‖A v − θ v‖²/gap of |θ − λ| by Kato and Temple, with the gap measured from θ to the
            next Ritz value less its own residual; no less than four times what the last product changed in θ, nor than
            `floor`; shape (k,).
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
    """The extreme eigenvalue of a symmetric operator A of shape (P, P), by thick-restart Lanczos.

    Stops when the error estimate meets `tol`. Memory: 25 vectors. Usable under `jit` and eagerly; models that
    convolve on CPUs are best solved eagerly, where each product is dispatched by itself.

    Args:
        op: a `LinearOperator`, or a function v → A v together with `start`.
        k: how many eigenpairs; 1.
        which: "LA" the largest, "SA" the smallest, "LM" the largest by modulus.
        tol: the relative error at which to stop.
        max_matvecs: the most products to make; 10·24 unless told.
        start: an earlier `Eigenpairs.vectors`, or one vector like the operator's domain; a tenth of random
            direction is mixed in, so that a crossing of eigenvalues is not missed.
        key: for the random direction; a fixed one unless told.

    Raises:
        ValueError: for a bad argument; and, outside of `jit`, if a product is not finite (under `jit` the
            values are then NaN and `converged` False).

    References: Parlett, The Symmetric Eigenvalue Problem (1998), §11.7 for both bounds; Wu & Simon,
    SIAM J. Matrix Anal. Appl. 22 (2000) for the restart.

    >>> A = LinearOperator(lambda d: lambda v: d * v, jnp.array([1.0, 2.0, 5.0]), jnp.zeros(3))
    >>> top = eigsh(A)
    >>> bool(abs(top.values[0] - 5) <= top.residuals[0]), bool(top.converged[0])
    (True, True)
    """
    if k != 1:
        raise ValueError(f"k must be 1, not {k}: one extreme eigenpair is computed at a time.")
    lookup("which", which, PREFERENCES)
    if not isinstance(op, LinearOperator):
        if start is None:
            raise ValueError("a plain function op needs start=, a vector that shows what it acts on.")
        op = LinearOperator(_plain, op if isinstance(op, Partial) else Partial(op), start)
    limit = 10 * BASIS_ROWS if max_matvecs is None else max_matvecs
    pairs = solve_extreme(op, start, jax.random.key(0) if key is None else key, which=which, tol=tol, limit=limit)
    if not isinstance(pairs.values, jax.core.Tracer) and not jnp.isfinite(pairs.values).all():
        raise ValueError("the operator's product is not finite: check params and batch for NaN or inf.")
    return pairs


def solve_extreme(
    op: LinearOperator,
    start: PyTree | None,
    key: jax.Array,
    *,
    which: str = "LA",
    tol: float = 1e-3,
    limit: int = 10 * BASIS_ROWS,
) -> Eigenpairs:
    """`eigsh` for callers that take NaN, from an operator that is not finite, as an answer."""
    first = _mixed_start(op.domain, start, key)
    under_jit = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((op, first)))
    driver: Driver = "loop" if under_jit else choose_driver(lambda o: o.matvec()(o.domain), op)
    solve = _solve_compiled if driver == "loop" else _solve_dispatched
    return solve(op, first, jnp.asarray(tol, op.dtype), jnp.asarray(limit), which)


def _plain(function: Callable[[PyTree], PyTree]) -> Callable[[PyTree], PyTree]:
    return function


def _mixed_start(domain: PyTree, start: PyTree | None, key: jax.Array) -> PyTree:
    noise = tree.normal(key, domain)
    if start is None:
        return noise
    stacked = jax.tree.map(lambda v, like: v[0] if jnp.ndim(v) > jnp.ndim(like) else v, start, domain)
    size = tree.norm(stacked)
    # A start of zeros or NaN, as a run that has diverged leaves behind, is no start.
    usable = jnp.isfinite(size) & (size > 0)
    warm = tree.scale(jnp.where(usable, 1 / size, 0), stacked)
    random = tree.scale(jnp.where(usable, RANDOM_SHARE, 1) / tree.norm(noise), noise)
    return jax.tree.map(lambda w, r: jnp.where(usable, w + r, r), warm, random)


class _Search(NamedTuple):
    lanczos: LanczosState
    ritz: RitzPairs
    best: "_Estimate"


class _Estimate(NamedTuple):
    slot: jax.Array
    value: jax.Array
    residual: jax.Array
    error: jax.Array
    floor: jax.Array


def _estimate(lanczos: LanczosState, ritz: RitzPairs, which: str, before: jax.Array) -> _Estimate:
    """Of the wanted eigenvalue, which the Ritz value `before` approximated one product earlier."""
    slot = jnp.argmax(jnp.where(ritz.used, PREFERENCES[which](ritz.values), -jnp.inf))
    value, residual = ritz.values[slot], ritz.residuals[slot]
    others = ritz.used.at[slot].set(False)
    gap = jnp.min(jnp.where(others, jnp.abs(ritz.values - value) - ritz.residuals, jnp.inf))
    # With one Ritz value there is no gap to speak of, and the residual is all that is known.
    sharp = jnp.where((gap > residual) & others.any(), residual**2 / gap, residual)
    # The next Ritz value is not the next eigenvalue while the space is small, least of all after a warm start:
    # what the last product changed tells so. Four times that is what remains if a product leaves ⅘ of the error.
    settled = (lanczos.matvecs <= 1) | (lanczos.beta == 0)
    sharp = jnp.maximum(sharp, jnp.where(settled, 0, 4 * jnp.abs(value - before)))
    eps = jnp.finfo(value.dtype).eps
    norm = jnp.max(jnp.where(ritz.used, jnp.abs(ritz.values), 0))
    floor = jnp.maximum(ROUNDING * eps * norm, lanczos.asymmetry)
    return _Estimate(slot, value, residual + floor, jnp.maximum(sharp, floor), floor)


def _begin(first: PyTree, which: str) -> _Search:
    lanczos = start_lanczos(first, min(BASIS_ROWS, tree.size(first)))
    ritz = ritz_pairs(lanczos)
    # Nothing is known before the first product.
    unknown = _estimate(lanczos, ritz, which, jnp.zeros((), lanczos.beta.dtype))
    return _Search(lanczos, ritz, unknown._replace(error=jnp.full_like(unknown.error, jnp.inf)))


def _advance(matvec: Callable[[PyTree], PyTree], search: _Search, which: str) -> _Search:
    rows = len(search.lanczos.projected)
    restart = partial(
        thick_restart,
        ritz=search.ritz,
        preference=PREFERENCES[which](search.ritz.values),
        keep=min(KEPT_ROWS, rows - 1),
    )
    lanczos = search.lanczos
    if rows > 1:
        lanczos = jax.lax.cond(lanczos.filled == rows, restart, lambda s: s, lanczos)
    lanczos = lanczos_step(matvec, lanczos)
    ritz = ritz_pairs(lanczos)
    return _Search(lanczos, ritz, _estimate(lanczos, ritz, which, search.best.value))


def _unfinished(search: _Search, tol: jax.Array, limit: jax.Array) -> jax.Array:
    best = search.best
    finite = jnp.isfinite(best.value)
    exhausted = (search.lanczos.matvecs > 0) & (search.lanczos.beta == 0)
    return finite & ~exhausted & ~_converged(best, tol) & (search.lanczos.matvecs < limit)


def _converged(best: _Estimate, tol: jax.Array) -> jax.Array:
    return best.error <= jnp.maximum(tol * jnp.abs(best.value), best.floor)


def _finish(search: _Search, tol: jax.Array) -> Eigenpairs:
    best = search.best
    mixing = search.ritz.coordinates[:, best.slot][None]
    vectors = jax.tree.map(lambda Q: combine_rows(mixing, Q[:-1]), search.lanczos.basis)
    return Eigenpairs(
        values=best.value[None],
        vectors=vectors,
        residuals=best.residual[None],
        errors=best.error[None],
        floor=best.floor,
        matvecs=search.lanczos.matvecs,
        converged=(_converged(best, tol) & jnp.isfinite(best.value))[None],
    )


@partial(jax.jit, static_argnames="which")
def _solve_compiled(op: LinearOperator, first: PyTree, tol: jax.Array, limit: jax.Array, which: str) -> Eigenpairs:
    matvec = op.matvec()
    search = repeat_while(
        lambda s: _unfinished(s, tol, limit), lambda s: _advance(matvec, s, which), _begin(first, which)
    )
    return _finish(search, tol)


_begin_once = jax.jit(_begin, static_argnames="which")
_finish_once = jax.jit(_finish)
_unfinished_once = jax.jit(_unfinished)


@partial(jax.jit, static_argnames="which")
def _advance_once(op: LinearOperator, search: _Search, which: str) -> _Search:
    return _advance(op.matvec(), search, which)


def _solve_dispatched(op: LinearOperator, first: PyTree, tol: jax.Array, limit: jax.Array, which: str) -> Eigenpairs:
    search = repeat_while(
        lambda s: _unfinished_once(s, tol, limit),
        lambda s: _advance_once(op, s, which),
        _begin_once(first, which),
        driver="dispatch",
    )
    return _finish_once(search, tol)
