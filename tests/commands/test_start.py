"""What commands import before they begin: a library that one does not need must not make it wait."""

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
import atexit, sys
atexit.register(lambda: print("imported:", *(name for name in sys.modules if "." not in name)))
from sharplab.__main__ import main
sys.argv[0] = "sharplab"
main()
"""


def imported_by(cwd, *words):
    """The modules and packages that a command has imported when it ends, and its exit code."""
    done = subprocess.run([sys.executable, "-c", CODE, *words], cwd=cwd, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return set(done.stdout.rpartition("imported:")[2].split()), done.returncode


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS)], ids=lambda words: " ".join(words) or "all")
def test_help_imports_no_library_that_works(words, tmp_path):
    imported, code = imported_by(tmp_path, *words, "--help")
    assert code == 0
    assert imported.isdisjoint({*HEAVY, *TABLES, "plotly"})


@pytest.mark.parametrize(
    "words",
    [
        ("--learning-rates", "0.1", "-1"),
        ("--seeds", "1.5"),
        ("--parameterizations", "mpu"),
        ("--optimizer", "sdg"),
        ("--config", "nosuch.toml"),
    ],
    ids=lambda words: words[0],
)
def test_a_sweep_is_refused_before_training_is_imported(words, tmp_path):
    imported, code = imported_by(tmp_path, "sweep", *words)
    assert code == 2
    assert imported.isdisjoint({*HEAVY, *TABLES})


@pytest.mark.parametrize(
    "words",
    [
        ("figure", "transfr"),
        ("mup-check", "nosuch:build"),
        ("suggest-lr", "nosuch:build", "--base", "8", "--width", "64"),
        ("transfer", "nosuch.csv"),
        ("spectrum", "nosuch.npz", "--model", "nosuch:build"),
    ],
    ids=lambda words: words[0],
)
def test_what_is_not_there_is_refused_before_training_is_imported(words, tmp_path):
    imported, code = imported_by(tmp_path, *words)
    assert code == 2
    assert imported.isdisjoint({*HEAVY, *TABLES})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "runs"
    run_with(FakeTrainer(), experiment(widths=4), folder)
    return str(folder)


@pytest.mark.parametrize(
    "words", [("status",), ("export", "tables"), ("merge", "--into", "merged")], ids=lambda w: w[0]
)
def test_stored_runs_are_read_without_what_trains_and_draws(words, store, tmp_path):
    command, *rest = words
    imported, code = imported_by(tmp_path, command, store, *rest)
    assert code == 0
    assert imported.isdisjoint(HEAVY)


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
