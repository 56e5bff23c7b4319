"""Speed of training and tracking, against the loop that a researcher would write by hand.

Optimizer steps and sharpness records per second of `sharplab.training.train.train_runs`, against one jitted step
dispatched per step, one learning rate after another, with ten power iterations per record: same code of the model,
weights, data, batches and probe. (The committed report has rows against a ConvNet by `lax.conv_general_dilated` too,
which figure1.py measures.) "steps" is a run without records; "records" is what records add to it; "both" the whole run.
The lab's records come with an error estimate of at most 1e-2, the plain ones with none. Of the plain loop one run
is timed, its steps and one record; its other runs and records cost the same and are counted, not made.

Contestants run in turn, compiled beforehand; numbers are medians, with the range of all repetitions in the JSON.
What a Hessian product costs is measured by spectrum.py; the report keeps earlier measurements of it as "products", and
of records along a run, their costs in gradients and their true errors, as "tracking".
Targets: 2× (steps) and 5× (records) at widths up to 64.

Cost: about five minutes on two idle cores. Leaves figures/bench/training_speed.json.

    make bench
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Benchmark, Say, in_turn, main, seconds_of, spread
from plain_loop import lab_seconds, same_model
from report import marked, ranged, table
from rich.table import Table

from sharplab.data import batch_indices, load_dataset
from sharplab.training.layout import use_all_cores
from sharplab.training.task import Run, Task, find_recipe

TARGETS = {"steps_ratio": 2.0, "records_ratio": 5.0}
DATA = "fashion-mnist-10k"


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
    steps: int
    records: int
    probe_size: int
    repetitions: int = 3


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(widths=(4,), steps=16, records=3, probe_size=256),
    "quick": Preset(widths=(8, 16, 32, 64), steps=48, records=4, probe_size=1024),
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

    def order(self) -> np.ndarray:
        """The examples of every step, as a run of seed 0 sees them."""
        examples = len(load_dataset(DATA).train_targets)
        return batch_indices(0, examples, self.batch_size, 0, self.steps)


def training(preset: Preset, say: Say) -> list[dict[str, Any]]:
    """The lab's runs against the plain loop: a row per model and width."""
    rows = []
    for model, network in NETWORKS.items():
        for width in preset.widths:
            say(f"training: {model}, width {width}")
            workload = Workload(model, width, preset.steps * network.step_multiple, preset.records, preset.probe_size)
            rows.append(_against_plain(workload, preset.repetitions))
    return rows


def _against_plain(workload: Workload, repetitions: int) -> dict[str, Any]:
    """The speeds of both; as one run follows another in the plain loop, a run's times say all."""
    dataset, recipe = load_dataset(DATA), find_recipe(workload.task(("sharpness",), workload.record_steps))
    loop = same_model(recipe, dataset.train_inputs, jnp.asarray(dataset.train_targets), workload.probe_size)
    rate, order, key = workload.learning_rates[0], workload.order(), jax.random.key(0)
    first = workload.record_steps[:2]  # a training up to the second record compiles everything
    first_calls = {
        "lab": sum(_lab_seconds(workload, observables, first) for observables in ((), ("sharpness",))),
        "plain": seconds_of(loop.train_run, rate, order[:1]) + seconds_of(loop.record, loop.params, key),
    }
    contestants = {
        "lab, steps": lambda: _lab_seconds(workload, (), workload.record_steps),
        "lab, both": lambda: _lab_seconds(workload, ("sharpness",), workload.record_steps),
        "plain, steps": lambda: seconds_of(loop.train_run, rate, order),
        "plain, record": lambda: seconds_of(loop.record, loop.params, key),
    }
    return _speed_row(workload, in_turn(contestants, repetitions), first_calls)


def _lab_seconds(workload: Workload, observables: tuple[str, ...], record_steps: Sequence[int]) -> float:
    runs = [Run(rate, seed=0) for rate in workload.learning_rates]
    return lab_seconds(workload.task(observables, record_steps), runs)


def _speed_row(
    workload: Workload, seconds: Mapping[str, np.ndarray], first_calls: Mapping[str, float]
) -> dict[str, Any]:
    runs = len(workload.learning_rates)
    steps, records = runs * workload.steps, runs * workload.records
    lab_steps, lab_both = seconds["lab, steps"], seconds["lab, both"]
    plain_steps, plain_records = runs * seconds["plain, steps"], records * seconds["plain, record"]
    lab_records = lab_both - lab_steps
    return {
        "model": workload.model,
        "width": workload.width,
        "against": "same code",
        "lab_steps_per_second": spread(steps / lab_steps),
        "plain_steps_per_second": spread(steps / plain_steps),
        "steps_ratio": spread(plain_steps / lab_steps),
        "lab_records_per_second": spread(records / lab_records),
        "plain_records_per_second": spread(records / plain_records),
        "records_ratio": spread(plain_records / lab_records),
        "together_ratio": spread((plain_steps + plain_records) / lab_both),
        "lab_first_call_seconds": first_calls["lab"],
        "plain_first_call_seconds": first_calls["plain"],
        "lab_seconds": {"steps": lab_steps.tolist(), "both": lab_both.tolist()},
        "plain_seconds": {"steps": plain_steps.tolist(), "records": plain_records.tolist()},
    }


def tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """Speeds for the terminal."""

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
        for row in found.get("training", ())
    )
    yield table(title, heads, cells, left=(0, 2))


BENCHMARK = Benchmark(
    name="training_speed",
    about=__doc__,
    presets=PRESETS,
    parts={"training": training},
    tables=tables,
    summary=lambda found: {"targets": TARGETS},
)

if __name__ == "__main__":
    use_all_cores()
    main(BENCHMARK)
