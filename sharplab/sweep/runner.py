"""Train what an experiment still lacks, and lose nothing when interrupted."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from sharplab.records import Records
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.plan import Group, missing_groups, serving_rows, wanted_ids
from sharplab.sweep.progress import Progress, show_progress
from sharplab.sweep.store import add_group, as_records, group_files, one_per_run, open_store, read_rows
from sharplab.training import LaneResult, train_lanes

FLUSH_SECONDS = 20.0  # of finished lanes are in memory alone, at most

Train = Callable[..., Iterator[LaneResult]]


def run(experiment: Experiment, store: Path | str, *, resume: bool = True) -> Records:
    """Train every run of the experiment that the store lacks, and return the experiment's records.

    Finished runs are written every 20 seconds, and on an interrupt: the same call goes on from there.

    Args:
        experiment: what to train.
        store: a directory, made where there is none; several experiments may share it.
        resume: whether runs that the store holds already are taken from there; if not, all are trained anew, and
            of each run the latest is what is read later.

    Raises:
        ValueError: if the directory is no store, or cannot be written.
    """
    return run_with(train_lanes, experiment, store, resume=resume)


def run_with(train: Train, experiment: Experiment, store: Path | str, *, resume: bool = True) -> Records:
    """`run` with another way to train lanes."""
    folder = open_store(store)
    earlier = frozenset() if resume else group_files(folder)

    def known_rows() -> pd.DataFrame:
        return one_per_run(serving_rows(experiment, read_rows(folder, apart_from=earlier)))

    with show_progress() as progress:
        while groups := missing_groups(experiment, known := known_rows()):
            progress.plan(groups)
            for group in groups:
                _train_group(train, group, folder, progress)
    wanted = wanted_ids(experiment, known)
    return as_records(known[known["run_id"].isin(wanted)].reset_index(drop=True))


def _train_group(train: Train, group: Group, folder: Path, progress: Progress) -> None:
    finished: list[LaneResult] = []
    flushed = time.monotonic()
    progress.begin(group)
    try:
        for result in train(group.task, group.lanes, progress=progress.advance):
            finished.append(result)
            if time.monotonic() - flushed >= FLUSH_SECONDS:
                add_group(folder, group.task, finished)
                finished, flushed = [], time.monotonic()
    finally:
        if finished:
            add_group(folder, group.task, finished)
    progress.end(group)
