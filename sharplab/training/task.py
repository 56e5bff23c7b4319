"""What is trained: a task, which all runs of a group share, and a run of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharplab.core.imports import find_function
from sharplab.core.remembered import cached_by_precision
from sharplab.core.settings import TrainingSettings
from sharplab.data import AUGMENTATIONS, load_dataset

if TYPE_CHECKING:
    from sharplab.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Task(TrainingSettings):
    """What all runs of a group share: one compiled shape, one set of records."""

    width: int
    depth: int
    parameterization: str
    record_steps: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """One run within a group."""

    learning_rate: float
    seed: int


@cached_by_precision(maxsize=64)
def find_recipe(task: Task) -> "Recipe":
    """The functions that a task's names stand for."""
    # Here, for whoever plans or reads runs needs none of these.
    from sharplab.losses import LOSSES
    from sharplab.models import find_model
    from sharplab.optimizers import find_optimizer
    from sharplab.scaling import DepthRule, Rule, parameterization
    from sharplab.schedules import find_schedule, tabulated
    from sharplab.training.network import Network
    from sharplab.training.recipe import Recipe
    from sharplab.training.sources import find_source

    dataset = load_dataset(task.data)
    depth = DepthRule(task.depth, task.base_depth, task.alpha)
    rule = Rule(parameterization(task.parameterization), task.width, task.base_width, task.gamma, depth)
    optimizer = find_optimizer(task.optimizer)
    source = find_source(find_model(task.model), rule, dataset.input_shape, dataset.classes, optimizer)
    return Recipe(
        Network(source),
        find_function("loss", task.loss, LOSSES),
        optimizer,
        task.observables,
        task.batch_size,
        task.trainable,
        find_function("augmentation", task.augment, AUGMENTATIONS),
        tabulated(find_schedule(task.schedule, task.steps), task.steps),
    )
