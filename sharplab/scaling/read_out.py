"""The tables that a network reads its outputs out by: found in the trace of a call, where the network takes tokens."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from sharplab.core.tree import named_leaves

_TOKENS = ((1, 1), (1,))  # shapes of what a network may take


class _View(NamedTuple):
    """A table, transposed or cut, with the axis of its features; None where that is not known."""

    path: str
    features: int | None


def tables_read_out(module: Any, tables: Mapping[str, int]) -> set[str] | None:
    """The paths of the tables that a call of the module on tokens does more with than look rows up and add them.

    A readout sums over a table's features. None where the module does not take tokens, as each of its arguments but for
    flags, or where what it returns has the features still, so that another function reads it out.

    Args:
        module: an `nnx.Module`, whose numbers may be abstract.
        tables: the axis of the features of each, by path.

    >>> class Tied(nnx.Module):
    ...     def __init__(self, rngs):
    ...         self.embed, self.types = nnx.Embed(5, 3, rngs=rngs), nnx.Embed(2, 3, rngs=rngs)
    ...     def __call__(self, tokens):
    ...         return self.embed.attend(self.embed(tokens) + self.types(tokens % 2))
    >>> tables_read_out(Tied(nnx.Rngs(0)), {"embed/embedding": 1, "types/embedding": 1})
    {'embed/embedding'}
    """
    graphdef, params, *rest = nnx.split(module, nnx.Param, ...)
    names = list(named_leaves(params))
    for shape in _TOKENS:
        try:
            # The tokens' shape is not the user's, who may have axes to spare.
            with jax.numpy_rank_promotion("allow"):
                traced, outputs = jax.make_jaxpr(
                    lambda params, rest, tokens: nnx.merge(graphdef, params, *rest)(*_arguments(module, tokens)),
                    return_shape=True,
                )(params, rest, jax.ShapeDtypeStruct(shape, jnp.int32))
        except Exception:  # whatever a module does with what it does not take
            continue
        arguments = dict(zip(names, traced.jaxpr.invars, strict=False))
        features = {arguments[path].aval.shape[axis] for path, axis in tables.items()}
        if any(features & set(x.shape) for x in jax.tree.leaves(outputs)):
            return None
        views = {arguments[path]: _View(path, axis) for path, axis in tables.items()}
        return _read_out(traced.jaxpr, views)
    return None


def _arguments(module: Any, tokens: jax.Array) -> list[Any]:
    """What the module's call needs: tokens, and False or, of "deterministic", True for flags."""
    parameters = inspect.signature(module).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    flags = {"train": False, "training": False, "deterministic": True}
    return [flags.get(p.name, tokens) for p in positional if p.default is p.empty]


def _read_out(jaxpr: Jaxpr, views: dict[Any, _View]) -> set[str]:
    """The tables that are read out of those in `views`, by variable, to which the further views are added."""
    found: set[str] = set()
    for eqn in jaxpr.eqns:
        seen = [views.get(v) if not isinstance(v, Literal) else None for v in eqn.invars]
        given = [view for view in seen if view is not None]
        name = eqn.primitive.name
        if not given or name in _LOOKUPS:
            continue
        if name in _VIEWS and len(given) == 1 and _others_are_numbers(eqn, seen):
            features = given[0].features
            axis = None if features is None else _VIEWS[name](eqn, features)
            views[eqn.outvars[0]] = _View(given[0].path, axis)
        elif name == "dot_general":
            summed = eqn.params["dimension_numbers"][0]
            found |= {
                view.path
                for view, axes in zip(seen, summed, strict=True)
                if view is not None and (view.features is None or view.features in axes)
            }
        else:
            found |= _within(eqn, seen, views)
    return found


def _within(eqn: JaxprEqn, seen: list[_View | None], views: dict[Any, _View]) -> set[str]:
    """The tables that are read out by a function that is called, or by an operation of which nothing is known."""
    called = [closed.jaxpr if isinstance(closed, ClosedJaxpr) else closed for closed in _jaxprs(eqn.params.values())]
    if not called or any(len(inner.invars) not in (len(seen), len(seen) - 1) for inner in called):
        return {view.path for view in seen if view is not None}
    found: set[str] = set()
    for inner in called:
        # A conditional's first argument chooses between its functions.
        arguments = seen[len(seen) - len(inner.invars) :]
        of_inner = {v: view for v, view in zip(inner.invars, arguments, strict=True) if view is not None}
        found |= _read_out(inner, of_inner)
        for outer, v in zip(eqn.outvars, inner.outvars, strict=False):
            if not isinstance(v, Literal) and v in of_inner:
                views[outer] = of_inner[v]
    return found


def _jaxprs(values: Iterable[Any]) -> list[Jaxpr | ClosedJaxpr]:
    flat = [part for value in values for part in (value if isinstance(value, tuple | list) else (value,))]
    return [part for part in flat if isinstance(part, Jaxpr | ClosedJaxpr)]


def _others_are_numbers(eqn: Any, seen: list[_View | None]) -> bool:
    return all(view is not None or math.prod(v.aval.shape) == 1 for v, view in zip(eqn.invars, seen, strict=True))


def _same(eqn: JaxprEqn, axis: int) -> int:
    return axis


def _squeezed(eqn: JaxprEqn, axis: int) -> int:
    return axis - sum(dropped < axis for dropped in eqn.params["dimensions"])


# The operations whose results are the table still: of one, as the new axis of the features.
_VIEWS: Mapping[str, Callable[[JaxprEqn, int], int | None]] = {
    **dict.fromkeys(("convert_element_type", "copy", "neg", "mul", "div", "slice", "dynamic_slice"), _same),
    "transpose": lambda eqn, axis: eqn.params["permutation"].index(axis),
    "broadcast_in_dim": lambda eqn, axis: eqn.params["broadcast_dimensions"][axis],
    "squeeze": _squeezed,
    "reshape": lambda eqn, axis: None,
}
_LOOKUPS = ("gather", "add", "sub")
