"""The abstract shapes of a module of one size: traced, not drawn, with the layer that each parameter belongs to."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from sharplab.core.tree import is_traced, named_leaves

Shape = tuple[int, ...]


@dataclass(frozen=True)
class AbstractShapes:
    """The parameters and submodules of a module of one size, without numbers.

    Attributes:
        size: the arguments of the module's `build`, without `rngs`.
        shapes: the shape of every parameter, by path.
        metadata: the metadata of every parameter, by path.
        modules: every submodule by path, the module itself by "".
    """

    size: tuple[int, ...]
    shapes: Mapping[str, Shape]
    metadata: Mapping[str, Mapping[str, Any]]
    modules: Mapping[str, Any]

    def layer_of(self, path: str) -> tuple[Any, str]:
        """The module that holds a parameter, and the parameter's name there."""
        above, _, name = path.rpartition("/")
        return self.modules.get(above), name


def abstract_shapes(build: Callable[..., Any], *size: int) -> AbstractShapes:
    """The abstract shapes of `build(*size, rngs)`.

    Raises:
        ValueError: if the module has no parameters, or holds arrays where Flax does not look for them.
    """

    def traced() -> Any:
        try:
            inspect.signature(build).bind(*size, nnx.Rngs(0))
        except TypeError as error:
            takes = "(width, rngs)" if len(size) == 1 else "(width, depth, rngs)"
            raise ValueError(f"build must take {takes}: {error}.") from error
        made = build(*size, nnx.Rngs(0))
        if not isinstance(made, nnx.Module):
            raise ValueError(f"build must return an nnx.Module, not a {type(made).__name__}.")
        module = hold_arrays(made)
        refuse_leaks(module)
        return module

    module = nnx.eval_shape(traced)
    state = nnx.state(module, nnx.Param)
    shapes = {path: tuple(leaf.shape) for path, leaf in named_leaves(state).items()}
    if not shapes:
        raise ValueError(f"build{size} makes a module without an nnx.Param.")
    # A variable may hold several arrays.
    variables = [variable for _, variable in nnx.to_flat_state(state) for _ in jax.tree.leaves(variable)]
    metadata = {path: variable.get_metadata() for path, variable in zip(shapes, variables, strict=True)}
    modules = {"/".join(map(str, path)): found for path, found in nnx.iter_modules(module)}
    return AbstractShapes(size, shapes, metadata, modules)


def hold_arrays(module: Any) -> Any:
    """The module, whose attributes that are arrays are data, as Flax has them outside of tracing.

    A traced array it takes for a static attribute, and then refuses to compare modules.
    """
    for _, part in nnx.iter_modules(module):
        for name, value in list(vars(part).items()):
            if isinstance(value, jax.core.Tracer):
                setattr(part, name, nnx.data(value))
    return module


def refuse_leaks(module: nnx.Module) -> None:
    """ValueError for a module that keeps traced values as if they were static."""
    graphdef = nnx.graphdef(module)
    for name, attribute in graphdef.attributes:
        if is_traced(getattr(attribute, "value", None)):
            raise ValueError(
                f"model keeps {name!r}, an array that is no nnx.Variable: declare it as one, or as nnx.data(…)."
            )
    for node in graphdef.nodes:
        metadata = getattr(node, "metadata", None)
        if isinstance(metadata, Mapping) and is_traced(dict(metadata)):
            raise ValueError(f"model has arrays in the metadata of a variable, {list(metadata)}: give numbers there.")
