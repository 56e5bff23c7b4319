"""The paths of the figure `edge`: descent of one network step by step, its central flow, and what records cost."""

from functools import cache, partial
from itertools import islice
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.tree_util import Partial

import sharplab as sl
from sharplab.analysis.edge_cycles import edge_cycles
from sharplab.core.tree import PyTree
from sharplab.data import load_dataset
from sharplab.sweep.plan import tasks
from sharplab.theory.central_flow import central_flow
from sharplab.theory.self_stabilisation import stabilisation_time
from sharplab.training.recipe import Recipe
from sharplab.training.task import find_recipe

FASTER = 4.5  # the other learning rate of descent, which comes to the edge sooner, and that of the paths
SETTLED = 20  # steps of descent before the paths, in which a start above 2/η comes down
WINDOW = 20  # steps that averages of descent are over
STRIDE = 8  # steps between the records whose products are counted
SEVERAL = (1, 5)  # eigenvalues to a record


class Path(NamedTuple):
    """The iterates of descent, in coordinates in which all parameters have one learning rate."""

    loss: Partial  # of (v, batch)
    batch: PyTree
    iterates: list[PyTree]
    losses: np.ndarray  # (steps,)


def _loss_in(recipe: Recipe, roots: PyTree, v: PyTree, batch: PyTree) -> jax.Array:
    return recipe.objective(jax.tree.map(jnp.multiply, roots, v), batch)


@jax.jit
def _descend(loss: Partial, v: PyTree, batch: PyTree, rate: float) -> tuple[jax.Array, PyTree]:
    value, slope = jax.value_and_grad(loss)(v, batch)
    return value, jax.tree.map(lambda x, g: x - rate * g, v, slope)


@cache
def path_of(base: sl.Experiment, steps: int, seed: int) -> Path:
    """Descent on the same network and data as the runs, from the same weights, after `SETTLED` steps."""
    recipe = find_recipe(next(iter(tasks(base))))
    data = load_dataset(base.data)
    batch = (recipe.prepare(data.train_inputs), jnp.asarray(data.train_targets))
    roots = jax.tree.map(lambda factor: jnp.sqrt(jnp.asarray(factor, jnp.float32)), recipe.factors())
    loss = Partial(_loss_in, recipe, roots)
    v = jax.tree.map(lambda w, root: w / root, recipe.begin(seed).params, roots)
    for _ in range(SETTLED):
        _, v = _descend(loss, v, batch, FASTER)
    iterates, losses = [v], []
    for _ in range(steps):
        value, v = _descend(loss, v, batch, FASTER)
        iterates.append(v)
        losses.append(value)
    return Path(loss, batch, iterates, np.asarray(jax.device_get(losses), float))


def _middle(path: Path, step: int) -> PyTree:
    return jax.tree.map(lambda x, y: (x + y) / 2, path.iterates[step], path.iterates[step + 1])


def _flat(v: PyTree) -> np.ndarray:
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(v)])


def along_flows(path: Path, seed: int) -> pd.DataFrame:
    """A row per step: losses of descent and of both flows, the sharpness half-way, and how far the weights are off."""
    steps, rate = len(path.losses), FASTER
    start = partial(central_flow, path.loss, _middle(path, 0), path.batch, learning_rate=rate)
    flows = {
        name: list(islice(start(**more), steps)) for name, more in (("flow", {}), ("gradient", {"followed": np.inf}))
    }
    mean = averages(np.stack([_flat(v) for v in path.iterates[:-1]]))
    table = pd.DataFrame({"seed": seed, "step": np.arange(steps), "loss": path.losses})
    table["averaged_loss"] = averages(path.losses)
    vectors, halfway = None, []
    for step in range(steps):
        pair = sl.eigsh(sl.hessian(path.loss, _middle(path, step), path.batch), start=vectors)
        vectors = pair.vectors
        halfway.append(float(pair.values[0]) * rate / 2)
    table["halfway"] = halfway
    for name, points in flows.items():
        table[f"{name}_loss"] = [point.loss for point in points]
        table[f"{name}_average_loss"] = [point.average_loss for point in points]
        table[f"{name}_ratio"] = [point.sharpness * rate / 2 for point in points]
        table[f"{name}_distance"] = np.linalg.norm(np.stack([_flat(p.params) for p in points]) - mean, axis=1)
    table["followed"] = [len(point.covariance) for point in flows["flow"]]
    table["moved"] = np.linalg.norm(mean - _flat(_middle(path, 0)), axis=1)
    return table


def averages(values: np.ndarray) -> np.ndarray:
    """Means over the `WINDOW` steps about the middle between each and the next, where flows are; nan at the ends."""
    found = np.full_like(values, np.nan, dtype=float)
    sums = np.cumsum(np.concatenate([np.zeros_like(values[:1]), values], dtype=float), axis=0)
    if len(values) >= WINDOW:
        found[WINDOW // 2 - 1 : len(values) - WINDOW // 2] = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    return found


def past_crossing(flows: pd.DataFrame) -> pd.DataFrame:
    """The rows of each seed from the step on at which the sharpness half-way crosses 2/η."""
    parts = [
        run[run["step"] >= edge_cycles(run["step"], run["halfway"], 1.0).crossing] for _, run in flows.groupby("seed")
    ]
    return pd.concat(parts)


def predict(path: Path, run: pd.DataFrame) -> dict[str, float]:
    """The steps above 2/η half-way between iterates, measured and from the slopes at the crossing."""
    found = edge_cycles(run["step"], run["halfway"], 1.0)
    row = {"seed": int(run["seed"].iloc[0])} | found._asdict() | {"predicted": np.nan}
    if not np.isfinite(found.crossing):
        return row
    at = int(np.ceil(found.crossing))
    middle = _middle(path, at)
    top = sl.eigsh(sl.hessian(path.loss, middle, path.batch), tol=1e-6).vectors  # whose error is the slope's
    u = jax.tree.map(lambda x: x[0], top)
    slope, rise = (_flat(x) for x in slopes_at(path.loss, middle, path.batch, u))
    apart = _flat(path.iterates[at]) - _flat(path.iterates[at + 1])
    given = {
        "sharpening": float(-slope @ rise),
        "response": float(rise @ rise),
        "displacement": float(abs(_flat(u) @ apart) / 2),
    }
    try:
        predicted = stabilisation_time(FASTER, **given)
    except ValueError:  # where it does not sharpen, or is beyond its rest already
        predicted = np.nan
    return row | given | {"predicted": predicted}


@jax.jit
def slopes_at(loss: Partial, v: PyTree, batch: PyTree, u: PyTree) -> tuple[PyTree, PyTree]:
    """The gradients of the loss and of uᵀ H u at a fixed u, which of an eigenvector is that of its eigenvalue."""

    def along(v: PyTree) -> tuple[PyTree, PyTree]:
        return jax.jvp(lambda v: jax.grad(loss)(v, batch), (v,), (u,))

    slope, _ = along(v)
    return slope, jax.jvp(lambda v: along(v)[1], (v,), (u,))[1]


def count_products(path: Path, seed: int) -> pd.DataFrame:
    """Products of each record of the k largest eigenvalues: tracked along descent, and of a cold solve."""
    trackers = {k: sl.Tracker(path.loss, path.batch, [f"hessian_top{k}"]) for k in SEVERAL}
    rows = []
    for step in range(0, len(path.iterates), STRIDE):
        v = path.iterates[step]
        for k, tracker in trackers.items():
            warm = tracker.record(step, v)["hessian_matvecs"]
            cold = sl.eigsh(sl.hessian(path.loss, v, path.batch), k, key=jax.random.key(step)).matvecs
            rows.append({"seed": seed, "step": step, "k": k, "warm": warm, "cold": int(cold)})
    return pd.DataFrame(rows)
