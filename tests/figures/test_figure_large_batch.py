"""The figure of large batches: its rule on made-up sweeps, what it states of layers, and that it can be made."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

import sharplab as sl
from sharplab.analysis.trend import Measured
from sharplab.gallery.curves import plots
from sharplab.gallery.finding import plain
from sharplab.studies.large_batch import ahead, batch_scaling

script = load("large-batch")


def valleys(over, sizes, power, lowest=0.3):
    """Runs of LAMB whose best learning rate goes as size^power from 2^-6."""
    rng, rows = np.random.default_rng(0), []
    for size in sizes:
        for rate in 2.0 ** np.arange(-10, -1, 0.5):
            off = np.log2(rate) + 6 - power * np.log2(size / sizes[0])
            for seed in range(4):
                loss = lowest + 0.05 * off**2 + 0.001 * rng.normal()
                rows.append({over: size, "learning_rate": rate, "seed": seed, "train_loss": loss})
    return pd.DataFrame(rows).assign(eval_loss=1.0, diverged=False, parameterization="mup")


def made_layers(slope, noise):
    """Layers whose trust ratio goes as curvature^slope at each time, from another level each time."""
    rng, rows = np.random.default_rng(0), []
    for seed in range(3):
        for step in (32, 64):
            for i, name in enumerate(("stem/kernel", "blocks/0/kernel", "readout/kernel")):
                bare = 2.0 ** (i + rng.normal())
                ratio = step * bare**slope * 2.0 ** (noise * rng.normal())
                row = {"parameterization": "mup", "width": 8, "depth": 1, "learning_rate": 0.1, "seed": seed}
                rows.append(row | {"step": step, "parameter": name, "trust_ratio": ratio, "sharpness": ratio * bare})
    return pd.DataFrame(rows).assign(sharpness_error=0.0)


@pytest.mark.parametrize(
    "power, less, out, mended, verdict",
    [
        (0.5, (-0.05, -0.01), -0.5, 0.0, "holds"),
        (0.0, (-0.05, -0.01), -0.5, 0.0, "fails"),
        (0.5, (0.01, 0.05), -0.5, 0.0, "fails"),
        (0.5, (-0.05, -0.01), 0.0, 0.0, "fails"),
        (0.5, (-0.05, -0.01), -0.5, 0.5, "fails"),
        (0.5, (-0.05, 0.01), -0.5, 0.0, "inconclusive"),
    ],
)
def test_the_rule_of_three_parts(power, less, out, mended, verdict):
    runs = valleys("batch_size", (32, 128, 512, 2048), power).assign(optimizer="lamb")
    found = [
        script.judge_root(batch_scaling(sl.Records(runs))["lamb"].exponent),
        script.judge_ahead(Measured(sum(less) / 2, *less)),
        script.shared.judge_contrast(
            *(script.transfer_of(sl.Records(valleys("width", (32, 64, 128, 256), p))) for p in (out, mended))
        ),
    ]
    assert script.overall(found) == verdict


def test_the_exponent_decides_nothing_while_its_interval_reaches_beyond():
    assert script.judge_root(Measured(0.5, 0.2, 0.8)) == "inconclusive"
    assert script.judge_root(Measured(0.1, 0.0, 0.3)) == "inconclusive"
    assert script.judge_root(Measured(0.5, -math.inf, math.inf)) == "inconclusive"


def test_the_slope_among_layers_is_the_one_at_each_time():
    even = script.evening_out(made_layers(-1.0, 0.0))
    assert even.value == pytest.approx(-1) and even.high - even.low < 1e-9
    noisy = script.evening_out(made_layers(-0.5, 0.2))
    assert noisy.low < -0.5 < noisy.high and noisy.high < 0.5


def test_it_is_drawn_from_tables_and_its_table_makes_curves():
    runs = [valleys("batch_size", (32, 128, 512), 0.5, low).assign(optimizer=name) for name, low in
            (("lamb", 0.3), ("adamw", 0.4))]  # fmt: skip
    batches = sl.Records(pd.concat(runs, ignore_index=True))
    scalings = batch_scaling(batches)
    less = ahead(scalings["lamb"], [scalings["adamw"]])
    assert less[512].value == pytest.approx(-0.1, abs=0.005)
    sweeps = {title: sl.Records(valleys("width", (32, 64), -0.5)) for title in script.VARIANTS}
    transfers = {title: script.transfer_of(sweep) for title, sweep in sweeps.items()}
    layers = made_layers(-1.0, 0.1)
    figure = script.draw(scalings, sweeps, transfers, layers, less)
    assert len([ax for ax in figure.axes if ax.has_data()]) == 6
    found = plots(script.table(batches, sweeps, layers))
    assert [plot.title for plot in found] == ["batch sizes", "widths", "layers"]
    json.dumps(plain(script.batch_numbers(scalings["lamb"])))


@pytest.mark.slow
def test_it_is_made(tmp_path):
    finding = script.find("smoke", tmp_path)
    assert finding.verdict in ("holds", "fails", "inconclusive")
    assert set(finding.table["part"]) == {"batch sizes", "widths", "layers"}
    json.dumps(plain(finding.numbers))
