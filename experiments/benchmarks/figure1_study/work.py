"""Which runs the contestants train, and what the plain port is given so that they are the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sharplab.data import AUGMENTATIONS, Augmentation, batch_indices, load_dataset
from sharplab.sweep import Experiment
from sharplab.sweep.plan import tasks
from sharplab.training import Task, find_recipe

MODEL, DATA, AUGMENT = "figure1_convnet", "fashion-mnist-10k", "crop_and_flip"
SEED = 0
# muP with weights of unit variance, as the paper writes it, is called "mean_field" in the lab.
RATES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {"mean_field": (0.1, 0.2, 0.5, 1.0, 2.0), "ntk": (1.0, 3.0, 7.0, 20.0, 60.0)}
)
RATE_OF_DYNAMICS: Mapping[str, float] = MappingProxyType({"mean_field": 0.5, "ntk": 7.0})


class Cell(NamedTuple):
    """A network that is trained once along its course, and once at every learning rate of the sweep."""

    parameterization: str
    width: int

    @property
    def label(self) -> str:
        """A name for arrays and files."""
        return f"{self.parameterization}-{self.width}"


@dataclass(frozen=True)
class Study:
    """The study of the paper's first figure, at the authors' learning rates, one seed.

    At every width under muP and NTK: the course of one run, with `snapshots` of held-out loss and sharpness on the
    probe; and the final held-out loss of shorter runs, one per learning rate.
    """

    widths: tuple[int, ...] = (16, 64, 256)
    steps: int = 256
    snapshots: int = 9
    sweep_steps: int = 128
    rates: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: RATES)
    batch_size: int = 128
    probe_size: int = 32

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every parameterization at every width."""
        return tuple(Cell(name, width) for name, width in product(self.rates, self.widths))

    @property
    def dynamics(self) -> Experiment:
        """The courses, as the lab is asked for them."""
        rates = {name: (RATE_OF_DYNAMICS[name],) for name in self.rates}
        return self._experiment(rates, self.steps, self.snapshots, ("eval_loss", "sharpness"))

    @property
    def sweep(self) -> Experiment:
        """The runs at every learning rate, as the lab is asked for them."""
        return self._experiment(self.rates, self.sweep_steps, 2, ("eval_loss",))

    def _experiment(
        self, rates: Mapping[str, tuple[float, ...]], steps: int, records: int, observables: tuple[str, ...]
    ) -> Experiment:
        return Experiment(
            model=MODEL,
            widths=self.widths,
            depths=(2,),
            parameterizations=tuple(rates),
            learning_rates=dict(rates),
            seeds=(SEED,),
            data=DATA,
            augment=AUGMENT,
            steps=steps,
            batch_size=self.batch_size,
            probe_size=self.probe_size,
            records=records,
            observables=observables,
        )

    def tasks(self) -> Iterator[tuple[Cell, Task]]:
        """Of the courses."""
        for task in tasks(self.dynamics):
            yield Cell(task.parameterization, task.width), task


def given(study: Study) -> dict[str, np.ndarray]:
    """All that the plain port cannot know by itself: images as bytes, batches, draws, and initial weights.

    Returns:
        `images`, `eval_images` uint8 (n, 32, 32, C) and `labels`, `eval_labels` int32 (n,); for each step the rows
        of its batch, `order` int32 (steps, B), the `corners` of its crops int32 (steps, B, 2) and whether each is
        mirrored, `flips` bool (steps, B); and "mean_field-16/first", …: the weights of each cell's layers.
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
    for cell, task in study.tasks():
        for name, kernel in kernels(find_recipe(task).init_params(jnp.int32(SEED))).items():
            arrays[f"{cell.label}/{name}"] = np.asarray(kernel)
    return arrays


def kernels(params: nnx.State) -> dict[str, Any]:
    """Layer → its weights, those of a convolution in the order of `lax.conv`: (3, 3, channels, width)."""
    found = {name: layer["kernel"] for name, layer in nnx.to_pure_dict(params).items()}
    return {name: k if name == "readout" else k.reshape(3, 3, -1, k.shape[1]) for name, k in found.items()}


def as_bytes(inputs: np.ndarray) -> np.ndarray:
    """x/127.5 − 1 in float32 → x in uint8, of any shape.

    Raises:
        ValueError: unless scaling gives back the inputs to the bit.
    """
    images = np.round((inputs + 1) * 127.5).astype(np.uint8)
    if not np.array_equal(images.astype(np.float32) / np.float32(127.5) - np.float32(1), inputs):
        raise ValueError("inputs are not bytes scaled as x/127.5 - 1: bring the plain port up to date.")
    return images


def draws(augment: Augmentation, steps: int, batch_size: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """What the lab's crop and flip draws along a run, read off images whose pixels tell where they were.

    Returns corners int32 (steps, B, 2), from 0 on as rows and columns of the padded image, and flips bool (steps, B).
    """
    places = jnp.stack(jnp.meshgrid(jnp.arange(pixels), jnp.arange(pixels), indexing="ij"), axis=-1)
    batch = jnp.broadcast_to(places, (batch_size, *places.shape))
    # As `Recipe.step` does; a step's draws depend on seed and step alone.
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(SEED)))(jnp.arange(steps))
    moved = np.asarray(jax.jit(lambda keys: jax.lax.map(lambda key: augment(key, batch), keys))(keys))
    middle = pixels // 2  # far enough from the edges that what moves in is not seen
    here, beside = moved[:, :, middle, middle], moved[:, :, middle, middle + 1]
    flips = beside[..., 1] < here[..., 1]
    shown = np.where(flips, pixels - 1 - middle, middle)  # the column of the cropped image that stands there now
    from sharplab.data.augmentations import PADDING

    corners = np.stack([here[..., 0] - middle, here[..., 1] - shown], axis=-1) + PADDING
    return corners.astype(np.int32), flips
