"""Speed of training and tracking, against the loop that a researcher would write by hand.

(training) Optimizer steps and sharpness records per second of `sharplab.training.train.train_runs`, against one
jitted step dispatched per step, one learning rate after another, with ten power iterations per record: same weights,
data, batches and probe. "steps" is a run without records; "records" is what records add to it; "both" is the whole run.
The lab's records come with an error estimate of at most 1e-2, the plain ones with none. Of the plain loop one run
is timed, its steps and one record; its other runs and records cost the same and are counted, not made.
(tracking) A record in gradients along a real run, its estimated and its true error (against `eigsh` at 1e-5),
beside ten power iterations; and the share of time that tracking takes, computed from the measured times of steps
and records, at 17 records in 256 steps and at the paper's 51 in 19,550 (arXiv 2402.17457).

Contestants run in turn, compiled beforehand; numbers are medians, with the range of all repetitions in the JSON.
What a Hessian product costs is measured by spectrum.py; the report keeps an earlier measurement as "products".
Targets: 2× (steps) and 5× (records) at widths up to 64; 8 gradients per record; a share of 20 % at the paper's cadence.

Cost: about six minutes on two idle cores. Leaves figures/bench/training_speed.json.

    make bench
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Benchmark, Say, in_turn, main, seconds_of, spread, timed
from plain_loop import PlainLoop, lab_seconds, lax_convnet, same_model
from report import marked, ranged, table
from rich.table import Table

from sharplab.core.tree import PyTree
from sharplab.curvature import hessian, precondition
from sharplab.data import batch_indices, load_dataset
from sharplab.spectrum import eigsh
from sharplab.tracking.measurement import TrackerState
from sharplab.training.layout import use_all_cores
from sharplab.training.recipe import Recipe, RunState
from sharplab.training.task import Run, Task, find_recipe

TARGETS = {"steps_ratio": 2.0, "records_ratio": 5.0, "record_in_gradients": 8.0, "paper_share": 0.2}
DATA = "fashion-mnist-10k"
REFERENCE_TOLERANCE = 1e-5
CADENCES = {"quick": (17, 256), "paper": (51, 19_550)}  # records, steps
COMPARE_EVERY = 4  # records of the tracked run


@dataclass(frozen=True)
class Network:
    """The settings that one of the models is trained with."""

    short: str
    depth: int
    learning_rates: tuple[float, ...]
    step_multiple: int  # of the preset's steps: where they are cheap, few would drown in what a run costs once


NETWORKS: Mapping[str, Network] = {
    "figure1_convnet": Network("ConvNet", 2, (0.25, 0.5), step_multiple=1),
    "residual_mlp": Network("MLP", 3, (0.0625, 0.125, 0.1875, 0.25), step_multiple=4),
}


@dataclass(frozen=True)
class Preset:
    """The sizes and repetitions that are timed."""

    widths: tuple[int, ...]
    tracked_width: int
    steps: int
    records: int
    tracked_steps: int
    tracked_records: int
    probe_size: int
    repetitions: int = 3


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(
        widths=(4,), tracked_width=4, steps=16, records=3, tracked_steps=16, tracked_records=5, probe_size=256
    ),
    "quick": Preset(
        widths=(8, 16, 32, 64),
        tracked_width=32,
        steps=48,
        records=4,
        tracked_steps=256,
        tracked_records=17,
        probe_size=1024,
    ),
}


@dataclass(frozen=True)
class Workload:
    """Runs to be timed: a model at a width under muP, SGD, learning rates that no run diverges at."""

    model: str
    width: int
    steps: int
    records: int
    probe_size: int
    batch_size: int = 128

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """One per run, so many that no device stands idle."""
        rates = NETWORKS[self.model].learning_rates
        return -(-max(len(rates), len(jax.devices())) // len(rates)) * rates

    def task(self, observables: tuple[str, ...], record_steps: Sequence[int]) -> Task:
        """The runs' settings for `train_runs`."""
        return Task(
            model=self.model,
            width=self.width,
            depth=NETWORKS[self.model].depth,
            parameterization="mup",
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
        """The runs' functions, with "sharpness" alone observed."""
        return find_recipe(self.task(("sharpness",), self.record_steps))

    def order(self) -> np.ndarray:
        """The examples of every step, as a run of seed 0 sees them."""
        examples = len(load_dataset(DATA).train_targets)
        return batch_indices(0, examples, self.batch_size, 0, self.steps)


def training(preset: Preset, say: Say) -> list[dict[str, Any]]:
    """The lab's runs against the plain loop: rows per model and width."""
    rows = []
    for model, network in NETWORKS.items():
        for width in preset.widths:
            say(f"training: {model}, width {width}")
            steps = preset.steps * network.step_multiple
            rows += _against_plain(Workload(model, width, steps, preset.records, preset.probe_size), preset.repetitions)
    return rows


def _against_plain(workload: Workload, repetitions: int) -> list[dict[str, Any]]:
    """One row per way to write the plain loop; as one run follows another in it, a run's times say all."""
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
    seconds = in_turn(contestants, repetitions)
    return [_speed_row(workload, name, seconds, first_calls) for name in loops]


def _lab_seconds(workload: Workload, observables: tuple[str, ...], record_steps: Sequence[int]) -> float:
    runs = [Run(rate, seed=0) for rate in workload.learning_rates]
    return lab_seconds(workload.task(observables, record_steps), runs)


def _warm_up_lab(workload: Workload) -> float:
    """Seconds of a training up to the second record, which compiles everything."""
    first = workload.record_steps[:2]
    return sum(_lab_seconds(workload, observables, first) for observables in ((), ("sharpness",)))


def _warm_up_plain(workload: Workload, loop: PlainLoop) -> float:
    step = seconds_of(loop.train_run, workload.learning_rates[0], workload.order()[:1])
    return step + seconds_of(loop.record, loop.params, jax.random.key(0))


def _speed_row(
    workload: Workload, name: str, seconds: Mapping[str, np.ndarray], first_calls: Mapping[str, float]
) -> dict[str, Any]:
    runs = len(workload.learning_rates)
    steps, records = runs * workload.steps, runs * workload.records
    lab_steps, lab_both = seconds["lab, steps"], seconds["lab, both"]
    plain_steps, plain_records = runs * seconds[f"{name}, steps"], records * seconds[f"{name}, record"]
    lab_records = lab_both - lab_steps
    return {
        "model": workload.model,
        "width": workload.width,
        "against": name,
        "lab_steps_per_second": spread(steps / lab_steps),
        "plain_steps_per_second": spread(steps / plain_steps),
        "steps_ratio": spread(plain_steps / lab_steps),
        "lab_records_per_second": spread(records / lab_records),
        "plain_records_per_second": spread(records / plain_records),
        "records_ratio": spread(plain_records / lab_records),
        "together_ratio": spread((plain_steps + plain_records) / lab_both),
        "lab_first_call_seconds": first_calls["lab"],
        "plain_first_call_seconds": first_calls[name],
        "lab_seconds": {"steps": lab_steps.tolist(), "both": lab_both.tolist()},
        "plain_seconds": {"steps": plain_steps.tolist(), "records": plain_records.tolist()},
    }


def tracking(preset: Preset, say: Say) -> list[dict[str, Any]]:
    """Costs and errors of records: a row per model."""
    rows = []
    for model in NETWORKS:
        say(f"tracking: {model}, width {preset.tracked_width}")
        workload = Workload(
            model, preset.tracked_width, preset.tracked_steps, preset.tracked_records, preset.probe_size
        )
        rows.append(_tracking_row(workload, _records(workload)))
    return rows


def _records(workload: Workload) -> list[dict[str, float]]:
    """Costs and errors of the records along a run of the first learning rate, beside power iteration's.

    At every `COMPARE_EVERY`-th record the eigenvalue is computed to 1e-5 and ten power iterations are made.
    """
    recipe, dataset = workload.recipe(), load_dataset(DATA)
    targets = jnp.asarray(dataset.train_targets)
    train = (recipe.prepare(dataset.train_inputs), targets)
    probe = jax.tree.map(lambda x: x[: workload.probe_size], train)
    plain = same_model(recipe, dataset.train_inputs, targets, workload.probe_size)
    gradient = jax.jit(jax.grad(recipe.objective))
    observe, advance = jax.jit(recipe.measurement().observe), jax.jit(recipe.advance)
    solve, key, order = jax.jit(partial(_reference, recipe)), jax.random.key(0), workload.order()

    def step_to(run: RunState, start: int, stop: int) -> tuple[RunState, float]:
        rate = np.float32(workload.learning_rates[0])
        return timed(advance, run, rate, order[start:stop], train, np.int32(stop))

    def record(run: RunState, tracker: TrackerState, compare: bool) -> tuple[TrackerState, dict[str, float]]:
        before = seconds_of(gradient, run.params, probe)
        (tracker, values), seconds = timed(observe, tracker, probe, None, run.params, run.opt_state, key)
        unit = (before + seconds_of(gradient, run.params, probe)) / 2
        row = {name: float(value) for name, value in values.items()}
        row |= {"gradient_seconds": unit, "gradients": seconds / unit}
        if compare:
            power, power_seconds = timed(plain.record, run.params, key)
            exact = float(solve(run.params, tracker.tracked["sharpness"].vectors, probe))
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
        tracker, row = record(run, tracker, compare=i % COMPARE_EVERY == 0)
        rows.append(row | {"step": stop, "step_seconds": seconds / max(stop - start, 1)})
    return rows


def _reference(recipe: Recipe, params: PyTree, start: PyTree, probe: PyTree) -> jax.Array:
    root = jax.tree.map(jnp.sqrt, recipe.metric(params, None))
    op = precondition(hessian(recipe.loss, params, probe, model=recipe.forward), root)
    return eigsh(op, tol=REFERENCE_TOLERANCE, start=start).values[0]


def _tracking_row(workload: Workload, rows: list[dict[str, float]]) -> dict[str, Any]:
    cold, warm = rows[0], rows[1:]
    compared = [row for row in rows if "power_error" in row]
    gradient = float(np.median([row["gradient_seconds"] for row in rows]))
    step = float(np.nanmedian([row["step_seconds"] for row in rows])) / gradient
    costs, products = ([row[name] for row in warm] for name in ("gradients", "sharpness_matvecs"))
    tracked = {name: cold["gradients"] + (records - 1) * np.mean(costs) for name, (records, _) in CADENCES.items()}
    return {
        "model": workload.model,
        "width": workload.width,
        "gradient_seconds": gradient,
        "step_in_gradients": step,
        "record_in_gradients": spread(costs) | {"mean": float(np.mean(costs))},
        "first_record_in_gradients": cold["gradients"],
        "products": spread(products) | {"mean": float(np.mean(products))},
        "estimated_error": spread([row["sharpness_error"] / abs(row["sharpness"]) for row in rows]),
        "true_error": spread([row["true_error"] for row in compared]),
        "power_in_gradients": spread([row["power_gradients"] for row in compared]),
        "power_error": spread([row["power_error"] for row in compared]),
        "tracking_share": {
            name: float(seconds / (seconds + CADENCES[name][1] * step)) for name, seconds in tracked.items()
        },
        "records": rows,
    }


def tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """Speeds and costs for the terminal."""
    if "training" in found:
        yield _training_table(found["training"])
    if "tracking" in found:
        yield _tracking_table(found["tracking"])


def _training_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    def per_second(row: Mapping[str, Any], name: str, spec: str) -> str:
        return " : ".join(f"{row[f'{who}_{name}_per_second']['median']:{spec}}" for who in ("lab", "plain"))

    def ratio(row: Mapping[str, Any], name: str) -> str:
        return marked(ranged(row[name]), row[name]["median"] >= TARGETS[name])

    title = "training per second, lab : plain, and how many times faster (range)"
    steps, records = (f"target {TARGETS[name]:g}×" for name in ("steps_ratio", "records_ratio"))
    heads = ("model", "width", "plain loop", "steps/s", steps, "records/s", records, "both")
    cells = (
        (
            NETWORKS[row["model"]].short,
            str(row["width"]),
            row["against"],
            per_second(row, "steps", ".0f"),
            ratio(row, "steps_ratio"),
            per_second(row, "records", ".3g"),
            ratio(row, "records_ratio"),
            f"{row['together_ratio']['median']:.1f}",
        )
        for row in rows
    )
    return table(title, heads, cells, left=(0, 2))


def _tracking_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    def errors(values: Mapping[str, float]) -> str:
        return f"{values['median']:.1e}, {values['max']:.1e}"

    cost, share = TARGETS["record_in_gradients"], TARGETS["paper_share"]
    lines: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
        f"warm record, median (target {cost:g})": lambda row: marked(
            ranged(row["record_in_gradients"]), row["record_in_gradients"]["median"] <= cost
        ),
        "warm record, mean": lambda row: f"{row['record_in_gradients']['mean']:.1f}",
        "first record": lambda row: f"{row['first_record_in_gradients']:.1f}",
        "products per warm record, median": lambda row: ranged(row["products"]),
        "products per warm record, mean": lambda row: f"{row['products']['mean']:.1f}",
        "largest estimated error": lambda row: f"{row['estimated_error']['max']:.1e}",
        "true error, median and largest": lambda row: errors(row["true_error"]),
        "ten power iterations": lambda row: ranged(row["power_in_gradients"]),
        "their true error, median and largest": lambda row: errors(row["power_error"]),
        "share of tracking, quick cadence": lambda row: f"{row['tracking_share']['quick']:.0%}",
        f"share of tracking, paper's (target {share:.0%})": lambda row: marked(
            f"{row['tracking_share']['paper']:.1%}", row["tracking_share"]["paper"] <= share
        ),
    }
    heads = ("", *(f"{NETWORKS[row['model']].short}, width {row['width']}" for row in rows))
    title = "tracking along a run, costs in gradients of the probe batch"
    return table(title, heads, ((name, *map(line, rows)) for name, line in lines.items()))


BENCHMARK = Benchmark(
    name="training_speed",
    about=__doc__,
    presets=PRESETS,
    parts={"training": training, "tracking": tracking},
    tables=tables,
    summary=lambda found: {"targets": TARGETS},
)

if __name__ == "__main__":
    use_all_cores()
    main(BENCHMARK)
