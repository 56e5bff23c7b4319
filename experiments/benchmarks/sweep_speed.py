"""How fast whole sweeps are, and what the engine around the training costs.

(a) Runs per hour of `sharplab.run`, in this process and with worker processes, beside the plain loop (one run after
another, a jitted step at a time) and a pool of processes with one run per task, both with the lab's own model code:
the same residual MLPs on Fashion-MNIST, losses recorded at the first and last step, no curvature. Every contestant
works in a process of its own. "cold" counts from the start of that process to the last of its first runs: imports,
data, compilation, with no cached program; "warm" counts as many runs more, with other seeds. The plain loop and the
pool store nothing. For CPUs: on an accelerator the pool's workers would get into each other's way.
(b) The arithmetic of training (counted by hand: 6 × weights × batch per step, less the stem's input gradient that
nobody needs) over the rate of a large float32 matrix product on all cores, in the same process, in turn. The plain
loop's share bounds how many times as fast as it anything can be that computes the same.
(c) Seconds per group where training takes none: the overhead of the engine.
(d) Sweeps of 100 to 10,000 such runs in groups of 25: start-up, planning, the whole run, a second call that finds
everything there, loading, and peak memory, each in a process of its own.

Contestants take turns; numbers are medians with their range. Aims, none of them tuned: a share of 60 % at width 512;
3 × the plain loop at width 64; 10,000 runs loaded in less than 2 s.

Cost: about twenty minutes on two idle cores. What --parts chooses replaces the same in the earlier report.
Leaves figures/bench/sweep_speed.json and .png.

    make bench-sweep
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Literal

import tyro
from rich.console import Console
from sweeps.parts import PARTS, Preset, judged
from sweeps.report import picture, tables
from sweeps.runs import Runs
from training_speed import hardware

from sharplab.core.provenance import versions

TABLE_WIDTH = 112  # characters that the widest table needs; a log is wide enough, a pipe's default is not
OUTPUT = Path("figures/bench/sweep_speed.json")
Part = Literal["training", "arithmetic", "overhead", "growth"]

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "smoke": Preset(
            runs=(Runs(width=4, seeds=1, learning_rates=(0.0625, 0.125), steps=4),),
            rows=64,
            overhead=(2, 5),
            groups=(2, 4),
            repetitions=1,
        ),
        "full": Preset(
            # Of wide networks few runs, so that none takes much longer than a minute.
            runs=tuple(Runs(width, seeds) for width, seeds in {16: 8, 64: 8, 256: 2, 512: 1}.items()),
            rows=4096,
            overhead=(40, 5),
            groups=(4, 40, 400),
            repetitions=3,
        ),
    }
)


@dataclass(frozen=True)
class Options:
    """Measure whole sweeps."""

    preset: Literal["smoke", "full"] = "full"
    """smoke: seconds, on toys; full: about twenty minutes on two idle cores"""

    parts: tuple[Part, ...] = ("training", "arithmetic", "overhead", "growth")
    """what to measure"""

    output: Path = OUTPUT
    """the JSON; the picture lies beside it"""


def main() -> None:
    """Measure, print, and leave numbers and picture behind."""
    options = tyro.cli(Options, description=__doc__)
    console = Console(width=max(Console().width, TABLE_WIDTH))
    began, machine = perf_counter(), hardware()

    def say(text: str) -> None:
        console.print(f"{perf_counter() - began:5.0f} s  {text}", highlight=False, markup=False)

    report = json.loads(options.output.read_text()) if options.output.exists() else {}
    report = report if report.get("preset") == options.preset else {"preset": options.preset, "parts": {}}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for part in options.parts:
        since = perf_counter()
        found = PARTS[part](PRESETS[options.preset], say)
        about = {"seconds": perf_counter() - since, "hardware": machine, "versions": versions()}
        report["parts"][part] = about | {"found": found}
        report["aims"] = judged(report["parts"])
        # After each part, since the next takes minutes.
        options.output.write_text(json.dumps(report, indent=1) + "\n")
        picture(report["parts"]).savefig(options.output.with_suffix(".png"))
    for table in tables(report["parts"], report["aims"]):
        console.print(table)
    console.print(f"{options.output} after {perf_counter() - began:.0f} s, on {machine['cpu']}", highlight=False)


if __name__ == "__main__":
    main()
