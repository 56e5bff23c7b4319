"""What a module does with its parameters: found in the trace of a call."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from sharplab.core.tree import named_leaves

TOKENS = tuple(jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((1, 1), (1,)))

ADDED = "added"
LOOKED_UP = "looked up"  # by a gather, or by a product that sums over other axes than the features'
READ_OUT = "read out"  # summed over its features, multiplied, or put into an operation of which nothing is known


@dataclass(frozen=True)
class Call:
    """What a call of a module does with some of its parameters.

    Attributes:
        uses: pairs of a parameter's path and one of "added", "looked up", "read out".
        sizes: the sizes of the axes of what it returns.
    """

    uses: frozenset[tuple[str, str]]
    sizes: frozenset[int]

    def put_to(self, use: str) -> set[str]:
        """The paths of the parameters that are put to a use."""
        return {path for path, found in self.uses if found == use}


def calls(
    module: Any, features: Mapping[str, int | None], inputs: Iterable[jax.ShapeDtypeStruct] = TOKENS
) -> Iterator[Call]:
    """The calls of a module on each of the inputs, as each of its arguments but for flags, that can be traced.

    Args:
        module: an `nnx.Module`, whose numbers may be abstract.
        features: the axis of the features of each parameter that is followed, by path; None where it is not known.
    """
    graphdef, params, *rest = nnx.split(module, nnx.Param, ...)
    for given in inputs:
        try:
            # The input's shape is not the user's, who may have axes to spare.
            with jax.numpy_rank_promotion("allow"):
                traced, outputs = jax.make_jaxpr(
                    lambda params, rest, x: nnx.merge(graphdef, params, *rest)(*_arguments(module, x)),
                    return_shape=True,
                )(params, rest, given)
        except Exception:  # whatever a module does with what it does not take
            continue
        variables = dict(zip(named_leaves(params), traced.jaxpr.invars, strict=False))
        views = {variables[path]: _View(path, axis) for path, axis in features.items()}
        sizes = frozenset(size for x in jax.tree.leaves(outputs) for size in x.shape)
        yield Call(frozenset(_uses(traced.jaxpr, views)), sizes)


class _View(NamedTuple):
    """A parameter, transposed or cut, with the axis of its features; None where that is not known."""

    path: str
    features: int | None


def _arguments(module: Any, x: jax.Array) -> list[Any]:
    """What the module's call needs: `x`, and False or, of "deterministic", True for flags."""
    parameters = inspect.signature(module).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    flags = {"train": False, "training": False, "deterministic": True}
    needed = [flags.get(p.name, x) for p in positional if p.default is p.empty]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)  # as an nnx.Sequential does
    return [x] if takes_any and not positional else needed


def _uses(jaxpr: Jaxpr, views: dict[Any, _View]) -> set[tuple[str, str]]:
    """The uses of the parameters in `views`, by variable, to which the further views are added."""
    found: set[tuple[str, str]] = set()
    for eqn in jaxpr.eqns:
        seen = [views.get(v) if not isinstance(v, Literal) else None for v in eqn.invars]
        given = [view for view in seen if view is not None]
        name = eqn.primitive.name
        if not given:
            continue
        if name in _USES:
            found |= {(view.path, _USES[name]) for view in given}
        elif name in _VIEWS and len(given) == 1 and _others_are_numbers(eqn, seen):
            features = given[0].features
            axis = None if features is None else _VIEWS[name](eqn, features)
            views[eqn.outvars[0]] = _View(given[0].path, axis)
        elif name == "dot_general":
            summed = eqn.params["dimension_numbers"][0]
            found |= {
                (view.path, READ_OUT if view.features is None or view.features in axes else LOOKED_UP)
                for view, axes in zip(seen, summed, strict=True)
                if view is not None
            }
        else:
            found |= _within(eqn, seen, views)
    return found


def _within(eqn: JaxprEqn, seen: list[_View | None], views: dict[Any, _View]) -> set[tuple[str, str]]:
    """The uses by a function that is called, or by an operation of which nothing is known."""
    called = [closed.jaxpr if isinstance(closed, ClosedJaxpr) else closed for closed in _jaxprs(eqn.params.values())]
    if not called or any(len(inner.invars) not in (len(seen), len(seen) - 1) for inner in called):
        return {(view.path, READ_OUT) for view in seen if view is not None}
    found: set[tuple[str, str]] = set()
    for inner in called:
        # A conditional's first argument chooses between its functions.
        arguments = seen[len(seen) - len(inner.invars) :]
        of_inner = {v: view for v, view in zip(inner.invars, arguments, strict=True) if view is not None}
        found |= _uses(inner, of_inner)
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


# The operations whose results are the parameter still: of one, as the new axis of the features.
_VIEWS: Mapping[str, Callable[[JaxprEqn, int], int | None]] = {
    **dict.fromkeys(("convert_element_type", "copy", "neg", "mul", "div", "slice", "dynamic_slice"), _same),
    "transpose": lambda eqn, axis: eqn.params["permutation"].index(axis),
    "broadcast_in_dim": lambda eqn, axis: eqn.params["broadcast_dimensions"][axis],
    "squeeze": _squeezed,
    "reshape": lambda eqn, axis: None,
}
_USES: Mapping[str, str] = {"gather": LOOKED_UP, "add": ADDED, "sub": ADDED}
