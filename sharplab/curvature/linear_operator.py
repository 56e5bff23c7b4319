"""Symmetric linear operators, known by their products with vectors."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil
from numbers import Real
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core import tree
from sharplab.core.arguments import of
from sharplab.core.tree import PyTree
from sharplab.curvature.factor import (
    Factor,
    LinearMap,
    Structure,
    at_highest_precision,
    scaled_factor,
    transposed_factor,
)

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

DENSE_LIMIT = 4096
COLUMNS = 64  # multiplied at a time, so that memory stays that of 64 products


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["args", "domain", "factor", "error", "step"],
    meta_fields=["prepare", "jittable"],
)
@dataclass(frozen=True)
class LinearOperator:
    """A symmetric matrix A of shape (P, P) acting on pytrees.

    It is a pytree itself: passed through `jit` or `vmap` with new arrays in `args`, it causes no recompilation
    as long as `prepare` is the same function.

    Attributes:
        prepare: args → (v → A v); the work that products share, such as the gradient's primal pass, is done here once.
        args: a pytree of all arrays that the products depend on.
        domain: a pytree of arrays shaped like the vectors; its values are not used.
        factor: R with A = RᵀR, where one is known; see `dual`.
        jittable: False where products read batches from the host, and so cannot run under `jit`.
        error: an estimate of ‖computed A v − A v‖ for ‖v‖ = 1 beyond the rounding of a product, where there is more.
        step: h of products that are differences of gradients over 2h.

    `op(v)` and `op @ v` take v like `domain` or any pytree of the same paths (a plain dict for an `nnx.State`),
    and answer like `domain`; or flat of shape (P,), or columns of shape (P, k), and answer alike, in `dtype`.
    Products are made in the domain's types. Operators on the same space add and subtract; numbers multiply them.
    Matrix products inside run at JAX's highest precision.

    >>> op = LinearOperator(lambda d: lambda v: d * v, jnp.array([1.0, 3.0]), jnp.zeros(2))
    >>> (op @ jnp.ones(2)).tolist(), op.shape, op.dense().tolist()
    ([1.0, 3.0], (2, 2), [[1.0, 0.0], [0.0, 3.0]])
    >>> (op - 0.5 * op).dense().tolist()
    [[0.5, 0.0], [0.0, 1.5]]
    """

    prepare: Callable[[PyTree], Callable[[PyTree], PyTree]]
    args: PyTree
    domain: PyTree
    factor: Factor | None = None
    jittable: bool = True
    error: jax.Array | None = None
    step: jax.Array | None = None

    __array_ufunc__ = None  # so that numpy's arrays leave `@` and `*` to this class

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (P, P), with P the number of parameters."""
        return (tree.size(self.domain),) * 2

    @property
    def dtype(self) -> jnp.dtype:
        """The type of flat vectors: float64 where a parameter is, else float32."""
        return tree.dtype(self.domain)

    def matvec(self) -> LinearMap:
        """The map v → A v for v like `domain`, with the shared work done now: make it once, apply it many times."""
        with jax.default_matmul_precision("highest"):
            product = self.prepare(self.args)
        return at_highest_precision(product)

    def dual(self) -> "LinearOperator":
        """The operator R Rᵀ on vectors like `factor.range`: its non-zero eigenvalues are those of A = RᵀR.

        An eigenvector u of the dual to the eigenvalue λ > 0 gives Rᵀu/√λ, one of A.

        Raises:
            ValueError: if the operator has no factor.

        """
        if self.factor is None:
            raise ValueError(
                "the operator has no factor R with A = RᵀR, hence no dual: gauss_newton and fisher (of arrays) and "
                "ntk have one."
            )
        factor = Factor(transposed_factor, self.factor, Structure.of(self.domain))
        return LinearOperator(_dual_product, self.factor, self.factor.out_structure.zeros(), factor, self.jittable)

    def __call__(self, v: PyTree) -> PyTree:
        named, wanted = tree.named_leaves(v), tree.named_leaves(self.domain)
        product, flat_product, columns_product = _DIRECT if not self.jittable else _COMPILED
        if _shapes(named) == _shapes(wanted):
            leaves = [named[path] for path in wanted]
            return product(self, jax.tree.unflatten(jax.tree.structure(self.domain), leaves))
        if isinstance(v, jax.Array | np.ndarray) and v.ndim in (1, 2) and v.shape[0] == self.shape[0]:
            v = jnp.asarray(v, self.dtype)
            return flat_product(self, v) if v.ndim == 1 else columns_product(self, v)
        raise ValueError(
            f"v does not fit the operator: give a pytree like its domain ({jax.tree.structure(self.domain)}) "
            f"or an array of shape ({self.shape[0]},) or ({self.shape[0]}, k)."
        )

    def __matmul__(self, v: PyTree) -> PyTree:
        return self(v)

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        if not isinstance(other, LinearOperator):
            return NotImplemented
        mine, others = (_shapes(tree.named_leaves(op.domain)) for op in (self, other))
        if mine != others:
            raise ValueError(
                f"the operators act on different spaces, {mine} and {others}: restrict both to the same parameters "
                "with block()."
            )
        error = self.error if other.error is None else other.error if self.error is None else self.error + other.error
        jittable = self.jittable and other.jittable
        return LinearOperator(_sum, (self, other), self.domain, None, jittable, error)

    def __sub__(self, other: "LinearOperator") -> "LinearOperator":
        return self + (-other) if isinstance(other, LinearOperator) else NotImplemented

    def __neg__(self) -> "LinearOperator":
        return self * -1.0

    def __mul__(self, number: Any) -> "LinearOperator":
        if not (isinstance(number, Real) or (isinstance(number, jax.Array | np.ndarray) and jnp.ndim(number) == 0)):
            return NotImplemented
        factor = None
        if self.factor is not None and not isinstance(number, jax.core.Tracer) and float(number) >= 0:
            root = jax.tree.map(lambda _: float(number) ** 0.5, self.domain)
            factor = Factor(scaled_factor, (self.factor, root), self.factor.out_structure)
        error = None if self.error is None else jnp.abs(jnp.asarray(number)) * self.error
        return LinearOperator(_multiple, (self, number), self.domain, factor, self.jittable, error)

    __rmul__ = __mul__

    def __truediv__(self, number: Any) -> "LinearOperator":
        return self * (1 / number) if isinstance(number, Real | jax.Array | np.ndarray) else NotImplemented

    def dense(self) -> jax.Array:
        """The dense matrix, shape (P, P), in the order of `jax.flatten_util.ravel_pytree` and of type `dtype`.

        Raises:
            ValueError: if P exceeds 4,096.
        """
        size = self.shape[0]
        if size > DENSE_LIMIT:
            raise ValueError(f"the operator has {size} rows: dense() is for at most {DENSE_LIMIT}; use eigsh.")
        return self(jnp.eye(size, dtype=self.dtype))

    def to_scipy(self) -> "ScipyOperator":
        """The same matrix for `scipy.sparse.linalg`: flat numpy arrays in and out, in the order of `dense`."""
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        def product(v: np.ndarray) -> np.ndarray:
            single = v.size == len(v)
            return np.asarray(self(v.reshape(-1) if single else v)).reshape(v.shape)

        products = {"matvec": product, "rmatvec": product, "matmat": product, "rmatmat": product}
        return ScipyOperator(self.shape, **products, dtype=self.dtype)


def match_structure(domain: PyTree, values: PyTree, name: str) -> PyTree:
    """The leaves of `values` in the structure of `domain`, matched by path.

    Raises:
        ValueError: naming the argument `name`, if the paths differ.
    """
    named, wanted = tree.named_leaves(values), tree.named_leaves(domain)
    if named.keys() != wanted.keys():
        raise ValueError(f"{name} must have a leaf for each of {', '.join(wanted)}, not for {', '.join(named)}.")
    return jax.tree.unflatten(jax.tree.structure(domain), [named[path] for path in wanted])


def _shapes(named: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {path: jnp.shape(leaf) for path, leaf in named.items()}


def _dual_product(factor: Factor) -> LinearMap:
    forward, backward = factor.maps()
    return lambda u: forward(backward(u))


def _sum(operators: tuple[LinearOperator, LinearOperator]) -> LinearMap:
    left, right = operators
    first, second = left.matvec(), right.matvec()

    def product(v: PyTree) -> PyTree:
        other = second(tree.cast(match_structure(right.domain, v, "v"), right.domain))
        return jax.tree.map(jnp.add, first(v), tree.cast(match_structure(left.domain, other, "v"), left.domain))

    return product


def _multiple(args: PyTree) -> LinearMap:
    op, number = args
    product = op.matvec()
    return lambda v: tree.scale(number, product(v))


def _product(op: LinearOperator, v: PyTree) -> PyTree:
    return op.matvec()(tree.cast(v, op.domain))


def _flat_product(op: LinearOperator, v: jax.Array) -> jax.Array:
    return _flattened(op)(v)


def _flattened(op: LinearOperator) -> Callable[[jax.Array], jax.Array]:
    product = op.matvec()
    return lambda v: tree.ravel(product(tree.unravel(v, op.domain)))


@jax.jit
def _some_columns(op: LinearOperator, V: jax.Array) -> jax.Array:
    return jax.vmap(_flattened(op), 1, 1)(V)


def _columns_in_blocks(op: LinearOperator, V: jax.Array) -> jax.Array:
    columns = V.shape[1]
    blocks = max(1, ceil(columns / COLUMNS))
    width = ceil(columns / blocks)  # all of one width, so that one program serves them
    padded = jnp.pad(V, ((0, 0), (0, blocks * width - columns)))
    parts = [_some_columns(op, part) for part in jnp.split(padded, blocks, axis=1)]
    return jnp.concatenate(parts, axis=1)[:, :columns]


def _columns_one_by_one(op: LinearOperator, V: jax.Array) -> jax.Array:
    product = _flattened(op)
    return jnp.stack([product(column) for column in V.T], axis=1)


_COMPILED = (jax.jit(_product), jax.jit(_flat_product), _columns_in_blocks)
_DIRECT = (_product, _flat_product, _columns_one_by_one)

an_operator = of(LinearOperator, "as sharplab.hessian makes one")
