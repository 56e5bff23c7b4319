"""What a figure leaves in its folder."""

import dataclasses

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from sharplab.gallery.finding import Finding, save_finding


def test_a_write_that_fails_keeps_the_files_that_were_there(tmp_path, monkeypatch):
    figure = plt.figure()
    finding = Finding(figure, pd.DataFrame({"width": [8], "loss": [0.5]}), "Losses fall.", "holds", {"slope": -1.0})
    picture = save_finding(finding, "losses", tmp_path, preset="smoke", seconds=1.0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"losses.png", "losses.csv", "losses.json"} and picture.name == "losses.png"

    def cut(file, **_):
        file.write(b"half")
        raise OSError("no space")

    monkeypatch.setattr(figure, "savefig", cut)
    with pytest.raises(OSError, match="no space"):
        save_finding(dataclasses.replace(finding, verdict="fails"), "losses", tmp_path, preset="smoke", seconds=1.0)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    plt.close(figure)
