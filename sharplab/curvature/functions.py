"""Users' functions as static parts of compiled programs."""

import functools
import inspect
import warnings
import weakref
from collections.abc import Callable, Hashable
from types import CodeType
from typing import Any

import jax
from jax.tree_util import Partial

from sharplab.core.reading import partial_as_it_reads, reference
from sharplab.core.tree import PyTree
from sharplab.losses import output_hessian

MANY = 8  # different function objects from one place in the source, for params of one shape, before a warning

_SEEN: dict[tuple[CodeType, Any], set[weakref.ref]] = {}
_COUNTS: dict[tuple[CodeType, Any], int] = {}


def as_partial(function: Callable[..., Any], params: PyTree) -> Partial:
    """The function as a `Partial`, a pytree without leaves.

    Each new function object compiles a new program, and so does one that reads other arrays or numbers than before,
    leaves of `params` apart; for `MANY` of them from one place in the source, with params of the same shapes, a
    UserWarning is given once.
    """
    code = None if isinstance(function, Partial) else _code(function)
    if code is not None:
        _count(function, (code, _signature(params)))
    return partial_as_it_reads(function, params)


def objective(functions: tuple[Partial, Partial | None], params: PyTree, batch: PyTree) -> jax.Array:
    """The value loss(params, batch), or with a model loss(model(params, inputs), targets).

    A loss of `sharplab.losses` is in the form whose derivatives keep their last digits where the loss is small.
    """
    loss, model = functions
    if model is None:
        return loss(params, batch)
    inputs, targets = batch
    closed = output_hessian(loss)
    return (loss if closed is None else closed.value)(model(params, inputs), targets)


def abstract_outputs(model: Partial, params: PyTree, inputs: PyTree) -> PyTree:
    """The shapes and types of model(params, inputs), for which the model is traced once."""
    return _outputs.eval_shape(model, params, inputs)


@jax.jit
def _outputs(model: Partial, params: PyTree, inputs: PyTree) -> PyTree:
    return model(params, inputs)


def identity(function: Any) -> Hashable | None:
    """What equal functions share without being kept alive, the leaves of a `Partial` apart; None where nothing does."""
    bound = []
    while hasattr(function, "keywords"):
        if not isinstance(function, Partial):
            bound.append((function.args, *sorted(function.keywords.items())))
        function = function.func
    found = reference(function, lambda _: None), *bound
    try:
        hash(found)
    except TypeError:
        return None
    return None if found[0] is None else found


def _code(function: Callable[..., Any]) -> CodeType | None:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(inspect.unwrap(function), "__code__", None)


def _signature(params: PyTree) -> Any:
    leaves, treedef = jax.tree.flatten(params)
    return treedef, tuple(getattr(leaf, "shape", ()) for leaf in leaves)


def _count(function: Callable[..., Any], key: tuple[CodeType, Any]) -> None:
    seen = _SEEN.setdefault(key, set())
    known = reference(function, seen.discard)
    if known is None or known in seen:
        return
    seen.add(known)
    _COUNTS[key] = _COUNTS.get(key, 0) + 1
    if _COUNTS[key] == MANY:
        code = key[0]
        warnings.warn(
            f"{MANY} different function objects made by {code.co_name!r} ({code.co_filename}:{code.co_firstlineno}) "
            "came in for params of the same shapes, and each compiles its own program: pass one function that lives "
            "on, with changing arrays bound by jax.tree_util.Partial.",
            UserWarning,
            stacklevel=5,  # past the check of arguments
        )
