"""Train what an experiment still lacks, wherever that is, and lose nothing when interrupted."""

import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from sharplab.records import Records
from sharplab.sweep.claims import Claim, LeaseWatch, read_claims
from sharplab.sweep.executors.processes import Here
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.live import LiveTracker
from sharplab.sweep.plan import WHOLE, Group, Shard, missing_groups, serving_rows, wanted_ids
from sharplab.sweep.progress import watching
from sharplab.sweep.session import Session, ask_to_stop, lower, new_session, save_session
from sharplab.sweep.store.directory import group_files, open_store, read_rows
from sharplab.sweep.store.rows import as_records, one_per_run
from sharplab.sweep.work import Assignment, Report, Train, work
from sharplab.training.train import train_runs

ATTEMPTS = 3  # at a group whose worker dies
GROUPS_PER_WORKER = 4  # at least, so that the workers end at about one time
SIGHTINGS = 6  # of a group that its workers stored, before it is given up
POLL_SECONDS = 0.5


class SweepError(RuntimeError):
    """Some groups could not be trained; all others are stored, and the same call tries these again."""


def run(
    experiments: Experiment | Sequence[Experiment],
    store: Path | str,
    *,
    executor: Executor | None = None,
    resume: bool = True,
    trackers: Sequence[LiveTracker] = (),
    shard: Shard = WHOLE,
) -> Records:
    """Train every run of the experiments that the store lacks, and return their records.

    Workers write what they have finished at least every 20 seconds, and leave checkpoints of what takes longer: the
    same call goes on from there. Two calls may work on one store at once, and share the work. Ctrl-C once ends the
    call after the current steps, twice at once.

    Args:
        experiments: what to train, one or several.
        store: a directory, made where there is none; all workers must see it. Several experiments may share it.
        executor: where groups are trained, anything of the `concurrent.futures` interface, as
            `sharplab.sweep.Processes()`; this process unless told.
        resume: whether runs that the store holds already are taken from there; if not, all are trained anew, and
            of each run the latest is what is read later.
        trackers: told of each run as it goes, see `sharplab.sweep.live`.
        shard: the part of it that is to be trained.

    Raises:
        ValueError: if the directory is no store or cannot be written, or a setting turns out to be wrong.
        SweepError: if groups failed, were it by workers that died three times over one group.
        KeyboardInterrupt: after Ctrl-C.
    """
    return run_with(train_runs, experiments, store, executor=executor, resume=resume, trackers=trackers, shard=shard)


def run_with(
    train: Train,
    experiments: Experiment | Sequence[Experiment],
    store: Path | str,
    *,
    executor: Executor | None = None,
    resume: bool = True,
    trackers: Sequence[LiveTracker] = (),
    shard: Shard = WHOLE,
) -> Records:
    """`run` with another way to train runs."""
    several = (experiments,) if isinstance(experiments, Experiment) else tuple(experiments)
    if not several:
        raise ValueError("experiments is empty: give at least one.")
    folder = open_store(store).absolute()
    earlier = frozenset() if resume else group_files(folder)
    sweep = _Sweep(several, shard, folder, executor or Here(), train, tuple(trackers), earlier)
    with watching(sweep.snapshot), _stopping(sweep):
        sweep.train()
    return sweep.records()


class _Sweep:
    """One call of `run`: what is under way, and what became of the rest."""

    def __init__(
        self,
        experiments: tuple[Experiment, ...],
        shard: Shard,
        store: Path,
        executor: Executor,
        train: Train,
        trackers: tuple[LiveTracker, ...],
        earlier: frozenset[Path],
    ) -> None:
        self.experiments, self.shard, self.store, self.executor = experiments, shard, store, executor
        self.session = new_session()
        self.stop_asked = False
        self._assignment = partial(
            Assignment, store, self.session.name, train=train, trackers=trackers, apart_from=earlier
        )
        self._earlier = earlier
        self._not_before = _after(read_rows(store)) if earlier else None
        self._flying: dict[Future, Group] = {}
        self._claimed: list[Group] = []  # by another call
        self._deaths: Counter[Group] = Counter()
        self._reported: Counter[str] = Counter()  # as stored, by a worker
        self._given_up: set[str] = set()

    def snapshot(self) -> tuple[Session, list[Claim]]:
        """The session, and the claims of its workers."""
        return self.session, [claim for claim in read_claims(self.store) if claim.sweep == self.session.name]

    def train(self) -> None:
        """Until nothing is missing, or is left that can be trained."""
        leases = LeaseWatch(self.store)
        refines = any(experiment.refine for experiment in self.experiments)
        groups = self._missing()
        if not self.session.runs:
            raise ValueError(f"shard: part {self.shard} has no runs, give fewer parts.")
        while groups or self._flying or self._claimed:
            self._submit(groups)
            settled = self._wait(leases)
            over = not (self._flying or self._claimed)
            groups = self._missing() if (over or (settled and refines)) and not self.stop_asked else []
        self._conclude()

    def _wait(self, leases: LeaseWatch) -> bool:
        """For a moment; whether a group has come to its end."""
        done: set[Future] = set()
        if self._flying:
            done, _ = wait(self._flying, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        elif self._claimed:
            time.sleep(POLL_SECONDS)
        for future in done:
            self._settle(self._flying.pop(future), future)
        if self.stop_asked:
            self._claimed.clear()
            for future in self._flying:
                future.cancel()
        elif self._claimed:
            self._submit_freed(leases)
        return bool(done)

    def records(self) -> Records:
        """Of all runs that were wanted."""
        wanted = [
            known[known["run_id"].isin(wanted_ids(experiment, known, self.shard))]
            for experiment in self.experiments
            for known in [self._known(experiment)]
        ]
        return as_records(one_per_run(pd.concat(wanted, ignore_index=True)))

    def _known(self, experiment: Experiment) -> pd.DataFrame:
        rows = read_rows(self.store, apart_from=self._earlier)
        return one_per_run(serving_rows(experiment.observables, experiment.record_steps(), rows))

    def _missing(self) -> list[Group]:
        """What is neither stored, nor under way, nor given up; the plan's figures are brought up to date."""
        under_way = [*self._flying.values(), *self._claimed]
        planned = self._given_up.union(*(group.run_ids for group in under_way))
        runs = stored = 0
        found: list[Group] = []
        for experiment in self.experiments:
            known = self._known(experiment)
            wanted = wanted_ids(experiment, known, self.shard)
            runs, stored = runs + len(wanted), stored + len(wanted.intersection(known["run_id"]))
            missing = missing_groups(experiment, known, shard=self.shard, apart_from=planned)
            planned.update(*(group.run_ids for group in missing))
            found.extend(missing)
        groups = self._divided(self._visible(found))
        self._note(
            runs=runs,
            stored=stored,
            groups=self.session.groups + len(groups),
            cost=self.session.cost + sum(group.cost for group in groups),
        )
        return groups

    def _visible(self, groups: list[Group]) -> list[Group]:
        """Apart from those that workers have stored time and again and this process cannot see."""
        again = {group: max(self._reported[run] for run in group.run_ids) for group in groups}
        for group, times in again.items():
            if times == SIGHTINGS:
                self._give_up(
                    group, f"its workers stored it, and {self.store} does not show it: do all see one folder?"
                )
        if any(again.values()):
            time.sleep(min(2 ** max(again.values()), 30))  # a network file system may take a minute
        return [group for group, times in again.items() if times < SIGHTINGS]

    def _divided(self, groups: list[Group]) -> list[Group]:
        """Cheapest first for one worker; for several in parts, the most expensive first, to end at about one time."""
        workers = getattr(self.executor, "_max_workers", 1)
        if workers == 1:
            return sorted(groups, key=lambda group: group.cost)
        runs = sum(len(group.runs) for group in groups)
        most = max(1, runs // (GROUPS_PER_WORKER * workers))
        return sorted((part for group in groups for part in group.parts(most)), key=lambda group: -group.cost)

    def _submit(self, groups: Iterable[Group]) -> None:
        """To the executor; what it has done at once is settled at once."""
        for group in groups:
            if self.stop_asked:
                return
            assignment = self._assignment(group=group, not_before=self._not_before)
            try:
                future = self.executor.submit(work, assignment)
            except Exception as error:
                ask_to_stop(self.store, self.session)
                raise SweepError(
                    f"the executor takes no more work ({type(error).__name__}: {error}): open a new one; what was "
                    "trained is stored."
                ) from error
            if future.done():
                self._settle(group, future)
            else:
                self._flying[future] = group

    def _submit_freed(self, leases: LeaseWatch) -> None:
        taken = {run for claim in leases.held() for run in claim.run_ids}
        freed = [group for group in self._claimed if not taken.intersection(group.run_ids)]
        self._claimed = [group for group in self._claimed if group not in freed]
        if freed:
            time.sleep(random.random() * POLL_SECONDS)  # two that gave way to each other do not meet again
            self._submit(freed)

    def _settle(self, group: Group, future: Future) -> None:
        """Whatever became of a group."""
        if future.cancelled():
            return
        if (death := future.exception()) is not None:
            self._deaths[group] += 1
            if self._deaths[group] < ATTEMPTS:
                self._submit([group])
            else:
                self._give_up(group, "".join(traceback.format_exception(death)))
            return
        report: Report = future.result()
        if report.ending == "done":
            self._reported.update(group.run_ids)
            self._note(
                stored=self.session.stored + len(group.runs),
                groups_done=self.session.groups_done + 1,
                cost_done=self.session.cost_done + group.cost,
                best_loss=lower(self.session.best_loss, report.best_loss),
            )
        elif report.ending == "elsewhere":
            self._claimed.append(group)
        elif report.ending == "memory" and len(group.runs) > 1:
            self._note(groups=self.session.groups + 1)
            self._submit(group.parts(-(-len(group.runs) // 2)))
        elif isinstance(report.error, ValueError):
            ask_to_stop(self.store, self.session)
            self._note(ended="failed")
            raise report.error
        elif report.ending != "stopped":
            self._give_up(group, report.traceback)

    def _give_up(self, group: Group, trace: str) -> None:
        self._given_up.update(group.run_ids)
        name = f"{self.session.name}-{len(self.session.failed)}.txt"
        path = self.store / "failures" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{group.label}\n\n{trace}")
        last = trace.strip().splitlines()[-1]
        self._note(failed=(*self.session.failed, (f"{group.label}: {last}", str(path))))

    def _conclude(self) -> None:
        failed = self.session.failed
        self._note(ended="stopped" if self.stop_asked else "failed" if failed else "done")
        if self.stop_asked:
            raise KeyboardInterrupt
        if failed:
            listed = "\n".join(f"  {what} ({where})" for what, where in failed)
            raise SweepError(
                f"{len(failed)} of {self.session.groups} groups failed and are left for the next call; all others are "
                f"stored:\n{listed}"
            )

    def _note(self, **changes: Any) -> None:
        self.session = replace(self.session, **changes)
        if self.session.groups:
            save_session(self.store, self.session)


def _after(rows: pd.DataFrame) -> str | None:
    """Later than all of them, whatever this machine's clock says."""
    if rows.empty:
        return None
    return (datetime.fromisoformat(rows["written"].max()) + timedelta(microseconds=1)).isoformat()


@contextmanager
def _stopping(sweep: _Sweep) -> Iterator[None]:
    """Within, the first Ctrl-C (or SIGTERM, which queues send before they kill) asks the sweep to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: Any) -> None:
        signal.signal(number, before[signal.Signals(number)])
        sweep.stop_asked = True
        ask_to_stop(sweep.store, sweep.session)
        if number == signal.SIGINT:
            print("\nstopping after the current steps; Ctrl-C again stops at once", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
