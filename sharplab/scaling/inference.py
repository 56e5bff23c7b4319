"""The role of each parameter of anyone's module, from the shapes that it has at three widths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from math import prod
from typing import Any, NoReturn

from flax import nnx

from sharplab.core.naming import lookup
from sharplab.scaling.abc import GROWTH, PARAMETERIZATIONS, ROLES, WITHOUT_MULTIPLIERS, Exponents
from sharplab.scaling.abstract_shapes import AbstractShapes
from sharplab.scaling.axes import Axes, layer_axes
from sharplab.scaling.branches import Branches
from sharplab.scaling.powers import Power, exponent, power_of
from sharplab.scaling.read_out import kernels_looked_up, tables_read_out

# What can be declared of a parameter. A table that is embedding and readout in one is scaled as an embedding.
DECLARABLE: Mapping[str, tuple[int, int]] = {**GROWTH, "tied": GROWTH["input"]}


@dataclass(frozen=True)
class Growth:
    """The growth of one parameter with width, in powers of the ratio of widths.

    Attributes:
        role: one of `ROLES`, or "tied".
        fan_in, fan_out: the exponents that its fan-in and fan-out follow.
        of_shapes: those that they have between the two shapes, where sizes were rounded; None where they are the same.
        fold: the exponent of a factor that the forward pass lacks in front of this weight, and that it holds itself.
        matrix: for a hidden parameter, the axes of its fan-in and its fan-out, where they are known.
        remark: what is unusual about it.
        parameterization: a name of `WITHOUT_MULTIPLIERS`.
        by_shape: whether the role is told from the shape alone, of no known layer: a vector may be a bias or a readout.
    """

    role: str
    fan_in: int
    fan_out: int
    fold: float = 0.0
    matrix: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    remark: str = ""
    parameterization: str = "mup"
    of_shapes: tuple[float, float] | None = None
    by_shape: bool = False

    @property
    def fans(self) -> tuple[float, float]:
        """The exponents of fan-in and fan-out that factors are made of."""
        return (self.fan_in, self.fan_out) if self.of_shapes is None else self.of_shapes

    @property
    def exponents(self) -> Exponents:
        """The exponents without multipliers, after the abc symmetry for a weight that has one of n^fold."""
        plain = WITHOUT_MULTIPLIERS[self.parameterization](*self.fans)
        if self.fan_in <= self.fan_out:  # also where rounding makes more of the fan-in
            plain = replace(plain, b=self.fans[0] / 2)
        return replace(plain, a=-self.fold).shift(self.fold)


@dataclass(frozen=True)
class Widths:
    """A module at the base, at a probe width of its own and at the width that is asked for; all of one depth."""

    base: AbstractShapes
    probe: AbstractShapes
    wide: AbstractShapes
    branches: Branches

    def growing(self, path: str) -> tuple[int, ...]:
        """The axes of a parameter whose size is not the same at all widths.

        Raises:
            ValueError: naming the parameter, where it is not there, or has other axes, at some width.
        """
        shapes = self._shapes(path)
        if None in shapes or len({len(shape or ()) for shape in shapes}) > 1:
            refuse(f"parameter {path!r} is not there, or not with as many axes, at every width", self, path)
        return tuple(i for i, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1)

    def power(self, path: str, axes: Sequence[int]) -> Power:
        """The power of width with which the product of these axes of a parameter goes.

        Raises:
            ValueError: naming the parameter and the axis, where there is none.
        """
        shapes = self._shapes(path)
        found = power_of([[shape[i] for shape in shapes] for i in axes], self.sizes)
        if isinstance(found, int):
            remedy = "Let it be a multiple of the width; if it is one, rounded, take a larger base or round less."
            problem = f"axis {axes[found]} of parameter {path!r} is neither fixed nor goes with width"
            refuse(problem, self, path, remedy)
        return found

    def rounded(self, path: str) -> list[tuple[float, float]]:
        """The growths, up to the probe and up to the width, of the axes that are not quite in proportion to width."""
        base, probe, wide = self._shapes(path)
        growths = [(probe[i] / base[i], wide[i] / base[i]) for i in self.growing(path)]
        in_proportion = tuple(width / self.sizes[0] for width in self.sizes[1:])
        return [growth for growth in growths if growth != in_proportion]

    def _shapes(self, path: str) -> list[Any]:
        return [s.shapes.get(path) for s in (self.base, self.probe, self.wide)]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The three widths."""
        return tuple(s.size[0] for s in (self.base, self.probe, self.wide))


def refuse(problem: str, widths: Widths, path: str, remedy: str = "") -> NoReturn:
    """ValueError of the problem, the shapes that a parameter has at the three widths, and the remedy."""
    seen = {s.size[0]: s.shapes.get(path) for s in (widths.base, widths.probe, widths.wide)}
    shapes = ", ".join(f"{shape} at width {width}" for width, shape in seen.items())
    raise ValueError(f"{problem}: its shape is {shapes}.{remedy and ' '}{remedy}")


def infer(widths: Widths, roles: Mapping[str, str], parameterization: str = "mup") -> dict[str, Growth]:
    """The growth of every parameter.

    `roles` has precedence over a parameter's metadata `role=`, this over what its layer and shapes say.

    Raises:
        ValueError: for a parameter whose role cannot be inferred or cannot be what is declared, and for what is,
            or may be, embedding and readout in one.
    """
    for pattern, role in roles.items():
        lookup("role", role, DECLARABLE)
        if not any(fnmatch(path, pattern) for path in widths.wide.shapes):
            raise ValueError(f"roles: {pattern!r} matches no parameter; they are {', '.join(widths.wide.shapes)}.")
    if missing := [path for path in widths.base.shapes if path not in widths.wide.shapes]:
        refuse(f"parameter {missing[0]!r} is not there at every width", widths, missing[0])
    growths = {path: _growth(widths, path, _declared(widths, path, roles)) for path in widths.wide.shapes}
    _check_readout(widths, growths, roles)
    if PARAMETERIZATIONS[parameterization].attention == 1:
        growths |= _attention_folds(widths, growths)
    return {path: replace(growth, parameterization=parameterization) for path, growth in growths.items()}


def _declared(widths: Widths, path: str, roles: Mapping[str, str]) -> str | None:
    matching = [role for pattern, role in roles.items() if fnmatch(path, pattern)]
    return matching[-1] if matching else widths.wide.metadata[path].get("role")


def _growth(widths: Widths, path: str, declared: str | None) -> Growth:
    growing = widths.growing(path)
    axes, lead = _layer_axes(widths, path)
    if axes is not None and (ahead := [i for i in growing if i < lead]):
        refuse(f"axis {ahead[0]}, along which {path!r} is stacked, grows with width", widths, path)
    if declared is not None:
        return _as_declared(widths, path, declared, growing, axes, lead)
    if axes is None:
        return _without_layer(widths, path, growing)
    ins = [i + lead for i in axes.fan_in if i + lead in growing]
    # What runs in parallel shares the gradient out as further outputs do.
    fan_in, fan_out = widths.power(path, ins), widths.power(path, [i for i in growing if i not in ins])
    parallel = _grows_in_parallel(widths, path, axes, tuple(i - lead for i in growing))
    if ins and isinstance(widths.base.layer_of(path)[0], nnx.Embed):
        refuse(f"the number of entries of embedding {path!r} grows with width", widths, path)
    if ins and parallel:
        refuse(f"both the number and the size of the parallel blocks of {path!r} grow with width", widths, path)
    if fan_in.whole and fan_out.whole:
        return _of_fans("hidden", fan_in, fan_out, matrix=_matrix(axes, lead))
    if parallel:
        alone = "blocks in parallel: each output sees a fixed number of inputs"
        return _of_fans("vector", fan_in, fan_out, remark=alone)
    role = "output" if fan_in.whole else "scalar" if not fan_out.whole else "input" if axes.fan_in else "vector"
    return _of_fans(role, fan_in, fan_out)


def _of_fans(
    role: str,
    fan_in: Power,
    fan_out: Power,
    matrix: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
    remark: str = "",
) -> Growth:
    found = fan_in.found, fan_out.found
    if found == (fan_in.whole, fan_out.whole):
        return Growth(role, fan_in.whole, fan_out.whole, matrix=matrix, remark=remark)
    rounded = "sizes are rounded: scaled by the fan-in and fan-out that they make"
    growth = Growth(role, fan_in.whole, fan_out.whole, matrix=matrix, remark=remark, of_shapes=found)
    return _with_remark(growth, rounded)


def _grows_in_parallel(widths: Widths, path: str, axes: Axes, growing: tuple[int, ...]) -> bool:
    """Whether the number of blocks that do not see each other grows: groups of a convolution, batch axes."""
    probe = layer_axes(*widths.probe.layer_of(path))
    more_groups = probe is not None and probe.groups != axes.groups
    return more_groups or any(i not in (*axes.fan_in, *axes.fan_out) for i in growing)


def _matrix(axes: Axes, lead: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(i + lead for i in axes.fan_in), tuple(i + lead for i in axes.fan_out)


def _layer_axes(widths: Widths, path: str) -> tuple[Axes | None, int]:
    """The axes that a layer gives its parameter, and the number of axes in front of them because layers are stacked."""
    axes = layer_axes(*widths.base.layer_of(path))
    if axes is None:
        return None, 0
    shape = widths.base.shapes[path]
    lead = len(shape) - len(axes.shape)
    if lead < 0 or shape[lead:] != axes.shape:
        return None, 0
    return axes, lead


def _without_layer(widths: Widths, path: str, growing: tuple[int, ...]) -> Growth:
    """The growth of a parameter that belongs to no known layer."""
    stacked = path in widths.branches.stack_axes
    ndim = len(widths.base.shapes[path]) - stacked
    if not growing:
        return Growth("scalar", 0, 0)
    if len(growing) == ndim == 1:
        return replace(_of_fans("vector", Power(0, 0), widths.power(path, growing)), by_shape=True)
    likely = "hidden" if len(growing) == 2 else "input"
    refuse(f"the role of parameter {path!r} cannot be told from its shape", widths, path, how_to_declare(path, likely))


def how_to_declare(path: str, role: str) -> str:
    """The remedy for a parameter whose role cannot be told, likely this one."""
    others = ", ".join(known for known in DECLARABLE if known != role)
    return f"Declare it, as by roles={{{path!r}: {role!r}}} (or {others}), or as nnx.Param(x, role={role!r})."


def _as_declared(
    widths: Widths, path: str, role: str, growing: tuple[int, ...], axes: Axes | None, lead: int
) -> Growth:
    fan_in, fan_out = lookup("role", role, DECLARABLE)
    if widths.power(path, growing).whole != fan_in + fan_out:
        meaning = ROLES.get(role, "embedding and readout in one")
        refuse(f"parameter {path!r} cannot have role {role!r}, which means: {meaning}", widths, path)
    if role != "hidden":
        of_all, fixed = widths.power(path, growing), Power(0, 0)
        fans = (of_all, fixed) if fan_in else (fixed, of_all)
        return _of_fans(role, *fans, remark="role as declared")
    matrix = _matrix(axes, lead) if axes is not None else (growing[:1], growing[1:])
    ins = [i for i in growing if i in matrix[0]]
    outs = [i for i in growing if i not in ins]
    return _of_fans(role, widths.power(path, ins), widths.power(path, outs), matrix, "role as declared")


def _check_readout(widths: Widths, growths: Mapping[str, Growth], roles: Mapping[str, str]) -> None:
    """Check that nothing is embedding and readout in one without being declared so: the readout lacks a multiplier."""
    undeclared = [path for path in growths if not _declared(widths, path, roles)]
    readouts = [path for path, growth in growths.items() if growth.role in ("output", "tied")]
    _check_kernels(widths, [path for path in readouts if path in undeclared])
    tables = [path for path in growths if isinstance(widths.base.layer_of(path)[0], nnx.Embed) and widths.growing(path)]
    of_tables = [path for path in tables if path in undeclared]
    if of_tables:
        _check_tables(widths, of_tables, readouts, some_declared=len(of_tables) < len(tables))


def _check_kernels(widths: Widths, kernels: Sequence[str]) -> None:
    """Check that a call of the module does not look rows of a readout's kernel up."""
    growing = {path: widths.growing(path) for path in kernels}
    features = {path: axes[0] if len(axes) == 1 else None for path, axes in growing.items()}
    if features and (found := sorted(kernels_looked_up(widths.base.modules[""], features))):
        why = "a call of the module on tokens looks rows of it up, as of an embedding"
        _refuse_shared(f"readout {found[0]!r}: {why}", found[0], "output", "head.kernel")


def _check_tables(widths: Widths, tables: Sequence[str], readouts: Sequence[str], some_declared: bool) -> None:
    """Check that no embedding is the readout too.

    Where the trace of a call does not tell, each needs a readout of as many outputs as it has entries.
    """
    read, why = None, "a call of the module multiplies by it, as a readout does"
    if readouts:
        features = {path: len(widths.base.shapes[path]) - 1 for path in tables}
        read = tables_read_out(widths.base.modules[""], features)
    if read is None:
        if some_declared:  # which of them is the readout has been considered
            return
        outputs = {_fan_out(widths, path) for path in readouts}
        read = {path for path in tables if widths.base.shapes[path][-2] not in outputs}
        why = "the module has no readout of as many outputs as it has entries, so that it may be used as one"
    if found := sorted(read):
        _refuse_shared(f"embedding {found[0]!r}: {why}", found[0], "input", "embed.embedding")


def _refuse_shared(problem: str, path: str, alone: str, example: str) -> NoReturn:
    """ValueError for what may be embedding and readout in one; `alone` is its role if it is not."""
    raise ValueError(
        f"{problem}. Say which: roles={{{path!r}: 'tied'}} if it is embedding and readout in one, and multiply the "
        f"logits by the scaling's readout_multiplier; {alone!r} if it is not. In the module, "
        f"{example}.set_metadata(role=…) says the same."
    )


def _fan_out(widths: Widths, path: str) -> int:
    """The number of outputs of a readout; of one of no known layer, all but its fan-in is taken for outputs."""
    axes, lead = _layer_axes(widths, path)
    shape, growing = widths.base.shapes[path], widths.growing(path)
    made = [i for i in range(len(shape)) if i not in growing] if axes is None else [i + lead for i in axes.fan_out]
    return prod(shape[i] for i in made)


def _attention_folds(widths: Widths, growths: Mapping[str, Growth]) -> dict[str, Growth]:
    """The queries that hold the factor by which logits qᵀk/√d differ from qᵀk/d (arXiv 2203.03466, section 4)."""
    folded = {}
    for path, module in widths.base.modules.items():
        if not isinstance(module, nnx.MultiHeadAttention):
            continue
        heads = [module.head_dim, *(s.modules[path].head_dim for s in (widths.probe, widths.wide))]
        if len(set(heads)) == 1:
            continue
        of_head = power_of([heads], widths.sizes)
        # Heads may go with another power of width, as where both their number and their size grow.
        power = of_head.found if isinstance(of_head, Power) else exponent(heads, widths.sizes)
        holder = f"{path}/{'query_ln' if module.normalize_qk else 'query'}".lstrip("/")
        for name in (f"{holder}/{own}" for own in ("kernel", "bias", "scale") if f"{holder}/{own}" in growths):
            if module.attention_fn is nnx.dot_product_attention:
                query = _with_remark(growths[name], "holds what 1/√head_dim lacks to 1/head_dim")
                folded[name] = replace(query, fold=-0.5 * power)
            else:
                own_logits = "attention_fn is your own: its logits must fall as 1/head_dim"
                folded[name] = _with_remark(growths[name], own_logits)
    return folded


def _with_remark(growth: Growth, remark: str) -> Growth:
    return replace(growth, remark="; ".join(filter(None, (growth.remark, remark))))
