"""Training that was stopped or killed goes on to the bits of an undisturbed run, and how it is cut changes none."""

import signal
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import jax
import numpy as np
import pytest
from test_training import FIVE_RUNS, TASK, on_cpu, same, trained

from sharplab.training import programs
from sharplab.training import train as training
from sharplab.training.checkpoints import CheckpointWarning
from sharplab.training.layout import DeviceLayout
from sharplab.training.loop import StepTiming
from sharplab.training.task import Run
from sharplab.training.train import Stopped, Watch, train_runs

TASK = replace(TASK, record_steps=(0, 2, 5, 10))
CHEAP = replace(TASK, observables=("train_loss", "eval_accuracy"))
RUN = Run(0.1, 1)
PROGRAMS = (programs.begin, programs.init_trackers, programs.advance, programs.step, programs.observe)


def stopping_after(questions: int):
    """Yes, after so many noes."""
    asked = count()
    return lambda: next(asked) >= questions


def traced() -> list[int]:
    """How often each program has been."""
    return [program._cache_size() for program in PROGRAMS]


def in_layout(monkeypatch, per_device: int):
    """Runs beside each other on the first device."""
    layout = DeviceLayout((jax.local_devices()[0],), per_device)
    monkeypatch.setattr(programs, "choose_layout", lambda recipe, runs: layout)


def dispatched(monkeypatch):
    """Each step a program of its own."""
    monkeypatch.setattr(programs, "choose_loop", lambda function, *args: "python")


@pytest.mark.parametrize(
    "task, loop, per_device",
    [
        (replace(TASK, optimizer="adam"), "compiled", 1),
        (replace(CHEAP, optimizer="momentum"), "compiled", 4),
        (replace(CHEAP, optimizer="momentum"), "python", 1),
    ],
    ids=["adam", "momentum-vectorised", "momentum-dispatched"],
)
def test_stopped_at_any_piece_and_resumed_is_bit_identical(monkeypatch, tmp_path, task, loop, per_device):
    runs = [RUN, Run(0.02, 0), Run(1e9, 0)][:per_device]
    in_layout(monkeypatch, per_device)
    if loop == "python":
        dispatched(monkeypatch)
    whole = trained(task, runs)
    before = traced()
    for questions in count():
        try:
            trained(task, runs, Watch(stop=stopping_after(questions), checkpoints=tmp_path))
            break
        except Stopped:
            assert len(list(tmp_path.iterdir())) == (questions > 0)
        steps = []

        def progress(done, total, steps=steps):
            steps.append(done)

        resumed = trained(task, runs, Watch(progress=progress, checkpoints=tmp_path))
        assert all(map(same, resumed, whole))
        assert steps == sorted(steps)
        assert (steps[0] > 0) == (questions > 1)
        assert list(tmp_path.iterdir()) == []
    assert questions >= 6
    assert traced() == before


@pytest.mark.parametrize("loop", ["compiled", "python"])
def test_how_chunks_are_cut_changes_no_bit(monkeypatch, loop):
    task = TASK
    if loop == "python":
        task = CHEAP
        dispatched(monkeypatch)
    runs = FIVE_RUNS[2:4]
    found = []
    for most in (TASK.steps, 1, 3):
        monkeypatch.setattr(StepTiming, "segment", lambda self, left, most=most: min(left, most))
        found.append(trained(task, runs))
    whole, *cut = found
    assert whole[1].diverged
    for results in cut:
        assert all(map(same, results, whole))


def test_orders_of_batches_are_bounded_and_change_no_bit(monkeypatch):
    (whole,) = trained(TASK, [RUN])
    monkeypatch.setattr(training, "ORDER_NUMBERS", 2 * TASK.batch_size)
    lengths, pad = [], training._padded
    monkeypatch.setattr(training, "_padded", lambda order, length: lengths.append(length) or pad(order, length))
    (bounded,) = trained(TASK, [RUN])
    assert set(lengths) == {2}
    assert same(bounded, whole)


@on_cpu
@pytest.mark.long
def test_killed_while_it_writes_a_checkpoint_it_goes_on_from_the_one_before(tmp_path):
    folder, script = tmp_path / "checkpoints", Path(__file__).with_name("killed_training.py")
    killed = subprocess.run([sys.executable, script, folder, "5"], capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(path.suffix for path in folder.iterdir()) == [".npz", ".tmp"]
    told = []
    (resumed,) = trained(TASK, [RUN], Watch(record=lambda run, step, _: told.append(step), checkpoints=folder))
    assert told == [5, 10]
    assert same(resumed, trained(TASK, [RUN])[0])
    assert list(folder.iterdir()) == []


def stopped(folder: Path, task=TASK, runs=(RUN,)) -> Path:
    """The checkpoint of a training that was stopped half way."""
    with pytest.raises(Stopped):
        trained(task, runs, Watch(stop=stopping_after(4), checkpoints=folder))
    (path,) = folder.iterdir()
    return path


def test_a_damaged_checkpoint_is_named_and_training_starts_over(tmp_path):
    path = stopped(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    told = []
    with pytest.warns(CheckpointWarning, match=path.name):
        (result,) = trained(TASK, [RUN], Watch(record=lambda run, step, _: told.append(step), checkpoints=tmp_path))
    assert told == list(TASK.record_steps)
    assert same(result, trained(TASK, [RUN])[0])


def test_another_training_has_another_checkpoint(tmp_path):
    path = stopped(tmp_path)
    told = []
    watch = Watch(record=lambda run, step, _: told.append(step), checkpoints=tmp_path)
    trained(TASK, [replace(RUN, seed=0)], watch)
    assert told == list(TASK.record_steps)
    assert list(tmp_path.iterdir()) == [path]


def test_the_name_of_a_checkpoint_tells_apart_whatever_leads_to_other_states():
    setting = {"batching": "vectorised", "runs_per_device": "4", "loop": "compiled", "device": "cpu"}
    changes = [
        (replace(TASK, observables=("train_loss",)), [RUN], setting, 1),
        (replace(TASK, record_steps=(0, 10)), [RUN], setting, 1),
        (replace(TASK, schedule="cosine"), [RUN], setting, 1),
        (replace(TASK, data="teacher-student"), [RUN], setting, 1),
        (TASK, [replace(RUN, learning_rate=np.nextafter(RUN.learning_rate, 1))], setting, 1),
        (TASK, [RUN, FIVE_RUNS[0]], setting, 1),
        (TASK, [FIVE_RUNS[0], RUN], setting, 1),
        *((TASK, [RUN], setting | {name: "other"}, 1) for name in setting),
        (TASK, [RUN], setting, 2),
    ]
    names = [training._checkpoint_name(*change) for change in [(TASK, [RUN], setting, 1), *changes]]
    assert len(set(names)) == len(names)
    assert training._checkpoint_name(TASK, (Run(np.float64(0.1), np.int64(1)),), dict(setting), 1) == names[0]


def test_a_checkpoint_goes_when_the_next_company_is_asked_for_and_not_before(tmp_path):
    path = stopped(tmp_path)
    closed = train_runs(TASK, [RUN], Watch(checkpoints=tmp_path))
    next(closed)
    closed.close()
    assert path.exists()
    asked = train_runs(TASK, [RUN], Watch(checkpoints=tmp_path))
    next(asked)
    assert path.exists()
    assert next(asked, None) is None
    assert not path.exists()


def test_each_record_is_told_once_with_its_values_and_not_for_runs_that_fill_up(monkeypatch):
    in_layout(monkeypatch, 4)
    told = {}

    def record(run, step, values):
        assert (run, step) not in told
        told[run, step] = values

    results = trained(CHEAP, FIVE_RUNS, Watch(record=record))
    assert len(told) == len(FIVE_RUNS) * len(CHEAP.record_steps)
    for result in results:
        for i, step in enumerate(CHEAP.record_steps):
            values = told[result.run, step]
            assert set(values) == set(result.curves) - {"step"}
            for name, value in values.items():
                assert value == result.curves[name][i] or (value != value and result.diverged)


def test_dispatched_runs_that_have_all_diverged_make_no_more_steps(monkeypatch):
    dispatched(monkeypatch)
    steps, step = [], programs.step
    monkeypatch.setattr(programs, "step", lambda *args: steps.append(1) or step(*args))
    (result,) = trained(CHEAP, [Run(1e9, 0)])
    assert 1 <= result.diverged_step < len(steps) < 5
    assert np.isnan(result.curves["train_loss"][-1])


@on_cpu
def test_companies_pass_their_pace_on_unless_runs_have_diverged(monkeypatch):
    task = replace(CHEAP, record_steps=(0, 10))
    trained(task, [RUN])  # what it compiles
    segments, advance = [], programs.advance
    monkeypatch.setattr(programs, "advance", lambda *args: segments.append(int(args[-1])) or advance(*args))
    trained(task, [RUN, RUN, Run(1e9, 0), RUN])
    first, later = [1, 3, 10], [10]
    assert segments == first + later + later + first
