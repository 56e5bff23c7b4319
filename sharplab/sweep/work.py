"""What a worker does with one group: claim it, train what the store still lacks of it, store the results.

Whatever runs it (this process, another, another machine), results go into the store from where they were made, so
that nothing is lost when the process that asked for them ends.
"""

import math
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from sharplab.core.files import StoreError
from sharplab.sweep.claims import ClaimHolder, LeaseWatch, claiming
from sharplab.sweep.compile_time import timing_compilation
from sharplab.sweep.live import LiveTracker, guarded
from sharplab.sweep.plan import Group, serving_rows
from sharplab.sweep.session import is_asked_to_stop
from sharplab.sweep.store.directory import add_group, is_store, read_rows
from sharplab.sweep.store.identity import run_id, settings
from sharplab.sweep.time_left import NOTHING, Spent
from sharplab.training.task import Run, Task
from sharplab.training.train import RunResult, Stopped, Watch

FLUSH_SECONDS = 20.0  # for which finished runs are in memory alone, at most

Train = Callable[[Task, Sequence[Run], Watch], Iterator[tuple[RunResult, ...]]]


@dataclass(frozen=True)
class Assignment:
    """A group with all that a worker needs to know to train it."""

    store: Path  # its directory, as the worker sees it
    session: str  # the name of the session that asks
    group: Group  # the runs
    train: Train  # how they are trained
    trackers: tuple[LiveTracker, ...] = ()  # called with each run as it goes
    apart_from: frozenset[Path] = frozenset()  # group files whose runs do not count as trained
    not_before: str | None = None  # the results are dated no earlier


@dataclass(frozen=True)
class Report:
    """How the training of a group ended.

    "done": all its runs are in the store. "elsewhere": another worker is training some of them. "stopped": as was
    asked. "memory": there was too little for so many runs. "error": any other exception.
    """

    ending: Literal["done", "elsewhere", "stopped", "memory", "error"]
    error: Exception | None = None
    traceback: str = ""
    best_loss: float | None = None
    spent: Spent = NOTHING


def work(assignment: Assignment) -> Report:
    """Train a group into the store; whatever goes wrong is in the report."""
    try:
        return _work(assignment)
    except Stopped:
        return Report("stopped")
    except Exception as error:
        return Report("memory" if is_out_of_memory(error) else "error", error, traceback.format_exc())


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that there was too little memory."""
    # XLA has no exception type of its own for it, and on CPUs calls it INTERNAL at times.
    said = str(error).lower()
    return isinstance(error, MemoryError) or "resource_exhausted" in said or "out of memory" in said


def _work(assignment: Assignment) -> Report:
    store, group = assignment.store, assignment.group
    if not is_store(store):
        # Made anew here, it would be one that nobody else sees.
        raise StoreError(
            f"store {store} is not there as the worker on {socket.gethostname()} sees it: give a directory that all "
            "workers share, under one path."
        )
    if is_asked_to_stop(store, assignment.session):
        return Report("stopped")
    with claiming(store, assignment.session, group) as holder:
        # In this order: a rival takes its claim away after its results are in the store.
        if _is_contested(store, holder):
            return Report("elsewhere")
        began, left, trained, compiling = time.monotonic(), _untrained(assignment), 0.0, 0.0
        if left:
            with guarded(assignment.trackers, assignment.session) as live, timing_compilation() as compiled:
                trained = _train(assignment, left, holder, live)
                compiling = compiled()
        # Before a resumption too.
        seconds = max(trained, time.monotonic() - began) - compiling
    return Report("done", best_loss=holder.claim.best_loss, spent=Spent(len(left), seconds, compiling))


@lru_cache(maxsize=8)
def _leases(store: Path) -> LeaseWatch:
    return LeaseWatch(store)


def _is_contested(store: Path, holder: ClaimHolder) -> bool:
    wanted, name = set(holder.claim.run_ids), holder.claim.name
    return any(claim.name != name and wanted.intersection(claim.run_ids) for claim in _leases(store).held())


def _untrained(assignment: Assignment) -> tuple[Run, ...]:
    task = assignment.group.task
    rows = read_rows(assignment.store, apart_from=assignment.apart_from, of=assignment.group.run_ids)
    known = set(serving_rows(task.observables, task.record_steps, rows)["run_id"])
    return tuple(run for run in assignment.group.runs if run_id(task, run) not in known)


def _train(assignment: Assignment, runs: tuple[Run, ...], holder: ClaimHolder, live: LiveTracker) -> float:
    """Train runs into the store; the seconds that this took, those before a resumption included."""
    task, store, seconds = assignment.group.task, assignment.store, 0.0
    started: set[Run] = set()

    def start(run: Run) -> None:
        if run not in started:
            started.add(run)
            live.start(run_id(task, run), settings(task, run))

    def record(run: Run, step: int, values: Mapping[str, float]) -> None:
        start(run)
        live.log(run_id(task, run), step, values)

    watch = Watch(
        progress=holder.advance,
        record=record,
        stop=lambda: is_asked_to_stop(store, assignment.session),
        checkpoints=store / "checkpoints",
    )
    finished: list[RunResult] = []
    flushed = time.monotonic()
    try:
        for run_batch in assignment.train(task, runs, watch):
            finished.extend(run_batch)
            for result in run_batch:
                summary = _summary(result)
                holder.note_loss(summary.get("train_loss", math.nan))
                start(result.run)  # one that was resumed after its last record has not been started
                live.finish(run_id(task, result.run), summary)
            seconds += sum(result.seconds for result in run_batch)
            # A resumed run may end soon after it began again, and stand for hours.
            at_stake = sum(result.seconds for result in finished)
            if max(at_stake, time.monotonic() - flushed) >= FLUSH_SECONDS:
                add_group(store, task, finished, not_before=assignment.not_before)
                finished, flushed = [], time.monotonic()
    finally:
        if finished:
            add_group(store, task, finished, not_before=assignment.not_before)
    return seconds


def _summary(result: RunResult) -> dict[str, float]:
    finals = {name: float(values[-1]) for name, values in result.curves.items() if name != "step"}
    return finals | {"diverged": result.diverged, "diverged_step": result.diverged_step, "seconds": result.seconds}
