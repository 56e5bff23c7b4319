"""The contestants in JAX: sharplab, matfree, and scipy's ARPACK on a compiled product."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator as ScipyOperator

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature import LinearOperator, gauss_newton, hessian
from sharplab.losses import cross_entropy
from sharplab.spectrum import eigsh
from spectra import problems
from spectra.contestant import Contestant, Meter, Setting, Solution, wanted_first
from spectra.krylov import arpack, basis_ladder, depths, truncations
from spectra.problems import Problem


@dataclass(frozen=True)
class Setup:
    """A problem with its weights and its batch."""

    problem: Problem
    params: PyTree
    batch: PyTree

    @classmethod
    def load(cls, problem: Problem) -> "Setup":
        """The setup of the problem's file."""
        return cls(problem, *problems.load(problem))

    @cached_property
    def hessian(self) -> LinearOperator:
        """The Hessian of the mean loss over the batch."""
        return hessian(cross_entropy, self.params, self.batch, model=self.problem.forward)

    @cached_property
    def gauss_newton(self) -> LinearOperator:
        """The Gauss-Newton matrix of the same loss."""
        return gauss_newton(self.problem.forward, cross_entropy, self.params, self.batch)

    @cached_property
    def gradient(self) -> Callable[[], PyTree]:
        """A compiled call for loss and gradient."""
        compiled = jax.jit(jax.value_and_grad(self.problem.objective))
        return lambda: jax.block_until_ready(compiled(self.params, self.batch))

    def direction(self, seed: int = 0) -> PyTree:
        """A vector of standard normal entries."""
        return tree.normal(jax.random.key(seed), self.params)


def sharplab_eigsh(setup: Setup, meter: Meter) -> Contestant:
    """`sharplab.eigsh`, which ends itself; the cold Lanczos run that it is measured by is the oracle's."""
    op, v = setup.hessian, setup.direction()

    def solve(k: int, setting: Setting, seed: int) -> Solution:
        pairs = jax.block_until_ready(eigsh(op, k, tol=setting, key=jax.random.key(seed)))
        return Solution(np.asarray(pairs.values), int(pairs.matvecs), np.asarray(pairs.errors))

    return Contestant(
        which="LA",
        solve=solve,
        own=lambda tol: tol,
        settings=None,
        product=lambda: jax.block_until_ready(op(v)),
        gauss_newton=lambda: jax.block_until_ready(setup.gauss_newton(v)),
        compiles=True,
    )


def matfree(setup: Setup, meter: Meter) -> Contestant:
    """matfree's tridiagonalisation with full reorthogonalisation, of a depth fixed beforehand; it has no default."""
    from matfree import decomp, eig

    flat, unravel = ravel_pytree(setup.params)

    def product(args: PyTree) -> Callable[[jax.Array], jax.Array]:
        params, batch = args
        # The gradient is linearised once, as fast as its user could make it.
        linear = jax.linearize(jax.grad(lambda w: setup.problem.objective(w, batch)), params)[1]
        return lambda v: ravel_pytree(linear(unravel(v)))[0]

    @partial(jax.jit, static_argnums=0)
    def pairs(depth: int, args: PyTree, start: jax.Array) -> Any:
        return eig.eigh_partial(decomp.tridiag_sym(depth, custom_vjp=False))(product(args), start)

    @partial(jax.jit, static_argnums=0)
    def tridiagonal(depth: int, args: PyTree, start: jax.Array) -> Any:
        sparse = decomp.tridiag_sym(depth, custom_vjp=False, materialize=False)
        return sparse(product(args), start)[1]

    def start(seed: int) -> jax.Array:
        return jax.random.normal(jax.random.key(seed), flat.shape, flat.dtype)

    def solve(k: int, setting: Setting, seed: int) -> Solution:
        found = jax.block_until_ready(pairs(setting, (setup.params, setup.batch), start(seed)))
        return Solution(wanted_first(np.asarray(found[0]), "LA", k), int(setting))

    def settings(k: int, seed: int) -> Iterator[tuple[int, np.ndarray]]:
        meter.begin()
        for seen, depth in depths(setup.problem.parameters):
            meter.count()
            diagonals = tridiagonal(depth, (setup.params, setup.batch), start(seed))
            yield from truncations(*map(np.asarray, diagonals), k, seen)

    separate = jax.jit(lambda args, v: product(args)(v))
    return Contestant(
        which="LA",
        solve=solve,
        own=None,
        settings=settings,
        product=lambda: jax.block_until_ready(separate((setup.params, setup.batch), flat)),
        compiles=True,
    )


def scipy_arpack(setup: Setup, meter: Meter) -> Contestant:
    """scipy's `eigsh` on a compiled Hessian-vector product, what a JAX user would write without a library."""
    flat, unravel = ravel_pytree(setup.params)

    @jax.jit
    def product(params: PyTree, batch: PyTree, v: jax.Array) -> jax.Array:
        gradient = jax.grad(lambda w: setup.problem.objective(w, batch))
        return ravel_pytree(jax.jvp(gradient, (params,), (unravel(v),))[1])[0]

    def counted(v: np.ndarray) -> np.ndarray:
        meter.count()
        return np.asarray(product(setup.params, setup.batch, v.astype(flat.dtype).reshape(-1)))

    operator = ScipyOperator((setup.problem.parameters,) * 2, matvec=counted, dtype=np.dtype(flat.dtype))
    solve = partial(arpack, operator, meter)
    return Contestant(
        which="LA",
        solve=solve,
        own=lambda tol: tol,
        settings=lambda k, seed: basis_ladder(solve, k, seed),
        product=lambda: jax.block_until_ready(product(setup.params, setup.batch, flat)),
    )


CONTESTANTS: Mapping[str, Callable[[Setup, Meter], Contestant]] = {
    "sharplab": sharplab_eigsh,
    "matfree": matfree,
    "scipy": scipy_arpack,
}
