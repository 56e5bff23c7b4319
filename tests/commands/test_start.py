"""What commands import before they begin: a library that one does not need must not make it wait."""

import json
import subprocess
import sys

import pytest
from fake_training import FakeTrainer, experiment
from made_figures import leave

from sharplab.commands.command_line import COMMANDS
from sharplab.sweep.runner import run_with

HEAVY = ("jax", "flax", "optax", "scipy", "matplotlib")
TABLES = ("pandas", "pyarrow")
CODE = """
import json, sys
from sharplab.__main__ import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["sharplab", *words]
    try:
        main()
    except SystemExit as ended:
        print("\\nended:", json.dumps([ended.code, [name for name in sys.modules if "." not in name]]))
"""


def after_each(cwd, *commands):
    """The exit code of each command of one process, and the modules and packages that are imported when it ends."""
    done = subprocess.run([sys.executable, "-c", CODE, json.dumps(commands)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    ended = [json.loads(line.removeprefix("ended:")) for line in done.stdout.splitlines() if line.startswith("ended:")]
    assert len(ended) == len(commands)
    return [(code, set(imported)) for code, imported in ended]


def imported_by(cwd, *words):
    """The modules and packages that a command has imported when it ends, and its exit code."""
    ((code, imported),) = after_each(cwd, words)
    return imported, code


def test_help_imports_no_library_that_works(tmp_path):
    commands = [("--help",), *((name, "--help") for name in COMMANDS)]
    for words, (code, imported) in zip(commands, after_each(tmp_path, *commands), strict=True):
        assert code == 0, words
        assert imported.isdisjoint({*HEAVY, *TABLES, "plotly"}), words


REFUSED = (
    ("sweep", "--learning-rates", "0.1", "-1"),
    ("sweep", "--seeds", "1.5"),
    ("sweep", "--parameterizations", "mpu"),
    ("sweep", "--optimizer", "sdg"),
    ("sweep", "--config", "nosuch.toml"),
    ("figure", "transfr"),
    ("mup-check", "nosuch:build"),
    ("suggest-lr", "nosuch:build", "--base", "8", "--width", "64"),
    ("transfer", "nosuch.csv"),
    ("spectrum", "nosuch.npz", "--model", "nosuch:build"),
)


def test_bad_input_is_refused_before_training_is_imported(tmp_path):
    for words, (code, imported) in zip(REFUSED, after_each(tmp_path, *REFUSED), strict=True):
        assert code == 2, words
        assert imported.isdisjoint({*HEAVY, *TABLES}), words


def test_stored_runs_are_read_without_what_trains_and_draws(tmp_path):
    run_with(FakeTrainer(), experiment(widths=4), tmp_path / "runs")
    commands = [("status", "runs"), ("export", "runs", "tables"), ("merge", "runs", "--into", "merged")]
    for words, (code, imported) in zip(commands, after_each(tmp_path, *commands), strict=True):
        assert code == 0, words
        assert imported.isdisjoint(HEAVY), words


@pytest.mark.long
def test_a_report_is_written_without_what_trains(tmp_path):
    leave(tmp_path, "transfer")
    imported, code = imported_by(tmp_path, "report", "--folder", str(tmp_path))
    assert code == 0
    assert imported.isdisjoint({"jax", "flax", "optax", "scipy"})


@pytest.mark.long
def test_a_table_is_judged_without_what_trains(tmp_path):
    rows = "".join(f"{2.0**x},{width},{2 + (x - 0.3) ** 2}\n" for width in (8, 16) for x in range(-3, 4))
    (tmp_path / "runs.csv").write_text(f"learning_rate,width,eval_loss\n{rows}")
    imported, code = imported_by(tmp_path, "transfer", "runs.csv")
    assert code == 0
    assert imported.isdisjoint({"jax", "flax", "optax"})
