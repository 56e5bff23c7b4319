"""What a network reads its outputs out by, and looks its inputs up in, where it takes tokens."""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from sharplab.core.tree import named_leaves
from sharplab.scaling.uses import LOOKED_UP, READ_OUT, calls


def tables_read_out(module: Any, tables: Mapping[str, int]) -> set[str] | None:
    """The paths of the tables that a call of the module on tokens does more with than look rows up and add them.

    A readout sums over a table's features. None where the module does not take tokens, as each of its arguments but for
    flags, or where what it returns has the features still, so that another function reads it out.

    Args:
        module: an `nnx.Module`, whose numbers may be abstract.
        tables: the axis of the features of each, by path.

    >>> from flax import nnx
    >>> class Tied(nnx.Module):
    ...     def __init__(self, rngs):
    ...         self.embed, self.types = nnx.Embed(5, 3, rngs=rngs), nnx.Embed(2, 3, rngs=rngs)
    ...     def __call__(self, tokens):
    ...         return self.embed.attend(self.embed(tokens) + self.types(tokens % 2))
    >>> tables_read_out(Tied(nnx.Rngs(0)), {"embed/embedding": 1, "types/embedding": 1})
    {'embed/embedding'}
    """
    call = next(calls(module, tables), None)
    shapes = {path: leaf.shape for path, leaf in named_leaves(nnx.state(module, nnx.Param)).items()}
    if call is None or any(shapes[path][axis] in call.sizes for path, axis in tables.items()):
        return None
    return call.put_to(READ_OUT)


def kernels_looked_up(module: Any, kernels: Mapping[str, int | None]) -> set[str]:
    """The paths of the readouts' kernels that a call of the module on tokens looks up, as it does an embedding.

    Args:
        module: an `nnx.Module`, whose numbers may be abstract.
        kernels: the axis of the features of each, by path; None where there are several.
    """
    call = next(calls(module, kernels), None)
    return set() if call is None else call.put_to(LOOKED_UP)
