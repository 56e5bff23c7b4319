"""Named optimizers: the update direction, the metric it lives in, and where it turns unstable."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import optax

from sharplab.tree import PyTree


@dataclass(frozen=True)
class Optimizer:
    """A rule that steps by −η · factors · direction, η being a number that a compiled program takes as input.

    Attributes:
        kind: the column of the parameterization's table that gives the learning-rate factors.
        direction: gradients → direction, as an optax transformation of learning rate −1.
        metric: (factors, opt_state) → D, the positive diagonal with step −η D g up to momentum, shaped like the
            parameters; effective sharpness is λmax(D^½ H D^½).
        threshold: η → the effective sharpness above which a quadratic diverges.
    """

    kind: str
    direction: optax.GradientTransformation
    metric: Callable[[PyTree, PyTree], PyTree]
    threshold: Callable[[float], float]


OPTIMIZERS: Mapping[str, Optimizer] = MappingProxyType(
    {
        "sgd": Optimizer(
            kind="sgd",
            direction=optax.identity(),
            metric=lambda factors, opt_state: factors,
            threshold=lambda learning_rate: 2 / learning_rate,
        )
    }
)
