"""How eigenvalues change with the operator, to first order: dλ_i = v_iᵀ (dA) v_i."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.captured import captured_arrays
from sharplab.core.reading import partial_as_it_reads
from sharplab.core.tree import PyTree
from sharplab.curvature.linear_operator import LinearOperator
from sharplab.spectrum.eigenpairs import Eigenpairs


def constant(values: PyTree) -> PyTree:
    """The same values, without a derivative: what solves with them is not differentiated step by step."""
    return jax.lax.stop_gradient(values) if tree.is_traced(values) else values


def differentiable(op: LinearOperator, pairs: Eigenpairs) -> Eigenpairs:
    """The eigenpairs of `op`, found without derivatives, with that of their values: dλ_i = v_iᵀ (dA) v_i.

    All other derivatives are NaN, and so is the second of the values, which would need that of the vectors.
    """
    return _attached(op, pairs) if tree.is_traced(op) else pairs


def with_held_tracers(function: Callable[[PyTree], PyTree], v: PyTree) -> Partial:
    """The function of vectors like v as a `Partial`, of which the tracers that it holds in its closure are leaves."""
    if isinstance(function, Partial) or not tree.is_traced(captured_arrays(function=function)):
        return partial_as_it_reads(function, v)
    converted, held = jax.closure_convert(function, v)
    return Partial(lambda held, v: converted(v, *held), held)


@jax.custom_jvp
def _attached(op: LinearOperator, pairs: Eigenpairs) -> Eigenpairs:
    return pairs


@_attached.defjvp
def _with_tangents(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Eigenpairs, Eigenpairs]:
    op, pairs = primals
    pairs = _attached(op, pairs)  # so that a second derivative sees that the vectors depend on op

    def quotients(op: LinearOperator) -> jax.Array:
        matvec = op.matvec()
        return jax.lax.map(lambda v: tree.dot(v, matvec(tree.cast(v, op.domain))), pairs.vectors)

    _, change = jax.jvp(quotients, (op,), (tangents[0],))
    unknown = np.nan * change.sum()  # a multiple, so that it reaches reverse mode

    def tangent(x: jax.Array) -> Any:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return np.zeros(x.shape, jax.dtypes.float0)
        return jnp.broadcast_to(unknown.astype(x.dtype), x.shape)

    return pairs, replace(jax.tree.map(tangent, pairs), values=change.astype(pairs.values.dtype))
