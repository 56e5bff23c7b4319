"""Where live trackers write: lines of JSON, wandb, trackio; and what they are called."""

import importlib.util
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import pytest
from test_live import follow_a_run

from sharplab.sweep.live import parse_tracker
from sharplab.sweep.live_adapters import JsonLines, WandbLike


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def read_lines(path):
    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


# ---- JSON lines


def test_a_run_is_a_file_with_a_line_per_event(tmp_path):
    follow_a_run(JsonLines(tmp_path / "live"))
    start, *logs, finish = read_lines(tmp_path / "live" / "cafe.jsonl")
    assert start == {
        "event": "start",
        "run_id": "cafe",
        "settings": {"width": 8, "learning_rate": 0.5, "model": "residual_mlp"},
    }
    assert [(line["step"], line["train_loss"], line["eval_loss"]) for line in logs] == [
        (0, 2.0, 3.0),
        (4, 1.5, 2.5),
        (8, 1.0, 2.0),
    ]
    assert finish == {"event": "finish", "run_id": "cafe", "summary": {"train_loss": 1.0, "diverged": False}}


def test_pandas_reads_the_lines_as_numbers_where_some_are_not_finite(tmp_path):
    values = [1.5, np.float32("nan"), np.inf, -np.inf]
    for step, value in enumerate(values):
        JsonLines(tmp_path).log("cafe", step, {"train_loss": value})
    lines = read_lines(tmp_path / "cafe.jsonl")
    assert [line["train_loss"] for line in lines] == [1.5, None, None, None]
    assert [line.get("not_finite", {}).get("train_loss") for line in lines] == [None, "nan", "inf", "-inf"]
    table = pd.read_json(tmp_path / "cafe.jsonl", lines=True)
    assert table["train_loss"].dtype == float
    assert table["train_loss"].isna().tolist() == [False, True, True, True]


def test_settings_and_summaries_of_any_kind_become_json(tmp_path):
    summary = {"train_loss": float("inf"), "diverged": np.bool_(True), "steps": (0, np.int32(4)), "of": JsonLines}
    JsonLines(tmp_path).finish("cafe", summary)
    (line,) = read_lines(tmp_path / "cafe.jsonl")
    assert line["summary"] == {"train_loss": None, "diverged": True, "steps": [0, 4], "of": str(JsonLines)}
    assert line["not_finite"] == {"train_loss": "inf"}


def test_an_observable_cannot_pose_as_the_step_or_the_run(tmp_path):
    JsonLines(tmp_path).log("cafe", 4, {"step": 7.0, "run_id": 1.0, "event": 2.0})
    assert read_lines(tmp_path / "cafe.jsonl") == [{"event": "log", "run_id": "cafe", "step": 4}]


def test_each_line_is_there_at_once(tmp_path):
    tracker = JsonLines(tmp_path)
    for count in range(1, 4):
        tracker.log("cafe", count, {"train_loss": 1.0})
        assert len(read_lines(tmp_path / "cafe.jsonl")) == count


def test_a_run_that_is_trained_again_keeps_its_file_and_the_later_lines_count(tmp_path):
    for loss in (2.0, 1.0):
        JsonLines(tmp_path).start("cafe", {})
        for step in (0, 8):
            JsonLines(tmp_path).log("cafe", step, {"train_loss": loss})
    table = pd.read_json(tmp_path / "cafe.jsonl", lines=True)
    assert table["event"].tolist() == ["start", "log", "log"] * 2
    curve = table[table["event"] == "log"].drop_duplicates("step", keep="last")
    assert curve[["step", "train_loss"]].to_numpy().tolist() == [[0, 1.0], [8, 1.0]]


@pytest.mark.parametrize("torn", [b'{"event": "lo', b'{"event": "log"}\n{"eve', b"{}\n{}", b""])
def test_half_a_line_left_by_a_dead_worker_spoils_nothing(tmp_path, torn):
    (tmp_path / "cafe.jsonl").write_bytes(torn)
    follow_a_run(JsonLines(tmp_path), steps=(0,))
    lines = read_lines(tmp_path / "cafe.jsonl")
    assert len(lines) == torn.count(b"\n") + 3
    assert [line["event"] for line in lines[-3:]] == ["start", "log", "finish"]


def test_workers_write_different_runs_at_once(tmp_path):
    tracker = JsonLines(tmp_path)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        told = [pool.submit(tracker.log, f"run{i % 4}", i, {"train_loss": float(i)}) for i in range(40)]
        for future in told:
            future.result(timeout=60)
    for run in range(4):
        steps = [line["step"] for line in read_lines(tmp_path / f"run{run}.jsonl")]
        assert sorted(steps) == list(range(run, 40, 4))


# ---- wandb and trackio, first as stand-ins that behave alike

WANDB = """
CALLS, ACTIVE = [], []

class Run:
    def __init__(self, given):
        self.id, self.summary = given["id"], {}
        ACTIVE.append(self)
    def log(self, values, step=None):
        assert self in ACTIVE, "logged to a finished run"
        CALLS.append(("log", self.id, step, values))
    def finish(self):
        ACTIVE.remove(self)
        CALLS.append(("finish", self.id, self.summary))

def init(*, reinit="default", **given):
    if ACTIVE and reinit != "create_new":
        return ACTIVE[-1]
    CALLS.append(("init", given["id"], given))
    return Run(given)
"""

TRACKIO = """
import contextvars
CALLS, ACTIVE = [], []
current = contextvars.ContextVar("current", default=None)

class Run:
    def __init__(self, name):
        self.id = name
        ACTIVE.append(self)
    def log(self, values, step=None):
        assert self in ACTIVE, "logged to a finished run"
        CALLS.append(("log", self.id, step, values))
    def finish(self):
        if self in ACTIVE:
            ACTIVE.remove(self)
            CALLS.append(("finish", self.id))

def init(project, name=None, config=None, resume="never"):
    if current.get() is not None:
        current.get().finish()
    CALLS.append(("init", name, dict(project=project, config=config, resume=resume)))
    current.set(Run(name))
    return current.get()
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Makes `import NAME` find a module of this source."""

    def make(name, source):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make


@pytest.mark.parametrize(("name", "source"), [("wandb", WANDB), ("trackio", TRACKIO)])
def test_runs_are_open_side_by_side_each_with_its_own_values(stand_in, name, source):
    module = stand_in(name, source)
    tracker = WandbLike(name, "widths")
    for run_id in ("cafe", "beef"):
        tracker.start(run_id, {"width": 8, "run": run_id})
    for step in (0, 8):
        for run_id in ("cafe", "beef"):
            tracker.log(run_id, step, {f"loss of {run_id}": step + 0.5})
    inits = {call[1]: call[2] for call in module.CALLS if call[0] == "init"}
    for run_id in ("cafe", "beef"):
        assert inits[run_id]["project"] == "widths"
        assert inits[run_id]["config"] == {"width": 8, "run": run_id}
        assert inits[run_id]["resume"] == "allow"
        logged = [call[2:] for call in module.CALLS if call[:2] == ("log", run_id)]
        assert logged == [(0, {f"loss of {run_id}": 0.5}), (8, {f"loss of {run_id}": 8.5})]
    assert len(module.ACTIVE) == 2
    for run_id in ("cafe", "beef"):
        tracker.finish(run_id, {"diverged": False})
    assert module.ACTIVE == []


def test_the_summary_is_wandbs_summary_and_trackios_last_record(stand_in):
    wandb, trackio = stand_in("wandb", WANDB), stand_in("trackio", TRACKIO)
    for name in ("wandb", "trackio"):
        follow_a_run(WandbLike(name, "widths"))
    assert wandb.CALLS[-1] == ("finish", "cafe", {"train_loss": 1.0, "diverged": False})
    last = ("log", "cafe", None, {"summary/train_loss": 1.0, "summary/diverged": False})
    assert trackio.CALLS[-2:] == [last, ("finish", "cafe")]


@pytest.mark.parametrize(("name", "source"), [("wandb", WANDB), ("trackio", TRACKIO)])
def test_a_finished_run_can_be_started_again_and_one_never_started_can_be_finished(stand_in, name, source):
    module = stand_in(name, source)
    follow_a_run(WandbLike(name, "widths"))
    follow_a_run(WandbLike(name, "widths"))
    WandbLike(name, "widths").finish("beef", {"diverged": True})
    assert [call[1] for call in module.CALLS if call[0] == "init"] == ["cafe", "cafe", "beef"]
    assert module.ACTIVE == []


# ---- the packages themselves, offline, two runs side by side under a guard

REAL = """
import json, sys
from sharplab.sweep.live import guarded
from sharplab.sweep.live_adapters import WandbLike

with guarded([WandbLike(sys.argv[1], "widths")], "session") as tracker:
    for run_id in ("cafe", "beef"):
        tracker.start(run_id, {"width": 8, "learning_rate": 0.5})
    for step in (0, 8):
        for run_id in ("cafe", "beef"):
            tracker.log(run_id, step, {"train_loss": 2.0 - step / 8, "eval_loss": float("nan")})
    for run_id in ("cafe", "beef"):
        tracker.finish(run_id, {"diverged": False})
"""


def run_really(package, folder, *, after=""):
    places = {"WANDB_MODE": "offline", "WANDB_DIR": str(folder), "TRACKIO_DIR": str(folder / "trackio")}
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "error::UserWarning:sharplab", "-c", REAL + textwrap.dedent(after), package]
    done = subprocess.run(command, env=os.environ | places | path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "LiveTrackerWarning" not in done.stderr
    return done.stdout


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_itself_keeps_two_runs(tmp_path):
    run_really("wandb", tmp_path)
    for run_id in ("cafe", "beef"):
        (file,) = tmp_path.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb")
        content = file.read_bytes()
        assert all(name in content for name in (b"train_loss", b"learning_rate", b"diverged"))


@pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="trackio is not installed")
def test_trackio_itself_keeps_two_runs(tmp_path):
    after = """
    from trackio.sqlite_storage import SQLiteStorage
    found = {run.name: (run.config["width"], SQLiteStorage.get_logs("widths", run.name)) for run in
             __import__("trackio").Api().runs("widths")}
    print("FOUND " + json.dumps(found))
    """
    found = json.loads(run_really("trackio", tmp_path, after=after).rpartition("FOUND ")[2])
    assert set(found) == {"cafe", "beef"}
    for width, records in found.values():
        assert width == 8
        assert [(record["step"], record["train_loss"]) for record in records[:2]] == [(0, 2.0), (8, 1.0)]
        assert records[2]["summary/diverged"] is False


# ---- trackers from texts


def test_texts_stand_for_trackers(tmp_path, stand_in, monkeypatch):
    stand_in("wandb", WANDB)
    stand_in("trackio", TRACKIO)
    monkeypatch.chdir(tmp_path)
    assert parse_tracker("jsonl", "runs") == JsonLines(tmp_path / "runs" / "live")
    assert parse_tracker("jsonl:notes", "runs") == JsonLines(tmp_path / "notes")
    assert parse_tracker("wandb:widths", "runs") == WandbLike("wandb", "widths")
    assert parse_tracker("trackio:widths", "runs") == WandbLike("trackio", "widths")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("jsonlines", "unknown tracker 'jsonlines': did you mean 'jsonl'"),
        ("wandb", "tracker wandb needs a project: give wandb:PROJECT"),
        ("trackio:", "tracker trackio needs a project: give trackio:PROJECT"),
    ],
)
def test_other_texts_are_refused_with_a_remedy(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_tracker(text, "runs")


@pytest.mark.parametrize("folder", [False, True])
def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch, folder):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    if folder:
        (tmp_path / "wandb").mkdir()  # as wandb leaves one where it has run
    with pytest.raises(ValueError, match=r"wandb.*pip install wandb"):
        parse_tracker("wandb:widths", "runs")


def test_nothing_is_imported_before_it_is_used(stand_in, monkeypatch):
    module = stand_in("trackio", "raise_if_used = True")
    tracker = WandbLike("trackio", "widths")
    with pytest.raises(AttributeError, match="init"):
        tracker.start("cafe", {})
    assert module.raise_if_used


@pytest.mark.parametrize("text", ["jsonl", "wandb:widths", "trackio:widths"])
def test_trackers_travel_to_other_processes(text, tmp_path, stand_in):
    stand_in("wandb", WANDB)
    stand_in("trackio", TRACKIO)
    tracker = parse_tracker(text, tmp_path)
    follow_a_run(tracker)
    assert pickle.loads(pickle.dumps(tracker)) == tracker
