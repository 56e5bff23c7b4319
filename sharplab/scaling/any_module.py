"""The maximal-update parameterization (muP) of any Flax NNX module."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from math import isfinite
from numbers import Real
from typing import Any

from sharplab.core.arguments import checked
from sharplab.core.grid import whole
from sharplab.core.naming import lookup
from sharplab.optimizers import Optimizer, find_optimizer
from sharplab.scaling.abc import WITHOUT_MULTIPLIERS
from sharplab.scaling.abstract_shapes import abstract_shapes
from sharplab.scaling.branches import NO_BRANCHES, find_branches
from sharplab.scaling.depth import DEPTH_RULES, ONE_BLOCK, DepthRule
from sharplab.scaling.drawn_sizes import DrawnSize, drawn_sizes, init_change, size_ratio
from sharplab.scaling.inference import Growth, Widths, infer
from sharplab.scaling.normalised import check_normalised
from sharplab.scaling.parameters import ScaledParameter
from sharplab.scaling.scaled import Scaling
from sharplab.scaling.vectors import check_vector


@checked()
def mup(
    build: Callable[..., Any],
    *,
    base: int,
    width: int,
    optimizer: str | Optimizer = "adam",
    base_depth: int | None = None,
    depth: int | None = None,
    alpha: float | str | None = None,
    roles: Mapping[str, str] | None = None,
) -> Scaling:
    """The maximal-update parameterization of a module: learning rates tuned at width `base` hold at `width`.

    Fan-in and fan-out of each parameter follow from its layer and from its shapes at `base` and at twice that; by how
    much each grows, its initial size, learning rate, weight decay and Adam's ε follow (`mup_exponents`), with no
    multiplier in the forward pass. At `base` nothing is changed.

    Args:
        build: `build(width, rngs)` → an `nnx.Module`, or `build(width, depth, rngs)` if `depth` is given. It is traced,
            and drawn at the three widths to measure how its initialisers go with width.
        base, width: any two widths. What grows must do so in proportion, up to rounding, as of 8/3 of the width to a
            multiple of 32: then the fan-in and fan-out that the two shapes have are taken.
        optimizer: a name of `sharplab.optimizers.OPTIMIZERS`, or an `Optimizer`.
        base_depth, depth, alpha: scale residual branches with depth: α = ½ is Depth-muP, 1 CompleteP, by number or by a
            name of `DEPTH_RULES`. Blocks are the items of a list, or of a stack (`nnx.vmap`), that grows with depth.
            The module itself must multiply each branch by `Scaling.branch_multiplier`.
        roles: {pattern of paths: role} for what cannot be told, out of `ROLES`, or "tied" for an embedding that is the
            readout too. `nnx.Param(x, role=…)` says the same in the module.

    An `nnx.MultiHeadAttention` whose heads grow divides by √head_dim where muP divides by head_dim: the query (or its
    norm, if queries and keys are normalised) holds the factor that lacks, exactly, by the abc symmetry.

    Raises:
        ValueError: for a parameter whose role cannot be told, naming it and how to declare it; for one that grows
            otherwise than in proportion to width; for an embedding that is the readout too, or may be where no call
            on tokens can be traced; for a readout in an `nnx.WeightNorm` or `nnx.SpectralNorm`; for unknown names.

    Sources: Yang et al., arXiv 2203.03466, table 3; depth: 2310.02244, 2505.01618.

    >>> from flax import nnx
    >>> def build(width, rngs):
    ...     return nnx.Sequential(nnx.Linear(8, width, rngs=rngs), nnx.relu, nnx.Linear(width, 2, rngs=rngs))
    >>> scaling = mup(build, base=64, width=256)
    >>> scaling.table()[["role", "init_exponent", "lr_factor", "decay_factor"]]
                       role  init_exponent  lr_factor  decay_factor
    path
    layers/0/bias    vector            0.0       1.00           1.0
    layers/0/kernel   input            0.0       1.00           1.0
    layers/2/bias    scalar            0.0       1.00           1.0
    layers/2/kernel  output           -0.5       0.25           4.0
    >>> model = scaling.init(0)
    >>> training = nnx.Optimizer(model, scaling.optimizer(1e-3), wrt=nnx.Param)
    """
    return scale_module(
        build,
        "mup",
        base=base,
        width=width,
        optimizer=optimizer,
        base_depth=base_depth,
        depth=depth,
        alpha=alpha,
        roles=roles,
    )


def scale_module(
    build: Callable[..., Any],
    parameterization: str,
    *,
    base: int,
    width: int,
    optimizer: str | Optimizer = "adam",
    base_depth: int | None = None,
    depth: int | None = None,
    alpha: float | str | None = None,
    roles: Mapping[str, str] | None = None,
    measure: Callable[..., dict[str, DrawnSize]] = drawn_sizes,
) -> Scaling:
    """A module without multipliers under "mup", "standard" or "ntk"; the arguments are those of `mup`.

    `measure(build, *size)` gives the sizes that parameters are drawn with.

    Raises:
        ValueError: as `mup`, and for another parameterization.
    """
    if parameterization == "mean_field":
        raise ValueError("parameterization 'mean_field' is 'mup' for a module without multipliers: give that.")
    lookup("parameterization", parameterization, WITHOUT_MULTIPLIERS)
    base, width = whole("base", base), whole("width", width)
    if isinstance(optimizer, str):
        find_optimizer(optimizer)
    elif not isinstance(optimizer, Optimizer):
        raise ValueError("optimizer must be a name or a sharplab Optimizer; any of optax is for Scaling.scale.")
    depth_rule = _depth_rule(base_depth, depth, alpha)
    deep = (depth_rule.depth,) if depth_rule else ()
    at_base, probe, wide = (abstract_shapes(build, size, *deep) for size in (base, 2 * base, width))
    branches = NO_BRANCHES
    if depth_rule:
        shallow, twice = (
            abstract_shapes(build, base, blocks) for blocks in (depth_rule.base_depth, 2 * depth_rule.base_depth)
        )
        branches = find_branches(shallow, twice, at_base)
    widths = Widths(at_base, probe, wide, branches)
    growths = infer(widths, roles or {}, parameterization)
    if parameterization == "mup":
        check_normalised(widths, growths)
    bases = (base, depth_rule.base_depth) if depth_rule else (base,)
    parameters = _drawn(cache(partial(measure, build)), widths, growths, depth_rule or ONE_BLOCK, bases)
    return Scaling(parameters, width, base, optimizer, depth_rule or ONE_BLOCK, depth_rule is not None, build)


def _drawn(
    sizes: Callable[..., dict[str, DrawnSize]],
    widths: Widths,
    growths: Mapping[str, Growth],
    depth_rule: DepthRule,
    bases: tuple[int, ...],
) -> tuple[ScaledParameter, ...]:
    """Every parameter with the size that its initialiser draws it with; `bases` are the width and depth of tuning."""
    base, probe, wide = (sizes(*s.size) for s in (widths.base, widths.probe, widths.wide))
    ratio = widths.wide.size[0] / widths.base.size[0]

    def parameter(path: str, growth: Growth) -> ScaledParameter:
        if growth.by_shape:
            check_vector(widths, path, base[path])
        tuned = sizes(*bases)[widths.branches.counterpart(path)] if len(bases) > 1 else base[path]
        change = init_change(base[path], probe[path], wide[path], ratio, widths.rounded(path))
        exponent = growth.exponents.b
        # What all draws have alike stays, but for a factor that it must hold in the forward pass's stead.
        of_width = growth.fold if base[path].constant else -exponent - change.exponent
        return ScaledParameter(
            path,
            widths.wide.shapes[path],
            growth,
            in_branch=bool(widths.wide.metadata[path].get("in_branch", widths.branches.holds(path))),
            init_std=tuned.std * ratio**-exponent,
            init_exponent=change.exponent,
            init_exact=change.exact,
            init_factor=ratio**of_width * size_ratio(tuned, base[path], depth_rule.ratio),
        )

    return tuple(parameter(path, growth) for path, growth in growths.items())


def _depth_rule(base_depth: int | None, depth: int | None, alpha: float | str | None) -> DepthRule | None:
    given = {"base_depth": base_depth, "depth": depth, "alpha": alpha}
    if all(value is None for value in given.values()):
        return None
    for name, value in given.items():
        if value is None:
            raise ValueError(f"{name} is missing: depth is scaled by base_depth=, depth= and alpha= together.")
    blocks, at_base = whole("depth", depth), whole("base_depth", base_depth)
    if isinstance(alpha, str):
        alpha = lookup("depth rule", alpha, DEPTH_RULES)
    if not isinstance(alpha, Real) or not isfinite(alpha) or alpha < 0:
        raise ValueError(f"alpha must be a finite number of at least 0, or a name of DEPTH_RULES, not {alpha!r}.")
    return DepthRule(blocks, at_base, float(alpha))
