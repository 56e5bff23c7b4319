"""What is said while a sweep runs."""

import io
import threading
from dataclasses import replace

import pytest
from fake_training import FakeTrainer, experiment
from rich.console import Console

from sharplab.sweep import progress
from sharplab.sweep.claims import Claim
from sharplab.sweep.progress import describe, share_done
from sharplab.sweep.runner import run_with
from sharplab.sweep.session import Session
from sharplab.sweep.time_left import Left

SESSION = Session("a", runs=20, stored=8, groups=4, groups_done=1, cost=8.0, cost_done=1.0, best_loss=0.5)
CLAIMS = [
    Claim("x", "a", "width 8, 2 runs", ("1", "2"), done=50, total=100, cost=2.0, best_loss=0.4),
    Claim("y", "a", "width 16, 2 runs", ("3", "4"), cost=4.0),
]


def test_the_share_follows_the_cost_of_the_groups_and_the_steps_of_those_under_way():
    assert share_done(SESSION, []) == 1 / 8
    assert share_done(SESSION, CLAIMS) == (1 + 2 * 0.5) / 8


def test_groups_runs_failures_and_the_best_loss_are_described():
    assert describe(SESSION, CLAIMS) == (
        "1 of 4 groups, 8 of 20 runs, 2 running (width 16, 2 runs, …), best train loss 0.4"
    )
    failed = Session("b", runs=2, groups=1, failed=(("width 8: ValueError", "there.txt"),))
    assert describe(failed, []) == "0 of 1 groups, 0 of 2 runs, 1 failed"


@pytest.mark.parametrize("terminal", [False, True])
def test_both_views_show_it(monkeypatch, terminal):
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0.05)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    monkeypatch.setattr(progress, "BAR_SECONDS", 0.05)
    text, asked = io.StringIO(), threading.Semaphore(0)
    monkeypatch.setattr(progress, "Console", lambda file: Console(file=text, force_terminal=terminal, width=200))

    session = replace(SESSION, seconds_done=20.0, left=(Left("1", 60.0, 0.0),))

    def snapshot():
        asked.release()
        return session, []

    with progress.show_progress(snapshot):
        for _ in range(4):
            asked.acquire()
    assert "25%" in text.getvalue()
    assert "1 of 4 groups, 8 of 20 runs" in text.getvalue()
    assert "s left" in text.getvalue()


def test_there_is_a_line_soon_and_then_one_a_minute(monkeypatch):
    text, now, times = io.StringIO(), [0.0], []

    class Ended:
        def wait(self, seconds):
            now[0] += seconds
            return now[0] > 200

    def snapshot():
        times.append(now[0])
        return (Session("a"), []) if now[0] < 15 else (SESSION, CLAIMS)

    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    progress._show_lines(snapshot, Console(file=text, width=200), Ended())
    assert times == [10, 20, 80, 140, 200]  # nothing was planned at 10 s
    assert [line.split("; ")[1] for line in text.getvalue().splitlines()] == ["20 s", "80 s", "140 s", "200 s"]


def test_a_sweep_with_nothing_to_train_is_silent(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0.001)
    run_with(FakeTrainer(), experiment(), tmp_path)
    capsys.readouterr()
    run_with(FakeTrainer(), experiment(), tmp_path)
    assert capsys.readouterr() == ("", "")
