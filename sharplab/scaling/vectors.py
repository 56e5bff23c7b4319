"""Vectors of no known layer: whether they are gains or biases, or may be the weights of a readout."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from sharplab.scaling.abstract_shapes import AbstractShapes
from sharplab.scaling.drawn_sizes import DrawnSize
from sharplab.scaling.inference import Widths, how_to_declare, refuse
from sharplab.scaling.uses import ADDED, TOKENS, calls

_MOST_AXES = 4  # of the inputs that are tried: of images


def check_vector(widths: Widths, path: str, drawn: DrawnSize) -> None:
    """Refuse a vector whose role its shape alone was to tell, where the network may be read out by it.

    Gains and biases are constant at the start. So is a readout of zeros, which unlike a bias is more than added.

    Raises:
        ValueError: naming the vector and how to declare it.
    """
    if not drawn.constant:
        problem = f"parameter {path!r} is drawn at random, so that it may be a gain or bias or the weights of a readout"
    elif drawn.rms == 0 and not _is_added(widths.base, path, widths.growing(path)[0]):
        problem = f"parameter {path!r} is zero at the start, and by no call seen to be added, as a bias is, and no more"
    else:
        return
    refuse(problem, widths, path, how_to_declare(path, "output"))


def _is_added(module: AbstractShapes, path: str, axis: int) -> bool:
    """Whether the innermost of the modules around a vector whose call can be seen to use it adds it, and no more."""
    for above in _around(module, path):
        inner = path.removeprefix(f"{above}/") if above else path
        for call in calls(module.modules[above], {inner: axis}, _inputs(module, above)):
            if call.uses:
                return call.uses == {(inner, ADDED)}
    return False


def _around(module: AbstractShapes, path: str) -> Iterator[str]:
    """The paths of the modules that hold a parameter, the innermost first, the whole last."""
    parts = path.split("/")[:-1]
    return (above for i in range(len(parts), -1, -1) if (above := "/".join(parts[:i])) in module.modules)


def _inputs(module: AbstractShapes, above: str) -> Iterator[jax.ShapeDtypeStruct]:
    """What a part of a module may take: tokens, or features as many as one of its parameters has along an axis."""
    yield from TOKENS
    within = [shape for path, shape in module.shapes.items() if path.startswith(f"{above}/" if above else "")]
    for size in sorted({size for shape in within for size in shape}):
        for ndim in range(2, _MOST_AXES + 1):
            yield jax.ShapeDtypeStruct((1,) * (ndim - 1) + (size,), jnp.float32)
