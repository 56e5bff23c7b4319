"""The check that a loss is the mean over its examples, as the parts of a batch must be to add up."""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any
from weakref import finalize
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

TOLERANCE = 2.0**-10  # relative, at least; rounding of parameters in float32 has made differences up to 4e-7
REMEMBERED = 256  # batches that have been found to be right

_PASSED: dict[Hashable, None] = {}  # the oldest first
_DIGESTS: dict[int, Hashable] = {}  # of arrays on devices, by their identity

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
    key = _key(mean, shared[0], examples)
    if key in _PASSED:
        return
    weight = np.ones(examples.number) if examples.weight is None else np.asarray(examples.weight, np.float64)
    before = _before(weight)
    alone, both = _in_pairs(_slopes, (Partial(mean), shared), examples.batch, before, size)
    alone = np.where(weight > 0, alone, 0.0)
    together = weight + weight[before]
    expected = (weight * alone + weight[before] * alone[before]) / np.where(together > 0, together, 1.0)
    wrong = _differ(both, expected, np.abs(alone) + np.abs(alone[before]), shared[1])
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(_message(examples.weight is not None, int(before[i]), i, float(both[i]), float(expected[i])))
    _remember(key, both)


def check_outputs(model: Partial, params: PyTree, inputs: PyTree, size: int) -> None:
    """Raise a ValueError if the outputs of an example depend on the one before it in the batch, in a ring.

    For a loss that is known to be a mean over predictions this is all that there is to ask. Skipped as `check_mean` is.
    """
    if tree.is_traced((model, params, inputs)):
        return
    examples = Examples(inputs)
    key = _key(check_outputs, (model,), examples)
    if key in _PASSED:
        return
    before = np.roll(np.arange(examples.number), 1)
    alone, both = _in_pairs(_projections, (model, params), inputs, before, size)
    expected = np.stack([alone[before], alone], 1)
    wrong = _differ(both, expected, np.abs(expected), params).any(1)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"the outputs of examples {before[i]} and {i} are not those of each alone, so chunks would not add up to "
            "the batch: examples influence each other (batch statistics: use evaluation mode), and no mean or sum over "
            "the parts is the whole."
        )
    _remember(key, both)


def _differ(found: np.ndarray, expected: np.ndarray, sizes: np.ndarray, params: PyTree) -> np.ndarray:
    """Where finite values are not as expected, beyond rounding of their sizes and of typical ones."""
    typical = np.sqrt(np.mean(np.where(np.isfinite(expected), expected, 0.0) ** 2))
    return np.isfinite(found) & ~(np.abs(found - expected) <= _tolerance(params) * (sizes + typical))


def _remember(key: Hashable, found: np.ndarray) -> None:
    if key is not None and np.isfinite(found).all():
        _PASSED[key] = None
        while len(_PASSED) > REMEMBERED:
            del _PASSED[next(iter(_PASSED))]


def at_once() -> AbstractContextManager[None]:
    """The context in which concrete values are computed with, also while a program is traced."""
    traced = isinstance(jnp.zeros(()), jax.core.Tracer)
    return jax.ensure_compile_time_eval() if traced else nullcontext()  # in it, programs are compiled in pieces


def linked(check: Callable[[Examples], None]) -> Callable[[Examples], None]:
    """The check of each of several batches in turn, together with the last example before it that weighs anything."""
    link: Examples | None = None

    def look(part: Examples) -> None:
        nonlocal link
        part = jax.tree.map(_as_numpy, part)
        joined = part if link is None else jax.tree.map(_joined, link, part)
        check(joined)
        heavy = np.ones(joined.number) if joined.weight is None else joined.weight > 0
        last = int(np.flatnonzero(heavy)[-1]) if heavy.any() else joined.number - 1
        link = jax.tree.map(lambda x: x[last : last + 1], joined)

    return look


def _before(weight: np.ndarray) -> np.ndarray:
    """For each example the index of the one before it, in a ring, that weighs anything."""
    heavy = np.flatnonzero(weight > 0)
    return heavy[np.searchsorted(heavy, np.arange(len(weight))) - 1] if len(heavy) else np.arange(len(weight))


def _in_pairs(
    values: Callable[..., PyTree], shared: Any, batch: PyTree, before: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `values` of each of n examples alone (n,), and of it together with the one `before` it (n,) or (n, 2)."""
    # From the host, whatever devices the batch lies on: its digest has brought it there.
    batch, program, found = jax.tree.map(_as_numpy, batch), _compiled(values, jax.default_backend()), []
    with at_once(), jax.debug_nans(False):  # the mean over an example that weighs nothing may be NaN
        for first in range(0, len(before), size):
            rows = np.arange(first, first + size)[:, None] % len(before)
            alone, both = (jax.tree.map(lambda x, i=i: x[i], batch) for i in (rows, np.hstack([before[rows], rows])))
            found.append(program(shared, alone, both))
        alone, both = (np.concatenate(part)[: len(before)] for part in zip(*found, strict=True))
    return alone.astype(np.float64), both.astype(np.float64)


@cache
def _compiled(function: Callable[..., PyTree], backend: str) -> Callable[..., PyTree]:
    """The function as a program that runs once for a batch: on CPUs optimising it takes longer than it saves."""
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function, compiler_options=quick if backend == "cpu" else None)


def _slopes(shared: Any, alone: PyTree, both: PyTree) -> tuple[jax.Array, jax.Array]:
    """The derivatives of means along one direction of the parameters."""
    mean, (functions, params) = shared
    direction = jax.tree.map(scattered, params)
    point = jax.tree.map(_near, params, direction)

    def slope(part: PyTree) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            return derivative_along(lambda w: mean(functions, w, part), point, direction)

    return _each(slope, alone), _each(slope, both)


def _projections(shared: Any, alone: PyTree, both: PyTree) -> tuple[jax.Array, jax.Array]:
    """One number for all outputs of each example."""
    model, params = shared
    point = jax.tree.map(_near, params, jax.tree.map(scattered, params))

    def projected(part: PyTree) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            rows = [f.reshape(len(f), -1) for f in jax.tree.leaves(model(point, part))]
            return sum(row @ scattered(row[0]) for row in rows)

    return _each(lambda part: projected(part)[0], alone), _each(projected, both)


def _near(w: jax.Array, u: jax.Array) -> jax.Array:
    """Parameters a tenth away, of the same signs; those that are 0 are so no longer."""
    return w + 0.1 * u * jnp.where(w == 0, jnp.ones_like(w), w)


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


def _key(check: Callable[..., Any], functions: PyTree, examples: Examples) -> Hashable | None:
    """What a check is remembered by; None where it cannot be. What functions hold is part of it, parameters are not."""
    known = [identity(function) for function in functions if isinstance(function, Partial)]
    if any(part is None for part in known):
        return None
    return (check, *known, *map(_digest, jax.tree.leaves((functions, examples))))


def _digest(leaf: Any) -> Hashable:
    """What tells an array's values from others, computed once for an array that cannot change."""
    if isinstance(leaf, jax.Array) and id(leaf) in _DIGESTS:
        return _DIGESTS[id(leaf)]
    values = np.asarray(jax.random.key_data(leaf) if _are_keys(leaf) else leaf)
    found = values.shape, values.dtype.str, crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    if isinstance(leaf, jax.Array):
        _DIGESTS[id(leaf)] = found
        finalize(leaf, _DIGESTS.pop, id(leaf), None)
    return found


def _as_numpy(leaf: Any) -> Any:
    return leaf if _are_keys(leaf) else np.asarray(leaf)


def _are_keys(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _joined(first: Any, second: Any) -> Any:
    return (jnp if isinstance(first, jax.Array) else np).concatenate([first, second])
