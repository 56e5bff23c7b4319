"""The commands as a person types them: what they say, where they leave things, how they end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from problems import QUICK_COMPILATION

from sharplab.__main__ import HEADLINE, figure_scripts

ROOT = Path(__file__).parents[1]


def sharplab(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "sharplab", *words], cwd)


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | QUICK_COMPILATION)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("sweep", "--learning-rates", "0.1", "-1"), "learning_rates"),
        (("sweep", "--parameterizations", "mpu"), "did you mean 'mup'"),
        (("figure", "transfr"), "did you mean 'transfer'"),
    ],
)
def test_bad_input_gets_one_sentence_and_a_non_zero_exit(words, says, tmp_path):
    done = sharplab(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_in_a_directory_of_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    done = sharplab("sweep", "--preset", "smoke", "--store", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "new or empty directory" in done.stderr.replace("\n", " ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


@pytest.mark.parametrize("over, options", [("width", ()), ("depth", ("--optimizer", "adam", "--alpha", "1"))])
def test_the_sweep_scripts_print_optima_and_a_verdict_and_draw(over, options, tmp_path):
    path = ROOT / "experiments" / f"{over}_sweep.py"
    script = [sys.executable, str(path), "--preset", "smoke", "--no-refine", *options]
    done = run([*script, "--store", "runs"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mup: the optimal learning rate" in done.stdout
    assert "octaves per doubling" in done.stdout
    assert f" over {over}" in done.stdout
    assert (tmp_path / "runs" / f"{over}_sweep.png").stat().st_size > 10_000


def test_a_figure_leaves_picture_numbers_and_verdict(tmp_path):
    done = sharplab("figure", "sharpening", "--preset", "smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "figures" / "sharpening.json").read_text())
    assert found["verdict"] in ("holds", "fails", "inconclusive")
    assert {"claim", "numbers", "preset", "seconds", "versions"} <= found.keys()
    table = pd.read_csv(tmp_path / "figures" / "sharpening.csv")
    assert set(table["parameterization"]) == {"mup", "ntk"}
    assert (table["sharpness_residual"] > 0).all()
    assert (tmp_path / "figures" / "sharpening.png").stat().st_size > 10_000


def test_every_script_that_draws_states_its_claim_and_its_rule():
    scripts = figure_scripts()
    assert set(HEADLINE) <= set(scripts)
    for path in scripts.values():
        text = path.read_text()
        for word in ("Paper:", "Rule of the verdict", "Cost:", "Expected:", "make figure-", "CLAIM"):
            assert word in text, f"{path.name} lacks {word!r}"
