"""Dask's workers behind the standard interface, and sweeps that outlive them."""

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from math import factorial
from pathlib import Path

import pytest
from dask_processes import scheduler_and_worker
from fake_training import SlowTrainer, experiment
from test_runner import assert_same_records

from sharplab.sweep import load
from sharplab.sweep.dispatch import SweepError
from sharplab.sweep.executors import cluster
from sharplab.sweep.executors.cluster import dask_executor, slurm_cluster
from sharplab.sweep.runner import run_with

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def two():
    with dask_executor("dask:2") as executor:
        yield executor


def in_each(executor, function, *args):
    """What a call returns, from all workers."""
    client = executor._client
    futures = [client.submit(function, *args, workers=[worker], pure=False) for worker in client.nthreads()]
    return client.gather(futures)


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited for a minute in vain"
        time.sleep(0.02)


def is_alive(pid):
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_calls_return_or_raise_as_in_this_process(two):
    assert two._max_workers == 2
    assert [future.result() for future in [two.submit(factorial, i) for i in range(5)]] == [1, 1, 2, 6, 24]
    assert list(two.map(factorial, range(4))) == [1, 1, 2, 6]
    assert two.submit(dict, [("a", 1)], workers=2, key="b").result() == {"a": 1, "workers": 2, "key": "b"}
    with pytest.raises(ValueError, match="negative"):
        two.submit(factorial, -1).result()


def test_equal_calls_are_made_each_time(two, tmp_path):
    path = tmp_path / "calls"
    for _ in range(2):
        two.submit(os.mkdir, str(path)).result()
        path.rmdir()


def test_each_worker_is_a_process_of_its_own_with_one_core_set_before_jax(two):
    pids = in_each(two, os.getpid)
    assert len({*pids, os.getpid()}) == 3
    assert {len(cores) for cores in in_each(two, os.sched_getaffinity, 0)} == {1}
    assert len(os.sched_getaffinity(0)) == len(os.sched_getaffinity(os.getppid()))
    assert set(in_each(two, os.getenv, "JAX_NUM_CPU_DEVICES")) == {"1"}
    assert all("compiled" in folder for folder in in_each(two, os.getenv, "JAX_COMPILATION_CACHE_DIR"))
    assert in_each(two, os.getsid, 0) != [os.getsid(0)] * 2


def test_what_was_submitted_cannot_be_cancelled_and_so_is_waited_for(two):
    future = two.submit(time.sleep, 0.2)
    assert not future.cancel()
    assert future.result(timeout=10) is None


def test_a_worker_that_dies_is_replaced_and_its_call_made_again(two):
    victim, neighbour = in_each(two, os.getpid)
    calls = [two.submit(time.sleep, 1.0) for _ in range(2)]
    time.sleep(0.3)
    os.kill(victim, signal.SIGKILL)
    assert [call.result(timeout=30) for call in calls] == [None, None]
    wait_until(lambda: len(two._client.nthreads()) == 2)
    pids = in_each(two, os.getpid)
    assert len(set(pids)) == 2
    assert neighbour in pids
    assert victim not in pids


def test_one_that_kills_every_worker_is_given_up_and_the_workers_live_on():
    with dask_executor("dask:1") as executor:
        executor._client.run_on_scheduler(_allow_no_failures)
        died = executor.submit(os.kill, executor.submit(os.getpid).result(), signal.SIGKILL)
        assert isinstance(died.exception(timeout=30), distributed.KilledWorker)
        assert executor.submit(factorial, 5).result(timeout=30) == 120


def _allow_no_failures(dask_scheduler):
    dask_scheduler.allowed_failures = 0


def test_the_block_leaves_no_processes_and_no_files_and_says_where_the_dashboard_is(capfd, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with dask_executor("dask:1") as executor:
        pid = executor.submit(os.getpid).result()
        nanny = executor.submit(os.getppid).result()
        slow = executor.submit(time.sleep, 600)
    assert not slow.done() or slow.exception() is not None  # it was ended, not waited for
    wait_until(lambda: not (is_alive(pid) or is_alive(nanny)))
    assert list(tmp_path.glob("sharplab-dask-*")) == []
    assert capfd.readouterr().err.count("dashboard of the workers at http://127.0.0.1:") == 1
    with pytest.raises(RuntimeError, match="scheduler"):
        executor.submit(factorial, 5)


@pytest.mark.parametrize("text", ["dask:0", "slurm", "slurm:0", "slurm:many", "dasks", "ray:4"])
def test_other_texts_are_refused_with_a_remedy(text):
    with pytest.raises(ValueError, match=f"executor '{text}'"), dask_executor(text):
        pass


@pytest.mark.parametrize(("text", "package"), [("dask:2", "distributed"), ("slurm:2", "dask_jobqueue")])
def test_a_package_that_is_not_installed_is_named(monkeypatch, text, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"{package} is not installed"), dask_executor(text):
        pass


@pytest.mark.long
def test_an_address_where_nobody_answers_or_works_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.5)
    with pytest.raises(ValueError, match=r"scheduler.*tcp://"), dask_executor("dask:tcp://localhost:1"):
        pass
    with (
        distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty,
        pytest.raises(ValueError, match="dask worker tcp://"),
        dask_executor(f"dask:{empty.scheduler_address}"),
    ):
        pass


@pytest.mark.long
def test_workers_that_do_not_start_are_an_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="did not start"), dask_executor("dask:1"):
        pass


@pytest.mark.long
def test_a_slurm_job_is_one_worker_of_one_thread_with_the_cores_that_dask_is_configured_to_ask_for():
    dask_config = pytest.importorskip("dask.config")
    pytest.importorskip("dask_jobqueue")
    told = {"job-cpu": 8, "queue": "long", "memory": "24 GB", "job-script-prologue": ["module load cuda"]}
    with dask_config.set({f"jobqueue.slurm.{name}": value for name, value in told.items()}), slurm_cluster() as jobs:
        lines = jobs.job_script().splitlines()
    assert "#SBATCH -n 1" in lines
    assert "#SBATCH --cpus-per-task=8" in lines
    assert "#SBATCH --mem=23G" in lines
    assert "#SBATCH -p long" in lines
    assert lines.index("export JAX_NUM_CPU_DEVICES=${SLURM_CPUS_PER_TASK:-1}") < lines.index("module load cuda")
    (worker,) = [line for line in lines if "distributed.cli.dask_worker" in line]
    assert "--nthreads 1 " in worker
    assert "--nworkers" not in worker


@pytest.fixture
def stand_in_for_slurm(tmp_path, monkeypatch):
    """Commands that run a job's script on this machine."""
    commands = {
        "sbatch": 'cp "$1" "$0.$$"; setsid bash "$0.$$" >"$0.$$.log" 2>&1 & echo "Submitted batch job $!"',
        "scancel": 'kill -9 -- "-$1"',
    }
    for name, line in commands.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")


@pytest.mark.slow
def test_slurm_jobs_are_submitted_and_work_and_are_replaced_and_cancelled(stand_in_for_slurm):
    pytest.importorskip("dask_jobqueue")
    with dask_executor("slurm:2") as executor:
        assert executor._max_workers == 2
        assert executor.submit(factorial, 5).result(timeout=60) == 120
        executor._client.wait_for_workers(2, timeout=60)
        pids = in_each(executor, os.getpid)
        assert len(set(pids)) == 2
        assert in_each(executor, os.getenv, "JAX_NUM_CPU_DEVICES") == ["2", "2"]
        first = set(executor._client.nthreads())
        os.killpg(os.getpgid(pids[0]), signal.SIGKILL)  # as at the end of its time
        wait_until(lambda: len(executor._client.nthreads()) == 2 and first != set(executor._client.nthreads()))
        pids = in_each(executor, os.getpid)
    wait_until(lambda: not any(map(is_alive, pids)))


# ---- whole sweeps


@contextmanager
def meanwhile(action, when):
    """Do something in a thread as soon as `when()` is true."""

    def watch():
        wait_until(when)
        action()

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()


def stored_files(store):
    return len(list(store.glob("groups/*.parquet")))


@pytest.mark.slow
def test_a_sweep_on_four_workers_of_which_one_is_killed_is_that_of_one_left_alone(tmp_path):
    sweep = experiment(refine=True, seeds=3)
    with dask_executor("dask:4") as executor:
        pids = in_each(executor, os.getpid)
        assert len(pids) == 4
        with meanwhile(lambda: os.kill(pids[1], signal.SIGKILL), lambda: stored_files(tmp_path / "killed") >= 3):
            records = run_with(SlowTrainer(0.1), sweep, tmp_path / "killed", executor=executor)
    assert not is_alive(pids[1])
    assert_same_records(records, run_with(SlowTrainer(0.0), sweep, tmp_path / "alone"))
    assert_same_records(records, load(tmp_path / "killed"))


@pytest.mark.slow
def test_a_sweep_whose_scheduler_dies_says_so_and_the_next_call_completes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 2.0)
    store, sweep = tmp_path / "runs", experiment(seeds=3)
    with (
        scheduler_and_worker(tmp_path) as (address, scheduler),
        dask_executor(f"dask:{address}") as executor,
        meanwhile(scheduler.kill, lambda: stored_files(store) >= 2),
        pytest.raises(SweepError, match="scheduler"),
    ):
        run_with(SlowTrainer(0.3), sweep, store, executor=executor)
    assert 0 < len(load(store).runs) < 36
    records = run_with(SlowTrainer(0.0), sweep, store)
    assert_same_records(records, run_with(SlowTrainer(0.0), sweep, tmp_path / "alone"))
