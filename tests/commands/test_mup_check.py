"""The command `mup-check`: what it prints, draws and ends with."""

import pytest
import tyro

from sharplab.commands.mup_check import MupCheckOptions, mup_check

MODULE = """
import numpy as np
import optax
from flax import nnx

def build(width, rngs):
    hidden = nnx.Linear(width, width, rngs=rngs)
    return nnx.Sequential(nnx.Linear(6, width, rngs=rngs), nnx.tanh, hidden, nnx.tanh, nnx.Linear(width, 3, rngs=rngs))

def examples():
    rng = np.random.default_rng(0)
    return rng.standard_normal((8, 6)).astype(np.float32), rng.integers(0, 3, 8)

def plain(width):
    return optax.adam(2**-5)
"""
QUICK = ("--base", "16", "--widths", "16", "64", "--seeds", "2", "--steps", "2", "--wider-steps", "2")


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "checked_by_command.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def command(*words, build="checked_by_command:build"):
    return mup_check(tyro.cli(MupCheckOptions, args=[build, *QUICK, *words]))


@pytest.mark.long
def test_a_scaled_network_ends_with_0_and_a_picture(here, capsys):
    code = command("--batch", "checked_by_command:examples", "--learning-rate", "2^-5", "--output", "check.png")
    said = capsys.readouterr().out
    assert code == 0, said
    for words in ("muP for width 64 (base 16)", "layers/2/kernel", "coordinates: ", "optimizer: holds", "wider is"):
        assert words in said
    assert (here / "check.png").stat().st_size > 10_000


@pytest.mark.long
def test_a_plain_optimizer_ends_with_1_and_the_cause(here, capsys):
    plain = ("--own-optimizer", "checked_by_command:plain")
    assert command("--batch", "checked_by_command:examples", *plain) == 1
    said = capsys.readouterr().out
    assert "optimizer: fails" in said and "plain optimizer" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--batch"),
        (("--batch", "checked_by_command:exmples"), "--batch 'checked_by_command:exmples'"),
        (("--batch", "examples"), "--batch .*'examples'"),
        (("--batch", "checked_by_command:examples", "--learning-rate", "1:4"), "--learning-rate .*1:4"),
    ],
)
def test_bad_input_names_the_option(here, words, says):
    with pytest.raises(ValueError, match=says):
        command(*words)


@pytest.mark.long
def test_the_batch_is_arrays_or_the_first_of_a_loader(here, capsys):
    forms = "batch = examples()\nloader = [batch, (batch[0][:1], batch[1][:1])]\n"
    (here / "checked_with_batch.py").write_text(MODULE + forms)
    said = []
    for words in ((), ("--batch", "checked_with_batch:loader")):
        assert command("--learning-rate", "2^-5", *words, build="checked_with_batch:build") == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    with pytest.raises(ValueError, match="--batch 'checked_by_command:np' is a module"):
        command("--batch", "checked_by_command:np")
