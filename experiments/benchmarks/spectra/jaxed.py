"""The contestants in JAX: sharplab, and scipy's ARPACK on a compiled product."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

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
from spectra.contestant import Contestant, Meter, Solution, arpack
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
    """`sharplab.eigsh`."""

    def solve(k: int, tol: float, seed: int) -> Solution:
        pairs = jax.block_until_ready(eigsh(setup.hessian, k, tol=tol, key=jax.random.key(seed)))
        return Solution(np.asarray(pairs.values), int(pairs.matvecs), np.asarray(pairs.errors))

    return Contestant(which="LA", solve=solve, compiles=True)


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
    return Contestant(which="LA", solve=partial(arpack, operator, meter))


CONTESTANTS: Mapping[str, Callable[[Setup, Meter], Contestant]] = {
    "sharplab": sharplab_eigsh,
    "scipy": scipy_arpack,
}
