"""The arrays and numbers that a function reads beside its arguments."""

import functools
import inspect
import weakref
import zlib
from collections.abc import Hashable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from sharplab.core import tree

MOST_READ = 2**28  # bytes of an array of numpy: a tenth of a second
ARRAYS = (jax.Array, np.ndarray)
NUMBERS = (bool, int, float, complex, str, np.generic)


class _Place(NamedTuple):
    """Where something is, in the functions of a module; `names` are those of attributes that they read."""

    name: str
    names: set[str]
    module: dict | None = None

    def within(self, name: Any) -> "_Place":
        return self._replace(name=f"{self.name}/{name}") if name != "" else self


def captured(**functions: Any) -> dict[str, Any]:
    """The arrays and numbers, texts too, that functions read, by where they are.

    That is in the closure, defaults, module or object of each, in pytrees such as the state of an NNX module, in
    functions of the same module and methods that it calls, and in attributes of objects that any of these names. A
    program compiled from the function keeps them as they were. Numbers in a list are left out where it appends to one,
    as what counts its traces.

    >>> scale = np.ones(2)
    >>> def product(x, power=2):
    ...     return scale * x**power
    >>> list(captured(product=product))
    ['product/0', 'product/scale']
    """
    names: set[str] = set()
    while True:  # until all functions have been seen, and so all names
        known, seen = len(names), set[Hashable]()
        places = (_read_by(_Place(name, names), function, seen) for name, function in functions.items())
        found = {place: value for of_function in places for place, value in of_function}
        if len(names) == known:
            return found


def captured_arrays(**functions: Any) -> dict[str, jax.Array | np.ndarray]:
    """The arrays among what functions read, see `captured`."""
    return {place: value for place, value in captured(**functions).items() if isinstance(value, ARRAYS)}


def fingerprint(value: Any) -> Hashable:
    """What is equal for equal values: of a `jax.Array`, which never changes, its identity; of numpy's its content.

    Of files and of arrays too large to be read in each call it is the identity too.
    """
    if isinstance(value, jax.Array | np.memmap) or (isinstance(value, np.ndarray) and value.nbytes > MOST_READ):
        return _Same(value)
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, zlib.crc32(np.ascontiguousarray(value).data)
    return type(value).__name__, repr(value)


class _Same:
    """An array that is not kept alive, equal to itself alone."""

    def __init__(self, array: jax.Array | np.ndarray) -> None:
        self.array, self.id = weakref.ref(array), id(array)

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        array = self.array()
        return self is other or (isinstance(other, _Same) and array is not None and array is other.array())


def _read_by(place: _Place, value: Any, seen: set[Hashable]) -> Iterator[tuple[str, Any]]:
    """What a function reads, or what is read of a value in the function of `place`."""
    key = (id(value.__func__), id(value.__self__)) if inspect.ismethod(value) else id(value)
    if key in seen:
        return
    seen.add(key)
    if isinstance(value, functools.partial):
        value = (value.func, value.args, value.keywords)
    elif inspect.ismethod(value):
        yield from _read_by(place, value.__func__, seen)
        yield from _read_by(place, value.__self__, seen)
        return
    if isinstance(value, FunctionType):
        module = value.__globals__ if place.module is None else place.module
        if value.__globals__ is module:
            place.names.update(value.__code__.co_names)
        for name, held in _held(value, module).items():
            yield from _read_by(place.within(name)._replace(module=module), held, seen)
        return
    try:
        leaves = tree.named_leaves(value)
    except (TypeError, ValueError):  # a dict whose keys have no order, or paths that are not told apart
        return
    counts = isinstance(value, list) and "append" in place.names
    for path, leaf in leaves.items():
        inner = place.within(path)
        if isinstance(leaf, (*ARRAYS, *NUMBERS)):
            if not (counts and isinstance(leaf, NUMBERS)):
                yield inner.name, leaf
        elif isinstance(leaf, FunctionType | functools.partial) or inspect.ismethod(leaf):
            yield from _read_by(inner, leaf, seen)
        else:
            yield from _attributes(inner, leaf, seen)


def _attributes(place: _Place, owner: Any, seen: set[Hashable]) -> Iterator[tuple[str, Any]]:
    """What is read of an object, class or module: the attributes, and methods, that functions name."""
    call = inspect.getattr_static(type(owner), "__call__", None)
    if _is_own(call, place):
        yield from _read_by(place, MethodType(call, owner), seen)
    for name in sorted(place.names):
        held = inspect.getattr_static(owner, name, None)
        if isinstance(held, property):
            held = held.fget
        if inspect.ismemberdescriptor(held):  # of an object with __slots__
            held = getattr(owner, name, None)
        if isinstance(held, FunctionType) and name not in getattr(owner, "__dict__", {}):
            held = MethodType(held, owner) if _is_own(held, place) else None
        if not isinstance(owner, ModuleType) or isinstance(held, (*ARRAYS, *NUMBERS)):
            yield from _read_by(place.within(name), held, seen)


def _is_own(function: Any, place: _Place) -> bool:
    """Whether this is a function of the module whose functions are followed."""
    return isinstance(function, FunctionType) and (place.module is None or place.module is function.__globals__)


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
