"""How fast the lab trains and tracks, against the loop that a researcher would write by hand.

(a) Training: optimizer steps and sharpness records per second of `sharplab.training.train.train_runs`, against one
jitted step dispatched per step, one learning rate after another, with ten power iterations per record: same weights,
data, batches and probe. "steps" is a run without records; "records" is what records add to it; "both" is the whole run.
The lab's records come with an error estimate of at most 1e-2, the plain ones with none. Of the plain loop one run
is timed, its steps and one record; its other runs and records cost the same and are counted, not made.
(b) Products: one Hessian product in gradients, where eight share a linearisation in a compiled loop, as in `eigsh`,
and as a jitted call of its own.
(c) Tracking: a record in gradients along a real run, its estimated and its true error (against `eigsh` at 1e-5),
beside ten power iterations; and the share of time that tracking takes, computed from the measured times of steps
and records, at 17 records in 256 steps and at the paper's 51 in 19,550 (arXiv 2402.17457).

Contestants run in turn, compiled beforehand; numbers are medians, with the range of all repetitions in the JSON.
Aims: 2× (steps) and 5× (records) at widths up to 64; 8 gradients per record; a share of 20 % at the paper's cadence.

Cost: about six minutes on two idle cores. Leaves figures/bench/training_speed.json.

    make bench
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any, Literal

import jax
import tyro
from measures import Workload, product_cost, tracking_cost, training_speed
from rich import box
from rich.console import Console
from rich.table import Table

from sharplab.core.provenance import versions
from sharplab.training.layout import use_all_cores

TABLE_WIDTH = 108  # characters that the widest table needs; a log is wide enough, a pipe's default is not
OUTPUT = Path("figures/bench/training_speed.json")
STEPS_AIM, RECORDS_AIM = 2.0, 5.0
RECORD_AIM, PAPER_SHARE_AIM = 8.0, 0.2


@dataclass(frozen=True)
class Network:
    """How one of the models is trained here."""

    short: str
    learning_rates: tuple[float, ...]
    step_multiple: int  # of the preset's steps: where they are cheap, few would drown in what a run costs once


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        "figure1_convnet": Network("ConvNet", (0.25, 0.5), step_multiple=1),
        "residual_mlp": Network("MLP", (0.0625, 0.125, 0.1875, 0.25), step_multiple=4),
    }
)


@dataclass(frozen=True)
class Preset:
    """How much is timed."""

    widths: tuple[int, ...]
    product_widths: tuple[int, ...]
    tracked_width: int
    steps: int
    records: int
    tracked_steps: int
    tracked_records: int
    probe_size: int
    repetitions: int


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "smoke": Preset(
            widths=(4,),
            product_widths=(4,),
            tracked_width=4,
            steps=16,
            records=3,
            tracked_steps=16,
            tracked_records=5,
            probe_size=256,
            repetitions=3,
        ),
        "quick": Preset(
            widths=(8, 16, 32, 64),
            product_widths=(16, 64),
            tracked_width=32,
            steps=48,
            records=4,
            tracked_steps=256,
            tracked_records=17,
            probe_size=1024,
            repetitions=3,
        ),
    }
)


@dataclass(frozen=True)
class Options:
    """Time training and tracking against a plain loop."""

    preset: Literal["smoke", "quick"] = "quick"
    """smoke: seconds; quick: about six minutes on two idle cores"""


def workload(preset: Preset, model: str, width: int, *, steps: int, records: int) -> Workload:
    """One run to be timed, with enough runs that no device stands idle."""
    rates = NETWORKS[model].learning_rates
    runs = -(-max(len(rates), len(jax.devices())) // len(rates)) * rates
    return Workload(model, width, runs, steps, records, batch_size=128, probe_size=preset.probe_size)


def measure(preset: Preset, console: Console) -> dict[str, list[dict[str, Any]]]:
    """Every row of the three parts."""
    stages = [("training", model, width) for model in NETWORKS for width in preset.widths]
    stages += [("products", model, width) for model in NETWORKS for width in preset.product_widths]
    stages += [("tracking", model, preset.tracked_width) for model in NETWORKS]
    found: dict[str, list[dict[str, Any]]] = {"training": [], "products": [], "tracking": []}
    began = perf_counter()
    for i, (part, model, width) in enumerate(stages, 1):
        place = f"{perf_counter() - began:4.0f} s  [{i} of {len(stages)}]"
        console.print(f"{place} {part}: {model}, width {width}", highlight=False, markup=False)
        found[part] += _stage(preset, part, model, width)
    return found


def _stage(preset: Preset, part: str, model: str, width: int) -> list[dict[str, Any]]:
    if part == "tracking":
        run = workload(preset, model, width, steps=preset.tracked_steps, records=preset.tracked_records)
        return [tracking_cost(run, compare_every=4)]
    steps = preset.steps * NETWORKS[model].step_multiple
    run = workload(preset, model, width, steps=steps, records=preset.records)
    return training_speed(run, preset.repetitions) if part == "training" else [product_cost(run, preset.repetitions)]


def tables(found: dict[str, list[dict[str, Any]]]) -> list[Table]:
    """The three parts for the eye."""
    return [_training_table(found["training"]), _products_table(found["products"]), _tracking_table(found["tracking"])]


def _training_table(rows: list[dict[str, Any]]) -> Table:
    heads = (
        "model",
        "width",
        "plain loop",
        "steps/s",
        f"aim {STEPS_AIM:g}×",
        "records/s",
        f"aim {RECORDS_AIM:g}×",
        "both",
    )
    table = _table("(a) training per second, lab : plain, and how many times faster (range)", heads, left=(0, 2))
    for row in rows:
        steps = (row["lab_steps_per_second"]["median"], row["plain_steps_per_second"]["median"])
        records = (row["lab_records_per_second"]["median"], row["plain_records_per_second"]["median"])
        table.add_row(
            NETWORKS[row["model"]].short,
            str(row["width"]),
            row["against"],
            "{:.0f} : {:.0f}".format(*steps),
            _judged(row["steps_ratio"], least=STEPS_AIM),
            "{:.3g} : {:.3g}".format(*records),
            _judged(row["records_ratio"], least=RECORDS_AIM),
            f"{row['together_ratio']['median']:.1f}",
        )
    return table


def _products_table(rows: list[dict[str, Any]]) -> Table:
    heads = ("model", "width", "gradient", "linearised once for 8", "a call of its own")
    table = _table("(b) one Hessian product on the probe batch, in gradients (range)", heads)
    for row in rows:
        table.add_row(
            NETWORKS[row["model"]].short,
            str(row["width"]),
            f"{1e3 * row['gradient_seconds']['median']:.1f} ms",
            _ranged(row["linearised_over_gradient"]),
            _ranged(row["separate_over_gradient"]),
        )
    return table


def _tracking_table(rows: list[dict[str, Any]]) -> Table:
    heads = ("", *(f"{NETWORKS[row['model']].short}, width {row['width']}" for row in rows))
    table = _table("(c) tracking along a run, costs in gradients of the probe batch", heads)
    lines = {
        f"warm record, median (aim {RECORD_AIM:g})": lambda r: _judged(r["record_in_gradients"], most=RECORD_AIM),
        "warm record, mean": lambda r: f"{r['record_in_gradients']['mean']:.1f}",
        "first record": lambda r: f"{r['first_record_in_gradients']:.1f}",
        "products per warm record, median": lambda r: _ranged(r["products"]),
        "products per warm record, mean": lambda r: f"{r['products']['mean']:.1f}",
        "largest estimated error": lambda r: f"{r['estimated_error']['max']:.1e}",
        "true error, median and largest": lambda r: _two(r["true_error"]),
        "ten power iterations": lambda r: _ranged(r["power_in_gradients"]),
        "their true error, median and largest": lambda r: _two(r["power_error"]),
        "share of tracking, quick cadence": lambda r: f"{r['tracking_share']['quick']:.0%}",
        f"share of tracking, paper's (aim {PAPER_SHARE_AIM:.0%})": lambda r: _marked(
            f"{r['tracking_share']['paper']:.1%}", r["tracking_share"]["paper"] <= PAPER_SHARE_AIM
        ),
    }
    for name, line in lines.items():
        table.add_row(name, *(line(row) for row in rows))
    return table


def _table(title: str, heads: Sequence[str], left: tuple[int, ...] = (0,)) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i in left else "right", no_wrap=True)
    return table


def _ranged(values: dict[str, float]) -> str:
    return f"{values['median']:.1f} ({values['min']:.1f}–{values['max']:.1f})"


def _two(values: dict[str, float]) -> str:
    return f"{values['median']:.1e}, {values['max']:.1e}"


def _judged(values: dict[str, float], *, least: float = 0, most: float = float("inf")) -> str:
    return _marked(_ranged(values), least <= values["median"] <= most)


def _marked(text: str, reached: bool) -> str:
    return f"[green]{text} ✓[/]" if reached else f"[red]{text} ✗[/]"


def hardware() -> dict[str, Any]:
    """What the numbers were measured on."""
    information = Path("/proc/cpuinfo")
    names = (
        [line for line in information.read_text().splitlines() if "model name" in line] if information.exists() else []
    )
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "devices": len(jax.devices()),
        "load_average_before": os.getloadavg()[0],
    }


def main() -> None:
    """Time, print, and leave the numbers behind."""
    options = tyro.cli(Options, description=__doc__)
    use_all_cores()
    console = Console(width=max(Console().width, TABLE_WIDTH))
    began, machine = perf_counter(), hardware()
    found = measure(PRESETS[options.preset], console)
    seconds = perf_counter() - began
    for table in tables(found):
        console.print(table)
    aims = {
        "steps_ratio": STEPS_AIM,
        "records_ratio": RECORDS_AIM,
        "record_in_gradients": RECORD_AIM,
        "paper_share": PAPER_SHARE_AIM,
    }
    report = {"preset": options.preset, "seconds": seconds, "hardware": machine, "versions": versions(), "aims": aims}
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(report | found, indent=1) + "\n")
    console.print(f"{OUTPUT} after {seconds:.0f} s, on {machine['cpu']}, {machine['cores']} cores", highlight=False)


if __name__ == "__main__":
    main()
