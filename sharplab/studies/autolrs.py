"""AutoLRS: the learning rate of each stage of a run, searched for from its checkpoint by short trials."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.tree_util import Partial
from scipy import stats

from sharplab.core.arguments import checked, count, function, positive
from sharplab.core.tree import PyTree
from sharplab.studies.loss_forecasts import FEWEST, forecast
from sharplab.studies.orders import checked_order

Step = Callable[[PyTree, jax.Array, PyTree], tuple[PyTree, jax.Array]]

LANES = 5  # trials beside each other
ROUNDS = 2  # of them for each stage: the paper's ten trials
AHEAD = 10  # the steps of a stage, in units of those of its trials
LARGEST = 8  # the steps of the longest trials, in units of the first stage's
OPTIMISM = 1.0  # standard deviations below the mean at which a learning rate is worth a trial
CANDIDATES = 129  # learning rates that the process is asked about
CEILING = 4.0  # spreads of the forecasts above their median, where those count that are higher
LENGTHS = (0.5, 8.0)  # octaves, between which the process's correlation length lies


@dataclass(frozen=True)
class AutoLRS:
    """A run whose learning rate was searched for stage by stage.

    Attributes:
        state: at the end.
        losses: of each step's batch, (steps,).
        stages: a row per stage: first (its first step), steps, learning_rate, search_steps (of all its trials, diverged
            ones too), forecast, forecast_low, forecast_high (of the loss at its end), and loss, the mean of the losses
            of the last tenth.
        trials: a row per trial: stage, round, learning_rate, and its own forecast likewise.
    """

    state: PyTree
    losses: np.ndarray
    stages: pd.DataFrame
    trials: pd.DataFrame

    @property
    def learning_rates(self) -> np.ndarray:
        """The learning rate of each step, (steps,)."""
        return np.repeat(*(self.stages[name].to_numpy() for name in ("learning_rate", "steps")))


@checked(step=function, low=positive, high=positive, trial_steps=count)
def autolrs(
    step: Step,
    state: PyTree,
    data: PyTree,
    order: np.ndarray,
    *,
    low: float,
    high: float,
    trial_steps: int = 100,
    observe: Callable[[int, PyTree], None] = lambda step, state: None,
) -> AutoLRS:
    """A run with the learning rates that AutoLRS chooses: at each stage that of the least loss forecast for its end.

    A stage is ten times as long as its trials, which double from stage to stage, to eight times the first at most. From
    the state at its beginning, five learning rates, evenly in the logarithm, are tried beside each other in one
    program; a Gaussian process through the forecasts of their losses says which five more are worth a trial, by its
    lower confidence bound; of all ten, that of the least mean is taken. The state is restored, and goes on. The search
    takes as many steps again as the run.

    Args:
        step: (state, learning rate, batch) → (state, loss of the batch before the step), pure; `jax.tree_util.Partial`
            binds arrays to it.
        state: a pytree of arrays.
        data: all examples, arrays with a leading axis.
        order: which examples make up the batch of each step, (steps, batch); steps a multiple of 10·trial_steps.
        low, high: between which learning rates are searched for.
        trial_steps: τ′ of the first stage, 6 or more.
        observe: called with the step and the state at the start, and every `trial_steps` steps of the run itself.

    Raises:
        ValueError: for low ≥ high, short trials, and steps that are no such multiple, and where every trial of a stage
            diverges.

    Source: Jin et al., arXiv 2105.10762.

    >>> def step(w, learning_rate, batch):
    ...     return w - learning_rate * (w - batch.mean(0)), 0.5 * ((w[None] - batch) ** 2).sum(1).mean()
    >>> data = jax.random.normal(jax.random.key(0), (64, 3))
    >>> order = np.random.default_rng(0).integers(64, size=(120, 16))
    >>> found = autolrs(step, data[0] + 10, data, order, low=1e-3, high=4.0, trial_steps=12)
    >>> bool(found.losses[0] > 100), bool(found.losses[-1] < 3), len(found.trials)
    (True, True, 10)
    """
    order = checked_order(order, data)
    steps = len(order)
    if low >= high:
        raise ValueError(f"low must be less than high, not {low} and {high}.")
    if trial_steps < FEWEST:
        raise ValueError(f"trial_steps must be {FEWEST} or more, that a loss can be forecast, not {trial_steps}.")
    if steps % (AHEAD * trial_steps):
        raise ValueError(
            f"order must have a multiple of {AHEAD} trial_steps, {AHEAD * trial_steps}, steps, not {steps}."
        )
    lanes = _bound(step)
    losses: list[np.ndarray] = []
    stages: list[dict] = []
    trials: list[pd.DataFrame] = []
    first = 0
    observe(0, state)
    while first < steps:
        length = min(AHEAD * min(2 ** len(stages), LARGEST) * trial_steps, steps - first)
        short = length // AHEAD // trial_steps * trial_steps
        try_out = partial(_trials, lanes, state, data, order[first : first + short], trial_steps, length)
        tried = search(try_out, low, high)
        best = tried.loc[best_row(tried)]
        rate = np.array([best["learning_rate"]], np.float32)
        for start in range(first, first + length, trial_steps):
            states = jax.tree.map(lambda x: x[None], state)
            states, seen = lanes(states, rate, data, order[start : start + trial_steps])
            state = jax.tree.map(lambda x: x[0], states)
            losses.append(np.asarray(seen)[:, 0])
            observe(start + trial_steps, state)
        stages.append(
            {"first": first, "steps": length, "search_steps": len(tried) * short}
            | best.drop("round").to_dict()
            | {"loss": float(np.concatenate(losses)[-length // AHEAD :].mean())}
        )
        trials.append(tried.assign(stage=len(stages) - 1))
        first += length
    return AutoLRS(state, np.concatenate(losses), pd.DataFrame(stages), pd.concat(trials, ignore_index=True))


def search(try_out: Callable[[np.ndarray], pd.DataFrame], low: float, high: float) -> pd.DataFrame:
    """The trials of one stage, five beside each other at a time; `try_out` gives their rows for learning rates."""
    tried = try_out(np.geomspace(low, high, LANES)).assign(round=0)
    for each in range(1, ROUNDS):
        more = try_out(next_rates(tried, low, high)).assign(round=each)
        tried = pd.concat([tried, more], ignore_index=True)
    return tried


def _trials(
    lanes: Callable, state: PyTree, data: PyTree, order: np.ndarray, chunk: int, length: int, rates: np.ndarray
) -> pd.DataFrame:
    seen = _advance(lanes, state, rates, data, order, chunk)
    forecasts = pd.DataFrame([forecast(losses, length).columns("forecast") for losses in seen.T])
    return forecasts.assign(learning_rate=rates)


def train_lanes(
    step: Step, state: PyTree, rates: np.ndarray, data: PyTree, order: np.ndarray, chunk: int
) -> np.ndarray:
    """The losses of each step and learning rate from one state, (steps, rates), in programs of `chunk` steps."""
    return _advance(_bound(step), state, rates, data, order, chunk)


def _bound(step: Step) -> Callable:
    return partial(_lanes, step if isinstance(step, Partial) else Partial(step))


def _advance(
    lanes: Callable, state: PyTree, rates: np.ndarray, data: PyTree, order: np.ndarray, chunk: int
) -> np.ndarray:
    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(rates), *x.shape)), state)
    losses = []
    for start in range(0, len(order), chunk):
        states, seen = lanes(states, np.asarray(rates, np.float32), data, order[start : start + chunk])
        losses.append(seen)
    return np.concatenate([np.asarray(each) for each in losses])


@jax.jit
def _lanes(step: Partial, states: PyTree, rates: jax.Array, data: PyTree, rows: jax.Array) -> tuple[PyTree, jax.Array]:
    """Lanes of states some steps later at a learning rate each, and their losses, (steps, lanes)."""

    def together(states: PyTree, row: jax.Array) -> tuple[PyTree, jax.Array]:
        batch = jax.tree.map(lambda x: x[row], data)
        return jax.vmap(step, (0, 0, None))(states, rates, batch)

    return jax.lax.scan(together, states, rows)


def next_rates(tried: pd.DataFrame, low: float, high: float) -> np.ndarray:
    """The learning rates to be tried next, (5,), one after another those of the least lower confidence bound.

    Each is then taken to come out as the process's mean says, so that the next lies elsewhere (Ginsbourger, 2010).
    """
    grid = np.linspace(np.log2(low), np.log2(high), CANDIDATES)
    x, y, variance = _points(tried)
    kernel = None
    chosen: list[float] = []
    for _ in range(LANES):
        process = _process(x, y, variance, kernel)
        kernel = process.kernel_  # the lengths that the true forecasts told
        mean, spread = process.predict(grid[:, None], return_std=True)
        best = int(np.argmin(mean - OPTIMISM * spread))
        chosen.append(2.0 ** grid[best])
        x, y, variance = np.append(x, grid[best]), np.append(y, mean[best]), np.append(variance, spread[best] ** 2)
    return np.array(chosen)


def best_row(tried: pd.DataFrame) -> int:
    """The trial whose learning rate has the least mean forecast under the process, out of those that are not bad."""
    x, y, variance = _points(tried)
    mean = _process(x, y, variance, None).predict(x[:, None])
    return int(np.argmin(np.where(y < CEILING, mean, np.inf)))


def _points(tried: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The log₂ of the learning rates, the forecasts, and their variances, in units of the forecasts' spread."""
    x, y = np.log2(tried["learning_rate"].to_numpy(float)), tried["forecast"].to_numpy(float)
    finite = np.isfinite(y)
    if not finite.any():
        raise ValueError("every trial of a stage diverged: lower low and high.")
    middle = np.median(y[finite])
    # The median deviation: a forecast without any certainty may lie far below all losses.
    scale = max(np.median(np.abs(y[finite] - middle)) / stats.norm.ppf(0.75), 1e-6 * abs(middle), 1e-12)
    deviation = np.zeros_like(y)
    deviation[finite] = (tried["forecast_high"] - tried["forecast_low"]).to_numpy(float)[finite] / 4
    # What diverges, or is forecast far above the median, is no worse than bad: it would hide all differences else. And
    # it is surely bad, however wide its interval: a run that grows fast may be forecast to end anywhere.
    height = np.minimum(np.where(finite, (y - middle) / scale, CEILING), CEILING)
    return x, height, np.where(height < CEILING, np.clip((deviation / scale) ** 2, 1e-4, 1e8), 1e-4)


def _process(x: np.ndarray, y: np.ndarray, variance: np.ndarray, kernel: Any) -> Any:
    """A Gaussian process through points of known variance; its kernel is fitted unless one is given."""
    # Here, for it takes a second to import and nothing else needs it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    given = ConstantKernel(1.0, (0.1, 10.0)) * Matern(2.0, LENGTHS, nu=2.5) if kernel is None else kernel
    process = GaussianProcessRegressor(given, alpha=variance, optimizer="fmin_l_bfgs_b" if kernel is None else None)
    with warnings.catch_warnings():
        # A length at its bound is meant: few points do not tell it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return process.fit(x[:, None], y)
