"""Functions as static parts of compiled programs, which keep the arrays and numbers that these read."""

import inspect
import warnings
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import jax
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.captured import captured, fingerprint
from sharplab.core.tree import PyTree

MANY = 8  # states of what a function reads, each with a program of its own, before a warning

_READ: dict[weakref.ref, dict[tuple, None]] = {}  # what each function has read, in the order in which it came


@dataclass(frozen=True)
class _Reading:
    """A function at a time when it read other values than when it first came, equal where both are."""

    function: Callable[..., Any]
    read: tuple[tuple[str, Hashable], ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def partial_as_it_reads(function: Callable[..., Any], params: PyTree) -> Partial:
    """The function `as_it_reads` as a `Partial`, which keeps its leaves if it is one."""
    if not isinstance(function, Partial):
        return Partial(as_it_reads(function, params))
    inner = as_it_reads(function.func, params)
    return function if inner is function.func else Partial(inner, *function.args, **function.keywords)


def as_it_reads(function: Callable[..., Any], params: PyTree) -> Callable[..., Any]:
    """The function, as a `_Reading` where what it reads has changed, so that no program with the old values is used.

    What it reads is `captured` by it, leaves of `params` apart, which it is given as well. Each state has a program of
    its own; a UserWarning is given where there have been `MANY`.
    """
    read = captured(function=function)
    if tree.is_traced(list(read.values())):
        return function
    try:
        known = reference(function, _forget)
        if known is None:
            return function
        before = _READ.setdefault(known, {})
    except TypeError:  # not to be hashed, which compiling it will say
        return function
    first = dict(next(iter(before), ()))
    given = set(map(id, jax.tree.leaves(params)))
    # What is given as params too, as where a closure holds the module that is trained, counts as it did at first.
    now = tuple(
        (place, first[place] if place in first and id(value) in given else fingerprint(value))
        for place, value in read.items()
    )
    before[now] = None
    if len(before) == MANY:
        changed = [place for (place, value), (_, other) in zip(now, next(iter(before)), strict=False) if value != other]
        warnings.warn(
            f"{', '.join(changed).replace('function/', '')}: read by {function!r}, and changed {MANY} times between "
            "calls, each of which compiles its own program: bind what changes by jax.tree_util.Partial.",
            UserWarning,
            stacklevel=6,  # past as_partial and the check of arguments
        )
    return function if now == next(iter(before)) else _Reading(function, now)


def _forget(gone: weakref.ref) -> None:
    _READ.pop(gone, None)


def reference(function: Callable[..., Any], forget: Callable[[weakref.ref], None]) -> weakref.ref | None:
    """A weak reference that is equal for equal functions, bound methods too; None where there can be none."""
    kind = weakref.WeakMethod if inspect.ismethod(function) else weakref.ref
    try:
        return kind(function, forget)
    except TypeError:
        return None
