"""The benchmark's parts, each of which asks processes of its own, and what they come to."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np
from measures import spread

from sweeps.apart import apart
from sweeps.runs import Runs

CONTESTANTS = ("here", "processes", "plain", "pool")
HALF = ("cold", "warm")
AGREEMENT = 0.02  # of final losses: a comparison of speed is worth nothing if the runs differ
RUNS = 25  # per group, in sweeps of many runs
AIMS: Mapping[str, float] = MappingProxyType({"matmul_share": 0.6, "over_plain_loop": 3.0, "load_seconds": 2.0})
SHARE_WIDTH, SPEED_WIDTH, LOAD_RUNS = 512, 64, 10_000  # that the aims speak of


@dataclass(frozen=True)
class Preset:
    """How much is measured."""

    runs: tuple[Runs, ...]  # by width
    rows: int  # of the matrices that the machine's rate is measured by
    overhead: tuple[int, int]  # groups, runs per group
    groups: tuple[int, ...]  # of RUNS runs: how a sweep grows
    repetitions: int


def training(preset: Preset, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Runs per hour: a row per width and contestant."""
    rows = []
    for runs in preset.runs:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
        for repetition in range(preset.repetitions):
            for name in CONTESTANTS:
                say(f"training: width {runs.width}, {name}, {repetition + 1} of {preset.repetitions}")
                found[name].append(apart("contest", began=perf_counter(), contestant=name, runs=asdict(runs)))
        require_agreement({name: answers[0]["losses"] for name, answers in found.items()})
        rows += [speed_row(runs, name, found) for name in CONTESTANTS]
    return rows


def require_agreement(losses: Mapping[str, Sequence[float]]) -> None:
    """ValueError unless all contestants ended with about the same losses, which rounding alone keeps apart."""
    reference = np.array(losses[CONTESTANTS[0]])
    for name, values in losses.items():
        apart_by = np.max(np.abs(np.array(values) / reference - 1))
        if not apart_by <= AGREEMENT:
            raise ValueError(f"{name} does not train the same runs: a final loss differs by {apart_by:.1%}.")


def speed_row(runs: Runs, name: str, found: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Runs per hour and times as fast as the plain loop and the pool, repetition by repetition."""
    row: dict[str, Any] = {"width": runs.width, "contestant": name, "runs": runs.count, "steps": runs.steps}
    for half in HALF:
        seconds = {each: np.array([a[f"{half}_seconds"] for a in answers]) for each, answers in found.items()}
        row |= {
            f"{half}_runs_per_hour": spread(3600 * runs.count / seconds[name]),
            f"{half}_over_plain": spread(seconds["plain"] / seconds[name]),
            f"{half}_over_pool": spread(seconds["pool"] / seconds[name]),
            f"{half}_seconds": seconds[name].tolist(),
        }
    return row | {"import_seconds": spread([answer["import_seconds"] for answer in found[name]])}


def arithmetic(preset: Preset, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Share of the machine's rate of matrix products: a row per width."""
    rows = []
    for runs in preset.runs:
        say(f"arithmetic: width {runs.width}")
        rows.append(apart("arithmetic", runs=asdict(runs), rows=preset.rows, repetitions=2 * preset.repetitions + 1))
    return rows


def overhead(preset: Preset, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds per group where training takes none."""
    groups, runs = preset.overhead
    say(f"overhead: {groups} groups of {runs} runs")
    return apart("overhead", groups=groups, runs=runs, repetitions=preset.repetitions)


def growth(preset: Preset, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Time and memory of sweeps that train at once: a row per size."""
    found: dict[int, list[dict[str, float]]] = {groups: [] for groups in preset.groups}
    for repetition in range(preset.repetitions):
        for groups, answers in found.items():
            say(f"growth: {groups * RUNS:,} runs, {repetition + 1} of {preset.repetitions}")
            answers.append(_grown(groups))
    return [
        {"runs": groups * RUNS, "groups": groups} | {name: spread([a[name] for a in answers]) for name in answers[0]}
        for groups, answers in found.items()
    ]


def _grown(groups: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as store:
        sweep = {"groups": groups, "runs": RUNS, "store": store}
        trained = apart("train_many", began=perf_counter(), **sweep)
        return trained | apart("find_all", **sweep) | apart("load_all", **sweep)


PARTS: Mapping[str, Callable[[Preset, Callable[[str], None]], Any]] = MappingProxyType(
    {part.__name__: part for part in (training, arithmetic, overhead, growth)}
)


def judged(parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The aims whose sizes were measured: what was aimed at, what was found, and whether it was met."""
    found: dict[str, dict[str, Any]] = {}

    def judge(name: str, aim: float, median: float, reached: bool) -> None:
        found[name] = {"aim": aim, "measured": median, "met": bool(reached)}

    for row in parts.get("arithmetic", {}).get("found", ()):
        if row["width"] == SHARE_WIDTH:
            share = row["share_made"]["median"]
            judge(f"matmul share, width {SHARE_WIDTH}", AIMS["matmul_share"], share, share >= AIMS["matmul_share"])
    for row in parts.get("training", {}).get("found", ()):
        if row["width"] == SPEED_WIDTH and row["contestant"] in ("here", "processes"):
            for half in HALF:
                ratio = row[f"{half}_over_plain"]["median"]
                name = f"times the plain loop, width {SPEED_WIDTH}, {row['contestant']}, {half}"
                judge(name, AIMS["over_plain_loop"], ratio, ratio >= AIMS["over_plain_loop"])
    for row in parts.get("growth", {}).get("found", ()):
        if row["runs"] == LOAD_RUNS:
            seconds = row["load_seconds"]["median"]
            judge(f"seconds to load {LOAD_RUNS:,} runs", AIMS["load_seconds"], seconds, seconds < AIMS["load_seconds"])
    return found
