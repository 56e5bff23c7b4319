"""How fast the lab trains and tracks, against the loop that a researcher would write by hand.

(a) Training: optimizer steps and sharpness records per second of `sharplab.training.train_lanes`, against one jitted
step dispatched per step, one learning rate after another, with ten power iterations per record: same weights, data,
batches and probe. "steps" is a run without records; "records" is what records add to it; "both" is the whole run.
The lab's records come with an error estimate of at most 1e-2, the plain ones with none. Of the plain loop one lane
is timed, its steps and one record; its other lanes and records cost the same and are counted, not made.
(b) Products: one Hessian product in gradients, where eight share a linearisation in a compiled loop, as in `eigsh`,
and as a jitted call of its own.
(c) Tracking: a record in gradients along a real run, its estimated and its true error (against `eigsh` at 1e-5),
beside ten power iterations; and the share of time that tracking takes, computed from the measured times of steps
and records, at 17 records in 256 steps and at the paper's 51 in 19,550 (arXiv 2402.17457).

Contestants run in turn, compiled beforehand; numbers are medians, with the range of all repetitions in the JSON.
Aims: 2× (steps) and 5× (records) at widths up to 64; 8 gradients per record; a share of 20 % at the paper's cadence.

Cost: about four minutes on two idle cores. Leaves figures/bench/training_speed.json.

    make bench
"""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any, Literal

import jax
import tyro
from measures import Workload, product_cost, tracking_cost, training_speed
from rich.console import Console
from rich.table import Table

from sharplab.drivers import use_all_cores
from sharplab.provenance import versions

OUTPUT = Path("figures/bench/training_speed.json")
STEPS_AIM, RECORDS_AIM = 2.0, 5.0
RECORD_AIM, PAPER_SHARE_AIM = 8.0, 0.2
RATES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {"figure1_convnet": (0.25, 0.5), "residual_mlp": (0.0625, 0.125, 0.1875, 0.25)}
)


@dataclass(frozen=True)
class Preset:
    """How much is timed."""

    widths: tuple[int, ...]
    product_widths: tuple[int, ...]
    tracked_width: int
    steps: int
    tracked_steps: int
    tracked_records: int
    probe_size: int
    repetitions: int


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "smoke": Preset((4,), (4,), 4, 16, 16, 5, 256, 3),
        "quick": Preset((8, 16, 32, 64), (16, 64), 32, 64, 256, 17, 1024, 3),
    }
)


@dataclass(frozen=True)
class Options:
    """Time training and tracking against a plain loop."""

    preset: Literal["smoke", "quick"] = "quick"
    """smoke: seconds; quick: about four minutes on two idle cores"""


def workload(preset: Preset, model: str, width: int, *, steps: int, records: int) -> Workload:
    """One run to be timed, with enough lanes that no device stands idle."""
    rates = RATES[model]
    lanes = -(-max(len(rates), len(jax.devices())) // len(rates)) * rates
    return Workload(model, width, lanes, steps, records, batch_size=128, probe_size=preset.probe_size)


def measure(preset: Preset, console: Console) -> dict[str, list[dict[str, Any]]]:
    """Every row of the three parts."""
    found: dict[str, list[dict[str, Any]]] = {"training": [], "products": [], "tracking": []}
    for model in RATES:
        for width in preset.widths:
            with console.status(f"training, {model}, width {width}"):
                run = workload(preset, model, width, steps=preset.steps, records=5)
                found["training"] += training_speed(run, preset.repetitions)
        for width in preset.product_widths:
            with console.status(f"Hessian products, {model}, width {width}"):
                run = workload(preset, model, width, steps=preset.steps, records=5)
                found["products"].append(product_cost(run, preset.repetitions))
        with console.status(f"tracking, {model}, width {preset.tracked_width}"):
            run = workload(
                preset, model, preset.tracked_width, steps=preset.tracked_steps, records=preset.tracked_records
            )
            found["tracking"].append(tracking_cost(run, compare_every=4))
    return found


def tables(found: dict[str, list[dict[str, Any]]]) -> list[Table]:
    """The three parts for the eye."""
    return [_training_table(found["training"]), _products_table(found["products"]), _tracking_table(found["tracking"])]


def _training_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="(a) training: lab against plain loop, per second, and how many times faster (range)")
    heads = ["model", "width", "plain loop with", "steps/s", "plain", f"× (aim {STEPS_AIM:g})"]
    heads += ["records/s", "plain", f"× (aim {RECORDS_AIM:g})", "both, ×", "first call"]
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i in (0, 2) else "right")
    for row in rows:
        table.add_row(
            row["model"],
            str(row["width"]),
            row["against"],
            f"{row['lab_steps_per_second']['median']:.0f}",
            f"{row['plain_steps_per_second']['median']:.0f}",
            _judged(row["steps_ratio"], least=STEPS_AIM),
            f"{row['lab_records_per_second']['median']:.2f}",
            f"{row['plain_records_per_second']['median']:.2f}",
            _judged(row["records_ratio"], least=RECORDS_AIM),
            _ranged(row["together_ratio"]),
            f"{row['lab_first_call_seconds']:.0f} s, {row['plain_first_call_seconds']:.0f} s",
        )
    return table


def _products_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="(b) one Hessian product on the probe batch, in gradients (range)")
    for head in ("model", "width", "gradient", "linearised once for 8", "a call of its own"):
        table.add_column(head, justify="left" if head == "model" else "right")
    for row in rows:
        table.add_row(
            row["model"],
            str(row["width"]),
            f"{1e3 * row['gradient_seconds']['median']:.1f} ms",
            _ranged(row["linearised_over_gradient"]),
            _ranged(row["separate_over_gradient"]),
        )
    return table


def _tracking_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="(c) tracking along a run, costs in gradients of the probe batch")
    table.add_column("")
    for row in rows:
        table.add_column(f"{row['model']}, width {row['width']}", justify="right")
    lines = {
        f"warm record, median (aim {RECORD_AIM:g})": lambda r: _judged(r["record_in_gradients"], most=RECORD_AIM),
        "warm record, mean": lambda r: f"{r['record_in_gradients']['mean']:.1f}",
        "first record": lambda r: f"{r['first_record_in_gradients']:.1f}",
        "products per warm record": lambda r: f"{_ranged(r['products'])}, mean {r['products']['mean']:.1f}",
        "largest estimated error": lambda r: f"{r['estimated_error']['max']:.1e}",
        "true error, median and largest": lambda r: _two(r["true_error"]),
        "ten power iterations": lambda r: _ranged(r["power_in_gradients"]),
        "their true error, median and largest": lambda r: _two(r["power_error"]),
        "share of tracking, quick cadence": lambda r: f"{r['tracking_share']['quick']:.0%}",
        f"share, paper's (aim {PAPER_SHARE_AIM:.0%})": lambda r: _coloured(
            f"{r['tracking_share']['paper']:.1%}", r["tracking_share"]["paper"] <= PAPER_SHARE_AIM
        ),
    }
    for name, line in lines.items():
        table.add_row(name, *(line(row) for row in rows))
    return table


def _ranged(values: dict[str, float]) -> str:
    return f"{values['median']:.1f} ({values['min']:.1f}–{values['max']:.1f})"


def _two(values: dict[str, float]) -> str:
    return f"{values['median']:.1e}, {values['max']:.1e}"


def _judged(values: dict[str, float], *, least: float = 0, most: float = float("inf")) -> str:
    return _coloured(_ranged(values), least <= values["median"] <= most)


def _coloured(text: str, reached: bool) -> str:
    return f"[green]{text}[/]" if reached else f"[red]{text} missed[/]"


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
    console = Console()
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
