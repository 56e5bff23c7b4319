"""Four ways to train the same runs; each is opened once, and then trains seeds as often as it is asked."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import product
from time import perf_counter
from typing import Any

from plain_loop import train_by_hand

from sharplab.sweep import run
from sharplab.sweep.executors.processes import Processes
from sharplab.training.layout import use_all_cores
from sweeps.runs import Runs

Losses = dict[tuple[float, int], float]  # (learning rate, seed) → final train loss
Train = Callable[[tuple[int, ...]], Losses]


@contextmanager
def lab(runs: Runs, executor: Executor | None = None) -> Iterator[Train]:
    """`sharplab.run` into a store, in this process unless told."""
    with tempfile.TemporaryDirectory() as store:

        def train(seeds: tuple[int, ...]) -> Losses:
            table = run(runs.experiment(seeds), store, executor=executor).runs
            return dict(zip(zip(table["learning_rate"], table["seed"], strict=True), table["train_loss"], strict=True))

        yield train


@contextmanager
def lab_here(runs: Runs) -> Iterator[Train]:
    """The lab in this process, a device per core, as `sharplab sweep` does unless told."""
    use_all_cores()
    with lab(runs) as train:
        yield train


@contextmanager
def lab_processes(runs: Runs) -> Iterator[Train]:
    """The lab in a worker process per core, as `sharplab sweep --executor processes` does."""
    with Processes() as executor, lab(runs, executor) as train:
        yield train


@contextmanager
def plain_loop(runs: Runs) -> Iterator[Train]:
    """Runs by hand, one after another in this process, every product on all cores."""
    yield lambda seeds: {
        (rate, seed): train_by_hand(runs.task, rate, seed) for rate, seed in product(runs.learning_rates, seeds)
    }


@contextmanager
def pool(runs: Runs) -> Iterator[Train]:
    """Runs by hand, each a task of a spawned `ProcessPoolExecutor`, a worker per core.

    A worker keeps its data and compiled functions from run to run; workers share nothing. As a favour each is kept
    on a core of its own, so that they do not get into each other's way.
    """
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    free = context.SimpleQueue()
    for core in cores:
        free.put(core)
    with ProcessPoolExecutor(len(cores), mp_context=context, initializer=_stay, initargs=(free,)) as workers:

        def train(seeds: tuple[int, ...]) -> Losses:
            settings = list(product(runs.learning_rates, seeds))
            losses = workers.map(train_by_hand, [runs.task] * len(settings), *zip(*settings, strict=True))
            return dict(zip(settings, losses, strict=True))

        yield train


def _stay(free: multiprocessing.SimpleQueue) -> None:
    # Before jax has done anything: it starts as many threads as there are cores to run on.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {free.get()})


CONTESTANTS: Mapping[str, Callable[[Runs], AbstractContextManager[Train]]] = {
    "here": lab_here,
    "processes": lab_processes,
    "plain": plain_loop,
    "pool": pool,
}


def contest(began: float, contestant: str, runs: dict[str, Any]) -> dict[str, Any]:
    """Seconds from `began`, when this process was started, to its first runs' end, and of as many further runs."""
    ready, work = perf_counter(), Runs(**runs)
    with CONTESTANTS[contestant](work) as train:
        train(work.seeds_of(0))
        cold = perf_counter()
        losses = train(work.seeds_of(1))
        warm = perf_counter()
    return {
        "import_seconds": ready - began,
        "cold_seconds": cold - began,
        "warm_seconds": warm - cold,
        "losses": [losses[key] for key in sorted(losses)],
    }
