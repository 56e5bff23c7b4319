"""Parts of a sweep: their names, the line that runs them, which are done."""

import re
import shlex
import subprocess
import sys

import pytest
from fake_training import FakeTrainer, experiment
from test_runner import assert_same_records

from sharplab.sweep import load
from sharplab.sweep.plan import Shard
from sharplab.sweep.runner import run_with
from sharplab.sweep.shards import parse_shard, sbatch_line, stored_parts


@pytest.mark.parametrize("count", [1, 2, 7])
def test_arrays_from_0_and_from_1_are_the_same_parts(count):
    from_0 = {parse_shard(f"{i}/{count}") for i in range(count)}
    from_1 = {parse_shard(f"{i}/{count}") for i in range(1, count + 1)}
    assert from_0 == from_1 == {Shard(i, count) for i in range(count)}


def test_a_part_reads_back_from_its_name():
    assert all(parse_shard(str(Shard(i, 5))) == Shard(i, 5) for i in range(5))


@pytest.mark.parametrize("text", ["", "1", "4/3", "1/0", "-1/3", "a/b", "1/3/5", "1.0/3"])
def test_a_text_that_names_no_part_is_refused(text):
    with pytest.raises(ValueError, match=f"shard.*{re.escape(repr(text))}"):
        parse_shard(text)


@pytest.mark.parametrize("given", [["--shard", "2/3"], ["--shard=2/3"], ["--dry-run", "--shard", "1/3"]])
def test_the_line_runs_the_same_command_once_for_each_part(given):
    words = ["/opt/bin/sharplab", "sweep", *given, "--model", "my models:build", "--store", "runs"]
    line = shlex.split(sbatch_line(Shard(2, 3), words))
    assert line[:3] == ["sbatch", "--array=1-3", "--wrap"]
    assert len(line) == 4
    # As the job's shell reads it.
    script = line[3].replace("/opt/bin/sharplab", "printf '%s\\n'", 1)
    told = subprocess.run(["sh", "-c", script], env={"SLURM_ARRAY_TASK_ID": "3"}, capture_output=True, text=True)
    expected = ["sweep", "--model", "my models:build", "--store", "runs", "--shard", "3/3"]
    assert told.stdout.splitlines() == expected


@pytest.mark.parametrize(
    ("first", "program"),
    [
        ("/somewhere/sharplab/__main__.py", ["-m", "sharplab"]),
        ("experiments/width_sweep.py", ["experiments/width_sweep.py"]),
    ],
)
def test_scripts_are_run_by_this_python(first, program, monkeypatch):
    monkeypatch.setattr("sys.executable", "/opt/python")
    (command,) = shlex.split(sbatch_line(Shard(0, 2), [first, "--steps", "3"]))[3:]
    assert shlex.split(command)[:-2] == ["/opt/python", *program, "--steps", "3"]


@pytest.mark.parametrize("refine", [False, True])
def test_parts_are_stored_once_they_have_run(tmp_path, refine):
    sweep = experiment(refine=refine)
    assert stored_parts([sweep], tmp_path / "runs", 3) == ()
    for index in (2, 0):
        run_with(FakeTrainer(), sweep, tmp_path / "runs", shard=Shard(index, 3))
    assert stored_parts([sweep], tmp_path / "runs", 3) == (Shard(2, 3), Shard(0, 3))


@pytest.mark.slow
def test_three_commands_of_a_part_each_fill_the_store_of_one_command(tmp_path):
    def start(store, *more):
        words = ["sweep", "--preset", "smoke", "--no-refine", "--widths", "4", "8", "16", "--store", str(store), *more]
        return subprocess.Popen([sys.executable, "-m", "sharplab", *words], stdout=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait(timeout=300) == 0
    parts = [start(tmp_path / "parts", "--shard", f"{i}/3") for i in (1, 2, 3)]
    assert [part.wait(timeout=300) for part in parts] == [0, 0, 0]
    assert_same_records(load(tmp_path / "parts"), load(tmp_path / "whole"))
