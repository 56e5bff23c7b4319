"""Images, batches, draws and initial weights, which the plain port is given so that it trains the lab's runs."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from figure1_study.contestants import GIVEN
from figure1_study.study import RATES, SEED, TRAJECTORY_RATE, Network, Study
from sharplab.data import AUGMENTATIONS, Augmentation, batch_indices, load_dataset
from sharplab.data.augmentations import PADDING
from sharplab.sweep import Experiment
from sharplab.sweep.plan import tasks
from sharplab.training.task import Task, find_recipe

MODEL, DATA, AUGMENT = "figure1_convnet", "fashion-mnist-10k", "crop_and_flip"


def experiments(study: Study) -> tuple[Experiment, Experiment]:
    """The experiments of trajectories and sweep that the lab is asked for."""
    settings: dict[str, Any] = {
        "model": MODEL,
        "widths": study.widths,
        "depths": (2,),
        "parameterizations": tuple(TRAJECTORY_RATE),
        "seeds": (SEED,),
        "data": DATA,
        "augment": AUGMENT,
        "batch_size": study.batch_size,
        "probe_size": study.probe_size,
    }
    trajectories = Experiment(
        learning_rates=dict(TRAJECTORY_RATE),
        steps=study.steps,
        records=study.snapshots,
        observables=("eval_loss", "sharpness"),
        **settings,
    )
    sweep = Experiment(
        learning_rates=dict(study.rates or RATES),
        steps=study.sweep_steps,
        records=2,
        observables=("eval_loss",),
        **settings,
    )
    return trajectories, sweep


def trajectory_tasks(study: Study) -> Iterator[tuple[Network, Task]]:
    """Each network and the lab's task for its trajectory."""
    for task in tasks(experiments(study)[0]):
        yield Network(task.parameterization, task.width), task


def prepare(folder: str, settings: dict[str, Any]) -> None:
    """Leave in `folder` what the plain port is given."""
    np.savez(Path(folder) / GIVEN, **given(Study.of(settings)))


def given(study: Study) -> dict[str, np.ndarray]:
    """The arrays that the port cannot make by itself.

    Returns:
        `images`, `eval_images` uint8 (n, 32, 32, C) and `labels`, `eval_labels` int32 (n,); for each step the rows
        of its batch, `order` int32 (steps, B), the `corners` of its crops int32 (steps, B, 2) and whether each is
        mirrored, `flips` bool (steps, B); and "mean_field-16/first" and the like, the weights of each network's layers.
    """
    dataset = load_dataset(DATA)
    steps = max(study.steps, study.sweep_steps)
    augment = AUGMENTATIONS[AUGMENT]
    assert augment is not None
    corners, flips = draws(augment, steps, study.batch_size, dataset.train_inputs.shape[1])
    arrays = {
        "images": as_bytes(dataset.train_inputs),
        "labels": dataset.train_targets,
        "eval_images": as_bytes(dataset.eval_inputs),
        "eval_labels": dataset.eval_targets,
        "order": batch_indices(SEED, len(dataset.train_targets), study.batch_size, 0, steps),
        "corners": corners,
        "flips": flips,
    }
    for network, task in trajectory_tasks(study):
        for name, kernel in kernels(find_recipe(task).init_params(jnp.int32(SEED))).items():
            arrays[f"{network.label}/{name}"] = np.asarray(kernel)
    return arrays


def kernels(params: nnx.State) -> dict[str, jax.Array]:
    """Weights by layer, those of a convolution as `lax.conv` takes them: (3, 3, channels, width)."""
    found = {name: layer["kernel"] for name, layer in nnx.to_pure_dict(params).items()}
    return {name: k if name == "readout" else k.reshape(3, 3, -1, k.shape[1]) for name, k in found.items()}


def as_bytes(inputs: np.ndarray) -> np.ndarray:
    """The bytes x of inputs x/127.5 − 1 in float32, of any shape.

    Raises:
        ValueError: unless scaling gives back the inputs to the bit.

    >>> as_bytes(np.array([-1, 1], np.float32))
    array([  0, 255], dtype=uint8)
    """
    images = np.round((inputs + 1) * 127.5).astype(np.uint8)
    if not np.array_equal(images.astype(np.float32) / np.float32(127.5) - np.float32(1), inputs):
        raise ValueError("inputs are not bytes scaled as x/127.5 - 1: bring the plain port up to date.")
    return images


def draws(augment: Augmentation, steps: int, batch_size: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """The draws of the lab's crop and flip along a run, read off images whose pixels tell where they were.

    Returns corners int32 (steps, B, 2), row and column in the padded image, and flips bool (steps, B).
    """
    places = jnp.stack(jnp.meshgrid(jnp.arange(pixels), jnp.arange(pixels), indexing="ij"), axis=-1)
    batch = jnp.broadcast_to(places, (batch_size, *places.shape))
    # As `Recipe.step` does: a step's draws depend on seed and step alone.
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(SEED)))(jnp.arange(steps))
    middle = pixels // 2  # where what moves in at the edges is not seen
    shown = jax.lax.map(lambda key: augment(key, batch)[:, middle, middle : middle + 2], keys)
    here, beside = np.moveaxis(np.asarray(shown), 2, 0)  # (steps, B, 2) each
    flips = beside[..., 1] < here[..., 1]
    column = np.where(flips, pixels - 1 - middle, middle)  # of the crop before it was mirrored
    corners = np.stack([here[..., 0] - middle, here[..., 1] - column], axis=-1) + PADDING
    return corners.astype(np.int32), flips
