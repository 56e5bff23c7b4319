"""How commands end by Ctrl-C and SIGTERM, at whatever moment."""

import signal
import subprocess
import sys
import time

import pytest

from sharplab.commands.command_line import COMMANDS, run
from sharplab.core.signals import CODES, Terminated, ending_by_signals

SWEEP = ["sweep", "--model", "mlp", "--widths", "8", "--learning-rates", "0.1", "--seeds", "1", "--steps", "1000000000"]


def start(tmp_path):
    command = [sys.executable, "-m", "sharplab", *SWEEP, "--store", str(tmp_path / "store")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.parametrize("seconds", [0.4, pytest.param(1.5, marks=pytest.mark.long)])
def test_a_command_that_is_still_loading_ends_at_once(tmp_path, number, seconds):
    process = start(tmp_path)
    time.sleep(seconds)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == CODES[number], said
    assert "Traceback" not in said and len(said.strip().splitlines()) <= 2


@pytest.mark.long
def test_a_sweep_that_is_terminated_says_so(tmp_path):
    process = start(tmp_path)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "store" / "running").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and "SIGTERM" in said and "Traceback" not in said


def test_what_has_begun_is_ended_by_exceptions_and_handlers_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), ending_by_signals() as ready:
        ready()
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), ending_by_signals() as ready:
        ready()
        signal.raise_signal(signal.SIGINT)
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


ON = "the same command goes on"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sweep", f"what was trained is stored, {ON}"),
        ("sweep --dry-run", "the same command begins anew"),
        ("figure transfer", f"what was trained is stored, {ON}"),
        ("suggest-lr m:f --base 8 --width 64 --store runs", f"what was trained is stored, {ON}"),
        ("suggest-lr m:f --base 8 --width 64", "what was trained is gone, for it had no --store"),
        ("spectrum steps --model m:f --out [a]", f"what was measured is kept in [a]/measured, {ON}"),
        ("merge a b --into c", f"what was copied stays, {ON}"),
        ("redraw", "figures drawn until then are written, the others are as they were"),
        ("transfer runs.csv", "the same command begins anew"),
    ],
)
def test_a_command_that_is_stopped_says_what_is_left_of_its_work(words, said, monkeypatch, capsys):
    name, *_ = words.split()
    kind, place = COMMANDS[name]

    def stopped(options):
        raise KeyboardInterrupt

    module, _, function = place.partition(":")
    monkeypatch.setattr(f"sharplab.commands.{module}.{function}", stopped)
    monkeypatch.setattr(kind, "check", lambda options: None)
    monkeypatch.setattr("sharplab.commands.command_line.use_all_cores", lambda: None)  # too late in this process
    assert run(words.split()) == 130
    assert capsys.readouterr().err == f"stopped; {said}\n"
