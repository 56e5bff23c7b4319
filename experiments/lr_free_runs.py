"""The runs of the figure `lr-free`: every method on every workload, at each width and parameterization."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import jax
import numpy as np
import optax
import pandas as pd
from jax.tree_util import Partial

from sharplab.data import batch_indices, load_dataset
from sharplab.losses import LOSSES
from sharplab.models import find_model
from sharplab.optimizers import OPTIMIZERS
from sharplab.scaling import DepthRule, Rule, parameterization
from sharplab.studies.lr_free import Method, lr_free_methods, nadamw
from sharplab.studies.method_runs import MethodRuns, run_methods, sharpness_halfway
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe
from sharplab.training.sources import find_source

REFERENCE = "nadamw"
PARAMETERIZATIONS = ("standard", "mup")
RECORDS = 24


@dataclass(frozen=True)
class Workload:
    """What is trained on what.

    Attributes:
        model: a name of `sharplab.models.MODELS`.
        loss: a name of `sharplab.losses.LOSSES`.
        examples: → inputs and targets.
        classes, depth: of the network.
        batch: examples of each step.
    """

    model: str
    loss: str
    examples: Callable[[], tuple[np.ndarray, np.ndarray]]
    classes: int
    batch: int
    depth: int = 1


def teacher() -> tuple[np.ndarray, np.ndarray]:
    """The examples of the ReLU teacher."""
    data = load_dataset("teacher-student")
    return data.train_inputs, data.train_targets


def images() -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST of 32 × 32 pixels."""
    data = load_dataset("fashion-mnist-10k")
    return data.train_inputs, data.train_targets


def small_images() -> tuple[np.ndarray, np.ndarray]:
    """The same of 16 × 16 pixels, means of four."""
    pixels, targets = images()
    return pixels.reshape(-1, 16, 2, 16, 2, 1).mean(axis=(2, 4)).astype(np.float32), targets


def text() -> tuple[np.ndarray, np.ndarray]:
    """Stretches of 32 bytes of the King James text and the bytes that follow each."""
    data = load_dataset("king-james-bytes")
    return data.train_inputs[:, :32], data.train_targets[:, :32]


WORKLOADS: Mapping[str, Workload] = {
    "MLP, teacher": Workload("mlp", "squared_error", teacher, 4, 32, depth=2),
    "residual MLP": Workload("residual_mlp", "cross_entropy", small_images, 10, 32, depth=2),
    "ConvNet": Workload("figure1_convnet", "cross_entropy", images, 10, 32, depth=2),
    "ViT": Workload("vit", "cross_entropy", small_images, 10, 16),
    "GPT": Workload("gpt", "cross_entropy", text, 256, 8),
}


@dataclass(frozen=True)
class Setting:
    """How large the study is; learning rates of NadamW are in octaves, from first to last."""

    workloads: tuple[str, ...] = tuple(WORKLOADS)
    widths: tuple[int, ...] = (8, 16, 32)
    seeds: int = 3
    steps: int = 240
    octaves: tuple[int, int] = (-8, -3)
    records: int = RECORDS
    probe: int = 256  # of text a quarter


@cache
def methods(steps: int) -> Mapping[str, Method]:
    """The methods and NadamW, with a factor that falls linearly to 0."""
    schedule = optax.linear_schedule(1.0, 0.0, steps)
    return {**lr_free_methods(schedule), REFERENCE: nadamw(schedule)}


@jax.jit
def begin(recipe: Recipe, seeds: jax.Array) -> Any:
    """Parameters of several seeds, with a leading axis."""
    return jax.lax.map(recipe.init_params, seeds)


def train_all(setting: Setting) -> dict[str, Callable[[], list[pd.DataFrame]]]:
    """By workload, parameterization and width what trains there: a row per run; the columns are those three, method,
    learning_rate, seed, found, sharpness, threshold, loss, target and time."""
    parts = {}
    for name, width, scaling in product(setting.workloads, setting.widths, PARAMETERIZATIONS):
        parts[f"{name}, {scaling}, width {width}"] = partial(train_cell, setting, name, scaling, width)
    return parts


def train_cell(setting: Setting, name: str, scaling: str, width: int) -> list[pd.DataFrame]:
    """One part of `train_all`."""
    keys = {"workload": name, "parameterization": scaling, "width": width}
    table = train_one(setting, WORKLOADS[name], scaling, width)
    return [pd.DataFrame(keys, index=table.index).join(table)]


def train_one(setting: Setting, workload: Workload, scaling: str, width: int) -> pd.DataFrame:
    """The runs of all methods on a workload at one width under one parameterization."""
    inputs, targets = workload.examples()
    rule = Rule(
        parameterization(scaling), width, setting.widths[0], 1.0, DepthRule(workload.depth, workload.depth, 0.5)
    )
    source = find_source(find_model(workload.model), rule, inputs.shape[1:], workload.classes, OPTIMIZERS["adam"])
    recipes = {
        kind: Recipe(Network(source), LOSSES[workload.loss], OPTIMIZERS[kind], observables=())
        for kind in ("sgd", "adam")
    }
    recipe = recipes["adam"]
    data = recipe.prepare(inputs), jax.numpy.asarray(targets)
    probe = jax.tree.map(lambda x: x[: setting.probe // (4 if workload.model == "gpt" else 1)], data)
    seeds = range(setting.seeds)
    orders = np.stack([batch_indices(seed, len(targets), workload.batch, 0, setting.steps) for seed in seeds])
    loss = Partial(Recipe.objective, recipe)
    params = begin(recipe, np.arange(setting.seeds))
    low, high = setting.octaves
    found = run_methods(
        loss,
        params,
        methods(setting.steps),
        data,
        orders,
        probe=probe,
        rates={REFERENCE: [2.0**k for k in range(low, high + 1)]},
        factors={kind: each.factors() for kind, each in recipes.items()},
        records=setting.records,
    )
    table = summary(found)
    known = np.isfinite(found.thresholds) & (
        table["learning_rate"].isna() | (table["learning_rate"] == best_rate(table))
    )
    lanes = np.flatnonzero(known)
    one = jax.tree.map(lambda w: w[0], params)
    table.loc[lanes, "sharpness"] = sharpness_halfway(loss, found, one, probe, lanes)
    return table


def summary(found: MethodRuns) -> pd.DataFrame:
    """The lanes with found, threshold, loss, target and time, as of `train_all`."""
    share = found.steps / found.steps[-1]
    window = (share > 0.25) & (share <= 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        used = np.exp(np.log(found.rates[window]).mean(axis=0))
    last = np.where(np.isfinite(found.losses[-1]), found.losses[-1], np.inf)
    table = found.lanes.assign(found=used, threshold=found.thresholds, sharpness=np.nan, loss=last)
    tuned = (table["learning_rate"] == best_rate(table)).to_numpy()
    target = float(found.losses[np.searchsorted(share, 0.5)][tuned].mean())
    return table.assign(target=target, time=[time_to(target, found.steps, curve) for curve in found.losses.T])


def best_rate(runs: pd.DataFrame) -> float:
    """The learning rate of NadamW with the least mean of last losses."""
    losses = runs[runs["method"] == REFERENCE].groupby("learning_rate")["loss"].mean()
    return float(losses.idxmin())


def time_to(target: float, steps: np.ndarray, losses: np.ndarray) -> float:
    """The first step at which a curve is at or below the target, by lines through log loss; inf if at no record.

    >>> time_to(0.5, np.array([0, 10, 20]), np.array([2.0, 1.0, 0.25]))
    15.0
    """
    at = np.flatnonzero(losses <= target)
    if not len(at):
        return np.inf
    i = at[0]
    if i == 0 or not losses[i - 1] > target:
        return float(max(steps[i], 1))
    high, low = np.log(losses[i - 1]), np.log(losses[i])
    return float(steps[i - 1] + (steps[i] - steps[i - 1]) * (high - np.log(target)) / (high - low))
