"""A network of one size under one parameterization: how it is drawn, run, and scaled, the lab's own or anyone's.

The kinds differ in who scales: `ByRule` builds a model that multiplies, draws and labels its weights by a `Rule`;
`ByRoles` any module of Flax, by the roles that are inferred of its parameters; `AsBuilt` leaves a module as it is. All
else is one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from sharplab.core.tree import PyTree
from sharplab.models.building import call_build, takes
from sharplab.optimizers import Optimizer
from sharplab.scaling import DepthRule, Rule, Scaling
from sharplab.scaling.abc import SYMMETRY_POWER
from sharplab.scaling.any_module import scale_module
from sharplab.scaling.transformation import as_matrices


class Variables(NamedTuple):
    """What of a network changes and is not trained; without leaves for most."""

    randomness: PyTree  # keys and counts of dropout and the like
    statistics: PyTree  # batch statistics, and whatever else there is


class Scaled(NamedTuple):
    """What the scaling asks of the optimizer for one parameter."""

    role: str
    lr_factor: float
    decay_factor: float  # what η · decay · w is multiplied by
    gradient_scale: float  # by what the gradient is divided before optimizers of other kinds than "sgd" see it


UNKNOWN = "unknown"  # the role of a parameter that is not scaled


class Source(Protocol):
    """Who draws the modules of a network, and scales them."""

    output_multiplier: float

    def draw(self, key: jax.Array) -> nnx.Module:
        """The module, drawn from a key."""

    def scaled(self, path: str, parameter: nnx.Variable, optimizer: Optimizer) -> Scaled:
        """What the scaling asks of the optimizer for the parameter at this path."""

    def direction(self, optimizer: Optimizer, kinds: PyTree) -> optax.GradientTransformation:
        """The optimizer's directions, of parameters whose kinds are the leaves of `kinds`."""


@dataclass(frozen=True)
class ByRule:
    """A model that scales itself by a rule.

    Attributes:
        build: as `sharplab.models.building` says.
        rule: the parameterization at this width and depth.
        input_shape, classes: what else the model may take.
    """

    build: Callable[..., Any]
    rule: Rule
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
        place = {"in_branch": metadata.get("in_branch", False), "unit": metadata.get("unit", 1.0)}
        kind = optimizer.kind(role)
        scale = 1.0 if kind == "sgd" else float(self.rule.gradient_scale(role, **place))
        return Scaled(role, float(self.rule.lr_factor(role, kind, **place)), 1.0, scale)

    def direction(self, optimizer: Optimizer, kinds: PyTree) -> optax.GradientTransformation:
        """The optimizer's own; kernels are matrices (fan-in, fan-out) already."""
        return optimizer.direction(kinds)


@dataclass(frozen=True)
class ByRoles:
    """Any module of Flax, without multipliers, scaled by the roles of its parameters.

    Attributes:
        scaling: of the module, which it builds.
        gamma: the richness γ₀, by which outputs are divided.
    """

    scaling: Scaling
    gamma: float = 1.0

    @property
    def output_multiplier(self) -> float:
        """What outputs are multiplied by."""
        return 1 / self.gamma

    def draw(self, key: jax.Array) -> Any:
        """The module, drawn by its own initialisers and brought to its size: `scaling.init(key)`."""
        return self.scaling.init(key)

    def scaled(self, path: str, parameter: nnx.Variable, optimizer: Optimizer) -> Scaled:
        """By the growth of the parameter with width."""
        known = _by_path(self.scaling)[path]
        kind = optimizer.kind(known.growth.role)
        factor = self.scaling.lr_factor(known, kind)
        decay = factor * self.scaling.decay_factor(known, kind)
        scale = 1.0 if kind == "sgd" else self.scaling.gradient_scale(known) / self.gamma
        return Scaled(known.growth.role, factor * self.gamma ** SYMMETRY_POWER[kind], decay, scale)

    def direction(self, optimizer: Optimizer, kinds: PyTree) -> optax.GradientTransformation:
        """The optimizer's, with kernels of several axes as the matrices that they are."""
        axes = {p.path: p.growth.matrix for p in self.scaling.parameters if p.growth.matrix is not None}
        directions = {
            kind: as_matrices(direction, axes) if kind == "spectral" else direction
            for kind, direction in optimizer.directions.items()
        }
        return replace(optimizer, directions=directions).direction(kinds)


@dataclass(frozen=True)
class AsBuilt:
    """A module that is trained as `build(width, rngs)` makes it, without any scaling."""

    build: Callable[[int, nnx.Rngs], nnx.Module]
    width: int
    output_multiplier = 1.0

    def draw(self, key: jax.Array) -> Any:
        """The module, drawn from a key."""
        return self.build(self.width, nnx.Rngs(key))

    def scaled(self, path: str, parameter: nnx.Variable, optimizer: Optimizer) -> Scaled:
        """No factor at all."""
        return Scaled(UNKNOWN, 1.0, 1.0, 1.0)

    def direction(self, optimizer: Optimizer, kinds: PyTree) -> optax.GradientTransformation:
        """The optimizer's own."""
        return optimizer.direction(kinds)


@lru_cache(maxsize=256)
def _by_path(scaling: Scaling) -> Mapping[str, Any]:
    return {parameter.path: parameter for parameter in scaling.parameters}


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
        sized, rule.parameterization.name, base=rule.base_width, width=rule.width, optimizer=optimizer, **depth
    )
    if scaling.readout_multiplier != 1:
        if not takes(build, "readout_multiplier"):
            raise ValueError(
                "the model's embedding is its readout too, whose logits muP multiplies by base/width: let the model "
                "take readout_multiplier."
            )
        scaling = replace(scaling, build=replace(sized, readout_multiplier=scaling.readout_multiplier))
    return ByRoles(scaling, rule.gamma)


@dataclass(frozen=True)
class Network:
    """The functions of a network, without numbers: hashable, so that equal networks share compiled programs."""

    source: ByRule | ByRoles | AsBuilt

    def init(self, seed: jax.typing.ArrayLike) -> tuple[PyTree, Variables]:
        """The parameters and variables that belong to a seed, a scalar integer array."""
        _, params, *variables = _split(self.source.draw(jax.random.key(seed)))
        # Weak types, as of jnp.full(shape, 1.0), are lost with the first step: programs would be compiled twice.
        strong = jax.tree.map(lambda w: jax.lax.convert_element_type(w, w.dtype), params)
        return strong, Variables(*variables)

    def prepare(self, inputs: jax.typing.ArrayLike) -> jax.Array:
        """What the network does to inputs without any parameter, to be done once per data set."""
        if not self.abstract.prepares:
            return jax.tree.map(jnp.asarray, inputs)
        return self.source.draw(jax.random.key(0)).prepare(inputs)

    def forward(self, params: PyTree, prepared: PyTree, state: Variables | None = None) -> Any:
        """Outputs, a function of parameters and inputs: dropout is off, batch statistics are those of these inputs."""
        module = self.module(params, state)
        if self.abstract.changes:
            module.set_attributes(deterministic=True, raise_if_not_found=False)
        return self._outputs(module, prepared)

    def evaluate(self, params: PyTree, prepared: PyTree, state: Variables | None = None) -> Any:
        """Outputs in the mode of evaluation: batch statistics are the running ones."""
        module = self.module(params, state)
        if self.abstract.changes:
            module.eval()
        return self._outputs(module, prepared)

    def train(self, params: PyTree, prepared: PyTree, variables: Variables) -> tuple[Any, Variables]:
        """Outputs in the mode that the module is given in, and the variables that they leave."""
        module = self.module(params, variables)
        if not self.abstract.changes:
            return self._outputs(module, prepared), variables
        outputs = self._outputs(module, prepared)
        _, _, *changed = _split(module)
        return outputs, Variables(*changed)

    def module(self, params: PyTree, variables: Variables | None = None) -> Any:
        """The module with these parameters and variables, made anew in the present trace."""
        if variables is None and self.abstract.changes:
            raise ValueError("state is missing: the network has dropout or batch statistics, give the run's variables.")
        rest = self.abstract.variables if variables is None else variables
        # A module whose variables change must have its own of the present trace.
        return (
            nnx.merge(self.abstract.graphdef, params, *rest, copy=True)
            if self.abstract.changes
            else nnx.merge(self.abstract.graphdef, params, *rest)
        )

    def _outputs(self, module: Any, prepared: PyTree) -> Any:
        run = getattr(module, self.abstract.method)
        if not isinstance(self.source, ByRule):
            outputs, _ = nnx.capture(run, nnx.Intermediate)(prepared)  # what is sown must not stay in the module
        else:
            outputs = run(prepared)
        factor = self.source.output_multiplier
        return outputs if factor == 1 else factor * outputs

    def scaled(self, optimizer: Optimizer) -> PyTree:
        """What the scaling asks of an optimizer, a `Scaled` for each parameter, like the parameters."""

        def of(path: tuple, parameter: nnx.Variable) -> nnx.Variable:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return parameter.replace(self.source.scaled(name, parameter, optimizer))

        return jax.tree_util.tree_map_with_path(of, self.abstract.params, is_leaf=_is_variable)

    @property
    def abstract(self) -> "Abstract":
        """What is known of the network without drawing it."""
        return _abstract(self)


class Abstract(NamedTuple):
    """A network without its numbers.

    Attributes:
        graphdef: the graph of the module.
        params, variables: their shapes.
        changes: whether there are variables.
        prepares: whether the module scales itself and has a `prepare`, to be done once per data set.
        method: what makes outputs of prepared inputs: its `forward` where it scales itself and has one, else its call.
        examples_interact: whether examples of a batch act on each other's outputs, as under BatchNorm.
    """

    graphdef: nnx.GraphDef
    params: PyTree
    variables: Variables
    changes: bool
    prepares: bool
    method: str
    examples_interact: bool


@lru_cache(maxsize=256)
def _abstract(network: Network) -> Abstract:
    draw = partial(network.source.draw, jax.random.key(0))
    # What `AsBuilt` builds may scale itself by numbers that it draws, which cannot be traced.
    module = draw() if isinstance(network.source, AsBuilt) else nnx.eval_shape(draw)
    graphdef, *states = _split(module)
    params, randomness, statistics = jax.eval_shape(lambda: tuple(states))
    variables = Variables(randomness, statistics)
    by_rule = isinstance(network.source, ByRule)
    return Abstract(
        graphdef,
        params,
        variables,
        changes=bool(jax.tree.leaves(variables)),
        prepares=by_rule and hasattr(module, "prepare"),
        method="forward" if by_rule and hasattr(module, "forward") else "__call__",
        examples_interact=getattr(module, "examples_interact", False) or _has_batch_statistics(module),
    )


def _has_batch_statistics(module: nnx.Module) -> bool:
    layers = any(isinstance(part, nnx.BatchNorm) for _, part in nnx.iter_modules(module))
    return layers or bool(jax.tree.leaves(nnx.state(module, nnx.BatchStat)))


def _split(module: nnx.Module) -> tuple[nnx.GraphDef, PyTree, PyTree, PyTree]:
    """The graph, the parameters, the randomness, and all else but what was sown."""
    graphdef, *states = nnx.split(module, nnx.Param, nnx.RngState, ...)
    return graphdef, states[0], states[1], states[2]


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)
