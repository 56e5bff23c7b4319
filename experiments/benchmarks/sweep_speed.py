"""Speed of whole sweeps, and the cost of the engine around the training.

(training) Runs per hour of `sharplab.run`, in this process and with worker processes, beside the plain loop (one run
after another, a jitted step at a time) and a pool of processes with one run per task, both with the lab's own model
code: the same residual MLPs on Fashion-MNIST, losses recorded at the first and last step, no curvature. Every
contestant works in a process of its own. "cold" counts from the start of that process to the last of its first runs:
imports, data, compilation, with no cached program; "warm" counts as many runs more, with other seeds. The plain loop
and the pool store nothing. For CPUs: on an accelerator the pool's workers would get into each other's way.
(arithmetic) The arithmetic of training (counted by hand: 6 × weights × batch per step, less the stem's input gradient
that nobody needs) over the rate of a large float32 matrix product on all cores, in the same process, in turn. The
plain loop's share bounds how many times as fast as it anything can be that computes the same.
(overhead) Seconds per group where training takes none: the engine alone.
(growth) Sweeps of 100 to 100,000 such runs in groups of 25: start-up, planning, the whole run, a second call that finds
everything there, loading, `sharplab.transfer` over the width at each depth, and peak memory, each in a process of its
own.

Contestants take turns; numbers are medians with their range. Targets, none of them tuned: a share of 60 % at width 512;
3 × the plain loop at width 64; 10,000 runs loaded in less than 2 s.

Cost: about twenty minutes on two idle cores. Leaves figures/bench/sweep_speed.json and .png.

    make bench-sweep
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from harness import Benchmark, Say, in_process, main, spread
from sweeps.arithmetic import matmul_share
from sweeps.contestants import CONTESTANTS, contest
from sweeps.immediate import find_all, load_all, seconds_per_group, train_many
from sweeps.report import HALF, picture, tables, targets
from sweeps.runs import Runs

AGREEMENT = 0.02  # of final losses: a comparison of speed is worth nothing if the runs differ
RUNS = 25  # per group, in sweeps of many runs


@dataclass(frozen=True)
class Preset:
    """The runs, sizes and repetitions that are measured."""

    runs: tuple[Runs, ...]  # by width
    rows: int  # of the matrices that the machine's rate is measured by
    overhead: tuple[int, int]  # groups, runs per group
    groups: tuple[int, ...]  # of RUNS runs: how a sweep grows
    repetitions: int


PRESETS: Mapping[str, Preset] = {
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
        groups=(4, 40, 400, 4000),
        repetitions=3,
    ),
}


def training(preset: Preset, say: Say) -> list[dict[str, Any]]:
    """Runs per hour: a row per width and contestant."""
    rows = []
    for runs in preset.runs:
        answers: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
        for repetition in range(preset.repetitions):
            for name in CONTESTANTS:
                say(f"training: width {runs.width}, {name}, {repetition + 1} of {preset.repetitions}")
                answers[name].append(in_process(contest, began=perf_counter(), contestant=name, runs=runs))
        require_agreement({name: own[0]["losses"] for name, own in answers.items()})
        rows += [speed_row(runs, name, answers) for name in CONTESTANTS]
    return rows


def require_agreement(losses: Mapping[str, Sequence[float]]) -> None:
    """ValueError unless all contestants ended with about the same losses, which rounding alone keeps apart."""
    reference = np.array(losses["here"])
    for name, values in losses.items():
        difference = np.max(np.abs(np.array(values) / reference - 1))
        if not difference <= AGREEMENT:
            raise ValueError(f"{name} does not train the same runs: a final loss differs by {difference:.1%}.")


def speed_row(runs: Runs, name: str, answers: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Runs per hour and times as fast as the plain loop and the pool, repetition by repetition."""
    row: dict[str, Any] = {"width": runs.width, "contestant": name, "runs": runs.count, "steps": runs.steps}
    for half in HALF:
        seconds = {each: np.array([a[f"{half}_seconds"] for a in own]) for each, own in answers.items()}
        row |= {
            f"{half}_runs_per_hour": spread(3600 * runs.count / seconds[name]),
            f"{half}_over_plain": spread(seconds["plain"] / seconds[name]),
            f"{half}_over_pool": spread(seconds["pool"] / seconds[name]),
            f"{half}_seconds": seconds[name].tolist(),
        }
    return row | {"import_seconds": spread([answer["import_seconds"] for answer in answers[name]])}


def arithmetic(preset: Preset, say: Say) -> list[dict[str, Any]]:
    """Share of the machine's rate of matrix products: a row per width."""
    rows = []
    for runs in preset.runs:
        say(f"arithmetic: width {runs.width}")
        rows.append(in_process(matmul_share, runs=runs, rows=preset.rows, repetitions=2 * preset.repetitions + 1))
    return rows


def overhead(preset: Preset, say: Say) -> dict[str, Any]:
    """Seconds per group where training takes none."""
    groups, runs = preset.overhead
    say(f"overhead: {groups} groups of {runs} runs")
    return in_process(seconds_per_group, groups=groups, runs=runs, repetitions=preset.repetitions)


def growth(preset: Preset, say: Say) -> list[dict[str, Any]]:
    """Time and memory of sweeps that train at once: a row per size."""
    answers: dict[int, list[dict[str, float]]] = {groups: [] for groups in preset.groups}
    for repetition in range(preset.repetitions):
        for groups, own in answers.items():
            say(f"growth: {groups * RUNS:,} runs, {repetition + 1} of {preset.repetitions}")
            with tempfile.TemporaryDirectory() as store:
                sweep = {"groups": groups, "runs": RUNS, "store": store}
                trained = in_process(train_many, began=perf_counter(), **sweep)
                own.append(trained | in_process(find_all, **sweep) | in_process(load_all, **sweep))
    return [
        {"runs": groups * RUNS, "groups": groups} | {name: spread([a[name] for a in own]) for name in own[0]}
        for groups, own in answers.items()
    ]


BENCHMARK = Benchmark(
    name="sweep_speed",
    about=__doc__,
    presets=PRESETS,
    parts={"training": training, "arithmetic": arithmetic, "overhead": overhead, "growth": growth},
    tables=tables,
    summary=lambda found: {"targets": targets(found)},
    picture=picture,
)

if __name__ == "__main__":
    main(BENCHMARK)
