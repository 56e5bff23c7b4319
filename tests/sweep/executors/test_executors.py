"""Worker processes behind the standard interface: one that dies takes no neighbour with it."""

import os
import signal
import subprocess
import sys
import time
from math import factorial
from pathlib import Path

import pytest

from sharplab.sweep.executors.opening import open_executor
from sharplab.sweep.executors.processes import Here, Processes, WorkerDied


@pytest.fixture(scope="module")
def two():
    with Processes(2) as executor:
        yield executor


def test_calls_return_or_raise_as_in_this_process(two):
    for executor in (Here(), two):
        assert [future.result() for future in [executor.submit(factorial, i) for i in range(6)]] == [
            1, 1, 2, 6, 24, 120,
        ]  # fmt: skip
        assert list(executor.map(factorial, range(4))) == [1, 1, 2, 6]
        with pytest.raises(ValueError, match="negative"):
            executor.submit(factorial, -1).result()
        assert isinstance(executor.submit(int, "x").exception(), ValueError)


def test_each_worker_is_a_process_of_its_own_with_one_core_set_before_jax(two):
    def both(function, *args):
        futures = [two.submit(time.sleep, 0.2) for _ in range(2)] + [two.submit(function, *args) for _ in range(2)]
        return [future.result() for future in futures[2:]]

    assert os.getpid() not in both(os.getpid)
    assert set(both(os.getenv, "JAX_NUM_CPU_DEVICES")) == {"1"}
    assert {len(cores) for cores in both(os.sched_getaffinity, 0)} == {1}
    assert all("compiled" in folder for folder in both(os.getenv, "JAX_COMPILATION_CACHE_DIR"))


@pytest.mark.parametrize(
    ("function", "arg", "cause"),
    [(signal.raise_signal, signal.SIGKILL, "by signal 9"), (os._exit, 3, "with exit code 3")],
)
def test_a_worker_that_dies_fails_its_own_call_alone(two, function, arg, cause):
    neighbour, victim, later = two.submit(time.sleep, 0.5), two.submit(function, arg), two.submit(factorial, 5)
    with pytest.raises(WorkerDied, match=cause):
        victim.result(timeout=20)
    assert neighbour.result(timeout=20) is None
    assert later.result(timeout=20) == 120


def test_workers_end_with_their_parent():
    script = (
        "import time\nfrom sharplab.sweep.executors.processes import Processes\nexecutor = Processes(1)\n"
        "print(executor.submit(__import__('os').getpid).result(), flush=True)\n"
        "executor.submit(time.sleep, 600)\ntime.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.05)


def test_what_cannot_travel_is_an_error_of_its_own_call(two):
    with pytest.raises(Exception, match=r"pickle|local object"):
        two.submit(lambda: 1).result()
    with pytest.raises(Exception, match=r"could not be sent"):
        two.submit(open, os.devnull).result()
    assert two.submit(factorial, 3).result() == 6


def test_shutdown_waits_for_what_was_submitted_or_ends_it_at_once():
    executor = Processes(1)
    slow, queued = executor.submit(time.sleep, 0.3), executor.submit(factorial, 5)
    executor.shutdown()
    assert slow.done() and queued.result() == 120
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(factorial, 5)

    executor = Processes(1)
    slow, queued = executor.submit(time.sleep, 600), executor.submit(factorial, 5)
    while not executor.pids:
        time.sleep(0.01)
    executor.shutdown(cancel_futures=True)
    assert isinstance(slow.exception(timeout=0), WorkerDied) and queued.cancelled()


def test_executors_by_name():
    with open_executor("here") as executor:
        assert isinstance(executor, Here)
    with open_executor("processes:3") as executor:
        assert executor._max_workers == 3
    with pytest.raises(ValueError, match="executor 'threads'"), open_executor("threads"):
        pass
    with pytest.raises(ValueError, match="workers"), open_executor("processes:0"):
        pass
