"""The command `suggest-lr`: what it prints, draws, writes and ends with."""

import pandas as pd
import pytest
import tyro

from sharplab.analysis.trust_region import RateRule
from sharplab.commands.suggest_lr import SuggestOptions, suggest
from sharplab.studies.suggest_lr.from_sharpness import SharpnessSuggestion

MODULE = """
import numpy as np
from flax import nnx

def build(width, rngs):
    return nnx.Sequential(nnx.Linear(4, width, rngs=rngs), nnx.tanh, nnx.Linear(width, 2, rngs=rngs))

def data():
    inputs = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    return inputs, (inputs[:, 0] > 0).astype(np.int32)
"""
QUICK = ("--base", "8", "--width", "64", "--widths", "8", "16", "--seeds", "2", "--steps", "10", "--batch-size", "16")


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "suggested_by_command.py").write_text(MODULE)
    (tmp_path / "suggested_without_data.py").write_text(MODULE.partition("def data")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def command(*words, build="suggested_by_command:build"):
    return suggest(tyro.cli(SuggestOptions, args=[build, *QUICK, *words]))


@pytest.mark.long
def test_it_prints_draws_writes_and_ends_with_0(here, capsys):
    code = command(
        "--learning-rates", "2^-5:2^1", "--minutes", "10", "--output", "made/suggestion.png", "--table", "made/runs.csv"
    )
    said = capsys.readouterr().out
    assert code == 0, said
    for words in ("base learning rate", "for width 64, adam, quoted at base 8", "predicted regret", "units of the thr"):
        assert words in said
    assert (here / "made/suggestion.png").stat().st_size > 10_000
    runs = pd.read_csv(here / "made/runs.csv")
    assert set(runs["width"]) == {8, 16} and {"learning_rate", "seed", "train_loss", "diverged"} <= set(runs)


def test_with_a_store_the_same_command_trains_nothing_anew(here, capsys, monkeypatch):
    words = ("--learning-rates", "2^-5:2^1", "--optimizer", "lion", "--store", "kept")
    command(*words)
    first = capsys.readouterr().out
    monkeypatch.setattr("sharplab.training.train.train_batch", None)
    command(*words)
    assert capsys.readouterr().out == first


@pytest.mark.long
def test_without_an_interval_it_ends_with_1_and_what_to_do(here, capsys):
    code = command("--learning-rates", "1e-5", "2e-5", "4e-5", "--held-out", "suggested_by_command:data")
    said = capsys.readouterr().out
    assert code == 1 and said.startswith("inconclusive") and "learning_rates" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--data", "suggested_by_command:dta"), "--data 'suggested_by_command:dta'"),
        (("--loss", "hinge"), "--loss .*'hinge'"),
        (("--optimizer", "adm"), "optimizer 'adm'.*'adam'"),
        (("--learning-rates", "0.1:"), "learning_rates: '0.1:'"),
    ],
)
def test_bad_input_names_the_option(here, words, says):
    with pytest.raises(ValueError, match=says):
        command(*words)


def test_a_module_without_data_is_told_how_to_give_them(here):
    with pytest.raises(ValueError, match="--data"):
        command(build="suggested_without_data:build")


FORMS = (
    MODULE
    + """
pair = data()
batches = [(pair[0][i : i + 16], pair[1][i : i + 16]) for i in range(0, 64, 16)]
def generator():
    while True:
        yield from batches
"""
)


@pytest.mark.long
def test_data_are_arrays_or_a_loader_or_a_function_beside_build_or_named(here, capsys):
    (here / "suggested_with_forms.py").write_text(FORMS)
    (here / "suggested_with_arrays.py").write_text(FORMS + "data = pair\n")
    said = []
    for build, words in (
        ("suggested_with_arrays", ()),
        *(("suggested_without_data", ("--data", f"suggested_with_forms:{name}")) for name in ("pair", "batches")),
        ("suggested_without_data", ("--data", "suggested_with_forms:data")),
    ):
        command("--learning-rates", "2^-5:2^1", "--optimizer", "lion", *words, build=f"{build}:build")
        said.append(capsys.readouterr().out)
    assert len(set(said)) == 1
    forever = ("--data", "suggested_with_forms:generator", "--held-out", "suggested_with_forms:pair")
    assert command("--learning-rates", "2^-5:2^1", *forever, build="suggested_without_data:build") == 0


def test_what_is_no_data_is_named_with_the_option(here):
    (here / "suggested_with_dict.py").write_text(FORMS + "data = dict(inputs=pair[0], targets=pair[1])\n")
    with pytest.raises(ValueError, match=r"--data 'suggested_with_dict:data' is a dict of inputs, targets"):
        command(build="suggested_with_dict:build")


def test_from_sharpness_hands_on_its_options_and_says_whether_it_tells(here, capsys, monkeypatch):
    rules = RateRule(1.0, 0.5, 0.9, 5, 30), RateRule(0.0, 2.0, 0.3, 5, 30)
    tries = pd.DataFrame([{"learning_rate": 0.25, "sharpness": 2.0, "reading": 1.0}])
    given = {}

    def told(build, data, **settings):
        given.update(settings)
        own = rules if settings["optimizer"] == "sgd" else rules[::-1]
        return SharpnessSuggestion(2.0, (1.0, 4.0), 64, 8, settings["optimizer"], 50, 16, tries, True, *own)

    monkeypatch.setattr("sharplab.commands.suggest_lr.learning_rate_from_sharpness", told)
    words = ["suggested_by_command:build", "--base", "8", "--width", "64", "--from-sharpness", "--steps", "50"]
    assert suggest(tyro.cli(SuggestOptions, args=[*words, "--optimizer", "sgd"])) == 0
    assert "base learning rate 2 [1, 4] (80%) for width 64" in capsys.readouterr().out
    assert (given["base"], given["width"], given["steps"], given["optimizer"]) == (8, 64, 50, "sgd")
    assert suggest(tyro.cli(SuggestOptions, args=words)) == 1
    assert capsys.readouterr().out.startswith("inconclusive")
    with pytest.raises(ValueError, match="--minutes"):
        suggest(tyro.cli(SuggestOptions, args=[*words, "--minutes", "2"]))
