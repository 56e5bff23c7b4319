"""A verdict on transfer at the least cost: seeds are trained in rounds, where they tell most, until it is decided."""

import math
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sharplab.analysis import Transfer
from sharplab.analysis.curves import LATE
from sharplab.analysis.sequential import Wanted
from sharplab.core.arguments import checked, positive, text
from sharplab.core.evidence import note_runs
from sharplab.records import Records
from sharplab.studies.rounds import Design, Look, Rounds, follow
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.plan import make_plan
from sharplab.sweep.preview import duration
from sharplab.sweep.runner import an_experiment, run
from sharplab.sweep.store.directory import open_store, read_rows
from sharplab.sweep.store.rows import as_records
from sharplab.sweep.time_left import predict, stored_timings

# Why there were no further rounds.
ENDED: Mapping[str, str] = {
    "seeds": "all seeds are trained",
    "hopeless": "the seeds that are left would hardly tell",
    "flops": "the next round costs more than is left",
    "grid": "more seeds would not tell",
}


@dataclass(frozen=True)
class Decision:
    """The verdicts of a sweep that was trained in rounds.

    Attributes:
        transfers: of each parameterization, what its last look found. The confidence of its intervals is the one that
            this look has, such that those of all looks hold together as often as was asked for.
        records: of all runs that were used.
        looks: one row per look: look, parameterization, the seeds of each size, shift with its interval and its
            confidence, verdict, and the training FLOPs spent on the parameterization until then.
        flops: training FLOPs of all runs that were used, counted from the programs and not timed.
        wanted: of each parameterization that is undecided, what would decide it.
        seconds: that this would take here, as far as the runs of the store tell.
        ended: why no round followed: "decided", "seeds" (none left), "hopeless" (those left would hardly tell),
            "flops" (none left) or "grid" (it ends at the best learning rate).
    """

    transfers: Mapping[str, Transfer]
    records: Records
    looks: pd.DataFrame
    flops: int
    wanted: Mapping[str, Wanted]
    seconds: Mapping[str, float]
    ended: Mapping[str, str]

    def __str__(self) -> str:
        lines = []
        for name, found in self.transfers.items():
            looks = self.looks[self.looks["parameterization"] == name]
            lines.append(f"{name}: the optimal learning rate over {found.over}, tolerance ±{found.tolerance:g}")
            lines += [_line(look, found) for look in looks.to_dict("records")]
            lines.append(f"  {self._last(name, found)}")
        lines.append(f"in all {self.flops:.3g} training FLOPs")
        return "\n".join(lines)

    def _last(self, name: str, found: Transfer) -> str:
        if name not in self.wanted:
            return f"it {found.verdict}"
        time = f", about {duration(self.seconds[name])} here" if name in self.seconds else ""
        return f"undecided ({ENDED[self.ended[name]]}): {self.wanted[name].says}{time}"


def _line(look: Mapping[str, Any], found: Transfer) -> str:
    seeds = ", ".join(str(look[f"seeds_{size}"]) for size in found.sizes)
    return (
        f"  look {look['look']}, {seeds} seeds: shift {look['shift']:+.2f} octaves per doubling, "
        f"{look['confidence']:.1%} interval [{look['shift_low']:+.2f}, {look['shift_high']:+.2f}]: {look['verdict']}, "
        f"{look['flops']:.3g} FLOPs"
    )


def _flops(name: str, value: Any) -> None:
    """A positive number, or inf."""
    if value != math.inf:
        positive(name, value)


@checked(experiment=an_experiment, metric=text, flops=_flops)
def decide(
    experiment: Experiment,
    store: Path | str,
    *,
    over: str = "width",
    metric: str = "train_loss",
    tolerance: float = 0.25,
    seeds: int = 16,
    flops: float = math.inf,
    confidence: float = 0.95,
    executor: Executor | str | None = None,
) -> Decision:
    """The verdict on transfer of each parameterization, from as few runs as decide it.

    The experiment is trained with its own seeds. Then seeds are added in rounds, half as many again each, at the sizes
    where they lessen the variance of the shift most per cost, until the interval of the shift lies within the tolerance
    or outside, or the rest would hardly tell: near the tolerance no number of seeds decides, and that is said early.
    The intervals of all looks hold together with the stated confidence (`sharplab.analysis.sequential`).

    The decision follows from the store alone: the same call after it was killed, or with a store that has further
    seeds, looks at the same runs and decides the same.

    Args:
        experiment: the sweep, with several widths or depths; its seeds are those of the first look, two or more.
        store: a directory, made where there is none, as of `sharplab.run`.
        over: "width" or "depth".
        metric: of the transfer, as of `sharplab.transfer`; what it is made of must be observed.
        tolerance: octaves per doubling within which the optimum counts as staying.
        seeds: the most per size.
        flops: the most training FLOPs, runs that the store has among them. The first look is trained whatever it costs,
            and learning rates that refinement adds to a round may go beyond.
        confidence: of the intervals of all looks together.
        executor: as of `sharplab.run`.

    Raises:
        ValueError: for bad arguments; else as `sharplab.run`.
    """
    design = design_of(experiment, over, metric, tolerance, seeds, flops, confidence)
    folder = open_store(store)
    while (rounds := follow(design, rows := read_rows(folder))).missing:
        run(rounds.missing, folder, executor=executor)
    return _conclude(design, rounds, rows)


def design_of(
    experiment: Experiment,
    over: str = "width",
    metric: str = "train_loss",
    tolerance: float = 0.25,
    seeds: int = 16,
    flops: float = math.inf,
    confidence: float = 0.95,
) -> Design:
    """The design of a decision, of the arguments of `decide`.

    Raises:
        ValueError: naming the argument that does not fit the experiment.
    """
    if over not in ("width", "depth"):
        raise ValueError(f"over must be 'width' or 'depth', not {over!r}.")
    if metric.removeprefix(LATE) not in experiment.observables:
        raise ValueError(f"metric {metric!r} is not observed: add {metric.removeprefix(LATE)!r} to observables.")
    other = {"width": "depths", "depth": "widths"}[over]
    if len(getattr(experiment, f"{over}s")) < 2 or len(getattr(experiment, other)) > 1:
        raise ValueError(f"over={over!r} needs an experiment with two {over}s or more, and one of its {other}.")
    return Design(experiment, over, metric, tolerance, seeds, flops, confidence)


def _conclude(design: Design, rounds: Rounds, rows: pd.DataFrame) -> Decision:
    last = {name: looks[-1] for name, looks in rounds.looks.items()}
    open_ = {name: look for name, look in last.items() if look.ended != "decided"}
    wanted = {name: look.found.wanted_at(look.costs) for name, look in open_.items()}
    seconds = {
        name: spent
        for name, each in wanted.items()
        if each.seeds is not None and (spent := _seconds(design, name, each.seeds, rows)) is not None
    }
    used = rounds.rows.reset_index(drop=True)
    note_runs(used["run_id"])
    return Decision(
        transfers={name: look.found for name, look in last.items()},
        records=as_records(used),
        looks=pd.DataFrame(
            _row(design, name, number, look)
            for name, looks in rounds.looks.items()
            for number, look in enumerate(looks, start=1)
        ),
        flops=sum(look.flops for look in last.values()),
        wanted=wanted,
        seconds=seconds,
        ended={name: look.ended for name, look in last.items()},
    )


def _row(design: Design, name: str, number: int, look: Look) -> dict[str, Any]:
    low, high = look.found.shift_interval
    return {
        "look": number,
        "parameterization": name,
        **{f"seeds_{size}": many for size, many in zip(design.sizes, look.seeds, strict=True)},
        "shift": look.found.shift,
        "shift_low": low,
        "shift_high": high,
        "confidence": look.found.confidence,
        "verdict": look.found.verdict,
        "flops": look.flops,
    }


def _seconds(design: Design, name: str, seeds: tuple[int, ...], rows: pd.DataFrame) -> float | None:
    """The seconds that the runs take which the store lacks of so many seeds; None where no run tells."""
    groups = make_plan(tuple(design.experiments(name, seeds)), rows).groups
    left = predict(groups, (), stored_timings(rows))
    return None if left is None else sum(each.seconds + each.compiling for each in left)
