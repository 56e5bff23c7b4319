"""Tasks in sequence, each a few of the classes and coming back: forgetting at each switch, and what accumulates."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jax.tree_util import Partial

from sharplab.core.arguments import checked, count, function, several
from sharplab.core.tree import PyTree
from sharplab.curvature.critical import critical_sharpness
from sharplab.curvature.functions import as_partial
from sharplab.curvature.loss_hessian import hessian
from sharplab.curvature.preconditioned import precondition
from sharplab.spectrum.extremal import eigsh
from sharplab.studies.orders import checked_order
from sharplab.studies.rewarming import settle

SHARPNESS = ("old_sharpness", "old_sharpness_error", "new_sharpness", "new_sharpness_error")
CRITICAL = ("relative", "critical")  # of the old task and of the new one, as sharpness is
TOLERANCE, MATVECS = 0.05, 32  # of the sharpness, whose products with the Hessian are most of the cost


@dataclass(frozen=True)
class TaskRuns:
    """Runs through sequences of tasks, a lane per learning rate and seed.

    Attributes:
        learning_rates: of the lanes.
        tasks: which classes each task has, (seeds, tasks, classes) of bool.
        losses, accuracies: of each class on the probe, before the first task and after each, (learning rates, seeds,
            tasks + 1, classes); not finite, and 0, where a run diverged.
        switches: a row per learning rate, seed and measured switch. task: how many tasks were seen; shared: classes
            that the next task shares with the last; loss, accuracy: on all classes; old_loss, old_accuracy: on those of
            the last task; old_loss_after, old_accuracy_after: the same when the next is over. old_sharpness,
            new_sharpness: the effective sharpness λ of the last and of the next task's loss, with errors;
            old_over_threshold, new_over_threshold: λ over its threshold; over_critical, over_relative: the learning
            rate over the least at which an update for the next task raises that task's loss, or the last task's,
            infinite where it lowers it at no learning rate by more than its rounding; slope: the rise of the last
            task's loss by such an update, to first order, in nats.
        params: at the end, with leading axes (learning rates, seeds).
    """

    learning_rates: np.ndarray
    tasks: np.ndarray
    losses: np.ndarray
    accuracies: np.ndarray
    switches: pd.DataFrame
    params: PyTree

    @property
    def accuracy(self) -> np.ndarray:
        """The mean accuracy over all classes, (learning rates, seeds, tasks + 1)."""
        return self.accuracies.mean(axis=-1)

    @property
    def current_loss(self) -> np.ndarray:
        """The loss on the classes of each task when it is over, (learning rates, seeds, tasks)."""
        return _over(self.losses[:, :, 1:], self.tasks)


@checked(classes=count, per_task=count, tasks=count)
def draw_tasks(classes: int, per_task: int, tasks: int, seed: int) -> np.ndarray:
    """The classes of each task, (tasks, per_task): drawn anew for each, so that classes come back.

    >>> draw_tasks(classes=10, per_task=2, tasks=3, seed=0).tolist()
    [[6, 7], [2, 3], [0, 9]]
    """
    if per_task > classes:
        raise ValueError(f"per_task must be at most the {classes} classes, not {per_task}.")
    rng = np.random.default_rng(seed)
    return np.sort([rng.choice(classes, per_task, replace=False) for _ in range(tasks)], axis=1)


@checked(steps=count, batch=count, epochs=count)
def order_of_tasks(
    targets: np.ndarray, tasks: np.ndarray, *, steps: int, batch: int, epochs: int = 1, seed: int = 0
) -> np.ndarray:
    """Which examples make up the batch of each step, (tasks, steps, batch), out of the classes of its task.

    A task has steps · batch / epochs different examples, drawn anew whenever it comes back, and passes over them
    `epochs` times, each time in another order.

    Raises:
        ValueError: for epochs that do not divide the steps, and classes of too few examples.
    """
    if steps % epochs:
        raise ValueError(f"epochs must divide the {steps} steps of a task, not {epochs}.")
    rng, many = np.random.default_rng(seed), steps * batch // epochs
    order = []
    for task in np.asarray(tasks):
        examples = np.flatnonzero(np.isin(targets, task))
        if len(examples) < many:
            raise ValueError(f"tasks need {many} examples of classes {task.tolist()}, which have {len(examples)}.")
        chosen = rng.choice(examples, many, replace=False)
        order.append(np.concatenate([rng.permutation(chosen) for _ in range(epochs)]).reshape(steps, batch))
    return np.array(order)


def _plain(params: PyTree, opt_state: PyTree) -> PyTree:
    return jax.tree.map(jnp.ones_like, params)


def _edge(rate: float) -> float:
    return 2 / rate


@checked(
    loss=function,
    model=function,
    learning_rates=several,
    examples=count,
    every=count,
    metric=function,
    threshold=function,
)
def train_tasks(
    loss: Callable[[PyTree, PyTree], jax.Array],
    model: Callable[[PyTree, jax.Array], jax.Array],
    params: PyTree,
    optimizer: optax.GradientTransformation,
    data: tuple[jax.Array, ...],
    order: np.ndarray,
    *,
    learning_rates: Sequence[float],
    probe: tuple[jax.Array, jax.Array],
    examples: int = 256,
    every: int = 1,
    metric: Callable[[PyTree, PyTree], PyTree] = _plain,
    threshold: Callable[[float], float] = _edge,
) -> TaskRuns:
    """The runs of each learning rate and seed through a sequence of tasks, all in one compiled program.

    The optimizer's state is carried from task to task. A lane that diverges goes on with what its arithmetic gives.

    Args:
        loss: (params, batch) → the mean loss that is trained on, the batch being some examples of the data.
        model: (params, inputs) → logits, (n, classes), by which the probe is judged: by cross-entropy and accuracy.
        params: at the start, with a leading axis of seeds.
        optimizer: an optax transformation of learning rate 1, as of `sharplab.studies.rewarming.rewarm`.
        data: (inputs, targets), targets whole numbers, or with more arrays that the loss asks for.
        order: which examples make up each batch, (seeds, tasks, steps, batch), as of `order_of_tasks`.
        learning_rates: positive, constant through the sequence.
        probe: (inputs, targets) that are not trained on, with each class of the data.
        examples: of a task, the first ones, on which sharpness is measured.
        every: sharpness is measured at every so many switches.
        metric: (params, optimizer state) → D of the effective sharpness λmax(D^½ H D^½); by default 1, as of SGD.
        threshold: learning rate → sharpness above which the optimizer's steps diverge; by default 2/η, that of SGD.

    Raises:
        ValueError: for a bad argument, named.

    Source: the setting is SCoLe's, Lesort et al., arXiv 2207.04543; critical sharpness is arXiv 2601.16979's.

    >>> targets = np.arange(300) % 3
    >>> inputs = 3 * np.eye(3)[targets] + np.random.default_rng(0).normal(size=(300, 3))
    >>> order = order_of_tasks(targets, draw_tasks(3, 2, tasks=6, seed=1), steps=5, batch=10)
    >>> def loss(w, batch):
    ...     return optax.softmax_cross_entropy_with_integer_labels(batch[0] @ w, batch[1]).mean()
    >>> runs = train_tasks(loss, lambda w, x: x @ w, jnp.zeros((1, 3, 3)), optax.sgd(1.0), (inputs, targets),
    ...     order[None], learning_rates=[0.01, 0.1], probe=(inputs, targets), examples=50)
    >>> runs.switches[["task", "shared"]].head(5).T.to_numpy().tolist()
    [[1, 2, 3, 4, 5], [2, 1, 1, 2, 1]]
    >>> bool((runs.accuracy[:, 0, -1] > 0.9).all())  # a linear model of these forgets little
    True
    """
    order = np.asarray(order)
    if order.ndim != 4 or order.shape[1] < 2:
        raise ValueError(
            f"order must have the shape (seeds, tasks, steps, batch) of two tasks or more, not {order.shape}."
        )
    checked_order(order.reshape(-1, order.shape[-1]), data)
    seeds = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(params)}
    if seeds != {order.shape[:1]}:
        raise ValueError(f"params must have a leading axis of seeds, as long as that of order, {order.shape[0]}.")
    if not len(learning_rates) or not all(0 < rate < math.inf for rate in learning_rates):
        raise ValueError(f"learning_rates must be positive and finite, not {list(learning_rates)}.")
    for name, (inputs, targets) in (("data", data[:2]), ("probe", probe)):
        given = np.asarray(targets)
        if not np.issubdtype(given.dtype, np.integer) or given.ndim != 1 or not len(given) or given.min() < 0:
            raise ValueError(f"{name} must have targets that are classes, whole numbers from 0 on, one per example.")
        if len(inputs) != len(given):
            raise ValueError(f"{name} must have as many inputs as targets, not {len(inputs)} and {len(given)}.")
    tasks, share = _classes(np.asarray(data[1]), order, np.asarray(probe[1]))
    of_task = order.reshape(*order.shape[:2], -1)[..., :examples]
    measured = np.arange(1, order.shape[1] + 1) % every == 0
    measured[-1] = False
    if not measured.any():
        raise ValueError(f"every must be at most the {order.shape[1] - 1} switches of order, not {every}.")
    params = jax.tree.map(jnp.asarray, params)
    functions = as_partial(loss, params), as_partial(model, params), Partial(optimizer.update), Partial(metric)
    begin = params, jax.vmap(optimizer.init)(params)
    lanes = jnp.asarray(learning_rates, jnp.float32)
    orders = jnp.asarray(order), jnp.asarray(of_task)
    params, losses, accuracies, seen = _train(functions, begin, lanes, data, orders, measured, (*probe, share))
    losses = np.asarray(losses, float)
    accuracies = np.where(np.isfinite(losses).all(axis=-1, keepdims=True), np.asarray(accuracies, float), 0.0)
    rates = np.array(learning_rates, float)
    switches = _switches(rates, tasks, losses, accuracies, measured)
    seen = {name: np.asarray(each, float)[:, :, measured].ravel() for name, each in seen.items()}
    edges = np.array([threshold(rate) for rate in switches["learning_rate"]])
    switches = switches.assign(
        **{name: seen[name] for name in SHARPNESS},
        old_over_threshold=seen["old_sharpness"] / edges,
        new_over_threshold=seen["new_sharpness"] / edges,
        **{f"over_{name}": _over_rate(switches["learning_rate"].to_numpy(), seen[name]) for name in CRITICAL},
        slope=switches["learning_rate"] * seen["slope"],
    )
    return TaskRuns(rates, tasks, losses, accuracies, switches, params)


def _classes(targets: np.ndarray, order: np.ndarray, probed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes of each task, (seeds, tasks, classes) of bool, and what each example counts in its class's mean."""
    classes = int(targets.max()) + 1
    missing = sorted(set(range(classes)) - set(probed.tolist()))
    if missing or probed.max() >= classes:
        raise ValueError(f"probe must have examples of the classes 0 to {classes - 1}, and lacks {missing}.")
    tasks = (targets[order.reshape(*order.shape[:2], -1)][..., None] == np.arange(classes)).any(axis=2)
    of_class = probed[:, None] == np.arange(classes)
    return tasks, (of_class / of_class.sum(axis=0)).astype(np.float32)


def _over_rate(rates: np.ndarray, critical: np.ndarray) -> np.ndarray:
    """Learning rates over critical ones, infinite where there is none (NaN)."""
    return np.divide(rates, critical, out=np.full_like(critical, np.inf), where=~np.isnan(critical))


def _over(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The mean over some of the classes, the last axis."""
    return np.where(classes, values, 0.0).sum(axis=-1) / classes.sum(axis=-1)


def _switches(
    rates: np.ndarray, tasks: np.ndarray, losses: np.ndarray, accuracies: np.ndarray, measured: np.ndarray
) -> pd.DataFrame:
    """What is known of each measured switch from losses and accuracies, as of `TaskRuns.switches`."""
    seeds = losses.shape[1]
    at = np.flatnonzero(measured)
    old = tasks[:, at]
    rate, seed, task = np.meshgrid(rates, np.arange(seeds), at + 1, indexing="ij")
    shared = np.broadcast_to((old & tasks[:, at + 1]).sum(axis=-1), rate.shape)
    columns = {"learning_rate": rate, "seed": seed, "task": task, "shared": shared}
    for name, values in (("loss", losses), ("accuracy", accuracies)):
        columns[name] = values[:, :, at + 1].mean(axis=-1)
        columns[f"old_{name}"] = _over(values[:, :, at + 1], old)
        columns[f"old_{name}_after"] = _over(values[:, :, at + 2], old)
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()})


@jax.jit
def _train(
    functions: tuple[Partial, Partial, Partial, Partial],
    begin: tuple[PyTree, PyTree],
    rates: jax.Array,
    data: PyTree,
    orders: tuple[jax.Array, jax.Array],
    measured: jax.Array,
    probe: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[PyTree, jax.Array, jax.Array, dict[str, jax.Array]]:
    """Lanes of params after all tasks, with loss and accuracy by class, and what is measured at the switches."""
    loss, model, update, metric = functions
    inputs, targets, share = probe

    def step(state: tuple[PyTree, PyTree], rows: jax.Array, rate: jax.Array) -> tuple[tuple[PyTree, PyTree], None]:
        params, opt_state = state
        batch = jax.tree.map(lambda x: x[rows], data)
        updates, opt_state = update(jax.grad(loss)(params, batch), opt_state, params)
        return (jax.tree.map(lambda w, u: w + rate.astype(w.dtype) * u, params, updates), opt_state), None

    def judged(params: PyTree) -> tuple[jax.Array, jax.Array]:
        logits = model(params, inputs)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return losses @ share, (logits.argmax(axis=-1) == targets).astype(share.dtype) @ share

    def measure(state: tuple[PyTree, PyTree], old: jax.Array, new: jax.Array) -> dict[str, jax.Array]:
        params, opt_state = state
        old, new = (jax.tree.map(lambda x, rows=rows: x[rows], data) for rows in (old, new))
        updates, opt_state = settle((loss, update), params, opt_state, new)
        root = jax.tree.map(jnp.sqrt, metric(params, opt_state))

        def both(batch: PyTree) -> tuple[jax.Array, jax.Array, jax.Array]:
            top = eigsh(precondition(hessian(loss, params, batch), root), tol=TOLERANCE, max_matvecs=MATVECS)
            critical = critical_sharpness(loss, params, updates, new, other=(loss, batch))
            return top.values[0], top.errors[0], critical.learning_rate

        seen = jax.lax.map(both, jax.tree.map(lambda *x: jnp.stack(x), old, new))
        names = (SHARPNESS[::2], SHARPNESS[1::2], CRITICAL)
        found = {name: x[i] for of, x in zip(names, seen, strict=True) for i, name in enumerate(of)}
        found["slope"] = jax.jvp(lambda params: loss(params, old), (params,), (updates,))[1]
        # Exactly so to first order, where the search may take rounding for a descent.
        found["relative"] = jnp.where(found["slope"] < 0, found["relative"], jnp.nan)
        return {name: each.astype(share.dtype) for name, each in found.items()}

    def train(state: tuple[PyTree, PyTree], rate: jax.Array, rows: jax.Array) -> tuple[PyTree, PyTree]:
        return jax.lax.scan(lambda state, rows: step(state, rows, rate), state, rows)[0]

    lanes = jax.vmap(jax.vmap(train, (0, None, 0)), (0, 0, None))
    judge = jax.vmap(jax.vmap(judged))

    def task(state: tuple[PyTree, PyTree], of: tuple) -> tuple:
        rows, old, new, here = of
        state = lanes(state, rates, rows)
        # One lane at a time: each solve keeps a basis of its own, and all at once would need that of every lane.
        one_by_one = partial(jax.lax.map, lambda states: jax.lax.map(lambda of: measure(*of), (states, old, new)))
        found = jax.eval_shape(one_by_one, state)
        nothing = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), found)
        return state, (judge(state[0]), jax.lax.cond(here, one_by_one, lambda _: nothing, state))

    begin = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(rates), *x.shape)), begin)
    order, few = (jnp.moveaxis(each, 1, 0) for each in orders)
    later: tuple[jax.Array, jax.Array]
    seen: dict[str, jax.Array]
    (params, _), (later, seen) = jax.lax.scan(task, begin, (order, few, jnp.roll(few, -1, axis=0), measured))
    losses, accuracies = (jnp.concatenate([one[None], rest]) for one, rest in zip(judge(begin[0]), later, strict=True))
    by_lane: tuple[jax.Array, jax.Array, dict[str, jax.Array]]
    by_lane = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), (losses, accuracies, seen))
    return params, *by_lane
