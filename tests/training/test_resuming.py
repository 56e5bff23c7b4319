"""Training that was stopped or killed goes on to the bits of an undisturbed run, and how it is cut changes none."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import jax
import numpy as np
import pytest
from problems import QUICK_COMPILATION
from test_training import FIVE_LANES, TASK, on_cpu, same, trained

from sharplab.training import programs
from sharplab.training import train as training
from sharplab.training.checkpoints import CheckpointWarning
from sharplab.training.layout import Formation
from sharplab.training.loop import Pace
from sharplab.training.task import Lane
from sharplab.training.train import Stopped, Watch, train_lanes

TASK = replace(TASK, record_steps=(0, 2, 5, 10))
CHEAP = replace(TASK, observables=("train_loss", "eval_accuracy"))
LANE = Lane(0.1, 1)
PROGRAMS = (programs.begin, programs.advance, programs.step, programs.observe)


def stopping_after(questions: int):
    """Yes, after so many noes."""
    asked = count()
    return lambda: next(asked) >= questions


def traced() -> list[int]:
    """How often each program has been."""
    return [program._cache_size() for program in PROGRAMS]


def in_formation(monkeypatch, per_device: int):
    """Lanes beside each other on the first device."""
    formation = Formation((jax.local_devices()[0],), per_device)
    monkeypatch.setattr(programs, "choose_formation", lambda recipe, lanes: formation)


def dispatched(monkeypatch):
    """Each step a program of its own."""
    monkeypatch.setattr(programs, "choose_driver", lambda function, *args: "dispatch")


@pytest.mark.parametrize(
    "task, driver, per_device",
    [
        (replace(TASK, optimizer="adam"), "loop", 1),
        (replace(CHEAP, optimizer="momentum"), "loop", 4),
        (replace(CHEAP, optimizer="momentum"), "dispatch", 1),
    ],
    ids=["adam", "momentum-vectorised", "momentum-dispatched"],
)
def test_stopped_at_any_piece_and_resumed_is_bit_identical(monkeypatch, tmp_path, task, driver, per_device):
    lanes = [LANE, Lane(0.02, 0), Lane(1e9, 0)][:per_device]
    in_formation(monkeypatch, per_device)
    if driver == "dispatch":
        dispatched(monkeypatch)
    whole = trained(task, lanes)
    before = traced()
    for questions in count():
        try:
            trained(task, lanes, Watch(stop=stopping_after(questions), checkpoints=tmp_path))
            break
        except Stopped:
            assert len(list(tmp_path.iterdir())) == (questions > 0)
        steps = []

        def progress(done, total, steps=steps):
            steps.append(done)

        resumed = trained(task, lanes, Watch(progress=progress, checkpoints=tmp_path))
        assert all(map(same, resumed, whole))
        assert steps == sorted(steps)
        assert (steps[0] > 0) == (questions > 1)
        assert list(tmp_path.iterdir()) == []
    assert questions >= 6
    assert traced() == before


@pytest.mark.parametrize("driver", ["loop", "dispatch"])
def test_how_chunks_are_cut_changes_no_bit(monkeypatch, driver):
    task = TASK
    if driver == "dispatch":
        task = CHEAP
        dispatched(monkeypatch)
    lanes = FIVE_LANES[2:4]
    found = []
    for most in (TASK.steps, 1, 3):
        monkeypatch.setattr(Pace, "piece", lambda self, left, most=most: min(left, most))
        found.append(trained(task, lanes))
    whole, *cut = found
    assert whole[1].diverged
    for results in cut:
        assert all(map(same, results, whole))


def test_orders_of_batches_are_bounded_and_change_no_bit(monkeypatch):
    (whole,) = trained(TASK, [LANE])
    monkeypatch.setattr(training, "ORDER_NUMBERS", 2 * TASK.batch_size)
    lengths, pad = [], training._padded
    monkeypatch.setattr(training, "_padded", lambda order, length: lengths.append(length) or pad(order, length))
    (bounded,) = trained(TASK, [LANE])
    assert set(lengths) == {2}
    assert same(bounded, whole)


@on_cpu
def test_killed_while_it_writes_a_checkpoint_it_goes_on_from_the_one_before(tmp_path):
    folder, script = tmp_path / "checkpoints", Path(__file__).with_name("killed_training.py")
    environment = os.environ | QUICK_COMPILATION
    killed = subprocess.run(
        [sys.executable, script, folder, "5"], capture_output=True, text=True, timeout=300, env=environment
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(path.suffix for path in folder.iterdir()) == [".npz", ".tmp"]
    told = []
    (resumed,) = trained(TASK, [LANE], Watch(record=lambda lane, step, _: told.append(step), checkpoints=folder))
    assert told == [5, 10]
    assert same(resumed, trained(TASK, [LANE])[0])
    assert list(folder.iterdir()) == []


def stopped(folder: Path, task=TASK, lanes=(LANE,)) -> Path:
    """The checkpoint of a training that was stopped half way."""
    with pytest.raises(Stopped):
        trained(task, lanes, Watch(stop=stopping_after(4), checkpoints=folder))
    (path,) = folder.iterdir()
    return path


def test_a_damaged_checkpoint_is_named_and_training_starts_over(tmp_path):
    path = stopped(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    told = []
    with pytest.warns(CheckpointWarning, match=path.name):
        (result,) = trained(TASK, [LANE], Watch(record=lambda lane, step, _: told.append(step), checkpoints=tmp_path))
    assert told == list(TASK.record_steps)
    assert same(result, trained(TASK, [LANE])[0])


def test_another_training_has_another_checkpoint(tmp_path):
    path = stopped(tmp_path)
    told = []
    watch = Watch(record=lambda lane, step, _: told.append(step), checkpoints=tmp_path)
    trained(TASK, [replace(LANE, seed=0)], watch)
    assert told == list(TASK.record_steps)
    assert list(tmp_path.iterdir()) == [path]


def test_the_name_of_a_checkpoint_tells_apart_whatever_leads_to_other_states():
    setting = {"lane_mode": "vectorised", "company": "4", "driver": "loop", "device": "cpu"}
    changes = [
        (replace(TASK, observables=("train_loss",)), [LANE], setting, 1),
        (replace(TASK, record_steps=(0, 10)), [LANE], setting, 1),
        (replace(TASK, schedule="cosine"), [LANE], setting, 1),
        (replace(TASK, data="teacher-student"), [LANE], setting, 1),
        (TASK, [replace(LANE, learning_rate=np.nextafter(LANE.learning_rate, 1))], setting, 1),
        (TASK, [LANE, FIVE_LANES[0]], setting, 1),
        (TASK, [FIVE_LANES[0], LANE], setting, 1),
        *((TASK, [LANE], setting | {name: "other"}, 1) for name in setting),
        (TASK, [LANE], setting, 2),
    ]
    names = [training._checkpoint_name(*change) for change in [(TASK, [LANE], setting, 1), *changes]]
    assert len(set(names)) == len(names)
    assert training._checkpoint_name(TASK, (Lane(np.float64(0.1), np.int64(1)),), dict(setting), 1) == names[0]


def test_a_checkpoint_goes_when_the_next_company_is_asked_for_and_not_before(tmp_path):
    path = stopped(tmp_path)
    closed = train_lanes(TASK, [LANE], Watch(checkpoints=tmp_path))
    next(closed)
    closed.close()
    assert path.exists()
    asked = train_lanes(TASK, [LANE], Watch(checkpoints=tmp_path))
    next(asked)
    assert path.exists()
    assert next(asked, None) is None
    assert not path.exists()


def test_each_record_is_told_once_with_its_values_and_not_for_lanes_that_fill_up(monkeypatch):
    in_formation(monkeypatch, 4)
    told = {}

    def record(lane, step, values):
        assert (lane, step) not in told
        told[lane, step] = values

    results = trained(CHEAP, FIVE_LANES, Watch(record=record))
    assert len(told) == len(FIVE_LANES) * len(CHEAP.record_steps)
    for result in results:
        for i, step in enumerate(CHEAP.record_steps):
            values = told[result.lane, step]
            assert set(values) == set(result.curves) - {"step"}
            for name, value in values.items():
                assert value == result.curves[name][i] or (value != value and result.diverged)


def test_dispatched_lanes_that_have_all_diverged_make_no_more_steps(monkeypatch):
    dispatched(monkeypatch)
    steps, step = [], programs.step
    monkeypatch.setattr(programs, "step", lambda *args: steps.append(1) or step(*args))
    (result,) = trained(CHEAP, [Lane(1e9, 0)])
    assert 1 <= result.diverged_step < len(steps) < 5
    assert np.isnan(result.curves["train_loss"][-1])


@on_cpu
def test_companies_pass_their_pace_on_unless_lanes_have_diverged(monkeypatch):
    task = replace(CHEAP, record_steps=(0, 10))
    trained(task, [LANE])  # what it compiles
    pieces, advance = [], programs.advance
    monkeypatch.setattr(programs, "advance", lambda *args: pieces.append(int(args[-1])) or advance(*args))
    trained(task, [LANE, LANE, Lane(1e9, 0), LANE])
    first, later = [1, 3, 10], [10]
    assert pieces == first + later + later + first
