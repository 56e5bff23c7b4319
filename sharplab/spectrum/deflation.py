"""Several eigenpairs in a basis too small to search for all of them together: one after another.

Each is the extreme one of A on the complement of those found before, so that copies of a multiple eigenvalue are found
too. Rayleigh-Ritz on all of them comes last, with one product each.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.loops import Loop
from sharplab.core.tree import PyTree
from sharplab.curvature.factor import LinearMap
from sharplab.curvature.linear_operator import LinearOperator
from sharplab.spectrum.bounds import kato_temple
from sharplab.spectrum.eigenpairs import Eigenpairs, Solution
from sharplab.spectrum.products import each, flattened, is_split, loop_of, product
from sharplab.spectrum.rows import reciprocal, recombine, row_at, row_products, with_row, without_rows
from sharplab.spectrum.target import PREFERENCES, Target
from sharplab.spectrum.thick_restart import ThickRestart

SHARE = 0.5  # of the tolerance: each of k searches ends at this over k, since the squares of residuals add up

# (op, solver, start, rows that the first vector is to be orthogonal to) → the one eigenpair
SolveOne = Callable[[LinearOperator, ThickRestart, PyTree | None, PyTree], Solution]


def solve_one_by_one(op: LinearOperator, solver: ThickRestart, start: PyTree | None, solve: SolveOne) -> Solution:
    """The k eigenpairs that `solver` asks for, in the memory of its basis."""
    which, k, basis = solver.target
    assert basis is not None
    flat = not is_split(op.domain)
    one = flattened(op) if flat else op
    if flat and start is not None:
        start = jax.vmap(tree.ravel)(start)
    rows = jax.tree.map(lambda x: jnp.zeros((k - 1, *x.shape), x.dtype), one.domain)
    shift, matvecs, found, last = jnp.zeros((), one.dtype), jnp.zeros((), jnp.int32), [], rows
    for i in range(k):
        end = ("LA", "SA")[i % 2] if which == "BE" else which
        left = solver.limit - matvecs - k - (k - 1 - i)
        search = replace(
            solver,
            target=Target(end, 1, basis - k + 1),
            tol=SHARE / k * solver.tol,
            limit=jnp.maximum(left, 1),
            key=jax.random.fold_in(solver.key, i),
            check_missed=None,
        )
        # What was found is put at the other end of the spectrum, so that rounding does not bring it back.
        away = {"LA": -shift, "SA": shift, "LM": jnp.zeros_like(shift)}[end]
        solution = solve(_deflated(one, rows, away), search, start, rows)
        found.append(replace(solution.pairs, vectors=None))
        shift, matvecs = jnp.maximum(shift, solution.scale), matvecs + solution.pairs.matvecs
        last = _unit_outside(solution.pairs.vectors, rows)
        if i < k - 1:
            rows = _with_found(rows, last, jnp.asarray(i))
    rows = jax.tree.map(lambda Q, x: jnp.concatenate([Q, jnp.expand_dims(x, 0)]), rows, last)
    del solution, last
    pairs = jax.tree.map(lambda *x: jnp.stack(x), *found)
    loop = loop_of(one, solver.key)
    project = _projected_compiled if loop == "compiled" else _projected
    pairs, mixing = _together(solver, pairs, *project(one, rows, loop))
    vectors = _mixed(rows, mixing)
    if flat:
        vectors = _unravelled(vectors, op.domain)
    return Solution(replace(pairs, vectors=vectors), vectors, shift)


def without(v: PyTree, rows: PyTree) -> PyTree:
    """The part of v outside of orthonormal rows, some of which may be zero."""
    for _ in range(2):
        v = without_rows(v, rows, row_products(rows, v))
    return v


def _deflated(op: LinearOperator, rows: PyTree, shift: jax.Array) -> LinearOperator:
    """The operator A on the complement of the rows, and the number `shift` on these."""
    return LinearOperator(_deflated_product, (op, rows, shift), op.domain, None, op.jittable, op.error)


def _deflated_product(args: PyTree) -> LinearMap:
    op, rows, shift = args
    whole = op.matvec()

    def deflated(v: PyTree) -> PyTree:
        w = whole(v)
        return without_rows(w, rows, row_products(rows, w) - shift * row_products(rows, v))

    return deflated


@jax.jit
def _unit_outside(found: PyTree, rows: PyTree) -> PyTree:
    # Rounding has left parts along the rows.
    v = without(jax.tree.map(lambda x: x[0], found), rows)
    return tree.scale(reciprocal(tree.norm(v)), v)


@partial(jax.jit, donate_argnums=0)
def _with_found(rows: PyTree, found: PyTree, slot: jax.Array) -> PyTree:
    return jax.tree.map(lambda Q, x: with_row(Q, x, slot), rows, found)


def _projected(op: LinearOperator, rows: PyTree, loop: Loop) -> tuple[jax.Array, jax.Array]:
    """The inner products ⟨y_j, A y_i⟩ of all rows, and the norms of what A y_i has outside of them."""
    multiply, count = product(op, loop), len(jax.tree.leaves(rows)[0])

    def one(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        w = multiply(row_at(rows, i))
        inside = row_products(rows, w)
        rest = without_rows(w, rows, inside)
        return inside, tree.norm(rest)

    return each(one, jnp.arange(count), loop)


_projected_compiled = jax.jit(_projected, static_argnums=2)


@partial(jax.jit, donate_argnums=0)
def _mixed(rows: PyTree, mixing: jax.Array) -> PyTree:
    return jax.tree.map(lambda Q: recombine(mixing, Q), rows)


@jax.jit
def _unravelled(rows: jax.Array, domain: PyTree) -> PyTree:
    return jax.vmap(tree.unravel, (0, None))(rows, domain)


@jax.jit
def _together(
    solver: ThickRestart, found: Eigenpairs, B: jax.Array, outside: jax.Array
) -> tuple[Eigenpairs, jax.Array]:
    """The Ritz pairs without their vectors, and these in the rows, given what single searches found."""
    used = jnp.ones(len(B), bool)

    def order_of(values: jax.Array) -> jax.Array:
        return jnp.argsort(-PREFERENCES[solver.target.which](values, used).astype(values.dtype))

    values, mixing = jnp.linalg.eigh((B + B.T) / 2)
    order = order_of(values)
    values, mixing = values[order], mixing[:, order].T
    floor = jnp.maximum(found.floor.max(), jnp.abs(B - B.T).max())
    # Of Σ c_i R_i the first is a bound; the second, right where the R_i are orthogonal, keeps the sum of squares.
    residuals = jnp.matmul(jnp.abs(mixing), outside, precision="highest")
    typical = jnp.sqrt(jnp.matmul(mixing**2, outside**2, precision="highest"))
    ascending = jnp.argsort(found.values[:, 0])
    own = found.errors[ascending, 0][order_of(found.values[ascending, 0])]
    # The rest of the spectrum is as far away as `kato_temple` believes at most.
    far = jnp.append(values, 10 * jnp.abs(values).max())
    sharp = kato_temple(far, jnp.append(typical, 0), jnp.append(used, True))[: len(B)]
    estimates = jnp.where(typical <= floor, 0, sharp)
    errors = jnp.maximum(jnp.maximum(estimates, own), floor)
    pairs = Eigenpairs(
        values=values,
        vectors=None,
        residuals=residuals + floor,
        errors=errors,
        floor=floor,
        matvecs=found.matvecs.sum() + len(B),
        converged=(errors <= jnp.maximum(solver.tol * jnp.abs(values), floor)) & jnp.isfinite(values),
    )
    return pairs, mixing
