"""The checkpoints of the figure `rewarming`: training on one mixture of classes, then up again on others."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise, product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

import sharplab as sl
from sharplab.core.tree import PyTree
from sharplab.data import load_dataset
from sharplab.optimizers import OPTIMIZERS, metric_of_state
from sharplab.studies.rewarming import Rewarming, rewarm, settled_update

OLD, EXAMPLES, LAYERS = 0.1, 512, 3  # of classes 5 to 9 in the first training; of a probe
SHARES: Mapping[str, float] = {"same": OLD, "half": 0.5, "shifted": 0.9}
MOMENTS = {"sgd": optax.sgd(1.0), "adamw": optax.adamw(1.0, weight_decay=0.01)}  # of learning rate 1
MIDDLE: Mapping[str, float] = {"sgd": 2.0**-4, "adamw": 2.0**-7}  # of the peaks
EARLIER = (0.25, 1.0, 4.0)  # peaks of the first training over that


class Preset(NamedTuple):
    """The size of the figure; peaks are over the optimizer's middle one."""

    optimizers: tuple[str, ...]
    widths: tuple[int, ...]
    seeds: int
    steps: int
    batch: int
    peaks: tuple[float, ...]
    warmups: tuple[float, ...] = (0.0, 0.005, 0.01, 0.02)


def loss(params: list[jax.Array], batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The mean cross-entropy of an MLP whose matrices are `params`."""
    x, targets = batch
    for matrix in params[:-1]:
        x = jax.nn.relu(x @ matrix)
    return optax.softmax_cross_entropy_with_integer_labels(x @ params[-1], targets).mean()


def begin(width: int, inputs: int, seed: int) -> list[jax.Array]:
    """The matrices of He's initialisation."""
    sizes = (inputs, *[width] * (LAYERS - 1), 10)
    keys = jax.random.split(jax.random.key(seed), LAYERS)
    draw = jax.nn.initializers.he_normal()
    return [draw(key, shape) for key, shape in zip(keys, pairwise(sizes), strict=True)]


def images() -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST of 14 × 14 pixels of mean 0 and variance 1 over all, (n, 196), and its classes."""
    source = load_dataset("fashion-mnist-10k")
    pixels = source.train_inputs[:, 2:-2, 2:-2, 0].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196)
    return ((pixels - pixels.mean()) / pixels.std()).astype(np.float32), np.asarray(source.train_targets)


def mixture(targets: np.ndarray, share: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Examples of batches, of which a share is out of classes 5 to 9; `shape` is (steps, batch)."""
    steps, batch = shape
    late = round(share * batch)
    early, later = (np.flatnonzero(rows) for rows in (targets < 5, targets >= 5))
    return np.concatenate([rng.choice(later, (steps, late)), rng.choice(early, (steps, batch - late))], axis=1)


def train_all(size: Preset) -> dict[str, Callable[[], list[pd.DataFrame | None]]]:
    """By width and seed what trains there: a row per checkpoint, data, peak and warm-up; and the curves from one
    checkpoint of each optimizer."""
    places = product(size.widths, range(1, size.seeds + 1))
    return {f"width {width}, seed {seed}": partial(train_one, size, width, seed) for width, seed in places}


def train_one(size: Preset, width: int, seed: int) -> list[pd.DataFrame | None]:
    """One part of `train_all`."""
    inputs, targets = images()
    data = jnp.asarray(inputs), jnp.asarray(targets)
    tables, curves = [], []
    rng = np.random.default_rng(seed)
    probes = {name: mixture(targets, share, (1, EXAMPLES), rng)[0] for name, share in SHARES.items()}
    batches = {name: jax.tree.map(lambda x, rows=rows: x[rows], data) for name, rows in probes.items()}
    shape = (size.steps, size.batch)
    first = mixture(targets, OLD, shape, rng)
    orders = {name: mixture(targets, share, shape, rng) for name, share in SHARES.items()}
    for optimizer in size.optimizers:
        peaks = [MIDDLE[optimizer] * each for each in EARLIER]
        train = partial(rewarm, loss, optimizer=MOMENTS[optimizer], data=data)
        start = begin(width, inputs.shape[1], seed)
        trained = train(start, order=first, peaks=peaks, warmups=(0.02,), probe=batches["same"])
        for lane, peak in enumerate(peaks):
            if not np.isfinite(trained.losses[-1, lane]):
                continue
            params, state = jax.tree.map(lambda x, i=lane: x[i], (trained.params, trained.opt_state))
            keys = {"optimizer": optimizer, "width": width, "seed": seed, "earlier": peak}
            for name, order in orders.items():
                followed = train(
                    params,
                    order=order,
                    peaks=[MIDDLE[optimizer] * each for each in size.peaks],
                    warmups=size.warmups,
                    probe=batches[name],
                    old=batches["same"],
                    opt_state=state,
                )
                rates = checkpoint_rates(optimizer, params, state, batches[name], batches["same"])
                tables.append(followed.runs.assign(**keys, data=name, **rates))
                if (width, seed, peak) == (size.widths[-1], 1, min(peaks)) and name != "half":
                    curves.append(along(followed).assign(**keys, data=name, **rates))
    return [pd.concat(found, ignore_index=True) if found else None for found in (tables, curves)]


def along(followed: Rewarming) -> pd.DataFrame:
    """The losses of each lane at each record."""
    tables = []
    for lane, run in followed.runs.iterrows():
        columns = {"step": followed.steps, "loss": followed.losses[:, lane], "peak": run["peak"]}
        tables.append(pd.DataFrame({**columns, "warmup": run["warmup"]}))
    return pd.concat(tables, ignore_index=True)


def checkpoint_rates(optimizer: str, params: PyTree, state: PyTree, batch: PyTree, old: PyTree) -> dict[str, float]:
    """The critical learning rates of what is trained on and of the old data along it, 0 where none lowers the loss, and
    the effective sharpness with its error."""
    update, state = settled_update(loss, params, MOMENTS[optimizer], batch, state)
    critical = sl.critical_sharpness(loss, params, update, batch)
    relative = sl.critical_sharpness(loss, params, update, batch, other=(loss, old))
    root = jax.tree.map(jnp.sqrt, metric_of_state(OPTIMIZERS[optimizer], params, state))
    top = sl.eigsh(sl.precondition(sl.hessian(loss, params, batch), root), tol=1e-2)
    return {
        "critical": float(jnp.nan_to_num(critical.learning_rate)),
        "relative": float(jnp.nan_to_num(relative.learning_rate)),
        "effective_sharpness": float(top.values[0]),
        "effective_sharpness_error": float(top.errors[0]),
    }
