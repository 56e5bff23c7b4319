"""The axes of a Flax layer's parameters that are summed over (fan-in) and those that are made (fan-out)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flax import nnx


@dataclass(frozen=True)
class Axes:
    """The axes of a parameter as its layer made it, before any stacking; axes that are neither run in parallel.

    Attributes:
        shape: the parameter's shape in one layer.
        fan_in: the axes that an output sums over; none for a bias or gain, a weight from the constant 1.
        fan_out: the axes of outputs.
        groups: the number of groups of a convolution, whose output axis holds them side by side.
    """

    shape: tuple[int, ...]
    fan_in: tuple[int, ...]
    fan_out: tuple[int, ...]
    groups: int = 1


def _vector(*shape: int) -> Axes:
    return Axes(shape, (), tuple(range(len(shape))))


def _linear(layer: nnx.Linear) -> Mapping[str, Axes]:
    return {"kernel": Axes((layer.in_features, layer.out_features), (0,), (1,)), "bias": _vector(layer.out_features)}


def _linear_general(layer: nnx.LinearGeneral) -> Mapping[str, Axes]:
    batch, ins, outs = tuple(layer.batch_axis.values()), layer.in_features, layer.out_features
    first_out = len(batch) + len(ins)
    kernel = Axes(
        (*batch, *ins, *outs), tuple(range(len(batch), first_out)), tuple(range(first_out, first_out + len(outs)))
    )
    return {"kernel": kernel, "bias": _vector(*batch, *outs)}


def _conv(layer: nnx.Conv) -> Mapping[str, Axes]:
    n = len(layer.kernel_size)
    kernel = Axes(tuple(layer.kernel_shape), tuple(range(n + 1)), (n + 1,), layer.feature_group_count)
    return {"kernel": kernel, "bias": _vector(layer.out_features)}


def _conv_transpose(layer: nnx.ConvTranspose) -> Mapping[str, Axes]:
    n = len(layer.kernel_size)
    summed, made = (n + 1, n) if layer.transpose_kernel else (n, n + 1)
    return {
        "kernel": Axes(tuple(layer.kernel_shape), (*range(n), summed), (made,)),
        "bias": _vector(layer.out_features),
    }


def _einsum(layer: nnx.Einsum) -> Mapping[str, Axes]:
    """The axes by letter: one that the output lacks is summed over, one that the input lacks is made."""
    bias = {} if layer.bias_shape is None else {"bias": _vector(*layer.bias_shape)}
    operands, output = layer.einsum_str.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    fan_in = tuple(i for i, letter in enumerate(kernel) if letter not in output)
    fan_out = tuple(i for i, letter in enumerate(kernel) if letter in output and letter not in inputs)
    return {"kernel": Axes(tuple(layer.kernel_shape), fan_in, fan_out)} | bias


def _embed(layer: nnx.Embed) -> Mapping[str, Axes]:
    return {"embedding": Axes((layer.num_embeddings, layer.features), (0,), (1,))}


def _norm(layer: Any) -> Mapping[str, Axes]:
    features = layer.num_groups * layer.group_size if isinstance(layer, nnx.GroupNorm) else layer.num_features
    return {"scale": _vector(features), "bias": _vector(features)}


_LAYERS: Mapping[type, Callable[[Any], Mapping[str, Axes]]] = {
    nnx.Linear: _linear,
    nnx.LinearGeneral: _linear_general,
    nnx.Conv: _conv,
    nnx.ConvTranspose: _conv_transpose,
    nnx.Einsum: _einsum,
    nnx.Embed: _embed,
    nnx.BatchNorm: _norm,
    nnx.LayerNorm: _norm,
    nnx.RMSNorm: _norm,
    nnx.GroupNorm: _norm,
    nnx.InstanceNorm: _norm,
}


def layer_axes(layer: Any, name: str) -> Axes | None:
    """The axes of parameter `name` of a layer out of Flax, or None for other modules and parameters.

    >>> layer = nnx.Conv(6, 4, (3, 3), feature_group_count=2, rngs=nnx.Rngs(0))
    >>> layer_axes(layer, "kernel")  # an output sums over 3 × 3 positions of 3 channels
    Axes(shape=(3, 3, 3, 4), fan_in=(0, 1, 2), fan_out=(3,), groups=2)
    """
    for kind, axes in _LAYERS.items():
        if isinstance(layer, kind):
            return axes(layer).get(name)
    return None
