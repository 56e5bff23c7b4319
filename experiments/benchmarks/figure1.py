"""The study of the paper's first figure, by the lab and by a plain port of the authors' JAX script.

Paper: Noci et al., arXiv 2402.17457; its script (`figure1_jax_reproduction` of the authors' repository) is ported
straightforwardly in `figure1_study/plain_port.py`: augmentation by numpy on the host, one dispatch per step,
`lax.conv_general_dilated` and `lax.reduce_window`, one learning rate after another, ten warm-started power iterations
per snapshot on 32 training images. Both train the Figure-1 ConvNet at widths 16, 64 and 256 under muP and NTK, SGD,
batch 128, on the bundled Fashion-MNIST (32×32×1): courses of 256 steps with 9 snapshots at η = 0.5 (muP) and 7 (NTK),
and 128 steps at five learning rates each. Initial weights, batches and the draws of crops and mirrorings are the same.
Losses are of the 1,808 held-out images (the script's, of 512 training images).

Every contestant works in a process of its own, from its start to its answer, with imports and compilation and with
nothing cached. The lab is asked by `sl.run`: in one process ("here", a device per core) and with a worker process per
core ("processes"). They run before and after the plain port, which takes eleven minutes and runs once.

Then, untimed: the eigenvalue in float64 at the plain port's weights of each snapshot, with what power iteration and
the lab's records make of it; and the lab's courses from weights moved by one rounding, which says how far rounding
alone takes two runs apart.

Rules, fixed beforehand. Losses at step 0 that differ by more than 1e-5 end the benchmark. Curves are "on top of each
other" where at every snapshot the losses differ by at most 1e-3 or ten times the most that the rounding has made until
then; and the sharpnesses by at most the true error of power iteration there, plus the error that the lab states, plus
1e-3 or ten times the rounding's. Aim: ten times as fast on 2 cores.

Found on two cores: 4.0 times as fast in one process (a third of its time is compiling), 4.8 in two; most of the rest is
width 256. The best learning rates agree; of 108 comparisons along the courses 106 are within the rule, and two
sharpnesses are beyond it, by factors of 1.01 and 1.8.

Cost: half an hour on two idle cores. Leaves figures/bench/figure1.json and .png.

    make bench-figure1
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any, Literal

import tyro
from figure1_study.comparison import compare, judged, require_same_start
from figure1_study.report import picture, tables
from figure1_study.study import Study
from figure1_study.worker import apart
from rich.console import Console
from training_speed import hardware

from sharplab.core.provenance import versions

TABLE_WIDTH = 120  # characters that the widest table needs; a log is wide enough, a pipe's default is not
OUTPUT = Path("figures/bench/figure1.json")


@dataclass(frozen=True)
class Preset:
    """What is done, and in which order: the lab before and after the plain port, should the machine change."""

    study: Study
    order: tuple[str, ...]


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "smoke": Preset(
            Study(
                widths=(4, 8),
                steps=16,
                snapshots=3,
                sweep_steps=8,
                rates={"mean_field": (0.5, 2.0), "ntk": (7.0, 20.0)},
            ),
            order=("here", "processes", "plain"),
        ),
        "full": Preset(
            Study(),
            order=("here", "processes", "plain", "here", "processes"),
        ),
    }
)


@dataclass(frozen=True)
class Options:
    """Time the study of the paper's first figure."""

    preset: Literal["smoke", "full"] = "full"
    """smoke: two minutes, on toys; full: half an hour on two idle cores"""

    output: Path = OUTPUT
    """the JSON; the picture lies beside it"""


def main() -> None:
    """Measure, print, and leave numbers and picture behind."""
    options = tyro.cli(Options, description=__doc__)
    console = Console(width=max(Console().width, TABLE_WIDTH))
    preset, load = PRESETS[options.preset], os.getloadavg()[0]
    began = perf_counter()

    def say(text: str) -> None:
        console.print(f"{perf_counter() - began:5.0f} s  {text}", highlight=False, markup=False)

    answers = ask(preset, say)
    machine = hardware() | {"load_average_before": load}  # asked last: jax holds an accelerator from then on
    comparison = compare(preset.study, answers)
    aims = judged(preset.study, comparison)
    report = {
        "preset": options.preset,
        "seconds": perf_counter() - began,
        "hardware": machine,
        "versions": versions(),
        "study": asdict(preset.study),
        "aims": aims,
        "comparison": comparison,
        "answers": answers,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    picture(preset.study, answers, comparison).savefig(options.output.with_suffix(".png"))
    for table in tables(comparison, aims):
        console.print(table)
    console.print(f"{options.output} after {perf_counter() - began:.0f} s, on {machine['cpu']}", highlight=False)


def ask(preset: Preset, say: Callable[[str], None]) -> dict[str, Any]:
    """Every contestant's answers, in their order, and those of the checks."""
    answers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say("images, batches, draws and weights")
        apart("prepare", folder, preset.study)
        for contestant in preset.order:
            answer = apart(contestant, folder, preset.study)
            answers.setdefault(contestant, []).append(answer)
            say(f"{contestant}: {answer['seconds']:.1f} s")
        require_same_start(preset.study, answers)
        for check in ("converged", "rounding"):
            say(f"check: {check}")
            answers[check] = apart(check, folder, preset.study)
    return answers


if __name__ == "__main__":
    main()
