"""Eigenpairs of A = RᵀR from those of RRᵀ, which share their non-zero eigenvalues.

With fewer outputs than parameters this is the smaller problem: the basis holds vectors of the outputs' size.
"""

import jax

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature.linear_operator import LinearOperator
from sharplab.spectrum.rows import reciprocal


def solved_by_dual(op: LinearOperator, k: int, which: str) -> bool:
    """Whether the k wanted eigenpairs are found as those of RRᵀ: where it is smaller, and they are not its zeros."""
    if op.factor is None or not op.jittable or which not in ("LA", "LM"):
        return False
    return k < tree.size(op.factor.range) < op.shape[0]


@jax.jit
def to_range(op: LinearOperator, vectors: PyTree) -> PyTree:
    """The products R v of a stack of vectors v."""
    assert op.factor is not None
    return jax.lax.map(op.factor.maps()[0], vectors)


@jax.jit
def from_range(op: LinearOperator, vectors: PyTree) -> tuple[PyTree, jax.Array]:
    """The vectors Rᵀu/‖Rᵀu‖ of a stack of u, and the norms ‖Rᵀu‖ = √λ; 0 where that is 0."""
    assert op.factor is not None
    back = jax.lax.map(op.factor.maps()[1], vectors)
    norms = jax.vmap(tree.norm)(back)
    return jax.vmap(tree.scale)(reciprocal(norms), back), norms
