"""The runs of the figure `task-sequence`: networks through sequences of tasks, and what is measured at switches."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from sharplab.data import load_dataset
from sharplab.studies.forgetting import SCORES, records_after, slopes
from sharplab.studies.task_sequence import TaskRuns, draw_tasks, order_of_tasks, train_tasks

BASE, BATCH, CLASSES, PROBE, SHARP = 32, 32, 10, 64, 128  # base width; images of a class, and of a task's curvature
KEPT = ["seed", "width", "learning_rate", "task", "shared", *(name for name in SCORES if name != "learning_rate")]
KEPT += [f"old_{name}{after}" for name in ("loss", "accuracy") for after in ("", "_after")]


class Arm(NamedTuple):
    """A way of training through the sequence."""

    masked: bool
    epochs: int = 1
    per_task: int = 2


ARMS: Mapping[str, Arm] = {
    "plain": Arm(False),
    "masked": Arm(True),
    "plain, 4 epochs": Arm(False, epochs=4),
    "masked, 4 epochs": Arm(True, epochs=4),
    "all classes together": Arm(False, per_task=CLASSES),
}
MAIN = ("plain", "masked")


class Preset(NamedTuple):
    """The size of the figure."""

    widths: tuple[int, ...]
    seeds: int
    tasks: int
    steps: int
    octaves: tuple[float, float]
    every: int = 8

    @property
    def compared(self) -> int:
        """The width at which all arms are trained, the second largest."""
        return self.widths[-2:][0]


def model(params: Sequence[jax.Array], x: jax.Array) -> jax.Array:
    """The logits of an MLP in muP, whose learning rates for SGD are alike for all matrices and widths."""
    first, hidden, readout = params
    wide = jnp.sqrt(hidden.shape[0] / BASE)
    return jax.nn.relu(jax.nn.relu(wide * (x @ first)) @ hidden) @ readout / wide


def begin(width: int, inputs: int, seed: int) -> list[jax.Array]:
    """Its matrices, at the base width those of He's initialisation, and a readout of half that variance."""
    shapes = pairwise((inputs, width, width, CLASSES))
    deviations = np.sqrt([2 / inputs * BASE / width, 2 / width, 1 / width])
    keys = jax.random.split(jax.random.key(seed), 3)
    return [s * jax.random.normal(key, shape) for s, key, shape in zip(deviations, keys, shapes, strict=True)]


def loss(params: Sequence[jax.Array], batch: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
    """The mean cross-entropy; of masked examples over the classes that the batch has, so that no other logit moves."""
    x, targets, masked = batch
    here = jnp.zeros(CLASSES, bool).at[targets].set(True)
    logits = jnp.where(here[None] | ~masked[:, None], model(params, x), -jnp.inf)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


SGD = optax.sgd(1.0)


def images() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Fashion-MNIST of 14 × 14 pixels, of mean 0 and variance 1 over all, and a probe with so many images per class."""
    source = load_dataset("fashion-mnist-10k")
    pixels, held_out = (
        x[:, 2:-2, 2:-2, 0].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196)
        for x in (source.train_inputs, source.eval_inputs)
    )
    targets, others = np.asarray(source.train_targets), np.asarray(source.eval_targets)
    kept = np.concatenate([np.flatnonzero(others == c)[:PROBE] for c in range(CLASSES)])
    mean, deviation = pixels.mean(), pixels.std()
    data = ((pixels - mean) / deviation).astype(np.float32), targets
    return data, (((held_out[kept] - mean) / deviation).astype(np.float32), others[kept])


def train_all(size: Preset) -> dict[str, Callable[[], list[pd.DataFrame | None]]]:
    """By arm and width what trains there: a row per run; the mean curves over seeds; and of the two main arms a row per
    measured switch."""
    places = [(name, width) for name in ARMS for width in (size.widths if name in MAIN else [size.compared])]
    return {f"{name}, width {width}": partial(train_one, size, name, width) for name, width in places}


def train_one(size: Preset, name: str, width: int) -> list[pd.DataFrame | None]:
    """One part of `train_all`."""
    data, probe = images()
    arm, (low, high) = ARMS[name], size.octaves
    seeds = [1000 * width + seed for seed in range(1, size.seeds + 1)]
    order = np.stack([order_of(data[1], arm, size, seed) for seed in seeds])
    start = jax.tree.map(lambda *w: jnp.stack(w), *(begin(width, data[0].shape[1], seed) for seed in seeds))
    found = train_tasks(
        loss,
        model,
        start,
        SGD,
        (*map(jnp.asarray, data), jnp.full(len(data[1]), arm.masked)),
        order,
        learning_rates=(2.0 ** np.arange(low, high + 0.1, 0.5)).tolist(),
        probe=probe,
        examples=min(SHARP, order[0, 0].size),
        every=size.every,
    )
    runs, curves = (
        run_table(found, width).assign(arm=name),
        mean_curves(found, size.steps).assign(arm=name, width=width),
    )
    if name not in MAIN:
        return [runs, curves, None]
    kept = found.switches.assign(width=width, seed=lambda t: 1000 * width + t["seed"])[KEPT]
    return [runs, curves, kept.astype(dict.fromkeys(KEPT[5:], np.float32)).assign(arm=name)]


def order_of(targets: np.ndarray, arm: Arm, size: Preset, seed: int) -> np.ndarray:
    """Which examples make up the batches of a seed, (tasks, steps, batch)."""
    tasks = draw_tasks(CLASSES, arm.per_task, size.tasks, seed)
    return order_of_tasks(targets, tasks, steps=size.steps, batch=BATCH, epochs=arm.epochs, seed=seed)


def run_table(found: TaskRuns, width: int) -> pd.DataFrame:
    """Of each run, losses and accuracy over the first 8 tasks and over the last quarter, and the gain in accuracy."""
    tasks = found.tasks.shape[1]
    early, late = (
        records_after({width: found}, *ends).runs for ends in ((1, min(8, tasks)), (tasks * 3 // 4 + 1, tasks))
    )
    gain = slopes(found.accuracy) * (tasks - 1)
    return early[["width", "learning_rate", "seed"]].assign(
        early_loss=early["eval_loss"],
        early_current=early["current_loss"],
        late_loss=late["eval_loss"],
        late_current=late["current_loss"],
        late_accuracy=late["eval_accuracy"],
        gain=gain.ravel(),
    )


def mean_curves(found: TaskRuns, steps: int) -> pd.DataFrame:
    """The mean accuracy over seeds on all classes after every other task, with its standard error."""
    accuracy, seeds = found.accuracy[..., ::2], found.accuracy.shape[1]
    rate, task = np.meshgrid(found.learning_rates, 2 * np.arange(accuracy.shape[-1]), indexing="ij")
    error = accuracy.std(axis=1, ddof=1) / np.sqrt(seeds)
    columns = {"learning_rate": rate, "step": task * steps, "accuracy": accuracy.mean(axis=1), "accuracy_stderr": error}
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()})
