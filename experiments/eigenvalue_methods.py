"""Methods for the largest eigenvalues of an operator from its products, which the figure `spectrum` compares."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse.linalg import lobpcg_standard
from scipy.linalg import eigvalsh_tridiagonal
from scipy.sparse.linalg import LinearOperator as ScipyOperator
from scipy.sparse.linalg import eigsh as arpack

import sharplab as sl


@dataclass(frozen=True)
class Budgets:
    """The tolerances and iteration counts that each method is run with."""

    tolerances: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # of those that stop themselves
    depth: int = 128  # of Lanczos runs, cut short at every step
    powers: tuple[int, ...] = (3, 6, 12, 25, 50, 100)  # iterations per eigenvalue
    blocks: tuple[int, ...] = (1, 2, 4, 8, 16)  # iterations of LOBPCG


Run = Iterator[tuple[float, int, float]]  # tolerance or iterations; products made; the eigenvalue of the rank asked for
Method = Callable[[sl.LinearOperator, int, int, Budgets], Run]  # of (operator, rank, seed of the start, budgets)


def _by_eigsh(op: sl.LinearOperator, rank: int, seed: int, budgets: Budgets) -> Run:
    for tol in budgets.tolerances:
        pairs = sl.eigsh(op, rank, tol=tol, key=jax.random.key(seed))
        yield tol, int(pairs.matvecs), float(pairs.values[-1])


def _by_arpack(op: sl.LinearOperator, rank: int, seed: int, budgets: Budgets) -> Run:
    start = np.random.default_rng(seed).standard_normal(op.shape[0]).astype(np.float32)
    for tol in budgets.tolerances:
        made = 0

        def product(v: np.ndarray) -> np.ndarray:
            nonlocal made
            made += 1
            return np.asarray(op(v.reshape(-1)))

        counted = ScipyOperator(op.shape, matvec=product, dtype=np.float32)
        values = arpack(counted, k=rank, which="LA", v0=start, tol=tol, return_eigenvectors=False)
        yield tol, made, float(values.min())


def _by_lanczos(op: sl.LinearOperator, rank: int, seed: int, budgets: Budgets, *, reorthogonalised: bool) -> Run:
    start = jax.random.normal(jax.random.key(seed), op.shape[:1], op.dtype)
    a, b = (np.asarray(x, float) for x in _lanczos(op, start, budgets.depth, reorthogonalised))
    for steps in range(rank, budgets.depth + 1):
        yield steps, steps, eigvalsh_tridiagonal(a[:steps], b[: steps - 1])[-rank]


@partial(jax.jit, static_argnames=("depth", "reorthogonalised"))
def _lanczos(
    op: sl.LinearOperator, start: jax.Array, depth: int, reorthogonalised: bool
) -> tuple[jax.Array, jax.Array]:
    """The diagonal and the off-diagonal of the tridiagonal matrix after `depth` Lanczos steps."""

    def step(state: tuple, i: jax.Array) -> tuple[tuple, tuple[jax.Array, jax.Array]]:
        Q, before, length = state
        q = Q[i]
        w = op @ q
        a = q @ w
        w = w - a * q - length * before
        if reorthogonalised:
            for _ in range(2):
                w = w - Q.T @ (Q @ w)
        b = jnp.linalg.norm(w)
        return (Q.at[i + 1].set(w / b), q, b), (a, b)

    Q = jnp.zeros((depth + 1, start.size), start.dtype).at[0].set(start / jnp.linalg.norm(start))
    return jax.lax.scan(step, (Q, jnp.zeros_like(start), jnp.zeros((), start.dtype)), jnp.arange(depth))[1]


def _by_power(op: sl.LinearOperator, rank: int, seed: int, budgets: Budgets) -> Run:
    for iterations in budgets.powers:
        yield iterations, rank * iterations, float(_power(op, jax.random.key(seed), iterations, rank))


@partial(jax.jit, static_argnames="rank")
def _power(op: sl.LinearOperator, key: jax.Array, iterations: jax.Array, rank: int) -> jax.Array:
    """The eigenvalue of rank `rank` by power iteration, each vector orthogonal to the finished ones."""

    def one(i: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        found, _ = state

        def beside(v: jax.Array) -> jax.Array:
            v = v - found.T @ (found @ v)
            return v / jnp.linalg.norm(v)

        def step(_: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            v = beside(state[0])
            product = op @ v
            return product, v @ product

        start = jax.random.normal(jax.random.fold_in(key, i), op.shape[:1], op.dtype)
        v, value = jax.lax.fori_loop(0, iterations, step, (start, jnp.zeros((), op.dtype)))
        return found.at[i].set(beside(v)), value

    nothing = jnp.zeros((rank, op.shape[0]), op.dtype)
    return jax.lax.fori_loop(0, rank, one, (nothing, jnp.zeros((), op.dtype)))[1]


def _by_lobpcg(op: sl.LinearOperator, rank: int, seed: int, budgets: Budgets) -> Run:
    start = jax.random.normal(jax.random.key(seed), (op.shape[0], rank), op.dtype)
    for iterations in budgets.blocks:
        # One product for each start, then with the new directions three per vector and one for its residual.
        yield iterations, rank * (1 + 4 * iterations), float(_lobpcg(op, start, iterations)[-1])


@partial(jax.jit, static_argnames="iterations")
def _lobpcg(op: sl.LinearOperator, start: jax.Array, iterations: int) -> jax.Array:
    # Its own tolerance, a residual of about 20·P·ε of the eigenvalue, would end it long before float32 does.
    return lobpcg_standard(lambda V: op @ V, start, iterations, tol=0.0)[0]


SELF_STOPPING: Mapping[str, Method] = {"sharplab.eigsh": _by_eigsh, "ARPACK": _by_arpack}
METHODS: Mapping[str, Method] = {
    **SELF_STOPPING,
    "Lanczos, reorthogonalised": partial(_by_lanczos, reorthogonalised=True),
    "Lanczos, plain": partial(_by_lanczos, reorthogonalised=False),
    "LOBPCG": _by_lobpcg,
    "power iteration": _by_power,
}
