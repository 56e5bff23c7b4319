"""A module of one size seen without its numbers: shapes, metadata, and the layer that each parameter belongs to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flax import nnx

from sharplab.core.tree import named_leaves

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sketch:
    """What is known of a module of one size.

    Attributes:
        size: the arguments of its `build`, without `rngs`.
        shapes: of every parameter, by path.
        metadata: of every parameter.
        modules: every submodule by path, the module itself by "".
    """

    size: tuple[int, ...]
    shapes: Mapping[str, Shape]
    metadata: Mapping[str, Mapping[str, Any]]
    modules: Mapping[str, Any]

    def owner(self, path: str) -> tuple[Any, str]:
        """The module that holds a parameter and its name there."""
        above, _, name = path.rpartition("/")
        return self.modules.get(above), name


def sketch(build: Callable[..., Any], *size: int) -> Sketch:
    """The module `build(*size, rngs)`, traced but not drawn.

    Raises:
        ValueError: if it has no parameters.
    """
    module = nnx.eval_shape(lambda: build(*size, nnx.Rngs(0)))
    state = nnx.state(module, nnx.Param)
    shapes = {path: tuple(leaf.shape) for path, leaf in named_leaves(state).items()}
    if not shapes:
        raise ValueError(f"build{size} makes a module without an nnx.Param.")
    metadata = {"/".join(map(str, path)): variable.get_metadata() for path, variable in nnx.to_flat_state(state)}
    modules = {"/".join(map(str, path)): found for path, found in nnx.iter_modules(module)}
    return Sketch(size, shapes, metadata, modules)
