"""The networks that the checks train: of some width, with their optimizer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import jax
import optax
from flax import nnx

from sharplab.core.arguments import function
from sharplab.optimizers import from_optax, make_optimizer
from sharplab.scaling.any_module import mup
from sharplab.scaling.scaled import Scaling
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe
from sharplab.training.sources import AsBuilt

Build: TypeAlias = Callable[[int, nnx.Rngs], nnx.Module]
Loss: TypeAlias = Callable[[Any, Any], jax.Array]
OptimizerOfWidth: TypeAlias = Callable[[int], optax.GradientTransformation]
OptimizerLike: TypeAlias = str | optax.GradientTransformation | OptimizerOfWidth


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

    def recipe(self, width: int, loss: Loss) -> Recipe:
        """The functions of the network of this width, to be trained at learning rate 1.

        Raises:
            ValueError: where there is nothing to train.
        """
        network = Network(AsBuilt(self.build, width))
        if not jax.tree.leaves(network.abstract.params):
            raise ValueError(f"build({width}, rngs) has no nnx.Param: there is nothing to train.")
        return Recipe(network, loss, from_optax(self.optimizer(width)), ())


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
    function("optimizer", optimizer)
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


def checked_widths(widths: Sequence[int], least: int = 2) -> tuple[int, ...]:
    """The widths, ascending and distinct.

    Raises:
        ValueError: for fewer than `least`.
    """
    ordered = tuple(sorted(set(widths)))
    if len(ordered) < least:
        raise ValueError(f"widths must hold at least {least} different ones to compare, not {list(widths)}.")
    return ordered
