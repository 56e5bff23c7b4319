"""Train what an experiment still lacks, wherever that is, and lose nothing when interrupted."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from sharplab.core.arguments import checked, of
from sharplab.core.evidence import may_train, note_runs
from sharplab.core.grid import as_tuple
from sharplab.core.signals import Terminated
from sharplab.records import Records
from sharplab.sweep.dispatch import Dispatcher, SweepError
from sharplab.sweep.executors.opening import open_executor
from sharplab.sweep.executors.processes import Here
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.live import LiveTracker
from sharplab.sweep.plan import WHOLE, Group, Shard, divide, make_plan, wanted_rows
from sharplab.sweep.progress import show_progress
from sharplab.sweep.session import SessionLog, forget_old_sessions
from sharplab.sweep.store.columns import refuse_taken_columns
from sharplab.sweep.store.directory import group_files, open_store, read_rows
from sharplab.sweep.store.rows import as_records
from sharplab.sweep.time_left import stored_timings
from sharplab.sweep.work import Assignment, Train
from sharplab.training.train import train_runs

an_experiment = of(Experiment, "as sharplab.Experiment(...) makes one")


@checked()
def run(
    experiments: Experiment | Sequence[Experiment],
    store: Path | str,
    *,
    executor: Executor | str | None = None,
    resume: bool = True,
    trackers: Sequence[LiveTracker] = (),
    shard: Shard = WHOLE,
) -> Records:
    """Train every run of the experiments that the store lacks, and return their records.

    Workers write what they have finished at least every 20 seconds, and leave checkpoints of what takes longer: the
    same call goes on from there. Two calls may work on one store at once, and share the work. Ctrl-C once ends the
    call after the current steps, twice at once.

    Args:
        store: a directory, made where there is none; all workers must see it. Several experiments may share it.
        executor: where groups are trained, anything of the `concurrent.futures` interface, as
            `sharplab.sweep.Processes()`, or the text of `--executor`, as "processes"; by default this process.
        resume: whether runs that the store holds already are taken from there; if not, all are trained anew, and
            of each run the latest is what is read later.
        trackers: called with each run as it goes, see `sharplab.sweep.live`.

    Raises:
        ValueError: if the directory is no store or cannot be written, or a setting turns out to be wrong.
        SweepError: if groups failed, were it by workers that died three times over one group.
        KeyboardInterrupt: after Ctrl-C; its kind `Terminated` after SIGTERM.
    """
    return run_with(train_runs, experiments, store, executor=executor, resume=resume, trackers=trackers, shard=shard)


def run_with(
    train: Train,
    experiments: Experiment | Sequence[Experiment],
    store: Path | str,
    *,
    executor: Executor | str | None = None,
    resume: bool = True,
    trackers: Sequence[LiveTracker] = (),
    shard: Shard = WHOLE,
) -> Records:
    """The same as `run`, with runs trained by `train`."""
    several = (experiments,) if isinstance(experiments, Experiment) else as_tuple("experiments", experiments)
    for experiment in several:
        an_experiment("experiments", experiment)
    for experiment in several:
        refuse_taken_columns(experiment.observables)
    folder = open_store(store).absolute()
    earlier = frozenset() if resume else group_files(folder)
    stored = read_rows(folder)
    not_before = _after(stored) if earlier else None
    forget_old_sessions(folder, time.time())
    log = SessionLog(folder, stored_timings(stored))

    def assign(group: Group) -> Assignment:
        return Assignment(folder, log.session.name, group, train, tuple(trackers), earlier, not_before)

    rows = partial(read_rows, folder, apart_from=earlier)
    with _opened(executor) as opened:
        dispatcher = Dispatcher(opened, assign, log)
        with show_progress(log.snapshot), _stopping(dispatcher):
            _train_missing(several, shard, dispatcher, rows)
    wanted = wanted_rows(several, rows(), shard)
    note_runs(wanted["run_id"])
    return as_records(wanted)


def _opened(executor: Executor | str | None) -> AbstractContextManager[Executor]:
    if isinstance(executor, str):
        return open_executor(executor)
    if executor is not None and not hasattr(executor, "submit"):
        raise ValueError(f"executor must be one of concurrent.futures or a text such as 'processes', not {executor!r}.")
    return nullcontext(executor or Here())


def _train_missing(
    experiments: Sequence[Experiment], shard: Shard, dispatcher: Dispatcher, rows: Callable[[], pd.DataFrame]
) -> None:
    """Train until nothing is missing, or is left that can be trained."""
    log = dispatcher.log

    def missing() -> list[Group]:
        plan = make_plan(experiments, rows(), shard=shard, apart_from=dispatcher.settled_ids())
        groups = divide(dispatcher.visible(plan.groups), dispatcher.workers)
        log.plan(plan.runs, plan.stored, groups, dispatcher.workers)
        return groups

    refines = any(experiment.refine for experiment in experiments)
    groups = missing()
    if not log.session.runs:
        raise ValueError(f"shard: part {shard} has no runs, give fewer parts.")
    if groups and not may_train():
        lacking = sum(len(group.runs) for group in groups)
        raise ValueError(f"{lacking} runs are not among those that the figure was drawn from: make it anew.")
    while groups or dispatcher.under_way:
        dispatcher.submit(groups)
        settled = dispatcher.wait()
        due = (settled and refines) or not dispatcher.under_way
        groups = missing() if due and not dispatcher.stop_asked else []
    failed = log.session.failed
    log.note(ended="stopped" if dispatcher.stop_asked else "failed" if failed else "done")
    if dispatcher.stop_asked:
        raise KeyboardInterrupt
    if failed:
        listed = "\n".join(f"  {what} ({where})" for what, where in failed)
        raise SweepError(
            f"{len(failed)} of {log.session.groups} groups failed and are left for the next call; all others are "
            f"stored:\n{listed}"
        ) from dispatcher.cause


def _after(rows: pd.DataFrame) -> str | None:
    """A time later than all rows were written, whatever this machine's clock says."""
    if rows.empty:
        return None
    return (datetime.fromisoformat(rows["written"].max()) + timedelta(microseconds=1)).isoformat()


@contextmanager
def _stopping(dispatcher: Dispatcher) -> Iterator[None]:
    """A block in which the first Ctrl-C, or SIGTERM, which queues send before they kill, stops the dispatcher."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    asked = set()

    def ask(number: int, frame: Any) -> None:
        asked.add(number)
        signal.signal(number, before[signal.Signals(number)])
        dispatcher.stop()
        if number == signal.SIGINT:
            print("\nstopping after the current steps; Ctrl-C again stops at once", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        if signal.SIGTERM in asked:
            raise Terminated from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
