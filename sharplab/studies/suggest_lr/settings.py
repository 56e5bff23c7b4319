"""The settings of a learning-rate study: what is trained at every small width, checked and with defaults filled in."""

from collections.abc import Sequence
from dataclasses import dataclass

from sharplab.core.grid import parse_positive, whole
from sharplab.optimizers import Optimizer, find_optimizer


@dataclass(frozen=True)
class StudySettings:
    """How the small networks are trained, and for which width they are to predict the optimum.

    Attributes:
        base: the width at which learning rates are quoted.
        width: the width that the suggestion is for.
        widths: the ones to train, ascending.
        optimizer: a name of `sharplab.optimizers.OPTIMIZERS`, or an `Optimizer`.
        learning_rates: the grid to begin with at every width; empty for octaves about the usual one.
        metric: the name of the final loss.
    """

    base: int
    width: int
    widths: tuple[int, ...]
    optimizer: str | Optimizer
    learning_rates: tuple[float, ...]
    seeds: int
    batch_size: int
    steps: int
    metric: str

    @property
    def optimizer_name(self) -> str:
        """The optimizer in words."""
        return self.optimizer if isinstance(self.optimizer, str) else "an optimizer of your own"

    @property
    def usual_rate(self) -> float:
        """The middle of the first grid where `learning_rates` gives none."""
        chosen = find_optimizer(self.optimizer) if isinstance(self.optimizer, str) else self.optimizer
        assert chosen.usual_learning_rate is not None  # `first_rates` has asked for learning rates else
        return chosen.usual_learning_rate


def small_widths(widths: Sequence[int] | None, *, base: int, width: int) -> tuple[int, ...]:
    """The widths to train, ascending: by default half the base to 4 times the base, those less than `width`.

    Raises:
        ValueError: for fewer than two, and for one that is not smaller than `width`.
    """
    if widths is None:
        usual = (base // 2, base, 2 * base, 4 * base) if base % 2 == 0 else (base, 2 * base, 4 * base)
        small = tuple(size for size in usual if size < width)
    else:
        small = tuple(sorted({whole("widths", size) for size in widths}))
        if small and small[-1] >= width:
            raise ValueError(f"widths must be smaller than width {width}, not {small[-1]}: they are to predict it.")
    if len(small) < 2:
        raise ValueError(f"widths must hold at least two, smaller than width {width}, not {list(small)}.")
    return small


def first_rates(learning_rates: Sequence[float | str] | None, optimizer: Optimizer) -> tuple[float, ...]:
    """The grid to begin with, ascending; empty where the optimizer's usual learning rate makes it.

    Raises:
        ValueError: for fewer than three learning rates, and for none where the optimizer has no usual one.
    """
    if learning_rates is None:
        if optimizer.usual_learning_rate is None:
            raise ValueError(
                "learning_rates is needed for an optimizer that has no usual_learning_rate: about seven, octaves apart."
            )
        return ()
    rates = tuple(sorted(parse_positive("learning_rates", learning_rates)))
    if len(rates) < 3:
        raise ValueError(f"learning_rates must hold at least three, to show a lowest point, not {list(rates)}.")
    return rates
