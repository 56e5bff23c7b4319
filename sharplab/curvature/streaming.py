"""Operators that are means over examples: of a whole batch, of its chunks in turn, or of batches from the host.

The mean over a batch is that of its parts b, each counted by what it weighs: A = Σ_b (W_b/W) A_b, with W_b the sum of
its examples' weights, or their number where all weigh alike.
"""

from collections.abc import Callable, Iterator
from functools import partial
from operator import index
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature.chunks import Chunks, Examples, count_examples
from sharplab.curvature.factor import Factor, LinearMap, Structure
from sharplab.curvature.functions import abstract_outputs
from sharplab.curvature.host_batches import HostBatches, on_host, read_host_batches, source_of
from sharplab.curvature.independence import Mean, check_mean, check_outputs
from sharplab.curvature.linear_operator import LinearOperator
from sharplab.curvature.weights import as_weight, read_weights, require_proportional, require_weight
from sharplab.losses import OutputHessian, output_hessian

Shared = tuple[PyTree, PyTree]  # (functions, params): what all batches have in common
Product = Callable[[Shared, Examples], LinearMap]
Maps = Callable[[Shared, Examples], tuple[LinearMap, LinearMap]]
Stream = Examples | Chunks | HostBatches  # the examples in the form they are read in


def mean_operator(
    product: Product,
    shared: Shared,
    examples: Stream,
    *,
    root: Maps | None = None,
    rows: Callable[[Shared, Examples], PyTree] | None = None,
) -> LinearOperator:
    """The operator A = Σ_b (W_b/W) A_b on params, the mean over all examples.

    Args:
        product: (shared, part) → (v → A_b v), a function of a module; of a whole batch it is linearised once per
            matvec().
        root: (shared, part) → (R_b, R_bᵀ) with A_b = R_bᵀ R_b, if there is one. Not used for host batches, whose dual
            would read them twice per product.
        rows: (shared, part) → the shapes and types of R_b v.
    """
    jittable = not isinstance(examples, HostBatches)
    factor = None
    if root is not None and rows is not None and jittable:
        args = (Partial(root), shared, examples, None if isinstance(examples, Examples) else examples.total)
        factor = Factor(streamed_maps, args, streamed_structure(rows, shared, examples))
    return LinearOperator(_mean_product, (Partial(product), shared, examples), shared[1], factor, jittable)


def examples_of_loss(
    mean: Mean, shared: Shared, batch: Any, chunk: int | None, weight: Any = None, *, each: bool = False
) -> Stream:
    """The examples of `batch` over which a loss is the mean, after a look at what can be seen of them.

    Args:
        mean: (functions, params, batch) → the mean over its examples, a scalar.
        shared: (functions, params), the functions (loss, model, …) with None where there is no model.
        batch: a pytree of arrays, or a source of batches on the host.
        chunk: how many examples at a time; None for all of a batch at once.
        weight: what each example weighs in the mean, in the form of `batch`; None where all weigh alike, and where the
            targets tell.
        each: whether the losses of single examples are asked for, also of a whole batch.

    Raises:
        ValueError: for targets that the loss does not take, for a loss that is no such mean, and as `stream`.
    """
    (loss, model, *_), params = shared
    closed = None if model is None else output_hessian(loss)

    def check(part: Examples, size: int | None) -> None:
        if closed is None:
            if size is not None or weight is not None or each:
                check_mean(mean, shared, part, size or part.number)
            return
        _check_targets(closed, model, params, part.batch)
        if weight is not None:
            require_proportional(part.weight, closed.weight(part.batch[1]))
        if size is not None:
            check_outputs(model, params, part.batch[0], size)

    return stream(batch, chunk, check, weight=weight, weigh=None if closed is None else partial(_weigh, closed))


def stream(
    batch: Any,
    chunk: int | None,
    check: Callable[[Examples, int | None], None],
    *,
    name: str = "batch",
    weight: Any = None,
    weigh: Callable[[PyTree], jax.Array | None] | None = None,
) -> Stream:
    """The examples of `batch` in the form they are read in.

    Args:
        check: (part, size) → None, called for the batch, or each of a source; `size` examples at a time fit the memory,
            all where it is None.
        weigh: batch → the weights of its examples where none are given, or None.

    Raises:
        ValueError: if `chunk` is no positive integer, if there are no examples, if a batch that is cut has no common
            axis of them, or if `weight` is not finite, negative, 0 throughout, or of another shape.
    """
    chunk = _positive(chunk)
    source = source_of(batch)
    if source is not None:
        weights = None if weight is None else read_weights(weight)
        return read_host_batches(partial(_read, source, weights, weigh, name), chunk, name, check)
    leaves = jax.tree.leaves(batch)
    if leaves and not any(jnp.shape(leaf)[:1] != (0,) for leaf in leaves):
        raise ValueError(f"{name} has no examples: its arrays are of shapes {[jnp.shape(leaf) for leaf in leaves]}.")
    arrays = jax.tree.map(jnp.asarray, batch)
    whole = chunk is None or chunk >= count_examples(batch, name)
    if weight is not None:
        weight = as_weight(weight, count_examples(batch, name))
    elif weigh is not None:
        weight = weigh(batch)
    if weight is not None:
        require_weight(weight.sum())
    check(Examples(batch, weight), None if whole else chunk)
    examples = Examples(arrays, None if weight is None else jnp.asarray(weight))
    return examples if whole or chunk is None else Chunks(examples, chunk)


def mean_value(value: Callable[[Shared, Examples], PyTree], shared: Shared, examples: Stream) -> PyTree:
    """The mean Σ_b (W_b/W) value(shared, b) over all parts b, `value` being a function of a module."""
    if isinstance(examples, Examples):
        return value(shared, examples)
    return examples.sum(Partial(_weighted_value, Partial(value), shared, examples.total))


def streamed_maps(args: PyTree) -> tuple[LinearMap, LinearMap]:
    """The maps (M, Mᵀ) of `args` (maps, shared, examples, total): M v concatenates the M_b v, and Mᵀ u = Σ_b M_bᵀ u_b.

    With a `total` W, M_b is √(W_b/W) times what `maps` makes of part b.
    """
    maps, shared, examples, total = args
    if isinstance(examples, Examples):
        return maps(shared, examples)
    return (
        lambda v: examples.concatenate(Partial(_forward, maps, shared, total, v)),
        lambda u: tree.cast(examples.sum(Partial(_backward, maps, shared, total), u), shared[1]),
    )


def streamed_structure(rows: Callable[[Shared, Examples], PyTree], shared: Shared, examples: Stream) -> Structure:
    """The structure of M v, `rows` being (shared, part) → the shapes and types of M_b v."""
    if isinstance(examples, Examples):
        return Structure.of(rows(shared, examples))
    return Structure.of(rows(shared, examples.part), leading=examples.number)


def _positive(chunk: Any) -> int | None:
    if chunk is None:
        return None
    try:
        size = index(chunk)
    except TypeError:
        size = 0
    if size < 1:
        raise ValueError(f"chunk must be a positive number of examples, or None for all at once, not {chunk!r}.")
    return size


def _read(
    source: Callable[[], Any],
    weights: Callable[[], Iterator[Any]] | None,
    weigh: Callable[[PyTree], Any] | None,
    name: str,
) -> Iterator[Examples]:
    """The batches of a source with their weights."""
    beside = None if weights is None else weights()
    for batch in map(on_host, source()):
        if beside is not None:
            given = next(beside, None)
            if given is None:
                raise ValueError(f"weight gives fewer arrays than {name} gives batches: give one for each.")
            yield Examples(batch, as_weight(given, count_examples(batch, name)))
        else:
            yield Examples(batch, None if weigh is None else weigh(batch))
    if beside is not None and next(beside, None) is not None:
        raise ValueError(f"weight gives more arrays than {name} gives batches: give one for each.")


def _check_targets(closed: OutputHessian, model: Partial, params: PyTree, batch: PyTree) -> None:
    inputs, targets, *_ = batch
    if not tree.is_traced(targets):
        closed.check(abstract_outputs(model, params, inputs), targets)


def _weigh(closed: OutputHessian, batch: PyTree) -> Any:
    return closed.weight(batch[1])


def _mean_product(args: PyTree) -> LinearMap:
    product, shared, examples = args
    if isinstance(examples, Examples):
        return product(shared, examples)
    total = examples.total
    return lambda v: tree.cast(examples.sum(Partial(_weighted, product, shared, total, v)), v)


def _weighted(product: Product, shared: Shared, total: Any, v: PyTree, part: Examples, _: None) -> PyTree:
    # Sums over many parts need more digits than 16-bit parameters have.
    return _times(part.total / total, part, tree.wide(product(shared, part)(v)))


def _weighted_value(value: Partial, shared: Shared, total: Any, part: Examples, _: None) -> PyTree:
    return _times(part.total / total, part, tree.wide(value(shared, part)))


def _forward(maps: Maps, shared: Shared, total: Any, v: PyTree, part: Examples, _: None) -> PyTree:
    product = maps(shared, part)[0](v)
    return product if total is None else _times((part.total / total) ** 0.5, part, product)


def _backward(maps: Maps, shared: Shared, total: Any, part: Examples, u: PyTree) -> PyTree:
    product = tree.wide(maps(shared, part)[1](u))
    return product if total is None else _times((part.total / total) ** 0.5, part, product)


def _times(share: Any, part: Examples, product: PyTree) -> PyTree:
    """What a part contributes: 0 where it weighs nothing, and its own mean may be 0/0."""
    product = tree.scale(jnp.asarray(share), product)
    if part.weight is None:
        return product
    return tree.where(jnp.asarray(share) > 0, product, jax.tree.map(jnp.zeros_like, product))
