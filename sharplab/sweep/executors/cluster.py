"""Dask workers behind the interface of `concurrent.futures`: on this machine, at an address, in Slurm jobs.

Dask starts a group whose worker died anew on another worker, up to `distributed.scheduler.allowed-failures` times;
then the group's future fails with `KilledWorker`. All workers must see the store under one path.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

from sharplab.sweep.executors.environment import on_core_of, places, worker_environment

START_SECONDS = 120.0  # for the worker processes of this machine
ANSWER_SECONDS = 10.0  # for a scheduler at an address
END_SECONDS = 3.0  # for idle worker processes, before they are killed


class DaskExecutor(Executor):
    """The workers of a Dask client.

    What has been submitted counts as running at once, and so cannot be cancelled: a sweep that is asked to stop
    waits until its workers have.
    """

    def __init__(self, client: Any, workers: int) -> None:
        self._client, self._max_workers = client, workers

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Submit a call to Dask, as the interface of executors says.

        Raises:
            RuntimeError: when the scheduler has gone.
        """
        while self._client.status == "connecting":  # again, after a loss; Dask gives up by itself
            time.sleep(0.1)
        if self._client.status != "running":
            raise RuntimeError("the Dask scheduler has gone")
        future: Future = Future()
        future.set_running_or_notify_cancel()
        # Keywords are the function's, though Dask's `submit` has some of its own.
        remote = self._client.submit(partial(fn, **kwargs) if kwargs else fn, *args, pure=False)
        remote.add_done_callback(partial(_pass_on, future))
        return future


def _pass_on(future: Future, remote: Any) -> None:
    """Pass the result or the error of Dask's future on to ours."""
    try:
        if remote.status in ("cancelled", "lost"):
            raise ConnectionError("the Dask scheduler has gone, or has dropped the task.")
        answer = remote.result()
    except BaseException as error:  # whatever it is, somebody waits for it
        future.set_exception(error)
    else:
        future.set_result(answer)


@contextmanager
def dask_executor(text: str) -> Iterator[Executor]:
    """An executor over Dask workers, each one process that does one thing at a time.

    Args:
        text: one of these.
            "dask" or "dask:4": so many worker processes on this machine (by default one per core or GPU). They end
            with the block, or half a minute after this process was killed.
            "dask:tcp://HOST:PORT": those of a scheduler that runs already, each started by
            `dask worker tcp://HOST:PORT --nthreads 1`.
            "slurm:4": so many Slurm jobs, each of them one worker, on as many cores as `jobqueue.slurm.job-cpu` of
            Dask's configuration says (by default one). Memory, queue, account and time come from there too, see
            https://jobqueue.dask.org. A job that ends before the block does is submitted again. Tests have
            the job's script alone; it was run on a Slurm of one machine.

    The address of Dask's dashboard is printed to standard error.

    Raises:
        ValueError: for another text, packages that are not installed, or an address where no workers are.
        RuntimeError: if workers of this machine do not start.
    """
    kind, _, rest = text.partition(":")
    local = kind == "dask" and (not rest or rest.isdecimal())
    if not (local or (kind == "dask" and rest) or (kind == "slurm" and rest.isdecimal())) or rest == "0":
        raise ValueError(
            f"executor {text!r} is not understood: give dask, dask:4 (workers on this machine), "
            "dask:tcp://HOST:PORT (a scheduler's address) or slurm:4 (jobs)."
        )
    for package in ("distributed", "dask_jobqueue") if kind == "slurm" else ("distributed",):
        _require(package)
    opened = _slurm_jobs(int(rest)) if kind == "slurm" else _processes(rest) if local else _at(rest)
    with opened as executor:
        print(f"sharplab: dashboard of the workers at {executor._client.dashboard_link}", file=sys.stderr)
        yield executor


def _require(package: str) -> None:
    try:
        import_module(package)
    except ImportError as error:
        raise ValueError(f"{package} is not installed: pip install 'sharplab[cluster]'.") from error


@contextmanager
def _processes(count: str) -> Iterator[DaskExecutor]:
    """Worker processes on this machine, whose scheduler runs in a thread of this process."""
    from distributed import Client, LocalCluster

    there = places()
    workers = int(count) if count else len(there)
    with (
        TemporaryDirectory(prefix="sharplab-dask-", ignore_cleanup_errors=True) as scratch,
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs="ERROR") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        address = cluster.scheduler_address
        nannies = [_start_nanny(address, str(i), there[i % len(there)], scratch) for i in range(workers)]
        try:
            _wait_for_all(client, nannies)
            yield DaskExecutor(client, workers)
        finally:
            _end(nannies)


def _start_nanny(scheduler: str, name: str, place: dict[str, str], scratch: str) -> subprocess.Popen:
    """The process that starts a worker process, and another one when that dies."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--name", name, "--nthreads", "1"]
    command += ["--memory-limit", "0", "--no-dashboard", "--local-directory", scratch, "--death-timeout", "10"]
    more = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "DASK_LOGGING__DISTRIBUTED": "error"}
    with on_core_of(place):
        return subprocess.Popen(
            command,
            env=worker_environment(place) | more,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for the sweep, which then asks its workers to stop
        )


def _wait_for_all(client: Any, nannies: Sequence[subprocess.Popen]) -> None:
    """Wait until all nannies run: one whose worker dies before that ends with it, and starts no other."""
    deadline = time.monotonic() + START_SECONDS
    while _running(client) < len(nannies):
        if time.monotonic() > deadline or any(nanny.poll() is not None for nanny in nannies):
            raise RuntimeError("Dask's worker processes did not start: see above, or try fewer, as in dask:2.")
        time.sleep(0.05)


def _running(client: Any) -> int:
    """The number of nannies whose start has ended.

    The function sent to them is one without a name, which Dask sends whole: with a name they would import us.
    """
    states = client.run(lambda dask_worker: dask_worker.status.name, nanny=True, on_error="ignore")
    return sum(state == "running" for state in states.values())


def _end(nannies: Sequence[subprocess.Popen]) -> None:
    """End nannies and their workers, which are in their process groups."""
    for nanny in nannies:
        nanny.terminate()
    deadline = time.monotonic() + END_SECONDS
    for nanny in nannies:
        with suppress(subprocess.TimeoutExpired):
            nanny.wait(max(0.0, deadline - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(nanny.pid, signal.SIGKILL)
        nanny.wait()


@contextmanager
def _at(address: str) -> Iterator[DaskExecutor]:
    """The workers of a scheduler that others have started."""
    from distributed import Client

    with _silent("distributed"), _silent("distributed.client"):
        try:
            client = Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"no Dask scheduler answers at {address}: start one with `dask scheduler`.") from error
        with client:
            workers = client.nthreads()
            if not workers:
                raise ValueError(f"{address} has no workers: start some with `dask worker {address} --nthreads 1`.")
            yield DaskExecutor(client, sum(workers.values()))


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """A block without the pages that a logger of Dask writes when a scheduler is lost."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _slurm_jobs(count: int) -> Iterator[DaskExecutor]:
    from distributed import Client

    with slurm_cluster() as cluster, Client(cluster, set_as_default=False) as client:
        cluster.adapt(minimum_jobs=count, maximum_jobs=count)  # where `scale` would not replace jobs that have ended
        yield DaskExecutor(client, count)


def slurm_cluster() -> Any:
    """A `dask_jobqueue.SLURMCluster` without jobs yet, each of which will be one worker."""
    import dask.config
    from dask_jobqueue.slurm import SLURMCluster

    def configured(name: str, default: Any) -> Any:
        return dask.config.get(f"jobqueue.slurm.{name}", None) or default

    return SLURMCluster(
        cores=1,
        processes=1,
        memory=configured("memory", "8 GB"),
        job_script_prologue=[
            "export JAX_NUM_CPU_DEVICES=${SLURM_CPUS_PER_TASK:-1}",
            *configured("job-script-prologue", []),
        ],
        scheduler_options={"dashboard_address": ":0"} | configured("scheduler-options", {}),
    )
