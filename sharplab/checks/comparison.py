"""The networks that a check compares: several widths, trained on one batch with one loss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sharplab.checks.trainee import Loss, Trainee, checked_widths
from sharplab.data.examples import examples_of
from sharplab.training.recipe import Recipe, RunState


@dataclass(frozen=True)
class Comparison:
    """Networks of several widths, ascending, and what they are trained on: a batch (inputs, targets) and a loss."""

    trainee: Trainee
    widths: tuple[int, ...]
    batch: Any
    loss: Loss

    @classmethod
    def of(cls, trainee: Trainee, widths: Sequence[int], batch: Any, loss: Loss) -> "Comparison":
        """The comparison of what a user gives; the batch may be a loader, or a function.

        Raises:
            ValueError: for fewer than two widths, and for a batch that is none.
        """
        return cls(trainee, checked_widths(widths), examples_of("batch", batch, most=1), loss)

    def draw(self, seeds: int) -> Iterator[tuple[int, int, Recipe, RunState]]:
        """(width, seed, recipe, run before its first step) for every width and seeds 0, 1, …"""
        for width in self.widths:
            recipe = self.trainee.recipe(width, self.loss)
            for seed in range(seeds):
                yield width, seed, recipe, recipe.begin(seed)


def check_counts(*, steps: int, seeds: int) -> None:
    """Check that there is a step, and that there are two seeds, between which an interval can be told.

    Raises:
        ValueError: naming what is too small.
    """
    for name, number, least in (("steps", steps, 1), ("seeds", seeds, 2)):
        if number < least:
            raise ValueError(f"{name} must be at least {least}, not {number}.")
