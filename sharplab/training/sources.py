"""Who draws the modules of a network, and scales them: a rule, the roles of the parameters, or no one.

A source is a pytree whose leaves are the numbers that a parameterization prescribes. Programs take it as an argument,
so that networks of one structure share them: other parameterizations, base widths and richnesses compile nothing anew.
It is hashable too, as a static argument, where its numbers are floats.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from sharplab.core.remembered import cached_by_precision
from sharplab.core.tree import PyTree
from sharplab.models.building import call_build, takes
from sharplab.models.layers import Multiplier
from sharplab.optimizers import Optimizer
from sharplab.scaling import DepthRule, Rule, Scaling
from sharplab.scaling.abc import RICHNESS_POWER
from sharplab.scaling.abstract_shapes import hold_arrays, refuse_leaks
from sharplab.scaling.any_module import scale_module
from sharplab.scaling.drawn_sizes import drawn_sizes
from sharplab.scaling.rule import Number, RuleNumbers
from sharplab.scaling.scaled import size_of
from sharplab.scaling.transformation import Indices, as_matrices, resize


class Scaled(NamedTuple):
    """What the scaling asks of the optimizer for one parameter."""

    role: str
    lr_factor: Number
    decay_factor: Number  # what η · decay · w is multiplied by
    gradient_scale: Number  # by what the gradient is divided before optimizers of other kinds than "sgd" see it


UNKNOWN = "unknown"  # the role of a parameter that is not scaled


class Source(Protocol):
    """Who draws the modules of a network, and scales them."""

    @property
    def output_multiplier(self) -> Number:
        """What outputs are multiplied by."""

    def draw(self, key: jax.Array) -> nnx.Module:
        """The module, drawn from a key."""

    def scaled(self, path: str, parameter: nnx.Variable, optimizer: Optimizer) -> Scaled:
        """What the scaling asks of the optimizer for the parameter at this path."""

    def direction(self, optimizer: Optimizer, kinds: PyTree) -> optax.GradientTransformation:
        """The optimizer's directions, of parameters whose kinds are the leaves of `kinds`."""

    def matrices(self) -> Mapping[str, tuple[Indices, Indices]]:
        """The fan-in and fan-out axes of hidden parameters, by path, where they are not the first and the second."""


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class ByRule:
    """A model that scales itself by a rule.

    Attributes:
        build: as `sharplab.models.building` says.
        rule: the parameterization at this width and depth, or its numbers.
        input_shape, classes: what else the model may take.
    """

    build: Callable[..., Any]
    rule: Rule | RuleNumbers
    input_shape: tuple[int, ...]
    classes: int
    output_multiplier = 1.0  # the richness is in the rule

    def draw(self, key: jax.Array) -> Any:
        """The module, drawn from a key."""
        return call_build(
            self.build,
            {
                "width": self.rule.width,
                "depth": self.rule.depth.depth,
                "input_shape": self.input_shape,
                "classes": self.classes,
                "rule": self.rule,
                "rngs": nnx.Rngs(params=key),
            },
        )

    def scaled(self, path: str, parameter: nnx.Variable, optimizer: Optimizer) -> Scaled:
        """By the metadata of the parameter.

        Raises:
            ValueError: for a parameter without a role.
        """
        metadata = parameter.get_metadata()
        if (role := metadata.get("role")) is None:
            raise ValueError(f"model has parameter {path!r} without role: declare it as nnx.Param(x, role=...).")
        in_branch = metadata.get("in_branch", False)
        unit = metadata.get("unit", 1.0)
        if "fan_in" in metadata:
            unit = self.rule.unit(role, metadata["fan_in"], metadata.get("gain", 1.0))
        kind = optimizer.kind(role)
        factor = self.rule.lr_factor(role, kind, in_branch=in_branch, unit=unit)
        scale = 1.0 if kind == "sgd" else self.rule.gradient_scale(role, in_branch=in_branch, unit=unit)
        return Scaled(role, factor, 1.0, scale)

    def direction(self, optimizer: Optimizer, kinds: PyTree) -> optax.GradientTransformation:
        """The optimizer's own; kernels are matrices (fan-in, fan-out) already."""
        return optimizer.direction(kinds)

    def matrices(self) -> Mapping[str, tuple[Indices, Indices]]:
        """None."""
        return {}

    def tree_flatten(self) -> tuple[tuple, tuple]:
        """The rule's numbers, or nothing for a model that computes with them as it is built."""
        if isinstance(self.rule, RuleNumbers) or _takes_numbers(replace(self, rule=self.rule.numbers)):
            return (self.rule.numbers,), (self.build, None, self.input_shape, self.classes)
        return (), (self.build, self.rule, self.input_shape, self.classes)

    @classmethod
    def tree_unflatten(cls, structure: tuple, numbers: tuple) -> "ByRule":
        """The source of a structure and its numbers."""
        build, rule, input_shape, classes = structure
        return cls(build, numbers[0] if numbers else rule, input_shape, classes)


class OfParameter(NamedTuple):
    """What is known of a parameter without numbers."""

    path: str
    shape: tuple[int, ...]
    role: str
    kind: str  # of the optimizer that the numbers are for
    matrix: tuple[Indices, Indices] | None


class NumbersOfParameter(NamedTuple):
    """The factors of one parameter; `init` is what its initialiser's draw is multiplied by."""

    init: Number
    lr_factor: Number
    decay_factor: Number
    gradient_scale: Number


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["numbers", "output_multiplier"],
    meta_fields=["build", "size", "parameters"],
)
@dataclass(frozen=True)
class ByRoles:
    """Any module of Flax, without multipliers, scaled by the roles of its parameters: made by `by_roles`.

    Attributes:
        build: the module as `build(*size, rngs)`.
        size: the width, or width and depth.
        parameters, numbers: of each parameter.
        output_multiplier: what outputs are multiplied by, 1/γ₀.
    """

    build: Callable[..., Any]
    size: tuple[int, ...]
    parameters: tuple[OfParameter, ...]
    numbers: tuple[NumbersOfParameter, ...]
    output_multiplier: Number = 1.0

    def draw(self, key: jax.Array) -> Any:
        """The module, drawn by its own initialisers and brought to its size, as by `Scaling.init`."""
        module = hold_arrays(self.build(*self.size, nnx.Rngs(key)))
        of_parameters = zip(self.parameters, self.numbers, strict=True)
        resize(module, {p.path: (p.shape, numbers.init) for p, numbers in of_parameters}, f"width {self.size[0]}")
        return module

    def scaled(self, path: str, parameter: nnx.Variable, optimizer: Optimizer) -> Scaled:
        """By the growth of the parameter with width."""
        known, numbers = self._by_path[path]
        if optimizer.kind(known.role) != known.kind:
            raise ValueError(f"optimizer makes other steps than those of kind {known.kind!r} that this is scaled for.")
        return Scaled(known.role, numbers.lr_factor, numbers.decay_factor, numbers.gradient_scale)

    def direction(self, optimizer: Optimizer, kinds: PyTree) -> optax.GradientTransformation:
        """The optimizer's, with kernels of several axes as the matrices that they are."""
        axes = self.matrices()
        directions = {
            kind: as_matrices(direction, axes) if kind == "spectral" else direction
            for kind, direction in optimizer.directions.items()
        }
        return replace(optimizer, directions=directions).direction(kinds)

    def matrices(self) -> Mapping[str, tuple[Indices, Indices]]:
        """Of each hidden parameter, as its layer has them."""
        return {p.path: p.matrix for p in self.parameters if p.matrix is not None}

    @cached_property
    def _by_path(self) -> Mapping[str, tuple[OfParameter, NumbersOfParameter]]:
        return {p.path: (p, numbers) for p, numbers in zip(self.parameters, self.numbers, strict=True)}


def by_roles(scaling: Scaling, optimizer: Optimizer, gamma: float = 1.0) -> ByRoles:
    """The module that a scaling builds and scales for an optimizer, at richness γ₀, by which outputs are divided.

    Raises:
        ValueError: where the scaling has no build.
    """
    if scaling.build is None:
        raise ValueError("scaling has no build: restore it by Scaling.from_dict(saved, build).")
    known, numbers = [], []
    for p in scaling.parameters:
        kind = optimizer.kind(p.growth.role)
        factor, scale = scaling.lr_factor(p, kind), 1.0 if kind == "sgd" else scaling.gradient_scale(p) / gamma
        known.append(OfParameter(p.path, p.shape, p.growth.role, kind, p.growth.matrix))
        of_gamma = gamma ** RICHNESS_POWER[kind]
        numbers.append(
            NumbersOfParameter(p.init_factor, factor * of_gamma, factor * scaling.decay_factor(p, kind), scale)
        )
    return ByRoles(scaling.build, size_of(scaling), tuple(known), tuple(numbers), 1 / gamma)


@jax.tree_util.register_static
@dataclass(frozen=True)
class AsBuilt:
    """A module that is trained as `build(width, rngs)` makes it, without any scaling."""

    build: Callable[[int, nnx.Rngs], nnx.Module]
    width: int
    output_multiplier = 1.0

    def draw(self, key: jax.Array) -> Any:
        """The module, drawn from a key."""
        return hold_arrays(self.build(self.width, nnx.Rngs(key)))

    def scaled(self, path: str, parameter: nnx.Variable, optimizer: Optimizer) -> Scaled:
        """No factor at all."""
        return Scaled(UNKNOWN, 1.0, 1.0, 1.0)

    def direction(self, optimizer: Optimizer, kinds: PyTree) -> optax.GradientTransformation:
        """The optimizer's own."""
        return optimizer.direction(kinds)

    def matrices(self) -> Mapping[str, tuple[Indices, Indices]]:
        """None."""
        return {}


# A model that has a name is measured once per process, as its recipe is made once.
_drawn_sizes = lru_cache(maxsize=256)(drawn_sizes)


@dataclass(frozen=True)
class SizedBuild:
    """A model as `build(width, rngs)` or `build(width, depth, rngs)`, all else that it takes being given."""

    build: Callable[..., Any]
    input_shape: tuple[int, ...]
    classes: int
    base_depth: int
    alpha: float
    readout_multiplier: float = 1.0

    def __call__(self, width: int, *depth_and_rngs: Any) -> Any:
        """The module."""
        *depth, rngs = depth_and_rngs
        blocks = depth[0] if depth else 1
        return call_build(
            self.build,
            {
                "width": width,
                "depth": blocks,
                "input_shape": self.input_shape,
                "classes": self.classes,
                "branch_multiplier": DepthRule(blocks, self.base_depth, self.alpha).multiplier,
                "readout_multiplier": self.readout_multiplier,
                "rngs": rngs,
            },
        )


@lru_cache(maxsize=64)
def find_source(
    build: Callable[..., Any], rule: Rule, input_shape: tuple[int, ...], classes: int, optimizer: Optimizer
) -> ByRule | ByRoles:
    """Who scales a model: itself if it takes a rule, else the roles of its parameters.

    Raises:
        ValueError: where roles cannot be inferred, or the parameterization needs a multiplier that the model does not
            take.
    """
    if takes(build, "rule"):
        return ByRule(build, rule, input_shape, classes)
    depth: dict[str, Any] = {}
    if takes(build, "depth"):
        depth = {"depth": rule.depth.depth, "base_depth": rule.depth.base_depth, "alpha": rule.depth.alpha}
        if rule.depth.multiplier != 1 and not takes(build, "branch_multiplier"):
            raise ValueError(
                f"alpha is {rule.depth.alpha:g}, by which each residual branch is multiplied by "
                f"{rule.depth.multiplier:.4g}: let the model take branch_multiplier, or give alpha=0 or base_depth."
            )
    sized = SizedBuild(build, input_shape, classes, rule.depth.base_depth, rule.depth.alpha)
    scaling = scale_module(
        sized,
        rule.parameterization.name,
        base=rule.base_width,
        width=rule.width,
        optimizer=optimizer,
        measure=_drawn_sizes,
        **depth,
    )
    if scaling.readout_multiplier != 1:
        if not takes(build, "readout_multiplier"):
            raise ValueError(
                "the model's embedding is its readout too, whose logits muP multiplies by base/width: let the model "
                "take readout_multiplier."
            )
        scaling = replace(scaling, build=replace(sized, readout_multiplier=scaling.readout_multiplier))
    return by_roles(scaling, optimizer, rule.gamma)


def abstract_module(structure: jax.tree_util.PyTreeDef) -> tuple[nnx.Module, bool]:
    """The module that a source of this structure draws, without numbers, and whether it scales itself by a rule."""
    number = jax.ShapeDtypeStruct((), jnp.result_type(float), weak_type=True)
    numbers = [number] * structure.num_leaves
    source = jax.tree.unflatten(structure, numbers)
    if isinstance(source, AsBuilt):
        # It may scale itself by numbers that it draws, which cannot be traced.
        return source.draw(jax.random.key(0)), False

    def draw(numbers: list[Any], key: jax.Array) -> nnx.Module:
        module = jax.tree.unflatten(structure, numbers).draw(key)
        refuse_leaks(module)
        return module

    return nnx.eval_shape(draw, numbers, jax.eval_shape(jax.random.key, 0)), isinstance(source, ByRule)


def _takes_numbers(source: ByRule) -> bool:
    """Whether a model can be built with a rule whose numbers are traced, and keeps them as `Multiplier`s."""
    return _structure_takes_numbers(jax.tree.structure(source))


@cached_by_precision(maxsize=256)
def _structure_takes_numbers(structure: jax.tree_util.PyTreeDef) -> bool:
    try:
        # What is made anew by each build, such as a function that holds numbers, makes graphs differ.
        graph, again = (split_module(abstract_module(structure)[0])[0] for _ in range(2))
        return graph == again
    except Exception:  # whatever is wrong with the model itself is raised again where its numbers are static
        return False


def split_module(module: nnx.Module) -> tuple[nnx.GraphDef, PyTree, PyTree, PyTree, PyTree]:
    """The graph, the parameters, the multipliers, the randomness, and all else but what was sown."""
    graphdef, *states = nnx.split(module, nnx.Param, Multiplier, nnx.RngState, ...)
    return graphdef, states[0], states[1], states[2], states[3]
