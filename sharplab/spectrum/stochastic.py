"""The trace and the diagonal of an operator from products with random vectors, with standard errors."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.arguments import checked
from sharplab.core.loops import Loop, dispatch
from sharplab.core.naming import lookup
from sharplab.core.tree import PyTree
from sharplab.curvature.linear_operator import LinearOperator, an_operator
from sharplab.spectrum.estimate import Estimate, mean_of, with_rounding
from sharplab.spectrum.products import (
    each,
    flat_product,
    loop_of,
    product,
    rademacher,
    require_at_least,
    require_finite,
    rounding_of,
    widened,
)

# The estimates of XTrace share one sketch and so are correlated: a standard error of independent ones is too small by
# up to this factor on flat, decaying, indefinite and low-rank spectra (tests/spectrum/test_stochastic.py).
CORRELATION = 2**0.5


class Sampled(NamedTuple):
    """What a method finds: an estimate before the rounding of products is counted."""

    value: PyTree
    stderr: PyTree
    magnitude: PyTree  # the moduli that add up to the value, whose rounding is a share of these
    matvecs: int


Method = Callable[[LinearOperator, jax.Array, int, Loop], Sampled]


@checked(op=an_operator)
def trace(op: LinearOperator, *, method: str = "xtrace", matvecs: int = 100, key: jax.Array | None = None) -> Estimate:
    """The trace of a symmetric A of shape (P, P); exact, from P products, if matvecs ≥ P.

    Usable under `jit` and eagerly.

    Args:
        op: A.
        method: "xtrace" (memory 3/2·matvecs vectors), the sharpest where eigenvalues decay; "hutch++" (2/3·matvecs
            vectors), nearly so; "hutchinson" (one vector), as good where they are all alike.
        matvecs: the most products to make, 4 or more.
        key: for the random vectors; a fixed one by default.

    Raises:
        ValueError: for a bad argument; and, outside of `jit`, if a product is not finite.

    References: Epperly, Tropp & Webber, 2301.07825 (XTrace); Meyer, Musco, Musco & Woodruff, 2010.09649, algorithm 1
    (Hutch++); Hutchinson, Commun. Stat. Simul. Comput. 18 (1989).

    >>> A = LinearOperator(lambda d: lambda v: d * v, jnp.arange(500.0), jnp.zeros(500))
    >>> round(float(trace(A, matvecs=10, method="hutchinson")))  # 499·500/2; signs are exact on a diagonal matrix
    124750
    """
    return _estimate(lookup("method", method, _TRACES), _exact_trace, op, matvecs, key)


@checked(op=an_operator)
def diagonal(op: LinearOperator, *, matvecs: int = 100, key: jax.Array | None = None) -> Estimate:
    """The diagonal of a symmetric A of shape (P, P); exact, from P products, if matvecs ≥ P.

    It is the mean of z ∘ A z over vectors z of random signs, with variance Σ_{j≠i} A_ij² ÷ matvecs in entry i: for
    matrices whose diagonal dominates. Memory: 4 vectors. Usable under `jit` and eagerly.

    Args:
        op: A.
        matvecs: the most products to make, 4 or more.
        key: for the random vectors; a fixed one by default.

    Returns:
        an Estimate whose `value` and `stderr` are pytrees like the operator's domain, in one type of at least float32.

    Raises:
        ValueError: if matvecs are fewer than 4; and, outside of `jit`, if a product is not finite.

    References: Bekas, Kokiopoulou & Saad, Appl. Numer. Math. 57 (2007).

    >>> A = LinearOperator(lambda d: lambda v: d * v, jnp.arange(500.0), jnp.zeros(500))
    >>> diagonal(A, matvecs=4).value[:3].tolist()
    [0.0, 1.0, 2.0]
    """
    return _estimate(_diagonal, _exact_diagonal, op, matvecs, key)


def _estimate(method: Method, exact: Method, op: LinearOperator, matvecs: int, key: jax.Array | None) -> Estimate:
    key = jax.random.key(0) if key is None else key
    loop = loop_of(op, key)
    require_at_least("matvecs", matvecs, min(4, op.shape[0]))
    found = _run(method, exact, op, key, matvecs, loop)
    require_finite(found.value)
    return found


def unchecked_trace(op: LinearOperator, key: jax.Array, matvecs: int, loop: Loop) -> Estimate:
    """The trace by XTrace under a given loop, NaN where products are not finite."""
    return _run(_xtrace, _exact_trace, op, key, matvecs, loop)


def _run(method: Method, exact: Method, op: LinearOperator, key: jax.Array, matvecs: int, loop: Loop) -> Estimate:
    if matvecs >= op.shape[0]:
        method, matvecs = exact, op.shape[0]
    run = _evaluate_compiled if loop == "compiled" else _evaluate
    return run(method, op, key, matvecs, loop)


def _evaluate(method: Method, op: LinearOperator, key: jax.Array, matvecs: int, loop: Loop) -> Estimate:
    # Cancellations here do not survive the short mantissas that accelerators multiply float32 with by default.
    with jax.default_matmul_precision("highest"):
        found = method(widened(op), key, matvecs, loop)
        stderr = jax.tree.map(partial(with_rounding, rounding_of(op)), found.stderr, found.magnitude)
    return Estimate(found.value, stderr, jnp.asarray(found.matvecs, jnp.int32))


_evaluate_compiled = jax.jit(_evaluate, static_argnames=("method", "matvecs", "loop"))


def _hutchinson(op: LinearOperator, key: jax.Array, matvecs: int, loop: Loop) -> Sampled:
    matvec = product(op, loop)

    def one(key: jax.Array) -> jax.Array:
        z = rademacher(key, op.domain)
        return tree.dot(z, matvec(z))

    samples = each(one, jax.random.split(key, matvecs), loop)
    return Sampled(*mean_of(samples), jnp.abs(samples).mean(), matvecs)


def _hutch_plus_plus(op: LinearOperator, key: jax.Array, matvecs: int, loop: Loop) -> Sampled:
    """The estimate tr(QᵀAQ), Q a basis of a random sketch, plus Hutchinson's in the complement."""
    matvec, size = flat_product(op, loop), op.shape[0]
    rank = matvecs // 3
    for_sketch, for_rest = jax.random.split(key)

    def sketch(key: jax.Array) -> jax.Array:
        return matvec(jax.random.rademacher(key, (size,), op.dtype))

    Q, _ = _qr(each(sketch, jax.random.split(for_sketch, rank), loop).T)

    def rest(key: jax.Array) -> jax.Array:
        g = jax.random.rademacher(key, (size,), op.dtype)
        g = g - Q @ (g @ Q)
        return g @ matvec(g)

    captured = each(lambda q: q @ matvec(q), Q.T, loop)
    mean, stderr = mean_of(each(rest, jax.random.split(for_rest, matvecs - 2 * rank), loop))
    return Sampled(captured.sum() + mean, stderr, jnp.abs(captured).sum(), matvecs)


def _xtrace(op: LinearOperator, key: jax.Array, matvecs: int, loop: Loop) -> Sampled:
    """The mean of Hutch++ estimates, each with one test vector left out of the sketch and used for the rest."""
    matvec, half = flat_product(op, loop), matvecs // 2
    omega = jax.random.normal(key, (half, op.shape[0]), op.dtype)
    Q, R = _qr(each(matvec, omega, loop).T)
    W, squares = Q.T @ omega.T, jnp.sum(omega**2, axis=1)
    del omega  # frees its memory under the Python loop
    H = each(lambda q: matvec(q) @ Q, Q.T, loop)
    value, stderr = _leave_one_out(R, W, (H + H.T) / 2, squares, op.shape[0])
    return Sampled(value, stderr, jnp.abs(jnp.diagonal(H)).sum(), 2 * half)


@partial(jax.jit, static_argnames="size")
def _leave_one_out(
    R: jax.Array, W: jax.Array, H: jax.Array, squares: jax.Array, size: int
) -> tuple[jax.Array, jax.Array]:
    """The k estimates of XTrace and their mean, from k × k matrices alone: AΩ = QR, W = QᵀΩ, H = QᵀAQ.

    Without column ω of Ω the sketch spans the range of Q(I − s sᵀ), s ∝ R⁻ᵀe (2301.07825, §2). With w, r the same
    columns of W, R and u = (I − s sᵀ)w, its trace is tr H − sᵀHs; the rest, (ω − Qu)ᵀA(ω − Qu), is
    (sᵀw)(sᵀr) − uᵀ(r − Hu).
    """
    U, sigma, Vt = jnp.linalg.svd(R)
    # Of a matrix of low rank R is singular. Any s_i outside of its range serves, hence a floor.
    floor = jnp.maximum(jnp.finfo(R.dtype).eps * sigma[0], jnp.finfo(R.dtype).tiny)
    S = U @ ((floor / jnp.maximum(sigma, floor))[:, None] * Vt)
    S = S / jnp.linalg.norm(S, axis=0)[None]
    along = jnp.sum(S * W, axis=0)
    kept = W - S * along[None]
    rest = along * jnp.sum(S * R, axis=0) - jnp.sum(kept * (R - H @ kept), axis=0)
    # A projected test vector is rescaled to the mean length in its space: a lesser variance (loc. cit., §2.3).
    length = squares - jnp.sum(kept**2, axis=0)
    rest = rest * (size - len(R) + 1) / length
    mean, stderr = mean_of(jnp.trace(H) - jnp.sum(S * (H @ S), axis=0) + rest)
    return mean, CORRELATION * stderr


def _diagonal(op: LinearOperator, key: jax.Array, matvecs: int, loop: Loop) -> Sampled:
    matvec, keys = product(op, loop), jax.random.split(key, matvecs)
    blank = jax.tree.map(jnp.zeros_like, op.domain)

    def step(i: jax.Array, state: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        z = rademacher(keys[i], op.domain)
        return _welford(state, i, z, matvec(z))

    if loop == "compiled":
        mean, squares = jax.lax.fori_loop(0, matvecs, step, (blank, blank))
    else:
        mean, squares = dispatch(lambda state, i: step(jnp.asarray(i), state), (blank, blank), matvecs)
    stderr = jax.tree.map(lambda s: jnp.sqrt(s / (matvecs * (matvecs - 1))), squares)
    return Sampled(mean, stderr, jax.tree.map(jnp.abs, mean), matvecs)


@jax.jit
def _welford(state: tuple[PyTree, PyTree], count: jax.Array, z: PyTree, w: PyTree) -> tuple[PyTree, PyTree]:
    """The mean and the sum of squared deviations with one more sample z ∘ w (Welford 1962: no cancellation)."""
    mean, squares = state
    new = jax.tree.map(lambda m, a, b: m + (a * b - m) / (count + 1), mean, z, w)
    squares = jax.tree.map(lambda s, m, n, a, b: s + (a * b - m) * (a * b - n), squares, mean, new, z, w)
    return new, squares


def _entries(op: LinearOperator, loop: Loop) -> jax.Array:
    matvec = flat_product(op, loop)

    def entry(i: jax.Array) -> jax.Array:
        return matvec(jnp.zeros(op.shape[0], op.dtype).at[i].set(1))[i]

    return each(entry, jnp.arange(op.shape[0]), loop)


def _exact_diagonal(op: LinearOperator, key: jax.Array, matvecs: int, loop: Loop) -> Sampled:
    entries = tree.unravel(_entries(op, loop), op.domain)
    return Sampled(entries, jax.tree.map(jnp.zeros_like, entries), jax.tree.map(jnp.abs, entries), matvecs)


def _exact_trace(op: LinearOperator, key: jax.Array, matvecs: int, loop: Loop) -> Sampled:
    entries = _entries(op, loop)
    total = entries.sum()
    return Sampled(total, jnp.zeros_like(total), jnp.abs(entries).sum(), matvecs)


_qr = jax.jit(jnp.linalg.qr)
_TRACES: dict[str, Method] = {"xtrace": _xtrace, "hutch++": _hutch_plus_plus, "hutchinson": _hutchinson}
