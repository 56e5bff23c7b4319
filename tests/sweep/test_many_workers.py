"""Sweeps by several workers: deaths, too little memory, stops, parts, and two calls on one store."""

import dataclasses
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_training import FakeTrainer, FaultyTrainer, experiment
from many_sweeps import SWEEP
from test_runner import assert_same_records

from sharplab.sweep import claims, dispatch, load
from sharplab.sweep.dispatch import ATTEMPTS, SweepError
from sharplab.sweep.executors.processes import Here, Processes
from sharplab.sweep.plan import Shard
from sharplab.sweep.runner import run_with
from sharplab.sweep.session import read_sessions
from sharplab.sweep.status import status
from sharplab.sweep.store.directory import open_store, read_rows
from sharplab.sweep.work import is_out_of_memory

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def two():
    with Processes(2) as executor:
        yield executor


@pytest.fixture
def alone(tmp_path):
    """What a sweep left alone gives."""
    return lambda sweep: run_with(FakeTrainer(), sweep, tmp_path / "alone")


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def start(store, seconds, executor="here", *shard):
    script = Path(__file__).with_name("many_sweeps.py")
    command = [sys.executable, str(script), str(store), str(seconds), executor, *map(str, shard)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_files(store, count):
    deadline = time.monotonic() + 60
    while len(list(store.glob("groups/*.parquet"))) < count:
        assert time.monotonic() < deadline, "nothing is stored"
        time.sleep(0.02)


def test_worker_processes_give_the_records_of_this_process(tmp_path, two, notes, alone):
    sweep = experiment(refine=True, seeds=3)
    assert_same_records(run_with(FaultyTrainer(notes), sweep, tmp_path / "store", executor=two), alone(sweep))
    assert len(FaultyTrainer(notes).runs()) >= 8


def test_a_group_whose_worker_dies_is_tried_again(tmp_path, two, notes, alone):
    trainer = FaultyTrainer(notes, deaths=ATTEMPTS - 1)
    records = run_with(trainer, experiment(), tmp_path / "store", executor=two)
    assert len(list(notes.glob("*.death"))) == ATTEMPTS - 1
    assert_same_records(records, alone(experiment()))


def test_a_group_whose_workers_all_die_is_left_for_the_next_call(tmp_path, two, notes, alone):
    sweep, store = experiment(parameterizations=("mup",), learning_rates=(1.0,), seeds=1), tmp_path / "store"
    with pytest.raises(SweepError, match=r"groups failed.*\n.*WorkerDied.*signal 9"):
        run_with(FaultyTrainer(notes, deaths=100), sweep, store, executor=two)
    assert set(load(store).runs["width"]) == {8}
    (session,) = read_sessions(store)
    assert session.ended == "failed" and session.failed
    assert all("signal 9" in Path(where).read_text() for _, where in session.failed)
    assert any("failed: residual_mlp mup width 4" in line for line in status(store))
    assert_same_records(run_with(FaultyTrainer(notes), sweep, store, executor=two), alone(sweep))


@pytest.mark.parametrize("where", ["here", "processes"])
def test_a_group_too_large_for_memory_is_split(tmp_path, two, notes, alone, where):
    trainer = FaultyTrainer(notes, most_runs=2)
    sweep = experiment(seeds=7)
    records = run_with(trainer, sweep, tmp_path / "store", executor={"here": Here(), "processes": two}[where])
    assert_same_records(records, alone(sweep))
    assert max(trainer.runs()) > 2


def test_a_single_run_too_large_for_memory_is_reported(tmp_path, notes):
    said = r"(?s)4 of .* groups failed.*1 run: one run needs more memory.*RESOURCE_EXHAUSTED"
    with pytest.raises(SweepError, match=said):
        run_with(FaultyTrainer(notes, most_runs=0), experiment(widths=(4,), learning_rates=(1.0,)), tmp_path / "store")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."),
        RuntimeError("INTERNAL: Out of memory allocating 8 bytes."),
        RuntimeError("INTERNAL: Generated function failed: CpuCallback error: out of memory"),
    ],
)
def test_too_little_memory_is_known_by_any_of_its_names(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("INTERNAL: something else"))


def test_bad_input_that_training_finds_ends_the_sweep(tmp_path):
    class Picky:
        def __call__(self, task, runs, watch):
            raise ValueError("probe_size is too large")
            yield

    with pytest.raises(ValueError, match="probe_size is too large"):
        run_with(Picky(), experiment(), tmp_path)


def test_parts_are_disjoint_and_together_the_sweep(tmp_path, alone):
    for sweep in (experiment(seeds=5), experiment(refine=True)):
        store = tmp_path / f"parts-{sweep.refine}"
        parts = [run_with(FakeTrainer(), sweep, store, shard=Shard(i, 3)) for i in range(3)]
        counts = [len(part.runs) for part in parts]
        whole = FakeTrainer()
        assert_same_records(run_with(whole, sweep, store), run_with(FakeTrainer(), sweep, store.with_suffix(".alone")))
        assert whole.trained == []
        assert sum(counts) == len(read_rows(store))
        assert max(counts) - min(counts) <= 1 or sweep.refine


@pytest.mark.parametrize("executor", ["here", "processes:2"])
def test_one_ctrl_c_ends_a_sweep_in_order_and_the_next_call_goes_on(tmp_path, alone, executor):
    store = tmp_path / "store"
    process = start(store, 0.1, executor)
    wait_for_files(store, 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Ctrl-C" in said
    kept = len(load(store).runs)
    (session,) = read_sessions(store)
    assert session.ended == "stopped"
    assert not list((store / "running").iterdir())
    rest = FakeTrainer()
    assert_same_records(run_with(rest, SWEEP, store), alone(SWEEP))
    assert 0 < kept == len(load(store).runs) - len(rest.trained) < len(load(store).runs)


def test_two_calls_on_one_store_share_the_work(tmp_path, alone):
    store = tmp_path / "store"
    both = [start(store, 0.05), start(store, 0.05)]
    for process in both:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert_same_records(load(store), alone(SWEEP))
    assert len(read_rows(store)) == len(load(store).runs), "a run was trained twice"
    assert len(list(store.glob("sweeps/*.json"))) == 2


def test_a_call_takes_over_the_group_of_one_that_was_killed(tmp_path, alone, monkeypatch):
    store = tmp_path / "store"
    process = start(store, 0.2)
    wait_for_files(store, 1)
    process.kill()
    process.communicate()
    assert list((store / "running").glob("*.json"))
    monkeypatch.setattr(claims, "LEASE_SECONDS", math.inf)  # the dead process is seen, its lease not waited for
    assert_same_records(run_with(FakeTrainer(), SWEEP, store), alone(SWEEP))
    assert not list((store / "running").glob("*.json"))


def test_a_part_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shard.*4/9"):
        run_with(FakeTrainer(), experiment(refine=True), tmp_path, shard=Shard(4, 9))


def test_a_store_that_a_worker_does_not_see_is_an_error(tmp_path):
    class Elsewhere(Here):
        def submit(self, fn, assignment):
            return super().submit(fn, dataclasses.replace(assignment, store=tmp_path / "not there"))

    with pytest.raises(ValueError, match=r"store .*not there"):
        run_with(FakeTrainer(), experiment(), tmp_path / "store", executor=Elsewhere())


def test_runs_that_workers_store_where_this_process_does_not_look_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch.time, "sleep", lambda seconds: None)

    class Elsewhere(Here):
        def submit(self, fn, assignment):
            other = open_store(tmp_path / "other")
            return super().submit(fn, dataclasses.replace(assignment, store=other))

    with pytest.raises(SweepError, match=r"(?s)4 of .*store\b"):
        run_with(FakeTrainer(), experiment(), tmp_path / "store", executor=Elsewhere())
