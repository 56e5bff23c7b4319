"""The networks that the checks train: of some width, drawn from a seed, with their optimizer."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import jax
import optax
from flax import nnx

from sharplab.checks.recording import record_outputs
from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.optimizers import make_optimizer
from sharplab.scaling.any_module import mup
from sharplab.scaling.scaled import Scaling

Build: TypeAlias = Callable[[int, nnx.Rngs], nnx.Module]
Loss: TypeAlias = Callable[[Any, Any], jax.Array]
OptimizerOfWidth: TypeAlias = Callable[[int], optax.GradientTransformation]
OptimizerLike: TypeAlias = str | optax.GradientTransformation | OptimizerOfWidth


class Network(NamedTuple):
    """The static part of a network and its optimizer, to which their compiled programs belong."""

    graphdef: nnx.GraphDef
    transformation: optax.GradientTransformation

    def model(self, state: "TraineeState") -> nnx.Module:
        """The module in this state, its variables of the present trace, so that it may change them."""
        return nnx.merge(self.graphdef, state.params, state.randomness, state.rest, copy=True)


class TraineeState(NamedTuple):
    """The part of a network that training changes, and its optimizer's state."""

    params: PyTree
    randomness: PyTree  # keys and counts of dropout and the like
    rest: PyTree  # batch statistics and the like
    opt_state: PyTree


@dataclass(frozen=True)
class Trainee:
    """The networks of every width, and their optimizers.

    Attributes:
        build: (width, rngs) → a module.
        optimizer: width → an optax transformation, with its learning rate.
        factors: width → the learning-rate factor of each parameter, by path, that the scaling asks for; None where
            nothing is known of it.
    """

    build: Build
    optimizer: OptimizerOfWidth
    factors: Callable[[int], Mapping[str, float]] | None = None

    def draw(self, width: int, seeds: Iterable[int]) -> Iterator[tuple[int, Network, TraineeState]]:
        """Each seed with the network of this width and its state before the first step."""
        transformation, graphdef = self.optimizer(width), None
        for seed in seeds:
            drawn, (params, randomness, rest) = split(self.build(width, nnx.Rngs(seed)))
            if not jax.tree.leaves(params):
                raise ValueError(f"build({width}, rngs) has no nnx.Param: there is nothing to train.")
            # All seeds share one graph, and so one compiled program: closures within theirs may differ.
            graphdef = graphdef or drawn
            state = TraineeState(params, randomness, rest, transformation.init(params))
            yield seed, Network(graphdef, transformation), state


def split(model: nnx.Module) -> tuple[nnx.GraphDef, tuple[PyTree, PyTree, PyTree]]:
    """The graph of a module, and its parameters, randomness and all other state."""
    graphdef, *states = nnx.split(model, nnx.Param, nnx.RngState, ...)
    return graphdef, (states[0], states[1], states[2])


def make_trainee(build: Build, optimizer: OptimizerLike, learning_rate: float, base: int | None) -> Trainee:
    """The trainee of a module and an optimizer, as the checks take them.

    Args:
        build: (width, rngs) → a module.
        optimizer: an optax transformation for all widths, a function from width to one, or a name out of
            `sharplab.optimizers.OPTIMIZERS`.
        learning_rate: of an optimizer given by name; the others have theirs inside.
        base: the width from which `sharplab.mup` scales the network and the named optimizer; None leaves them as they
            are.

    Raises:
        ValueError: for unknown names, and for a base beside an optimizer that is not a name.
    """
    if isinstance(optimizer, str):
        if base is not None:
            return _scaled(build, optimizer, learning_rate, base)
        plain = _plain(optimizer, learning_rate)
        return Trainee(build, lambda width: plain)
    if base is not None:
        raise ValueError("base scales an optimizer given by its name: for one of your own, scale build and optimizer.")
    if isinstance(optimizer, optax.GradientTransformation):
        return Trainee(build, lambda width: optimizer)
    return Trainee(build, optimizer)


def _scaled(build: Build, name: str, learning_rate: float, base: int) -> Trainee:
    @cache
    def scaling(width: int) -> Scaling:
        return mup(build, base=base, width=width, optimizer=name)

    @cache
    def optimizer(width: int) -> optax.GradientTransformation:
        return scaling(width).optimizer(learning_rate)

    return Trainee(
        lambda width, rngs: scaling(width).init(rngs.params()),
        optimizer,
        lambda width: scaling(width).table()["lr_factor"].to_dict(),
    )


def _plain(name: str, learning_rate: float) -> optax.GradientTransformation:
    chosen = make_optimizer(name)
    if len(chosen.directions) > 1:
        raise ValueError(f"optimizer {name!r} steps by the roles of parameters: give base, the width to scale from.")
    (direction,) = chosen.directions.values()
    decay = optax.add_decayed_weights(chosen.decay) if chosen.decay else optax.identity()
    return optax.chain(direction, decay, optax.scale_by_learning_rate(learning_rate))


def objective(
    params: PyTree, network: Network, loss: Loss, state: TraineeState, batch: Any
) -> tuple[jax.Array, TraineeState]:
    """The loss at `params`, and what the forward pass changed of all else."""
    inputs, targets = batch
    model = network.model(state._replace(params=params))
    outputs, _ = nnx.capture(model, nnx.Intermediate)(inputs)
    _, (_, randomness, rest) = split(model)
    return loss(outputs, targets), state._replace(randomness=randomness, rest=rest)


@partial(jax.jit, static_argnums=(0, 1))
def train_step(network: Network, loss: Loss, state: TraineeState, batch: Any) -> tuple[TraineeState, jax.Array]:
    """One update, and the loss before it."""
    (value, changed), gradient = jax.value_and_grad(objective, has_aux=True)(state.params, network, loss, state, batch)
    updates, opt_state = network.transformation.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return changed._replace(params=params, opt_state=opt_state), value


@partial(jax.jit, static_argnums=(0, 1))
def gradient_at(network: Network, loss: Loss, state: TraineeState, batch: Any) -> PyTree:
    """The gradient of the loss, like the parameters."""
    return jax.grad(objective, has_aux=True)(state.params, network, loss, state, batch)[0]


@partial(jax.jit, static_argnums=0)
def outputs_of_modules(network: Network, state: TraineeState, inputs: Any) -> dict[str, jax.Array]:
    """The outputs of each submodule, by `record_outputs`; the state stays as it is."""
    return record_outputs(network.model(state), inputs)


def checked_widths(widths: Sequence[int], least: int = 2) -> tuple[int, ...]:
    """The widths, ascending and distinct.

    Raises:
        ValueError: for fewer than `least`.
    """
    ordered = tuple(sorted(set(widths)))
    if len(ordered) < least:
        raise ValueError(f"widths must hold at least {least} different ones to compare, not {list(widths)}.")
    return ordered


def layer_classes(network: Network, state: TraineeState) -> dict[str, str]:
    """The class of the module that holds each parameter, by the parameter's path."""
    modules = {
        "/".join(map(str, path)): type(module).__name__ for path, module in nnx.iter_modules(network.model(state))
    }
    return {path: modules.get(path.rpartition("/")[0], "") for path in tree.named_leaves(state.params)}
