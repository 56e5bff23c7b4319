"""Sweeps whose training takes no time: all that they cost is the engine's."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from harness import in_turn, peak_memory, spread

from sharplab.analysis import transfer
from sharplab.sweep import Experiment, load
from sharplab.sweep.executors.processes import Here, Processes
from sharplab.sweep.runner import run_with
from sharplab.training.task import Run, Task
from sharplab.training.train import RunResult, Watch
from sweeps.runs import DATA

OBSERVABLES = ("train_loss", "eval_loss", "eval_accuracy", "gradient_norm")
RECORDS = 12
MOST_WIDTHS = 20


@dataclass(frozen=True)
class Immediate:
    """A way to train for `run_with` that returns curves of a formula at once, and notes when groups were begun."""

    begun: list[float] = field(default_factory=list)

    def __call__(self, task: Task, runs: Sequence[Run], watch: Watch) -> Iterator[tuple[RunResult, ...]]:
        self.begun.append(perf_counter())
        steps = np.array(task.record_steps)
        setting = {"batching": "sequential", "loop": "compiled", "device": "formula"}
        for done, run in enumerate(runs, 1):
            watch.progress(done * task.steps, len(runs) * task.steps)
            phase = run.learning_rate * task.width + run.seed
            curves = {
                name: (2 + np.cos(phase + i + steps)).astype(np.float32) for i, name in enumerate(task.observables)
            }
            yield (RunResult(run, curves | {"step": steps}, False, -1, 0.0, setting),)


def many_runs(groups: int, runs: int) -> Experiment:
    """A sweep of so many groups of so many runs, a multiple of 5, with 12 records of 4 observables.

    >>> many_runs(400, 25).widths[-1], many_runs(400, 25).depths[-1]
    (160, 10)
    """
    sizes = -(-groups // 2)
    widths = min(sizes, MOST_WIDTHS)
    experiment = Experiment(
        widths=tuple(8 * (i + 1) for i in range(widths)),
        depths=tuple(range(1, sizes // widths + 1)),
        parameterizations=("mup", "ntk")[: min(groups, 2)],
        learning_rates=tuple(2.0**-i for i in range(runs // 5)),
        seeds=5,
        data=DATA,
        observables=OBSERVABLES,
        records=RECORDS,
    )
    found = len(experiment.parameterizations) * len(experiment.widths) * len(experiment.depths)
    assert (found, 5 * (runs // 5)) == (groups, runs), "choose numbers that make a grid"
    return experiment


def seconds_per_group(groups: int, runs: int, repetitions: int) -> dict[str, Any]:
    """The engine's time in this process and with a worker process per core, in turn, and once of the workers' start."""
    experiment = many_runs(groups, runs)

    def timed_by(executor: Executor) -> Callable[[], float]:
        return lambda: _seconds(experiment, executor) / groups

    with Processes() as workers:
        contestants = {"here": timed_by(Here()), "processes": timed_by(workers)}
        first = {name: contestant() for name, contestant in contestants.items()}
        seconds = in_turn(contestants, repetitions)
    return {
        "groups": groups,
        "runs": runs,
        "start_of_workers_seconds": groups * (first["processes"] - float(np.median(seconds["processes"]))),
        "seconds_per_group": {name: spread(values) for name, values in seconds.items()},
    }


def _seconds(experiment: Experiment, executor: Executor) -> float:
    with tempfile.TemporaryDirectory() as store:
        began = perf_counter()
        run_with(Immediate(), experiment, store, executor=executor)
        return perf_counter() - began


def train_many(began: float, groups: int, runs: int, store: str) -> dict[str, float]:
    """Time and memory of a sweep that trains at once, from `began`, when this process was started."""
    trainer = Immediate()
    called = perf_counter()
    run_with(trainer, many_runs(groups, runs), store)
    ended = perf_counter()
    return {
        "start_up_seconds": trainer.begun[0] - began,
        "planning_seconds": trainer.begun[0] - called,
        "run_seconds": ended - called,
        "run_peak_bytes": peak_memory(),
    }


def find_all(groups: int, runs: int, store: str) -> dict[str, float]:
    """Time and memory of the same sweep once more, with every run there."""
    trainer = Immediate()
    called = perf_counter()
    run_with(trainer, many_runs(groups, runs), store)
    seconds = perf_counter() - called
    assert not trainer.begun, "runs that are stored were trained again"
    return {"again_seconds": seconds, "again_peak_bytes": peak_memory()}


def load_all(groups: int, runs: int, store: str) -> dict[str, float]:
    """Time and memory of loading the sweep's records and of judging each depth's transfer, imports aside."""
    before, called = peak_memory(), perf_counter()
    records = load(store)
    seconds = perf_counter() - called
    assert len(records.runs) == groups * runs, "runs are missing"
    load_peak, called = peak_memory(), perf_counter()
    for depth in sorted(set(records.runs["depth"])):
        transfer(records.select(depth=depth), over="width", metric="train_loss")
    return {
        "load_seconds": seconds,
        "load_peak_bytes": load_peak,
        "before_load_bytes": before,
        "transfer_seconds": perf_counter() - called,
        "transfer_peak_bytes": peak_memory(),
        "curve_rows": len(records.curves),
    }
