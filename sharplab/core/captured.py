"""The arrays that a function holds beside its arguments."""

import functools
import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import jax
import numpy as np

from sharplab.core import tree


def captured_arrays(**functions: Any) -> dict[str, jax.Array | np.ndarray]:
    """The arrays that functions hold, by where they are: in the closure, defaults, the object or module of each.

    They are looked for in pytrees too, such as the state of an NNX module, and in functions of the same module that it
    calls. A program compiled from the function keeps them as they were.

    >>> scale = np.ones(2)
    >>> def product(x, power=2):
    ...     return scale * x**power
    >>> list(captured_arrays(product=product))
    ['product/scale']
    """
    seen: set[int] = set()
    return dict(found for name, function in functions.items() for found in _arrays_of(name, function, seen, None))


def _arrays_of(place: str, value: Any, seen: set[int], module: dict | None) -> Iterator[tuple[str, Any]]:
    """The arrays within a value; of functions those that are global in `module`, their first one's, are followed."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, functools.partial):
        value = (value.func, value.args, value.keywords)
    elif inspect.ismethod(value):
        value = (value.__func__, value.__self__)
    if isinstance(value, FunctionType):
        module = value.__globals__ if module is None else module
        for name, held in _held(value, module).items():
            yield from _arrays_of(f"{place}/{name}", held, seen, module)
        return
    try:
        leaves = tree.named_leaves(value)
    except (TypeError, ValueError):  # a dict whose keys have no order, or paths that are not told apart
        return
    for path, leaf in leaves.items():
        inner = f"{place}/{path}" if path else place
        if isinstance(leaf, jax.Array | np.ndarray):
            yield inner, leaf
        elif isinstance(leaf, FunctionType | functools.partial) or inspect.ismethod(leaf):
            yield from _arrays_of(inner, leaf, seen, module)


def _held(function: FunctionType, module: dict) -> dict[str, Any]:
    held = dict(enumerate(function.__defaults__ or ())) | (function.__kwdefaults__ or {})
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            held[name] = cell.cell_contents
        except ValueError:  # not yet filled
            continue
    if function.__globals__ is module:
        held |= {name: module[name] for name in function.__code__.co_names if name in module}
    return {str(name): value for name, value in held.items()}
