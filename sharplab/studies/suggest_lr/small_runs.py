"""The runs of a user's network at small widths, trained by `sharplab.sweep.run`."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import nnx

from sharplab.checks.trainee import Build, Loss
from sharplab.core.imports import hold, import_name, lend
from sharplab.core.tree import PyTree
from sharplab.data import Dataset, load_dataset
from sharplab.data.examples import examples_of
from sharplab.optimizers import Optimizer
from sharplab.records import Records
from sharplab.studies.suggest_lr.settings import StudySettings
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.live import LiveTracker
from sharplab.sweep.runner import run
from sharplab.training.recipe import DIVERGED_MULTIPLE

MOST_EVALUATED = 2048  # examples of the final loss
PROBE = 512  # examples of the Hessian


@dataclass(frozen=True)
class Place:
    """Where runs are trained and kept: the arguments of `sharplab.sweep.run`, with the store None for a passing one."""

    store: Path | None = None
    executor: Executor | None = None
    trackers: Sequence[LiveTracker] = ()

    @property
    def lasting(self) -> bool:
        """Whether other processes, or later ones, must find what is trained."""
        return self.store is not None or self.executor is not None


@dataclass(frozen=True)
class SmallRuns:
    """What trains the network of any width, at any learning rates and for any number of steps.

    Attributes:
        shared: the settings that all experiments have in common.
        place: where they are trained and kept.
        dataset: what `shared` names as data, kept for as long as it is needed; None where that is anyone's name.
    """

    shared: Mapping[str, Any]
    place: Place
    dataset: "GivenData | None" = None

    def final_losses(self, width: int, learning_rates: Sequence[float], steps: int) -> dict[float, np.ndarray]:
        """The seeds' final losses by learning rate, each of shape (seeds,); inf where one diverged.

        They are those of the evaluation examples, in the mode of evaluation.
        """
        whole = self.place.executor is not None or not _vectorised()
        parts = [tuple(learning_rates)] if whole else [(rate,) for rate in learning_rates]
        found = [self.record(width, rates, steps, ("eval_loss",), records=2).curves for rates in parts]
        by_step = pd.concat(found).pivot(index=["learning_rate", "seed"], columns="step", values="eval_loss")
        # A step too large that is the last is not seen before it.
        sound = np.isfinite(by_step[steps]) & ~(by_step[steps] > DIVERGED_MULTIPLE * by_step[0].abs())
        losses = by_step[steps].where(sound, np.inf).unstack("seed").astype(float)
        return {rate: row.to_numpy() for rate, row in losses.iterrows()}

    def record(
        self, width: int, learning_rates: Sequence[float], steps: int, observables: tuple[str, ...], *, records: int
    ) -> Records:
        """The records of one width, evenly along training and at the start."""
        experiment = Experiment(
            widths=width,
            learning_rates=tuple(learning_rates),
            steps=steps,
            observables=observables,
            records=min(records, steps + 1),
            **self.shared,
        )
        assert self.place.store is not None
        return run(experiment, self.place.store, executor=self.place.executor, trackers=self.place.trackers)

    def seconds(self, width: int, learning_rate: float, steps: int, clock: Callable[[], float]) -> float:
        """What training one learning rate takes anew, by a clock."""
        with tempfile.TemporaryDirectory() as passing:
            began = clock()
            replace(self, place=Place(Path(passing), self.place.executor)).final_losses(width, (learning_rate,), steps)
            return clock() - began


def small_runs(
    build: str | Build, data: Any, held_out: Any | None, loss: str | Loss, settings: StudySettings, place: Place
) -> SmallRuns:
    """The runs of a study, whose network, loss and optimizer the experiments name.

    Raises:
        ValueError: for what other processes must find and cannot, and for bad data.
    """
    shared = {
        "parameterizations": "mup",
        "base_width": settings.base,
        "optimizer": _name("optimizer", settings.optimizer, place),
        "loss": _name("loss", loss, place),
        "model": _name("build", build if isinstance(build, str) or place.lasting else OfWidth(build), place),
        "seeds": settings.seeds,
        "batch_size": settings.batch_size,
    }
    if isinstance(data, str):
        if held_out is not None:
            raise ValueError("held_out is part of data that is given by its name: leave it away.")
        lent, name, examples = None, data, load_dataset(data).examples
    else:
        if place.executor is not None:
            raise ValueError("data are arrays, which workers of executor cannot find: give it as 'module:name'.")
        dataset = make_dataset(data, held_out, settings.batch_size, settings.steps)
        name, lent = lend(GivenData(dataset), dataset.checksum)
        examples = dataset.examples
    return SmallRuns(shared | {"data": name, "probe_size": min(PROBE, examples)}, place, lent)


def most_examples(steps: int, batch_size: int) -> int:
    """The number of examples that are read of a loader, as many as a run trains on and the final loss is of."""
    return max(steps * batch_size, MOST_EVALUATED)


def _vectorised() -> bool:
    """Whether all runs of a group are one program, so that groups of one size, the seeds, share it."""
    return jax.default_backend() != "cpu"


@dataclass(frozen=True, eq=False)
class OfWidth:
    """A network as a function of its width alone: whatever else `build` may take keeps its default.

    Each is its own: what `build` reads of its surroundings may have changed since an earlier study.
    """

    build: Build

    def __call__(self, width: int, rngs: nnx.Rngs, readout_multiplier: float = 1.0) -> nnx.Module:
        """The module; one whose readout is tied multiplies its outputs by itself."""
        return self.build(width, rngs)


@dataclass(frozen=True, eq=False)
class GivenData:
    """The data of a study as the function that experiments name."""

    dataset: Dataset

    def __call__(self) -> Dataset:
        """The data set."""
        return self.dataset


def _name(argument: str, given: str | Build | Loss | Optimizer, place: Place) -> str:
    """The name by which experiments take an object."""
    if isinstance(given, str):
        return given
    if not place.lasting:
        return hold(given)
    if (name := import_name(given)) is None:
        raise ValueError(
            f"{argument} is an object of this process, which neither a store nor workers find again: give it as "
            "'module:name'."
        )
    return name


def make_dataset(data: Any, held_out: Any | None, batch_size: int, steps: int = 1) -> Dataset:
    """The training data, and up to 2,048 examples of `held_out`, or else of `data`, to evaluate on.

    Raises:
        ValueError: for data that are no examples, have not as many targets as inputs, or fewer than a batch.
    """
    train = _checked("data", examples_of("data", data, most_examples(steps, batch_size)), batch_size)
    evaluated = train
    if held_out is not None:
        evaluated = _checked("held_out", examples_of("held_out", held_out, MOST_EVALUATED), 1)
    count = _count(evaluated)
    size = min(batch_size, count)
    order = np.random.default_rng(0).permutation(count)[: min(count, MOST_EVALUATED) // size * size]
    evaluation = jax.tree.map(lambda x: x[order], evaluated)
    probe = np.random.default_rng(1).permutation(_count(train))[:PROBE]
    checksum = _checksum((train, evaluation))
    return Dataset("given", train[0], train[1], evaluation[0], evaluation[1], 0, checksum, probe)


def _checked(name: str, data: tuple[PyTree, PyTree], least: int) -> PyTree:
    arrays = jax.tree.map(lambda x: np.asarray(jnp.asarray(x)), data)
    lengths = {x.shape[0] if x.ndim else 0 for x in jax.tree.leaves(arrays)}
    if len(lengths) != 1:
        raise ValueError(f"{name} must hold as many targets as inputs, not {sorted(lengths)} along the first axes.")
    if _count(arrays) < least:
        raise ValueError(f"batch_size is {least} with {_count(arrays)} examples in {name}: give a smaller one.")
    return arrays


def _count(data: PyTree) -> int:
    return len(jax.tree.leaves(data)[0])


def _checksum(arrays: PyTree) -> str:
    """SHA-256, in hex, of the structure, types and bytes of arrays."""
    leaves, structure = jax.tree.flatten(arrays)
    digest = hashlib.sha256(f"{structure} {[(x.dtype, x.shape) for x in leaves]}".encode())
    for leaf in leaves:
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
