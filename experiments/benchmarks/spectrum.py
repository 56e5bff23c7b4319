"""How fast and how truly eigenvalues are found: `sharplab.eigsh` beside every other library for it.

(contest) The top of the Hessian of networks trained for a few hundred steps, on one batch: time, products and true
relative error (against float64), for true errors of 1e-2, 1e-3 and 1e-5, top-1 and top-10. Each library ends its
solves twice: by its own rule, all else at its defaults, and at the cheapest setting of its budget that an oracle, who
knows the truth, would choose; one that takes more than 30 s (smoke: 5) and more than three times sharplab's longest on
that network is given up ("too long"). "plain Lanczos, cold" is how many products any method that starts at random
needs at least: a run that keeps all its vectors, stopped by the oracle. Every library works in a process of its own,
on the same weights and batch, its loss and gradient checked to 1e-5; peers that are not installed are left out and
named.
(costs) One product in gradients, eight of them sharing a linearisation as in a solve, and as calls of their own;
a gradient and products in units of their arithmetic at the rate of a large matrix product.
(memory) Peak memory and time of λ₁ of an untrained GPT on four sequences, by size, each in a process of its own.
(warm) Products to 1e-3 along a training run, each record starting from the last one's eigenvectors, beside what an
oracle would need from there ("warm oracle": no stopping rule can do with fewer) and from a random start.
(calibration) On random matrices with known eigenvalues: how often the true error is within `errors`.

Aims at 1e-3: at most 1.3 × the products of plain Lanczos, half the time of the best peer by its own rule whose true
error is within the tolerance; warm at most 0.6 × the cold oracle's products. A Hessian product at most 2.2 gradients,
a Gauss-Newton product on the GPT 1.5; λ₁ of 124 M parameters within 20 GB.

What was found (2 cores, at 1e-3). Products: 1.00 to 1.40 times the oracle's; above the aim are convnet, mlp-4M and
gpt-10M for λ₁, by a single product of 8, 7 and 15, and convnet's ten, some of whose 25 look for missed copies. The ten
of gpt-10M (1.00) are from a single start. λ₁ comes 2.3 to 4.5 times as fast as from the best peer, but on mlp-4M, where
the power iteration of PyHessian ends within the tolerance (on no other network does it) in 0.83 of sharplab's time. Ten
eigenvalues come 1.3 to 1.9 times as fast as scipy's, which is given sharplab's own products: on mlp-0.1M twice as fast
would leave the time of 27 products and nothing else; the oracle needs 25, sharplab 32 to 34 to be certain. Warm, the
oracle itself needs 0.67, 0.64 and 0.89 (top-1 of mlp-0.1M, convnet, gpt-1M) and 0.93, 0.83 and 0.96 (top-10) times the
cold one's products, so far do 15 steps of Adam move eigenvectors: no stopping rule reaches 0.6 from there. sharplab
needs 0.94, 0.91 and 1.14; 1.25, 1.20 and 1.20. The contests of mlp-0.1M, convnet, mlp-1M and gpt-1M were timed before
orthogonalising went over the basis once rather than twice, which changes no count of products. On gpt-10M the power
iteration of hessian-eigenthings was broken off before it was through, for want of time.

Trained weights, true eigenvalues and oracles' counts are kept under runs/bench. What --parts and --problems choose
replaces the same in the earlier report, the rest of which stays. Leaves figures/bench/spectrum.json and .png.

    make bench-spectrum
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any, Literal

import tyro
from rich.console import Console
from spectra.contest import Terms
from spectra.parts import PARTS, Preset, headline, merged
from spectra.problems import LADDER, PROBLEMS
from spectra.report import AIM_TOLERANCE, AIMS, picture, tables
from training_speed import hardware

from sharplab.core.naming import lookup
from sharplab.core.provenance import versions

TABLE_WIDTH = 118
OUTPUT = Path("figures/bench/spectrum.json")
Part = Literal["contest", "costs", "memory", "warm", "calibration"]


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "smoke": Preset(
            problems=("mlp-17k", "gpt-26k"),
            warm_problems=("mlp-17k",),
            ladder=("ladder-1M",),
            peer_ladder=("ladder-1M",),
            terms=Terms(tolerances=(1e-2, AIM_TOLERANCE), starts=1, patience=5.0),
            records=4,
            most=64,
            repetitions=2,
            random_problems=15,
        ),
        "full": Preset(
            problems=("mlp-0.1M", "mlp-1M", "mlp-4M", "convnet", "gpt-1M", "gpt-10M"),
            warm_problems=("mlp-0.1M", "convnet", "gpt-1M"),
            ladder=tuple(LADDER),
            peer_ladder=("ladder-1M", "ladder-4M", "ladder-10M", "ladder-38M"),
            terms=Terms(tolerances=(1e-2, AIM_TOLERANCE, 1e-5), starts=3, patience=30.0),
        ),
    }
)


@dataclass(frozen=True)
class Options:
    """Measure eigenvalue solvers."""

    preset: Literal["smoke", "full"] = "full"
    """smoke: minutes, on toys; full: hours on two idle cores"""

    parts: tuple[Part, ...] = ("contest", "costs", "memory", "warm", "calibration")
    """what to measure"""

    problems: tuple[str, ...] = ()
    """networks of contest, costs and memory; all of the preset unless told"""

    output: Path = OUTPUT
    """the JSON; the picture lies beside it"""


def comparable(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two reports were made on the like of one machine."""
    return all(before[name] == now[name] for name in ("cpu", "cores", "device"))


def main() -> None:
    """Measure, print, and leave numbers and picture behind."""
    options = tyro.cli(Options, description=__doc__)
    for name in options.problems:
        lookup("problem", name, PROBLEMS | LADDER)
    preset = PRESETS[options.preset]
    console = Console(width=max(Console().width, TABLE_WIDTH))
    began, machine = perf_counter(), hardware()

    def say(text: str) -> None:
        console.print(f"{perf_counter() - began:5.0f} s  {text}", highlight=False, markup=False)

    report = json.loads(options.output.read_text()) if options.output.exists() else {}
    report = report if report.get("preset") == options.preset else {"preset": options.preset, "parts": {}}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    defaults = {"memory": preset.ladder, "warm": preset.warm_problems}
    for part in options.parts:
        since = perf_counter()
        names = defaults.get(part, preset.problems)
        chosen = tuple(name for name in names if not options.problems or name in options.problems)
        found = PARTS[part](preset, chosen, say)
        earlier = report["parts"].get(part)
        if options.problems and earlier and comparable(earlier["hardware"], machine):
            found = merged(earlier["found"], found)
        report["parts"][part] = {
            "seconds": perf_counter() - since,
            "hardware": machine,
            "versions": versions(),
            "found": found,
        }
        if part == "contest":
            report["headline"] = headline(found)
        # After each part, since the next may take hours.
        report["aims"] = dict(AIMS)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
        picture(report["parts"]).savefig(options.output.with_suffix(".png"))
    for table in tables(report["parts"]):
        console.print(table)
    console.print_json(data=report.get("headline", {}))
    console.print(f"{options.output} after {perf_counter() - began:.0f} s, on {machine['cpu']}", highlight=False)


if __name__ == "__main__":
    main()
