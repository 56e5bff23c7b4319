"""The command `figures`: a figure after another, whatever becomes of one."""

import re
from types import SimpleNamespace

import pytest
from made_figures import leave

from sharplab.commands import figures as command
from sharplab.commands.exit_codes import SOME_FAILED
from sharplab.gallery.entries import MARKS


@pytest.mark.long
def test_a_figure_that_fails_does_not_lose_the_others(tmp_path, monkeypatch, capsys):
    def load(path):
        def find(preset, store):
            if path == "broken":
                raise RuntimeError("out of memory")
            return SimpleNamespace(verdict="inconclusive")

        return SimpleNamespace(CLAIM="It is so.", find=find)

    def save(finding, name, folder, **made_at):
        leave(folder, name, verdict=finding.verdict, preset=made_at["preset"])
        return folder / f"{name}.png"

    scripts = {name: name for name in ("transfer", "broken", "adam")}
    monkeypatch.setattr(command, "figure_scripts", lambda: scripts)
    monkeypatch.setattr(command, "load_script", load)
    monkeypatch.setattr(command, "save_finding", save)
    folder = tmp_path / "figures"
    assert command.make_figures(command.FiguresOptions(all=True, preset="smoke", folder=folder)) == SOME_FAILED
    said = capsys.readouterr()
    assert "out of memory" in said.err
    assert "not made: broken" in said.out
    verdicts = dict(re.findall(r"│ (\w+) +│ [C0-9–]+ +│ ([a-z ]+?) +│", said.out))
    assert verdicts == {"transfer": "inconclusive", "broken": "not made", "adam": "inconclusive"}
    (row,) = re.findall(r"^\| C8 \|.*", (folder / "README.md").read_text(), flags=re.MULTILINE)
    assert MARKS["inconclusive"] in row


@pytest.mark.long
def test_figures_are_drawn_again_from_their_runs_without_training(tmp_path, capsys):
    folder = tmp_path / "figures"
    made = command.FigureOptions(name="adam", preset="smoke", store=tmp_path / "runs", folder=folder)
    command.make_figure(made)
    leave(folder, "transfer", verdict="holds")  # of which nothing is kept
    before = {path.name: path.read_bytes() for path in folder.glob("adam.*")}
    (folder / "adam.png").write_bytes(b"")
    assert command.redraw(command.RedrawOptions(folder=folder)) == 0
    said = capsys.readouterr().out
    assert "left as they were, their runs are not kept: transfer" in said
    after = {path.name: path.read_bytes() for path in folder.glob("adam.*")}
    assert after["adam.csv"] == before["adam.csv"]
    assert after["adam.json"] == before["adam.json"]
    assert after["adam.png"]


@pytest.mark.long
def test_a_figure_whose_evidence_does_not_do_stays_as_it_was(tmp_path, capsys):
    folder = tmp_path / "figures"
    leave(folder, "adam", preset="smoke")
    before = (folder / "adam.json").read_bytes()
    (folder / "evidence" / "adam").mkdir(parents=True)
    assert command.redraw(command.RedrawOptions(folder=folder)) == SOME_FAILED
    assert "adam is left as it was" in capsys.readouterr().out
    assert (folder / "adam.json").read_bytes() == before
