"""Kernels that Flax divides by a norm of theirs in each call: under muP that norm must not go with width."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from flax import nnx

from sharplab.scaling.inference import Growth, Widths, refuse


def check_normalised(widths: Widths, growths: Mapping[str, Growth]) -> None:
    """Refuse kernels whose size at the start, and steps, a normalisation brings to another power of width.

    Raises:
        ValueError: naming the kernel and the wrapper to leave out.
    """
    for path, wrapper in _normalised(widths):
        growth = growths[path]
        if isinstance(wrapper, nnx.WeightNorm):
            # The root of a sum over the axes that are not features'.
            of_norm = widths.power(path, _reduced(wrapper, len(widths.base.shapes[path]))).whole / 2
        else:
            of_norm = max(growth.fan_in, growth.fan_out) / 2  # of random entries: √fan-in + √fan-out
        # Rounded sizes make other fan-ins, not another power.
        exponent = of_norm - replace(growth, of_shapes=None).exponents.b
        if exponent:
            name = type(wrapper).__name__
            problem = f"{growth.role} parameter {path!r} is divided by a norm that goes as width^{exponent:g} under muP"
            refuse(problem, widths, path, f"Use this layer without nnx.{name}, which undoes its size and its steps.")


def _normalised(widths: Widths) -> Iterator[tuple[str, nnx.WeightNorm | nnx.SpectralNorm]]:
    """The paths of the parameters that are normalised, each with the wrapper that does so."""
    for above, module in widths.base.modules.items():
        if not isinstance(module, nnx.WeightNorm | nnx.SpectralNorm):
            continue
        for inner, variable in nnx.to_flat_state(nnx.state(module.layer_instance, nnx.Param)):
            path = "/".join(map(str, (*above.split("/"), "layer_instance", *inner))).lstrip("/")
            if isinstance(module, nnx.WeightNorm):
                normalised = module.variable_filter(inner, variable)
            else:
                normalised = len(widths.base.shapes[path]) > 1
            if normalised:
                yield path, module


def _reduced(wrapper: nnx.WeightNorm, ndim: int) -> list[int]:
    axes = (wrapper.feature_axes,) if isinstance(wrapper.feature_axes, int) else wrapper.feature_axes
    features = {axis % ndim for axis in axes}
    return [i for i in range(ndim) if i not in features]
