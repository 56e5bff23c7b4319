"""Re-warming: a decayed checkpoint is trained on with the learning rate back up, on the same data or on others."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jax.tree_util import Partial

from sharplab.core.arguments import checked, function, several
from sharplab.core.tree import PyTree
from sharplab.curvature.functions import as_partial
from sharplab.studies.orders import checked_order

WARMUPS = (0.0, 0.005, 0.01, 0.02)
RECORDS = 24  # at most, closer to each other towards the start, where spikes are
EARLY = 0.1  # share of the steps in which a rise of the loss counts as a spike
SETTLED = 20  # updates on one gradient, after which a momentum of 0.9 is 0.88 of the way to it


@dataclass(frozen=True)
class Rewarming:
    """Runs from one checkpoint, one lane per peak and warm-up.

    Attributes:
        runs: a row per lane: peak, warmup (a share of the steps), and in units of the loss: spike, the largest rise
            above the start in the first tenth of the steps, of what is trained on; final, its loss at the end; and
            forgetting, the rise of the old data's loss over the whole run. They are infinite where the loss was not
            finite.
        steps: how many steps were taken at each record, (records,), 0 first.
        losses: of what is trained on, (records, lanes).
        old_losses: of the old data, (records, lanes).
        params, opt_state: at the end, with a leading axis of lanes.
    """

    runs: pd.DataFrame
    steps: np.ndarray
    losses: np.ndarray
    old_losses: np.ndarray
    params: PyTree
    opt_state: PyTree


def rewarming_rates(peak: float, warmup: float, steps: int) -> np.ndarray:
    """The learning rates of each step, (steps,): linearly up over a share `warmup` of them, then by a cosine to 0.

    The n steps of the warm-up lie below the peak, at 1/(n + 1), 2/(n + 1) … of it; without one the first is at it.

    >>> rewarming_rates(1.0, 0.5, 4).round(2).tolist()
    [0.33, 0.67, 1.0, 0.5]
    """
    n = min(round(warmup * steps), steps - 1)  # the last step falls
    step = np.arange(steps)
    fallen = (1 + np.cos(np.pi * np.maximum(step - n, 0) / (steps - n))) / 2
    return peak * np.minimum((step + 1) / (n + 1), fallen)


@checked(loss=function, peaks=several, warmups=several)
def rewarm(
    loss: Callable[[PyTree, PyTree], jax.Array],
    params: PyTree,
    optimizer: optax.GradientTransformation,
    data: PyTree,
    order: np.ndarray,
    *,
    peaks: Sequence[float],
    warmups: Sequence[float] = WARMUPS,
    probe: PyTree,
    old: PyTree | None = None,
    opt_state: PyTree | None = None,
) -> Rewarming:
    """The runs from one checkpoint up to each peak over each warm-up and down again, all in one compiled program.

    Each lane sees the same batches. A lane that diverges goes on with what its arithmetic gives.

    Args:
        loss: (params, batch) → the mean loss.
        params: the checkpoint.
        optimizer: an optax transformation of learning rate 1, such as `optax.adamw(1.0)`: its updates are multiplied by
            the learning rate of the step.
        data: all examples, arrays with a leading axis.
        order: which examples make up the batch of each step, (steps, batch).
        peaks: learning rates, positive.
        warmups: shares of the steps, from 0 on, below 1.
        probe: a batch of what is trained on, on which its loss is recorded.
        old: a batch of the old data likewise; by default `probe`, as where training goes on with the same data.
        opt_state: the state that the checkpoint's optimizer had; by default it begins afresh.

    Raises:
        ValueError: for a bad argument, named.

    Source: Gupta et al., arXiv 2308.04014; Ibrahim et al., arXiv 2403.08763.

    >>> def loss(w, batch):
    ...     return 0.5 * ((w[None] - batch) ** 2).sum(1).mean()
    >>> data = jax.random.normal(jax.random.key(0), (64, 3))
    >>> order = np.random.default_rng(0).integers(64, size=(50, 16))
    >>> found = rewarm(loss, data.mean(0), optax.sgd(1.0), data, order, peaks=(0.5, 3.0), probe=data)
    >>> spikes = found.runs.pivot(index="warmup", columns="peak", values="spike")
    >>> bool((spikes[0.5] < 0.1).all()), bool((spikes[3.0] > 1).all())  # stable below 2
    (True, True)
    """
    order = checked_order(order, data)
    if not len(peaks) or not all(0 < peak < math.inf for peak in peaks):
        raise ValueError(f"peaks must be positive, finite learning rates, not {list(peaks)}.")
    if not len(warmups) or not all(0 <= warmup < 1 for warmup in warmups):
        raise ValueError(f"warmups must be shares of the steps, from 0 on and below 1, not {list(warmups)}.")
    lanes = pd.DataFrame([(peak, warmup) for peak in peaks for warmup in warmups], columns=["peak", "warmup"])
    rates = np.array([rewarming_rates(peak, warmup, len(order)) for peak in peaks for warmup in warmups], np.float32)
    steps = np.unique(np.geomspace(1, len(order), RECORDS).round().astype(int))
    state = params, optimizer.init(params) if opt_state is None else opt_state
    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(lanes), *jnp.shape(x))), state)
    functions = as_partial(loss, params), Partial(optimizer.update)
    ends = np.stack([np.append(0, steps[:-1]), steps], axis=1)
    probes = probe, probe if old is None else old
    (params, opt_state), seen = _train(functions, states, rates.T, data, order, ends, probes)
    trained, old = (np.asarray(each, float) for each in seen)
    if not np.isfinite(trained[0]).all() or not np.isfinite(old[0]).all():
        raise ValueError("params must be a checkpoint whose loss is finite on probe and old.")
    steps = np.append(0, steps)
    return Rewarming(outcomes(lanes, steps, trained, old), steps, trained, old, params, opt_state)


def outcomes(lanes: pd.DataFrame, steps: np.ndarray, losses: np.ndarray, old_losses: np.ndarray) -> pd.DataFrame:
    """The lanes with their spike, final loss and forgetting, as of `Rewarming.runs`."""
    losses, old_losses = (np.where(np.isfinite(each), each, np.inf) for each in (losses, old_losses))
    early = steps <= max(EARLY * steps[-1], 1)
    return lanes.assign(
        spike=losses[early].max(axis=0) - losses[0],
        final=losses[-1],
        forgetting=old_losses[-1] - old_losses[0],
    )


@jax.jit
def _train(
    functions: tuple[Partial, Partial],
    states: tuple[PyTree, PyTree],
    rates: jax.Array,
    data: PyTree,
    order: jax.Array,
    ends: jax.Array,
    probes: tuple[PyTree, PyTree],
) -> tuple[tuple[PyTree, PyTree], tuple[jax.Array, jax.Array]]:
    """Lanes of states after all steps, and their losses at the start and at each of the ends on both probes."""
    loss, update = functions

    def step(state: tuple[PyTree, PyTree], rate: jax.Array, batch: PyTree) -> tuple[PyTree, PyTree]:
        params, opt_state = state
        updates, opt_state = update(jax.grad(loss)(params, batch), opt_state, params)
        return jax.tree.map(lambda w, u: w + rate.astype(w.dtype) * u, params, updates), opt_state

    def together(t: jax.Array, states: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        batch = jax.tree.map(lambda x: x[order[t]], data)
        return jax.vmap(step, (0, 0, None))(states, rates[t], batch)

    def losses(states: tuple[PyTree, PyTree]) -> tuple[jax.Array, jax.Array]:
        trained, old = (jax.vmap(loss, (0, None))(states[0], probe) for probe in probes)
        return trained, old

    def record(states: tuple[PyTree, PyTree], end: jax.Array) -> tuple[tuple[PyTree, PyTree], tuple]:
        states = jax.lax.fori_loop(end[0], end[1], together, states)
        return states, losses(states)

    start = losses(states)
    order = jnp.asarray(order)
    states, later = jax.lax.scan(record, states, ends)
    return states, jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, later)


@checked(loss=function)
def settled_update(
    loss: Callable[[PyTree, PyTree], jax.Array],
    params: PyTree,
    optimizer: optax.GradientTransformation,
    batch: PyTree,
    opt_state: PyTree | None = None,
) -> tuple[PyTree, PyTree]:
    """The update that an optimizer comes to on a batch if it stays where it is, and the state of the optimizer then.

    It is that after 20 updates on the same gradient, so that a momentum of other data has mostly gone. Along it
    `sharplab.critical_sharpness` tells the learning rate above which the loss of `batch` rises, or of another
    (`other=`), and the state has the metric of the effective sharpness. Arguments are those of `rewarm`.
    """
    state = optimizer.init(params) if opt_state is None else opt_state
    return settle((as_partial(loss, params), Partial(optimizer.update)), params, state, batch)


@jax.jit
def settle(functions: tuple[Partial, Partial], params: PyTree, state: PyTree, batch: PyTree) -> tuple[PyTree, PyTree]:
    """The update that (loss, update of the optimizer) comes to on a batch, and its state then, as `settled_update`."""
    loss, update = functions
    gradient = jax.grad(loss)(params, batch)
    state = jax.lax.fori_loop(1, SETTLED, lambda _, state: update(gradient, state, params)[1], state)
    updates, state = update(gradient, state, params)
    return updates, state
