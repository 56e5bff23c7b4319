"""`sharplab status`: what a store says from outside."""

import json
import os
import socket
from dataclasses import asdict

import pytest
from fake_training import FakeTrainer, experiment

from sharplab.sweep.claims import Claim, claiming
from sharplab.sweep.dispatch import SweepError
from sharplab.sweep.plan import missing_groups
from sharplab.sweep.runner import run_with
from sharplab.sweep.session import Session, forget_old_sessions, read_sessions, save_session
from sharplab.sweep.status import status
from sharplab.sweep.store.directory import open_store, read_rows
from sharplab.sweep.time_left import Left


def test_runs_sweeps_and_failures_are_told(tmp_path):
    with pytest.raises(SweepError):
        run_with(FakeTrainer(stop_after=10, edge=1.5), experiment(), tmp_path)
    first, second, *failures = status(tmp_path)
    assert first == f"{tmp_path}: 10 runs in 2 files, 2 diverged"
    assert second.startswith("sweep ") and ", failed: 1 of 4 groups, 10 of 24 runs, 3 failed" in second
    assert len(failures) == 3 and all("RuntimeError: stopped" in line for line in failures)
    run_with(FakeTrainer(), experiment(), tmp_path)
    assert ", done: " in status(tmp_path)[-1]


def test_a_group_under_way_is_told_with_its_share(tmp_path):
    store = open_store(tmp_path / "store")
    group = missing_groups(experiment(), read_rows(store))[0]
    save_session(store, Session("a", runs=24, groups=4, cost=1.0))
    assert "no worker is seen" in status(store)[1]
    with claiming(store, "a", group) as holder:
        holder.advance(1, 4)
        holder.write()
        running, under_way = status(store)[1:]
    assert ", running: 0 of 4 groups" in running
    assert under_way.split()[0] == "25%" and group.label in under_way and socket.gethostname() in under_way


def test_a_worker_elsewhere_is_told_while_its_heartbeat_changes(tmp_path):
    store = open_store(tmp_path / "store")
    (store / "running").mkdir()
    save_session(store, Session("a", groups=1))

    def leave(heartbeat):
        claim = Claim("far", "a", "its group", ("1",), host="elsewhere", heartbeat=heartbeat)
        (store / "running" / "far.json").write_text(json.dumps(asdict(claim)))

    leave(1)
    assert len(status(store, sleep=lambda seconds: leave(2))) == 3
    assert len(status(store, sleep=lambda seconds: None)) == 2


def test_the_time_left_is_told_and_sessions_before_it_are_read(tmp_path):
    store = open_store(tmp_path / "store")
    group = missing_groups(experiment(), read_rows(store))[0]
    session = Session("a", groups=4, left=(Left(group.first_id, 80.0, 5.0),))
    with claiming(store, "a", group) as holder:
        holder.advance(1, 4)
        holder.write()
        save_session(store, session)
        assert status(store)[1].endswith(", about 60 s left")
        fields = asdict(session)
        for later in ("workers", "seconds_done", "left"):
            del fields[later]
        (store / "sweeps" / "a.json").write_text(json.dumps(fields))
        assert ", running: 0 of 4 groups" in status(store)[1] and "left" not in status(store)[1]


def test_without_a_store_there_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="no store"):
        status(tmp_path / "nowhere")


def test_sessions_go_a_month_after_they_were_last_written(tmp_path):
    store = open_store(tmp_path / "store")
    for name, days in (("old", 31), ("young", 29)):
        save_session(store, Session(name, groups=1))
        (store / "sweeps" / f"{name}.stop").touch()
        for end in ("json", "stop"):
            os.utime(store / "sweeps" / f"{name}.{end}", (0, 100 * 86_400 - days * 86_400))
    forget_old_sessions(store, now=100 * 86_400)
    assert [session.name for session in read_sessions(store)] == ["young"]
    assert not (store / "sweeps" / "old.stop").exists() and (store / "sweeps" / "young.stop").exists()
