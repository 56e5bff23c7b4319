"""A network of one size under one parameterization, as functions: how it is drawn and run, the lab's own or anyone's.

Who draws and scales it is its source (`sharplab.training.sources`); all else is one. A network is a pytree of its
source's numbers, and of those that its layers multiply with.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from sharplab.core import tree
from sharplab.core.remembered import cached_by_precision
from sharplab.core.tree import PyTree
from sharplab.optimizers import Optimizer
from sharplab.scaling.rule import Number
from sharplab.training.sources import AsBuilt, ByRoles, ByRule, abstract_module, split_module


class Variables(NamedTuple):
    """What of a network changes and is not trained; without leaves for most."""

    randomness: PyTree  # keys and counts of dropout and the like
    statistics: PyTree  # batch statistics, and whatever else there is


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Network:
    """The functions of a network, without its weights.

    Attributes:
        source: who draws and scales it.
        multipliers: the numbers that its layers multiply with, in the order of its state; found by `source`.
    """

    source: ByRule | ByRoles | AsBuilt
    multipliers: tuple[Number, ...] | None = None

    def tree_flatten(self) -> tuple[tuple, None]:
        """The numbers."""
        return (self.source, self._multipliers), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple) -> "Network":
        """The network of a structure and its numbers."""
        return cls(*children)

    def init(self, seed: jax.typing.ArrayLike) -> tuple[PyTree, Variables]:
        """The parameters and variables that belong to a seed, a scalar integer array."""
        _, params, _, *variables = split_module(self.source.draw(jax.random.key(seed)))
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
        _, _, _, *changed = split_module(module)
        return outputs, Variables(*changed)

    def module(self, params: PyTree, variables: Variables | None = None) -> Any:
        """The module with these parameters and variables, made anew in the present trace."""
        if variables is None and self.abstract.changes:
            raise ValueError("state is missing: the network has dropout or batch statistics, give the run's variables.")
        multipliers = jax.tree.unflatten(jax.tree.structure(self.abstract.multipliers), self._multipliers)
        rest = self.abstract.variables if variables is None else variables
        # A module whose variables change must have its own of the present trace.
        return (
            nnx.merge(self.abstract.graphdef, params, multipliers, *rest, copy=True)
            if self.abstract.changes
            else nnx.merge(self.abstract.graphdef, params, multipliers, *rest)
        )

    @property
    def _multipliers(self) -> tuple[Number, ...]:
        return _multipliers(self.source) if self.multipliers is None else self.multipliers

    def _outputs(self, module: Any, prepared: PyTree) -> Any:
        run = getattr(module, self.abstract.method)
        if not isinstance(self.source, ByRule):
            outputs, _ = nnx.capture(run, nnx.Intermediate)(prepared)  # what is sown must not stay in the module
        else:
            outputs = run(prepared)
        factor = self.source.output_multiplier
        return outputs if isinstance(factor, float) and factor == 1 else jax.tree.map(lambda x: factor * x, outputs)

    def scaled(self, optimizer: Optimizer) -> PyTree:
        """What the scaling asks of an optimizer, a `Scaled` for each parameter, like the parameters."""

        names = iter(tree.named_leaves(self.abstract.params))

        def of(parameter: nnx.Variable) -> nnx.Variable:
            each = jax.tree.map(lambda _: self.source.scaled(next(names), parameter, optimizer), parameter.get_value())
            return parameter.replace(each)

        return jax.tree.map(of, self.abstract.params, is_leaf=_is_variable)

    @property
    def abstract(self) -> "Abstract":
        """What is known of the network without drawing it."""
        return _abstract(jax.tree.structure(self.source))


class Abstract(NamedTuple):
    """A network without its numbers.

    Attributes:
        graphdef: the graph of the module.
        params, multipliers, variables: their shapes.
        changes: whether there are variables.
        prepares: whether the module scales itself and has a `prepare`, to be done once per data set.
        method: what makes outputs of prepared inputs: its `forward` where it scales itself and has one, else its call.
        examples_interact: whether examples of a batch act on each other's outputs, as under BatchNorm.
    """

    graphdef: nnx.GraphDef
    params: PyTree
    multipliers: PyTree
    variables: Variables
    changes: bool
    prepares: bool
    method: str
    examples_interact: bool


@cached_by_precision(maxsize=256)
def _abstract(structure: jax.tree_util.PyTreeDef) -> Abstract:
    module, by_rule = abstract_module(structure)
    graphdef, *states = split_module(module)
    params, multipliers, randomness, statistics = jax.eval_shape(lambda: tuple(states))
    variables = Variables(randomness, statistics)
    return Abstract(
        graphdef,
        params,
        multipliers,
        variables,
        changes=bool(jax.tree.leaves(variables)),
        prepares=by_rule and hasattr(module, "prepare"),
        method="forward" if by_rule and hasattr(module, "forward") else "__call__",
        examples_interact=getattr(module, "examples_interact", False) or _has_batch_statistics(module),
    )


@lru_cache(maxsize=1024)
def _multipliers(source: ByRule | ByRoles | AsBuilt) -> tuple[float, ...]:
    """The values of a module's `Multiplier`s, at the precision of floats."""
    if not jax.tree.leaves(_abstract(jax.tree.structure(source)).multipliers):
        return ()
    with jax.enable_x64(True), jax.ensure_compile_time_eval():  # also within the trace of a program
        return tuple(map(float, _drawn_multipliers(source, 0)))


# With the seed as an argument nothing is drawn: here, what depends on no argument is computed as it is traced.
@jax.jit
def _drawn_multipliers(source: ByRule | ByRoles, seed: int) -> list[jax.Array]:
    _, _, multipliers, *_ = split_module(source.draw(jax.random.key(seed)))
    return jax.tree.leaves(multipliers)


def _has_batch_statistics(module: nnx.Module) -> bool:
    layers = any(isinstance(part, nnx.BatchNorm) for _, part in nnx.iter_modules(module))
    return layers or bool(jax.tree.leaves(nnx.state(module, nnx.BatchStat)))


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)
