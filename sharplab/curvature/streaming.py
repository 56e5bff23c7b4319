"""Operators that are means over examples: of a whole batch, of its chunks in turn, or of batches from the host."""

from collections.abc import Callable
from operator import index
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature.chunks import Chunks, count_examples
from sharplab.curvature.determinism import check_mean
from sharplab.curvature.factor import Factor, LinearMap, Structure
from sharplab.curvature.host_batches import HostBatches, read_host_batches, source_of
from sharplab.curvature.operator import LinearOperator

Shared = tuple[PyTree, PyTree]  # (functions, params): what all batches have in common
Product = Callable[[Shared, PyTree], LinearMap]
Maps = Callable[[Shared, PyTree, int], tuple[LinearMap, LinearMap]]


def mean_operator(
    product: Product,
    shared: Shared,
    batch: Any,
    chunk: int | None,
    *,
    mean: Callable[..., PyTree],
    root: Maps | None = None,
) -> LinearOperator:
    """The operator A = Σ_b (n_b/n) A_b on params, the mean over all examples of `batch`.

    Args:
        product: (shared, batch) → (v → A_b v), a function of a module.
        batch: a pytree of arrays, or a source of batches on the host.
        chunk: how many examples at a time; None for all of a batch at once, linearised once per matvec().
        mean: (functions, params, batch) → a mean over examples, by which they are checked to be independent.
        root: (shared, batch, n) → (R_b, R_bᵀ) with A = Σ_b R_bᵀ R_b, if there is one. Not used for host batches,
            whose dual would read them twice per product.
    """
    shared = (shared[0], tree.floats(shared[1], "params"))
    examples = stream(batch, chunk)
    check_independence(mean, shared, examples)
    factor = None
    if root is not None and not isinstance(examples, HostBatches):
        args = (Partial(root), shared, examples)
        factor = Factor(streamed_maps, args, streamed_structure(root, shared, examples))
    jittable = not isinstance(examples, HostBatches)
    return LinearOperator(_mean_product, (Partial(product), shared, examples), shared[1], factor, jittable)


def stream(batch: Any, chunk: int | None, name: str = "batch") -> Any:
    """The examples of `batch` in the form they are read in: a pytree of arrays, `Chunks`, or `HostBatches`.

    Raises:
        ValueError: if `chunk` is no positive integer, if a batch's leaves differ in their number of examples, or if
            a source is empty.
    """
    if chunk is not None:
        try:
            size = index(chunk)
        except TypeError:
            size = 0
        if size < 1:
            raise ValueError(f"chunk must be a positive number of examples, or None for all at once, not {chunk!r}.")
        chunk = size
    source = source_of(batch)
    if source is not None:
        return read_host_batches(source, chunk, name)
    if chunk is None and not jax.tree.leaves(batch):
        return batch
    n = count_examples(batch, name)
    arrays = jax.tree.map(jnp.asarray, batch)
    return arrays if chunk is None or chunk >= n else Chunks(arrays, chunk)


def count(examples: Any) -> int:
    """The number of examples."""
    return examples.examples if isinstance(examples, Chunks | HostBatches) else count_examples(examples)


def check_independence(mean: Callable[..., PyTree], shared: Shared, examples: Any) -> None:
    """Apply `check_mean` to two examples, where they are read in parts."""
    if isinstance(examples, Chunks | HostBatches):
        check_mean(mean, shared, examples.head)


def streamed_maps(args: PyTree) -> tuple[LinearMap, LinearMap]:
    """The maps (M, Mᵀ) of `args` (maps, shared, examples): M v concatenates the M_b v, and Mᵀ u = Σ_b M_bᵀ u_b."""
    maps, shared, examples = args
    n = count(examples)
    if not isinstance(examples, Chunks | HostBatches):
        return maps(shared, examples, n)
    return (
        lambda v: examples.concatenate(Partial(_forward, maps, shared, n, v)),
        lambda u: examples.sum(Partial(_backward, maps, shared, n), u),
    )


def streamed_structure(maps: Maps, shared: Shared, examples: Any) -> Structure:
    """The structure of M v."""
    n = count(examples)
    part = examples.head if isinstance(examples, Chunks | HostBatches) else examples
    structure = _abstract_forward(Partial(maps), shared, n, shared[1], part)
    return Structure.of(structure, leading=n)


def _mean_product(args: PyTree) -> LinearMap:
    product, shared, examples = args
    if not isinstance(examples, Chunks | HostBatches):
        return product(shared, examples)
    n = examples.examples
    return lambda v: examples.sum(Partial(_weighted, product, shared, n, v))


def _weighted(product: Product, shared: Shared, n: int, v: PyTree, batch: PyTree, _: None) -> PyTree:
    return tree.scale(jnp.asarray(count_examples(batch) / n), product(shared, batch)(v))


def _forward(maps: Maps, shared: Shared, n: int, v: PyTree, batch: PyTree, _: None) -> PyTree:
    return maps(shared, batch, n)[0](v)


def _backward(maps: Maps, shared: Shared, n: int, batch: PyTree, u: PyTree) -> PyTree:
    return maps(shared, batch, n)[1](u)


def _abstract_forward(maps: Maps, shared: Shared, n: int, v: PyTree, batch: PyTree) -> PyTree:
    return _shape_of_forward.eval_shape(maps, shared, n, v, batch, None)


_shape_of_forward = jax.jit(_forward)
