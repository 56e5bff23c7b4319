"""The commands as a person types them: what they say, where they leave things, how they end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from sharplab.__main__ import main
from sharplab.commands.command_line import COMMANDS
from sharplab.commands.exit_codes import UNREAD
from sharplab.gallery.entries import HEADLINE, figure_scripts

ROOT = Path(__file__).parents[2]


def sharplab(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "sharplab", *words], cwd)


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def help_of(*words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["sharplab", *words, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_help_lists_each_command_with_the_beginning_of_its_own(monkeypatch, capsys):
    said = help_of(monkeypatch=monkeypatch, capsys=capsys)
    for name, (options, _) in COMMANDS.items():
        begins, *more = [" ".join(part.split()) for part in str(options.__doc__).split("\n\n")]
        assert f"• {name} {begins}" in said
        its_own = help_of(name, monkeypatch=monkeypatch, capsys=capsys)
        for paragraph in (begins, *more):
            assert paragraph in its_own
        assert help_of(name.replace("-", "_"), monkeypatch=monkeypatch, capsys=capsys) == its_own
        assert not any(paragraph in said for paragraph in more)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("sweep", "--learning-rates", "0.1", "-1"), "learning_rates"),
        (("sweep", "--parameterizations", "mpu"), "'mup'"),
        (("figure", "transfr"), "'transfer'"),
        (("suggest_lr", "nosuch:build", "--width", "64", "--base", "8"), "nosuch"),
    ],
)
def test_bad_input_gets_one_sentence_and_a_non_zero_exit(words, says, tmp_path):
    done = sharplab(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("over, options", [("width", ()), ("depth", ("--optimizer", "adam", "--alpha", "1"))])
@pytest.mark.long
def test_the_sweep_scripts_print_optima_and_a_verdict_and_draw(over, options, tmp_path):
    path = ROOT / "experiments" / f"{over}_sweep.py"
    script = [sys.executable, str(path), "--preset", "smoke", "--no-refine", *options]
    done = run([*script, "--store", "runs"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mup: " in done.stdout
    assert f" over {over}" in done.stdout
    assert (tmp_path / "runs" / f"{over}_sweep.png").stat().st_size > 10_000


@pytest.mark.long
def test_a_dry_run_with_a_file_shows_the_plan_and_leaves_nothing(tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text(
        'preset = "smoke"\nwidths = 8\nrefine = false\nparameterizations = "mup"\n[product]\ngamma = [0.5, 1]'
    )
    script = [sys.executable, str(ROOT / "experiments" / "width_sweep.py"), "--config", file.name]
    done = run([*script, "--dry-run", "--seeds", "5"], tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[:10] for row in rows if row[:1] == ["mup"]] == [
        ["mup", "8", "2", gamma, "2^-2", "…", "2^1", "(4)", "5", "0"] for gamma in ("0.5", "1.0")
    ]
    assert [row[2:4] for row in rows if row[:2] == ["in", "all"]] == [["0", "40"]]
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.long
def test_an_interrupted_sweep_ends_with_code_130_and_goes_on(tmp_path):
    script = [sys.executable, str(ROOT / "experiments" / "width_sweep.py"), "--preset", "smoke", "--no-refine"]
    endless = [*script, "--store", "runs", "--steps", "100000000"]
    with subprocess.Popen(endless, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None and not list(tmp_path.glob("runs/running/*")):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "stopped" in said
    assert "Traceback" not in said


@pytest.mark.long
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
        for word in ("Papers?:", "Rule of the verdict", "Cost:", "Expected:", "make figure-", "CLAIM"):
            assert re.search(word, text), f"{path.name} lacks {word!r}"


def test_output_that_nobody_reads_ends_a_command_in_silence(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "sharplab", "sweep", "--help"], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (UNREAD, "")
