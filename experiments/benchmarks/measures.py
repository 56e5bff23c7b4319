"""What is timed, and how: contestants in turn, warm, medians with their range."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from plain_loop import PlainLoop, lax_convnet, same_model

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature import hessian, precondition
from sharplab.data import batch_indices, load_dataset
from sharplab.spectrum import eigsh
from sharplab.tracking.measurement import TrackerState
from sharplab.training.recipe import Recipe, RunState
from sharplab.training.task import Run, Task, find_recipe
from sharplab.training.train import train_runs

DATA = "fashion-mnist-10k"
DEPTHS = {"figure1_convnet": 2, "residual_mlp": 3}
PRODUCTS = 8  # per linearisation where products are timed, about what a solve makes
REFERENCE_TOLERANCE = 1e-5
QUICK_CADENCE = (17, 256)  # records, steps
PAPER_CADENCE = (51, 19_550)


@dataclass(frozen=True)
class Workload:
    """One run to be timed: a model at a width under muP, SGD, learning rates that no run diverges at."""

    model: str
    width: int
    learning_rates: tuple[float, ...]
    steps: int
    records: int
    batch_size: int
    probe_size: int

    def task(self, observables: tuple[str, ...], record_steps: Sequence[int]) -> Task:
        """The same for `train_runs`."""
        return Task(
            model=self.model,
            width=self.width,
            depth=DEPTHS[self.model],
            parameterization="mup",
            base_width=1,
            alpha=0.5,
            gamma=1.0,
            optimizer="sgd",
            loss="cross_entropy",
            data=DATA,
            steps=record_steps[-1],
            batch_size=self.batch_size,
            probe_size=self.probe_size,
            observables=observables,
            record_steps=tuple(record_steps),
        )

    @property
    def record_steps(self) -> list[int]:
        """Evenly spaced, 0 and `steps` among them; `records` − 1 must divide `steps`."""
        return list(range(0, self.steps + 1, self.steps // (self.records - 1)))

    def recipe(self) -> Recipe:
        """Its functions, with "sharpness" alone observed."""
        return find_recipe(self.task(("sharpness",), self.record_steps))

    def order(self) -> np.ndarray:
        """The examples of every step, as a run of seed 0 sees them."""
        examples = len(load_dataset(DATA).train_targets)
        return batch_indices(0, examples, self.batch_size, 0, self.steps)


def spread(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Median, least and most."""
    return {"median": float(np.median(values)), "min": float(np.min(values)), "max": float(np.max(values))}


def timed(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """What one call returns, its arrays awaited, and its wall time in seconds."""
    began = time.perf_counter()
    result = jax.block_until_ready(function(*args))
    return result, time.perf_counter() - began


def seconds_of(function: Callable[..., Any], *args: Any) -> float:
    """The wall time alone."""
    return timed(function, *args)[1]


def in_turn(contestants: Mapping[str, Callable[[], float]], repetitions: int) -> dict[str, list[float]]:
    """What each contestant returns, A B A B …, so that a disturbed minute disturbs them all."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repetitions):
        for name, contestant in contestants.items():
            found[name].append(contestant())
    return found


def training_speed(workload: Workload, repetitions: int) -> list[dict[str, Any]]:
    """The lab's runs against the plain loop: one row per way to write the latter.

    A plain run is timed in parts, its steps and one record; as one run follows another, a run's times say all.
    """
    dataset = load_dataset(DATA)
    images, targets = dataset.train_inputs, jnp.asarray(dataset.train_targets)
    ways = {"same code": same_model}
    if workload.model == "figure1_convnet":
        ways["lax.conv"] = lax_convnet
    loops = {name: way(workload.recipe(), images, targets, workload.probe_size) for name, way in ways.items()}

    first_calls = {"lab": _warm_up_lab(workload)} | {
        name: _warm_up_plain(workload, loop) for name, loop in loops.items()
    }
    contestants = {
        "lab, steps": lambda: _lab_seconds(workload, (), workload.record_steps),
        "lab, both": lambda: _lab_seconds(workload, ("sharpness",), workload.record_steps),
    }
    for name, loop in loops.items():
        contestants[f"{name}, steps"] = partial(
            seconds_of, loop.train_run, workload.learning_rates[0], workload.order()
        )
        contestants[f"{name}, record"] = partial(seconds_of, loop.record, loop.params, jax.random.key(0))
    seconds = {name: np.array(values) for name, values in in_turn(contestants, repetitions).items()}
    return [_speed_row(workload, name, seconds, first_calls) for name in loops]


def _lab_seconds(workload: Workload, observables: tuple[str, ...], record_steps: Sequence[int]) -> float:
    """All runs, without the placing of the data."""
    runs = [Run(rate, seed=0) for rate in workload.learning_rates]
    run_batches = train_runs(workload.task(observables, record_steps), runs)
    results = [result for run_batch in run_batches for result in run_batch]
    if any(result.diverged for result in results):
        raise ValueError(f"a run of {workload} diverged, and cost too little: give smaller learning rates.")
    return sum(result.seconds for result in results)


def _warm_up_lab(workload: Workload) -> float:
    """Compile everything by training up to the second record; the seconds of it."""
    first = workload.record_steps[:2]
    return sum(_lab_seconds(workload, observables, first) for observables in ((), ("sharpness",)))


def _warm_up_plain(workload: Workload, loop: PlainLoop) -> float:
    step = seconds_of(loop.train_run, workload.learning_rates[0], workload.order()[:1])
    return step + seconds_of(loop.record, loop.params, jax.random.key(0))


def _speed_row(
    workload: Workload, name: str, seconds: dict[str, np.ndarray], first_calls: dict[str, float]
) -> dict[str, Any]:
    runs, steps, records = len(workload.learning_rates), workload.steps, workload.records
    lab_steps, lab_both = seconds["lab, steps"], seconds["lab, both"]
    plain_steps, plain_records = runs * seconds[f"{name}, steps"], runs * records * seconds[f"{name}, record"]
    lab_records = lab_both - lab_steps
    return {
        "model": workload.model,
        "width": workload.width,
        "against": name,
        "lab_steps_per_second": spread(runs * steps / lab_steps),
        "plain_steps_per_second": spread(runs * steps / plain_steps),
        "steps_ratio": spread(plain_steps / lab_steps),
        "lab_records_per_second": spread(runs * records / lab_records),
        "plain_records_per_second": spread(runs * records / plain_records),
        "records_ratio": spread(plain_records / lab_records),
        "together_ratio": spread((plain_steps + plain_records) / lab_both),
        "lab_first_call_seconds": first_calls["lab"],
        "plain_first_call_seconds": first_calls[name],
        "lab_seconds": {"steps": lab_steps.tolist(), "both": lab_both.tolist()},
        "plain_seconds": {"steps": plain_steps.tolist(), "records": plain_records.tolist()},
    }


def product_cost(workload: Workload, repetitions: int) -> dict[str, Any]:
    """Hessian products on the probe batch in units of its gradient."""
    problem = _problem(workload)
    recipe, probe, params = problem.recipe, problem.probe, problem.params
    direction = tree.normal(jax.random.key(0), params)

    @jax.jit
    def repeated(params: PyTree, vector: PyTree, probe: PyTree) -> PyTree:
        product = hessian(recipe.loss, params, probe, model=recipe.forward).matvec()
        # Scaled, since a bare power of the Hessian would overflow.
        return jax.lax.fori_loop(0, PRODUCTS, lambda _, v: _unit(product(v)), vector)

    @jax.jit
    def alone(params: PyTree, vector: PyTree, probe: PyTree) -> PyTree:
        return jax.jvp(lambda w: jax.grad(recipe.objective)(w, probe), (params,), (vector,))[1]

    contestants = {
        "gradient": lambda: seconds_of(problem.gradient, params, probe),
        "linearised": lambda: seconds_of(repeated, params, direction, probe) / PRODUCTS,
        "separate": lambda: seconds_of(alone, params, direction, probe),
    }
    for contestant in contestants.values():
        contestant()
    seconds = {name: np.array(values) for name, values in in_turn(contestants, repetitions).items()}
    return {
        "model": workload.model,
        "width": workload.width,
        "gradient_seconds": spread(seconds["gradient"]),
        "linearised_over_gradient": spread(seconds["linearised"] / seconds["gradient"]),
        "separate_over_gradient": spread(seconds["separate"] / seconds["gradient"]),
    }


def _unit(v: PyTree) -> PyTree:
    return tree.scale(1 / tree.norm(v), v)


@dataclass(frozen=True)
class _Problem:
    recipe: Recipe
    params: PyTree
    train: PyTree
    probe: PyTree
    gradient: Callable[[PyTree, PyTree], PyTree]


def _problem(workload: Workload) -> _Problem:
    recipe, dataset = workload.recipe(), load_dataset(DATA)
    train = (recipe.prepare(dataset.train_inputs), jnp.asarray(dataset.train_targets))
    probe = jax.tree.map(lambda x: x[: workload.probe_size], train)
    params = recipe.init_params(jnp.zeros((), jnp.int32))
    return _Problem(recipe, params, train, probe, jax.jit(jax.grad(recipe.objective)))


def tracking_cost(workload: Workload, compare_every: int) -> dict[str, Any]:
    """What a record costs along a real run of the first learning rate, and its error, beside power iteration's.

    At every `compare_every`-th record the eigenvalue is computed to 1e-5 and ten power iterations are made.
    """
    problem = _problem(workload)
    recipe, probe, gradient = problem.recipe, problem.probe, problem.gradient
    plain = same_model(recipe, load_dataset(DATA).train_inputs, problem.train[1], workload.probe_size)
    observe, advance = jax.jit(recipe.measurement().observe), jax.jit(recipe.advance)
    solve, key, order = jax.jit(partial(_reference, recipe)), jax.random.key(0), workload.order()

    def step_to(run: RunState, start: int, stop: int) -> tuple[RunState, float]:
        rate = np.float32(workload.learning_rates[0])
        return timed(advance, run, rate, order[start:stop], problem.train, np.int32(stop))

    def record(run: RunState, tracker: TrackerState, compare: bool) -> tuple[TrackerState, dict[str, float]]:
        before = seconds_of(gradient, run.params, probe)
        (tracker, values), seconds = timed(observe, tracker, probe, None, run.params, run.opt_state, key)
        unit = (before + seconds_of(gradient, run.params, probe)) / 2
        row = {name: float(value) for name, value in values.items()}
        row |= {"gradient_seconds": unit, "gradients": seconds / unit}
        if compare:
            power, power_seconds = timed(plain.record, run.params, key)
            exact = float(solve(run.params, tracker.followed["sharpness"].vectors, probe))
            row |= {"power_gradients": power_seconds / unit, "power_error": abs(float(power) / exact - 1)}
            row["true_error"] = abs(row["sharpness"] / exact - 1)
        return tracker, row

    run = jax.jit(recipe.begin)(np.int32(0))
    tracker = recipe.measurement().init(run.params, probe)
    step_to(run, *workload.record_steps[:2])
    record(run, tracker, compare=True)

    rows = []
    for i, (start, stop) in enumerate(pairwise((0, *workload.record_steps))):
        run, seconds = step_to(run, start, stop) if stop > start else (run, float("nan"))
        tracker, row = record(run, tracker, compare=i % compare_every == 0)
        rows.append(row | {"step": stop, "step_seconds": seconds / max(stop - start, 1)})
    return _tracking_row(workload, rows)


def _reference(recipe: Recipe, params: PyTree, start: PyTree, probe: PyTree) -> jax.Array:
    root = jax.tree.map(jnp.sqrt, recipe.metric(params, None))
    op = precondition(hessian(recipe.loss, params, probe, model=recipe.forward), root)
    return eigsh(op, tol=REFERENCE_TOLERANCE, start=start).values[0]


def _tracking_row(workload: Workload, rows: list[dict[str, float]]) -> dict[str, Any]:
    cold, warm = rows[0], rows[1:]
    compared = [row for row in rows if "power_error" in row]
    gradient = float(np.median([row["gradient_seconds"] for row in rows]))
    step = float(np.nanmedian([row["step_seconds"] for row in rows])) / gradient
    mean_warm = float(np.mean([row["gradients"] for row in warm]))
    shares = {
        name: (tracking := cold["gradients"] + (records - 1) * mean_warm) / (tracking + steps * step)
        for name, (records, steps) in {"quick": QUICK_CADENCE, "paper": PAPER_CADENCE}.items()
    }
    return {
        "model": workload.model,
        "width": workload.width,
        "gradient_seconds": gradient,
        "step_in_gradients": step,
        "record_in_gradients": spread([row["gradients"] for row in warm]) | {"mean": mean_warm},
        "first_record_in_gradients": cold["gradients"],
        "products": spread([row["sharpness_matvecs"] for row in warm])
        | {"mean": float(np.mean([row["sharpness_matvecs"] for row in warm]))},
        "estimated_error": spread([row["sharpness_error"] / abs(row["sharpness"]) for row in rows]),
        "true_error": spread([row["true_error"] for row in compared]),
        "power_in_gradients": spread([row["power_gradients"] for row in compared]),
        "power_error": spread([row["power_error"] for row in compared]),
        "tracking_share": shares,
        "records": rows,
    }
