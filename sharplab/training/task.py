"""What is trained: a task, which all runs of a group share, and a run of it."""

from dataclasses import dataclass
from functools import lru_cache

from sharplab.core.naming import lookup
from sharplab.core.settings import TrainingSettings
from sharplab.data import AUGMENTATIONS, load_dataset
from sharplab.losses import LOSSES
from sharplab.models import find_model
from sharplab.optimizers import OPTIMIZERS
from sharplab.scaling import DepthRule, Rule, parameterization
from sharplab.schedules import find_schedule
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


@lru_cache(maxsize=64)
def find_recipe(task: Task) -> Recipe:
    """The functions that a task's names stand for."""
    dataset = load_dataset(task.data)
    return Recipe(
        find_model(task.model),
        Rule(
            parameterization(task.parameterization),
            task.width,
            task.base_width,
            task.gamma,
            DepthRule(task.depth, task.base_depth, task.alpha),
        ),
        dataset.train_inputs.shape[1:],
        dataset.classes,
        lookup("loss", task.loss, LOSSES),
        lookup("optimizer", task.optimizer, OPTIMIZERS),
        task.observables,
        task.batch_size,
        task.trainable,
        lookup("augmentation", task.augment, AUGMENTATIONS),
        find_schedule(task.schedule, task.steps),
    )
