"""Examples as users have them: arrays, a function that returns them, or a loader of batches."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from sharplab.core.tree import PyTree


def examples_of(name: str, given: Any, most: int) -> tuple[PyTree, PyTree]:
    """The pair (inputs, targets) that is given, in one of these forms.

    - a tuple or list of two: itself;
    - a loader: anything that can be iterated over, such as a list or a generator, and gives pairs, one per batch. Their
      arrays are joined along the examples, of as many batches as are needed for `most` examples, or of all;
    - a function without arguments that returns either.

    Raises:
        ValueError: for anything else, with `name`, what was found and what is needed.

    >>> batches = [(np.zeros((4, 3)), np.ones(4)), (np.zeros((2, 3)), np.ones(2))]
    >>> [x.shape for x in examples_of("data", lambda: iter(batches), most=100)]
    [(6, 3), (6,)]
    >>> [x.shape for x in examples_of("batch", batches, most=1)]
    [(4, 3), (4,)]
    """
    if _is_pair(given):
        return given[0], given[1]
    if isinstance(given, Iterable) and not isinstance(given, str | Mapping) and not hasattr(given, "__array__"):
        return _joined(name, given, most)
    if not callable(given):
        raise ValueError(f"{name} is {_described(given)}: {_NEEDED}.")
    try:
        made = given()
    except TypeError as error:
        raise ValueError(f"{name} is a function that cannot be called ({error}): {_NEEDED}.") from error
    return examples_of(f"what {name} returns", made, most)


_NEEDED = "give a pair (inputs, targets) of arrays, a loader of such pairs, or a function without arguments of either"


def _is_pair(given: Any) -> bool:
    """Whether it is (inputs, targets), rather than a list of batches."""
    of_batches = isinstance(given, list) and all(isinstance(part, tuple | list) for part in given)
    return isinstance(given, tuple | list) and len(given) == 2 and not of_batches


def _joined(name: str, loader: Iterable, most: int) -> tuple[PyTree, PyTree]:
    pairs: list[tuple[PyTree, PyTree]] = []
    count = 0
    for batch in loader:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ValueError(f"{name} is a loader whose batches are each {_described(batch)}: {_NEEDED}.")
        pair = jax.tree.map(np.asarray, (batch[0], batch[1]))
        lengths = {x.shape[0] if x.ndim else 0 for x in jax.tree.leaves(pair)}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                f"{name} is a loader whose batches have {sorted(lengths)} examples along the first axes of their "
                "arrays: give as many targets as inputs in each, one at least."
            )
        pairs.append(pair)
        count += lengths.pop()
        if count >= most:
            break
    if not pairs:
        raise ValueError(f"{name} is a loader without a batch: {_NEEDED}.")
    try:
        return jax.tree.map(lambda *parts: np.concatenate(parts), *pairs)
    except ValueError as error:
        raise ValueError(f"{name} is a loader whose batches do not join: {error}") from error


def _described(found: Any) -> str:
    kind = type(found).__name__
    if isinstance(found, Mapping):
        return f"a {kind} of {', '.join(map(str, found))}"
    if hasattr(found, "__array__"):
        return f"one array of shape {np.shape(found)}"
    return f"a {kind} of {len(found)}" if isinstance(found, tuple | list) else f"a {kind}"
