"""The command `transfer`: from the table of a sweep made anywhere to a verdict, in words and files."""

import json

import numpy as np
import pandas as pd
import pytest
import tyro

from sharplab.commands.exit_codes import exit_code_of
from sharplab.commands.options import TransferOptions
from sharplab.commands.table_verdict import judge_table

MAP = ("--map", "learning_rate=lr", "width=d_model", "eval_loss=final loss")


def table(shift=0.0, widths=(64, 128, 256, 512), **settings):
    """One run per cell, the optimum at 2^-6.3 and moving by `shift` per doubling; the highest rate has diverged."""
    rows = []
    for width in widths:
        for x in range(-10, -2):
            distance = x + 6.3 - shift * np.log2(width / 64)
            loss = 2.5 + 0.05 * distance**2
            rows.append({"lr": 2.0**x, "d_model": width, "final loss": loss if x < -3 else None} | settings)
    return pd.DataFrame(rows)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(*tables):
        pd.concat(tables).to_csv("mine.csv", index=False)
        return tmp_path

    return write


def command(*words):
    def judge():
        options = tyro.cli(TransferOptions, args=["mine.csv", *MAP, *words])
        options.check()
        return judge_table(options)

    return exit_code_of(judge)


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "transfers"), (-0.7, "shifts")])
def test_one_command_leads_from_a_table_to_a_verdict_with_intervals(shift, verdict, here, capsys):
    folder = here(table(shift))
    assert command() == 0
    said = capsys.readouterr().out
    assert f"the optimal learning rate {verdict} over width" in said
    assert f"shift {shift:+.2f} octaves per doubling, 95% interval [" in said
    written = json.loads((folder / "transfer" / "mine.json").read_text())
    (result,) = written["results"]
    assert result["verdict"] == verdict
    assert result["shift_interval"][0] <= shift + 1e-3 and shift - 1e-3 <= result["shift_interval"][1]
    assert written["settings"]["map"] == list(MAP[1:])
    assert written["settings"]["tolerance"] == 0.25
    assert "sharplab" in written["versions"]
    rows = pd.read_csv(folder / "transfer" / "mine.csv")
    assert rows["width"].tolist() == [64, 128, 256, 512]
    assert (rows["optimum_low"] <= rows["optimum"]).all()
    assert (folder / "transfer" / "mine.png").stat().st_size > 10_000


def test_each_parameterization_has_its_verdict(here, capsys):
    folder = here(table(param="mup"), table(-0.7, param="sp"))
    assert command("--map", *MAP[1:], "parameterization=param", "--out", "found") == 0
    said = capsys.readouterr().out
    assert "mup: the optimal learning rate transfers" in said
    assert "sp: the optimal learning rate shifts" in said
    assert set(pd.read_csv(folder / "found" / "mine.csv")["name"]) == {"mup", "sp"}


def test_groups_are_judged_by_themselves(here, capsys):
    folder = here(table(bs=32), table(-0.7, bs=64))
    assert command("--group", "bs") == 0
    written = json.loads((folder / "transfer" / "mine.json").read_text())
    assert [(one["group"], one["verdict"]) for one in written["results"]] == [
        ({"bs": 32}, "transfers"),
        ({"bs": 64}, "shifts"),
    ]
    assert {path.name for path in (folder / "transfer").glob("*.png")} == {"mine-bs-32.png", "mine-bs-64.png"}


def law_table():
    return pd.concat(table(-0.6, tokens=t).assign(lr=lambda runs, t=t: runs["lr"] * t**0.25) for t in (1, 16))


def test_of_several_sizes_there_is_a_law(here, capsys):
    folder = here(law_table())
    assert command("--over", "width", "tokens") == 0
    assert "best learning_rate ∝ width^-0.6 · tokens^0.25, from 8 cells" in capsys.readouterr().out
    (result,) = json.loads((folder / "transfer" / "mine.json").read_text())["results"]
    assert result["exponents"] == pytest.approx({"width": -0.6, "tokens": 0.25}, abs=1e-4)
    rows = pd.read_csv(folder / "transfer" / "mine.csv")
    assert len(rows) == 8 and rows["covered"].all()
    assert (folder / "transfer" / "mine.png").stat().st_size > 10_000


def test_a_law_of_as_many_cells_as_it_needs_has_no_cell_to_leave_out(here, capsys):
    folder = here(law_table().query("d_model < 200"))
    assert command("--over", "width", "tokens") == 0
    assert "from 4 cells" in capsys.readouterr().out
    (result,) = json.loads((folder / "transfer" / "mine.json").read_text())["results"]
    assert result["share_covered"] == "nan"
    assert (folder / "transfer" / "mine.png").exists()


def test_a_group_that_tells_nothing_does_not_stop_the_others(here, capsys):
    folder = here(law_table().assign(bs=32), law_table().query("d_model == 64").assign(bs=64))
    assert command("--over", "width", "tokens", "--group", "bs") == 1
    assert "not judged: over: width is 64 in all cells" in capsys.readouterr().out
    (result,) = json.loads((folder / "transfer" / "mine.json").read_text())["results"]
    assert result["group"] == {"bs": 32}


@pytest.mark.parametrize("column", ["bs", "batch_size", "weight_decay", "z_loss"])
def test_mixed_runs_are_refused_with_the_options_that_tell_them_apart(column, here, capsys):
    """Whether it is a setting that the lab knows or not."""
    here(table(**{column: 32}), table(-0.7, **{column: 64}))
    assert command() == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"mix {column} = 32, 64: give --group {column}" in said
    assert f"--over width {column}" in said


def test_settings_are_not_pooled_because_they_repeat_no_run(here, capsys):
    """Seeds or learning rates of another batch size are no further seeds of this one."""
    seeds = [table(seed=seed, bs=32) for seed in range(2)] + [table(-0.7, widths=(128, 256), seed=2, bs=512)]
    rates = [table(wd=0.1)[lambda runs: np.log2(runs["lr"]) % 2 == 0], table(-0.7, wd=0.2)]
    steps = [table(seed=seed, step=500 if seed else 1000) for seed in range(2)]  # broken off half-way
    for column, parts in (
        ("bs", seeds),
        ("step", steps),
        ("wd", [rates[0], rates[1][lambda runs: np.log2(runs["lr"]) % 2 == 1]]),
    ):
        here(*parts)
        assert command() == 2
        assert f"mix {column} =" in " ".join(capsys.readouterr().err.split())
        assert command("--group", column) in (0, 1)
        capsys.readouterr()


def test_settings_that_go_with_size_or_rate_are_named(here, capsys):
    folder = here(*(table(widths=(width,), params=12 * width**2) for width in (64, 128, 256)))
    runs = pd.read_csv(folder / "mine.csv")
    runs.assign(log_lr=np.log10(runs["lr"]), epochs=9 - 2 * runs["final loss"].isna()).to_csv("mine.csv", index=False)
    assert command() == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "note: params goes with the size" in said and "note: log_lr goes with the learning rate" in said
    assert "epochs" not in said  # runs that diverged made fewer


def test_what_grows_with_the_size_is_said(here, capsys):
    folder = here(*(table(widths=(width,), depth=width // 32) for width in (64, 128, 256)))
    assert command() == 2
    assert "--along depth" in " ".join(capsys.readouterr().err.split())
    assert command("--along", "depth") == 0
    assert (folder / "transfer" / "mine.json").exists()
    here(table(depth=2), table(depth=4))
    assert command("--along", "depth") == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--map", "lr"), "--map"),
        (("--map", "learning_rate=lr", "learning_rate=d_model"), "--map"),
        (("--over", "nosuch"), "--over nosuch"),
        (("--group", "nosuch"), "--group nosuch"),
        (("--group", "width"), "--group width"),
        (("--metric", "nosuch"), "--metric nosuch"),
        (("--tolerance", "-1"), "tolerance"),
        (("--confidence", "2"), "confidence"),
        (("--map", "learning_rate=rate"), "'rate'"),
    ],
)
def test_bad_input_is_a_sentence_with_exit_code_2(words, says, here, capsys):
    here(table())
    assert command(*words) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_what_was_noticed_of_the_table_is_said_once(here, capsys):
    here(table(bs=32, State="finished"), table(bs=64, State="running"), table(bs=64, State="crashed").iloc[-1:])
    assert command("--group", "bs", "--over", "width") == 0
    said = capsys.readouterr().out
    assert said.count("32 runs have not ended") == 1
    assert said.count("1 runs broke off") == 1


def test_divergence_that_is_no_truth_is_refused(here, capsys):
    here(table().assign(diverged="no"))
    assert command() == 2
    assert "column 'diverged'" in " ".join(capsys.readouterr().err.split())


def test_names_in_a_table_are_text_wherever_they_are_shown(here, capsys):
    """They steer no terminal, are no markup, begin no formula and leave no other folder."""
    folder = here(table(param="$\\frac", group="../[red]\x1b[2J"))
    columns = [word.replace("width=", "wi$dth=") for word in MAP[1:]]
    assert command("--map", *columns, "parameterization=param", "--over", "wi$dth", "--group", "group") == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said and "[red]" in said and "$\\frac: the optimal" in said
    (picture,) = folder.rglob("*.png")
    assert picture.parent == folder / "transfer"


def test_groups_whose_names_look_alike_in_files_have_a_picture_each(here, capsys):
    folder = here(table(data="a+b"), table(data="a b"))
    assert command("--group", "data") == 0
    assert len(list((folder / "transfer").glob("*.png"))) == 2


def test_an_inconclusive_verdict_says_what_it_wants(here, capsys):
    folder = here(table(shift=0.25))
    assert command() == 0
    (result,) = json.loads((folder / "transfer" / "mine.json").read_text())["results"]
    assert (result["wanted"] is None) == (result["verdict"] != "inconclusive")
    assert "width" in result["advice"]
