"""Where groups are trained: in this process, or in worker processes, behind the interface of `concurrent.futures`.

`run` takes any executor of that interface. The standard process pool breaks as a whole when one of its workers dies
(and so does loky's); here a worker that dies takes its own group with it and no other.
"""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from sharplab.sweep.executors.environment import on_core_of, places, worker_environment


class WorkerDied(RuntimeError):
    """A worker process ended before its group did."""


class Here(Executor):
    """An executor that trains in this process, one group after another, each while it is submitted."""

    _max_workers = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Call it, and return a future that is done. What is no `Exception`, as Ctrl-C, is raised."""
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Processes(Executor):
    """Worker processes, each with a core or a GPU of its own, started at their first group.

    Each worker's environment is set before it imports jax. One that dies (killed, out of memory) fails the future it
    worked at with `WorkerDied` and is replaced.

    There are `workers` of them; by default one per GPU where `nvidia-smi` lists any, else one per core.

    >>> from math import factorial
    >>> with Processes(1) as executor:
    ...     executor.submit(factorial, 5).result()
    120
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}.")
        there = places()
        self._max_workers = len(there) if workers is None else workers
        self._jobs: SimpleQueue = SimpleQueue()
        self._closed = False
        self._running: dict[int, subprocess.Popen] = {}
        self._threads = [
            Thread(target=self._serve, args=(i, there[i % len(there)]), daemon=True) for i in range(self._max_workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Submit a call, as the interface says: `fn` must be importable, its arguments and its answer picklable."""
        if self._closed:
            raise RuntimeError("these worker processes have been shut down: open new ones.")
        future: Future = Future()
        self._jobs.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers: at once with `cancel_futures`, else when all that was submitted is done."""
        self._closed = True
        if cancel_futures:
            with suppress(Empty):
                while True:
                    self._jobs.get_nowait()[0].cancel()
            for process in list(self._running.values()):
                process.kill()
        for _ in self._threads:
            self._jobs.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.shutdown(cancel_futures=error is not None)

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers that have been started."""
        return tuple(process.pid for process in self._running.values())

    def _serve(self, number: int, place: dict[str, str]) -> None:
        connection = None
        while (job := self._jobs.get()) is not None:
            future, *call = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if connection is None or self._running[number].poll() is not None:
                    self._running[number], connection = _start(place)
                connection.send(call)
                answer, error = connection.recv()
            except (EOFError, ConnectionError):
                future.set_exception(WorkerDied(_exit_message(self._running[number])))
                connection = None
            except Exception as error:  # what cannot be pickled
                future.set_exception(error)
            else:
                future.set_exception(error) if error is not None else future.set_result(answer)
        if connection is not None:
            connection.close()
            self._running.pop(number).wait()


def _start(place: dict[str, str]) -> tuple[subprocess.Popen, Connection]:
    ours, theirs = Pipe()
    with on_core_of(place):
        process = subprocess.Popen(
            [sys.executable, "-m", "sharplab.sweep.executors.worker", str(theirs.fileno())],
            env=worker_environment(place),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for the sweep, which then asks its workers to stop
        )
    theirs.close()
    ours.send(sys.path)
    return process, ours


def _exit_message(process: subprocess.Popen) -> str:
    code = process.wait()
    cause = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    hint = "; signal 9 is also what a machine out of memory sends" if code == -9 else ""
    return f"worker process {process.pid} ended {cause}{hint}."
