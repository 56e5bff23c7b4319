"""The check that a loss is the mean over its examples, as the parts of a batch must be to add up."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any
from weakref import ref
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature.chunks import Examples
from sharplab.curvature.functions import identity
from sharplab.curvature.jacobian import derivative_along

TOLERANCE = 2.0**-8  # relative; smaller differences may be rounding, also of models that compute in bfloat16
REMEMBERED = 256  # batches that have been found to be right

_PASSED: OrderedDict[Hashable, list[ref]] = OrderedDict()

Mean = Callable[..., jax.Array]  # (functions, params, batch) → a mean over the examples of a batch, a scalar


def check_mean(mean: Mean, shared: Any, examples: Examples, size: int) -> None:
    """Raise a ValueError if the mean over examples is not, by their weights, the mean of those over each alone.

    That is asked of each example together with the one before it that weighs anything, in a ring, so that between them
    all weights are compared. What is compared are derivatives along a random direction, at parameters a tenth away:
    the losses themselves may be nearly equal, and their gradients nearly 0.

    The check is skipped under tracing, for values that are not finite, and for a batch that has passed before.

    Args:
        mean: (functions, params, batch) → the mean, a scalar.
        shared: (functions, params), the functions as `Partial`s or None.
        size: how many examples' activations are in memory at a time.
    """
    if tree.is_traced((shared, examples)):
        return
    key, references = _key(mean, shared[0], examples)
    if key is not None and key in _PASSED and all(known() is not None for known in _PASSED[key]):
        return
    number = examples.number
    weight = np.ones(number) if examples.weight is None else np.asarray(examples.weight, np.float64)
    before = _before(weight)
    with jax.ensure_compile_time_eval():  # concrete values can be checked while a program is traced, too
        found = [
            _slopes(Partial(mean), shared, *_rows(examples.batch, index, before[index]))
            for index in (np.arange(first, first + size) % number for first in range(0, number, size))
        ]
        alone, both = (np.concatenate(part)[:number].astype(np.float64) for part in zip(*found, strict=True))
    alone = np.where(weight > 0, alone, 0.0)  # a mean over nothing may be NaN
    expected = (weight * alone + weight[before] * alone[before]) / (weight + weight[before])
    seen = np.isfinite(both)
    typical = np.sqrt(np.mean(alone[np.isfinite(alone)] ** 2)) if np.isfinite(alone).any() else 0.0
    allowed = _tolerance(shared[1]) * (np.abs(alone) + np.abs(alone[before]) + typical)
    wrong = seen & ~(np.abs(both - expected) <= allowed)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(_message(examples.weight is not None, int(before[i]), i, float(both[i]), float(expected[i])))
    if key is not None and seen.all():
        _PASSED[key] = references
        while len(_PASSED) > REMEMBERED:
            _PASSED.popitem(last=False)


def linked(check: Callable[[Examples], None]) -> Callable[[Examples], None]:
    """The check of each of several batches in turn, together with the last example before it that weighs anything."""
    link: Examples | None = None

    def look(part: Examples) -> None:
        nonlocal link
        part = jax.tree.map(_as_numpy, part)
        joined = part if link is None else jax.tree.map(_joined, link, part)
        check(joined)
        heavy = np.arange(joined.number) if joined.weight is None else np.flatnonzero(joined.weight > 0)
        if len(heavy):
            link = jax.tree.map(lambda x: x[heavy[-1] :][:1], joined)

    return look


def _before(weight: np.ndarray) -> np.ndarray:
    """For each example the index of the one before it, in a ring, that weighs anything."""
    heavy = np.flatnonzero(weight > 0)
    return heavy[np.searchsorted(heavy, np.arange(len(weight))) - 1] if len(heavy) else np.arange(len(weight))


def _rows(batch: PyTree, index: np.ndarray, before: np.ndarray) -> tuple[PyTree, np.ndarray, np.ndarray]:
    """The batch and two indices into it; of a batch on the host only the rows they ask for."""
    if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch)):
        return batch, index, before
    places = np.arange(2 * len(index))
    chosen = np.concatenate([index, before])
    return jax.tree.map(lambda x: x[chosen], batch), places[: len(index)], places[len(index) :]


@jax.jit
def _slopes(mean: Partial, shared: Any, batch: PyTree, index: jax.Array, before: jax.Array) -> PyTree:
    """The derivatives along one direction of the mean over each example alone, and with the one before it."""
    functions, params = shared
    direction = jax.tree.map(scattered, params)
    point = jax.tree.map(lambda w, u: w + 0.1 * w * u, params, direction)

    def slope(part: PyTree) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            return derivative_along(lambda w: mean(functions, w, part), point, direction)

    alone = jax.tree.map(lambda x: x[index][:, None], batch)
    both = jax.tree.map(lambda x: jnp.stack([x[before], x[index]], 1), batch)
    return _each(slope, alone), _each(slope, both)


def _each(function: Callable[[PyTree], jax.Array], parts: PyTree) -> jax.Array:
    """The values of the function on all parts: at once, or in turn where it has no rule for that."""
    try:
        return jax.vmap(function)(parts)
    except Exception:  # whatever else is wrong with the function is found in turn, too
        return jax.lax.map(function, parts)


def scattered(like: jax.Array) -> jax.Array:
    """Numbers in (−1, 1) without a pattern, shaped like an array, cheaper to compile than random ones (MurmurHash3)."""
    k = jax.lax.iota(jnp.uint32, max(like.size, 1)) + jnp.uint32(1)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        k = (k ^ (k >> shift)) * jnp.uint32(factor)
    k = k ^ (k >> 16)
    return (k[: like.size].astype(jnp.float32) * 2.0**-31 - 1).reshape(like.shape).astype(like.dtype)


def _tolerance(params: PyTree) -> float:
    return max([TOLERANCE, *(float(jnp.finfo(jnp.result_type(w)).eps) ** 0.5 for w in jax.tree.leaves(params))])


def _message(declared: bool, first: int, second: int, found: float, expected: float) -> str:
    apart = f"on examples {first} and {second} the loss or model has the slope {found:.2e} where each alone gives "
    if declared:
        return (
            f"{apart}{expected:.2e} by their weight: weight must be what each example counts in the loss's own mean "
            "(for a mean over tokens, how many of its tokens count); leave it out where the loss counts all alike."
        )
    return (
        f"{apart}the mean {expected:.2e}, so chunks would not add up to the batch: either examples influence each "
        "other (batch statistics: use evaluation mode), or the loss is a sum (return the mean over examples), or it "
        "counts some more than others (give weight=, one entry per example, such as how many of its tokens count)."
    )


def _key(mean: Mean, functions: PyTree, examples: Examples) -> tuple[Hashable | None, list[ref]]:
    """What a check is remembered by, and references to the arrays whose identity that relies on."""
    known = [identity(function) for function in functions if isinstance(function, Partial)]
    if any(part is None for part in known):
        return None, []
    leaves = jax.tree.leaves(examples)
    on_device = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    prints = tuple(id(leaf) if isinstance(leaf, jax.Array) else _digest(np.asarray(leaf)) for leaf in leaves)
    return (mean, *known, prints), [ref(leaf) for leaf in on_device]


def _digest(leaf: np.ndarray) -> Hashable:
    return leaf.shape, leaf.dtype.str, crc32(leaf.tobytes())


def _as_numpy(leaf: Any) -> Any:
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf if is_key else np.asarray(leaf)


def _joined(first: Any, second: Any) -> Any:
    return (jnp if isinstance(first, jax.Array) else np).concatenate([first, second])
