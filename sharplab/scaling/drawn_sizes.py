"""The sizes with which a module's initialisers draw its parameters, measured, and how they go with width."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, hypot, log, log2, sqrt
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from sharplab.core.tree import named_leaves

SAMPLES = 2**12  # numbers by which each random parameter is measured, at least: its size then has an error of 1 %
_MOST_DRAWS = 4096
_PARAMETERS, _NUMBERS = 64, 2**20  # up to which draws are made side by side by one program
_ERRORS = 4.0  # standard errors within which a measured size is taken for the power of width that it is near
# A program that runs for milliseconds need not be compiled well.
_FAST_COMPILE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@dataclass(frozen=True)
class DrawnSize:
    """The drawn size of one parameter: root mean square, standard deviation, the former's relative standard error.

    `constant` says that its entries are all alike at every draw: zeros, ones.
    """

    rms: float
    std: float
    error: float
    constant: bool


def drawn_sizes(build: Callable[..., Any], *size: int) -> dict[str, DrawnSize]:
    """The size of every parameter of `build(*size, rngs)`, measured on draws that are the same at every call."""

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        return named_leaves(nnx.state(build(*size, nnx.Rngs(key)), nnx.Param))

    counts = {path: w.size for path, w in jax.eval_shape(draw, jax.random.key(0)).items()}
    keys = jax.random.split(jax.random.key(20220307), _MOST_DRAWS)
    side_by_side = min(_NUMBERS // sum(counts.values()), _MOST_DRAWS)
    if len(counts) <= _PARAMETERS and side_by_side > 2:
        together = _together(draw, set(counts), keys[:side_by_side])
        draws = {path: [_moments(part) for part in (w[:1], w[1:2], w[2:])] for path, w in together.items()}
    else:
        # One by one, layers of equal shapes share their programs, with each other and with the user's own draws.
        first, second = ({path: _moments(np.asarray(w)) for path, w in draw(key).items()} for key in keys[:2])
        draws = {path: [first[path], second[path]] for path in counts}
    random = {path for path, (one, other, *_) in draws.items() if one.second != other.second}
    sizes = {path: _size(moments, path in random) for path, moments in draws.items()}
    small = {path for path in random if sum(m.entries for m in draws[path]) < SAMPLES}
    if small:
        again = _together(draw, small, keys[: ceil(4 * SAMPLES / min(counts[path] for path in small))])
        sizes |= {path: _size([_moments(w)], True) for path, w in again.items()}
    return sizes


def _together(
    draw: Callable[[jax.Array], dict[str, jax.Array]], paths: set[str], keys: jax.Array
) -> dict[str, np.ndarray]:
    """Several draws of some of the parameters, along a first axis, by one program; no others are drawn."""

    def one(key: jax.Array) -> dict[str, jax.Array]:
        return {path: w for path, w in draw(key).items() if path in paths}

    drawn = jax.jit(lambda keys: jax.lax.map(one, keys), compiler_options=_FAST_COMPILE)(keys)
    return {path: np.asarray(w) for path, w in drawn.items()}


class _Moments(NamedTuple):
    entries: int
    mean: float
    second: float
    fourth: float
    least: float
    most: float


def _moments(w: np.ndarray) -> _Moments:
    x = w.astype(np.promote_types(w.dtype, np.float32))
    squares = x**2
    mean, second, fourth = (float(np.mean(y, dtype=np.float64)) for y in (x, squares, squares**2))
    return _Moments(x.size, mean, second, fourth, float(x.min()), float(x.max()))


def _size(draws: Sequence[_Moments], random: bool) -> DrawnSize:
    weights = [m.entries for m in draws]
    mean, second, fourth = (float(np.average([m[i] for m in draws], weights=weights)) for i in (1, 2, 3))
    samples = sum(weights)
    error = 0.5 * sqrt(max(fourth / second**2 - 1, 0) / samples) if random else 0.0
    constant = min(m.least for m in draws) == max(m.most for m in draws)
    return DrawnSize(sqrt(second), 0.0 if constant else sqrt(max(second - mean**2, 0)), error, constant)


@dataclass(frozen=True)
class InitChange:
    """An initialiser's own dependence on width: size ∝ width^exponent, `exact` if that is a multiple of ½."""

    exponent: float
    exact: bool


def init_change(
    base: DrawnSize,
    probe: DrawnSize,
    wide: DrawnSize,
    ratio: float,
    rounded: Sequence[tuple[float, float]] = (),
) -> InitChange:
    """The dependence of a drawn size on width: from base to probe (twice the base), and up to `ratio` bases.

    An exponent that is a multiple of ½ within the error of measurement, at both, is taken to be that; also one of a
    size that is not quite in proportion to width, of those in `rounded`: its growths up to the two. Otherwise it is
    no power of width, as where fan-in and fan-out are averaged, and its mean exponent up to `ratio` is given.
    """
    if base.constant or base.rms == 0:
        return InitChange(0.0, True)
    slope, slope_error = log2(probe.rms / base.rms), hypot(base.error, probe.error) / log(2)
    growth, growth_error = log(wide.rms / base.rms), hypot(base.error, wide.error)
    for to_probe, to_wide in ((2, ratio), *rounded):
        octaves = log2(to_probe)
        nearest = round(2 * slope / octaves) / 2
        if (
            abs(slope - nearest * octaves) <= _ERRORS * slope_error + 1e-4
            and abs(growth - nearest * log(to_wide)) <= _ERRORS * growth_error + 1e-4
        ):
            return InitChange(nearest if to_wide == ratio else nearest * log(to_wide) / log(ratio), True)
    return InitChange(growth / log(ratio) if ratio != 1 else slope, False)


def size_ratio(numerator: DrawnSize, denominator: DrawnSize, ratio: float) -> float:
    """The ratio of two sizes, set to the nearest power ratio^(k/2) if within the error of measurement."""
    if numerator.constant or denominator.rms == 0 or ratio == 1:
        return 1.0
    measured = log(numerator.rms / denominator.rms)
    exact = round(2 * measured / log(ratio)) / 2 * log(ratio)
    error = hypot(numerator.error, denominator.error)
    return float(np.exp(exact if abs(measured - exact) <= _ERRORS * error + 1e-4 else measured))
