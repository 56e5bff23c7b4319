"""What is said while a sweep runs."""

import io
from types import SimpleNamespace

import pytest
from fake_training import FakeTrainer, experiment
from rich.console import Console
from rich.progress import Progress as Bar

from sharplab.sweep import progress
from sharplab.sweep.plan import Group, tasks
from sharplab.sweep.runner import run_with
from sharplab.training import Lane


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def group(width):
    (task,) = tasks(experiment(widths=(width,), parameterizations=("mup",)))
    return Group(task, (Lane(1.0, 0), Lane(1.0, 1)))


def test_outside_a_terminal_a_line_comes_now_and_then(clock):
    text = io.StringIO()
    said = progress.Progress(None, Console(file=text, width=200))
    said.plan([group(4), group(8)])
    said.begin(group(4))
    for done in range(1, 101):
        clock.now += 1
        said.advance(done, 100)
    lines = text.getvalue().splitlines()
    assert len(lines) == 100 / progress.LINE_SECONDS
    assert "residual_mlp mup width 4, 2 runs" in lines[4]
    small, large = group(4).cost, group(8).cost
    share = 0.5 * small / (small + large)
    assert f"{share:.0%}" in lines[4]
    assert f"50 s, about {50 * (1 / share - 1):.0f} s left" in lines[4]


def test_in_a_terminal_the_bar_follows_the_cost_of_the_groups():
    console = Console(file=io.StringIO(), force_terminal=True)
    bar = Bar(console=console)
    shown = progress.Progress(bar, console)
    shown.plan([group(4), group(8)])
    shown.begin(group(4))
    shown.advance(1, 1)
    shown.end(group(4))
    shown.begin(group(8))
    shown.advance(1, 2)
    (task,) = bar.tasks
    small, large = group(4).cost, group(8).cost
    assert task.description == "residual_mlp mup width 8, 2 runs"
    assert task.completed / task.total == pytest.approx((small + large / 2) / (small + large))


def test_a_sweep_with_nothing_to_train_is_silent(tmp_path, capsys):
    run_with(FakeTrainer(), experiment(), tmp_path)
    capsys.readouterr()
    run_with(FakeTrainer(), experiment(), tmp_path)
    assert capsys.readouterr() == ("", "")
