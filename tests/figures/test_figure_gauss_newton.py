"""The figure `gauss-newton`: measures against dense matrices, closed trajectories, and the rule of its verdict."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

import sharplab as sl
from sharplab.sweep.plan import tasks
from sharplab.training.task import find_recipe

script = load("gauss-newton")
TINY = replace(script.LINEAR, widths=(3,), seeds=1, steps=8, records=3, parameterizations=("mup",))


@pytest.fixture(scope="module")
def rows():
    return script.trajectories.measure(TINY)


@pytest.mark.long
def test_runs_follow_their_closed_trajectories(rows):
    closed = script.trajectories.closed_trajectories(TINY)
    both = rows.merge(closed[np.isfinite(closed["width"])].astype({"width": int}), on="step", suffixes=("", "_closed"))
    assert len(both) == len(rows) == 3
    np.testing.assert_allclose(both["loss"], both["loss_closed"], rtol=1e-5)
    for name in script.trajectories.OPERATORS:
        assert ((both[name] - both[f"{name}_closed"]).abs() <= 2 * both[f"{name}_error"] + 1e-4).all()


@pytest.mark.long
def test_the_share_of_gauss_newton_is_that_along_the_top_eigenvector(rows):
    (task,) = tasks(TINY)
    recipe, data = find_recipe(task), sl.data.load_dataset(task.data)
    params, batch = recipe.init_params(jnp.asarray(0)), (data.train_inputs, jnp.asarray(data.train_targets))
    with jax.default_matmul_precision("highest"):
        H = np.asarray(sl.hessian(recipe.loss, params, batch, model=recipe.forward).dense(), float)
        G = np.asarray(sl.gauss_newton(recipe.forward, recipe.loss, params, batch).dense(), float)
    # Both layers have one learning-rate factor here, so that the metric changes no eigenvector.
    assert set(jax.tree.leaves(recipe.factors())) == {1.0}
    top = np.linalg.eigh(H)[1][:, -1]
    start = rows[rows["step"] == 0].iloc[0]
    assert start["share"] == pytest.approx(top @ G @ top / (top @ H @ top), abs=1e-2)


def evidence(means, slope=(0.0, (-0.01, 0.01)), half=0.02):
    return script.Evidence({width: (mean, (mean - half, mean + half)) for width, mean in means.items()}, slope)


def judged(*, share=0.97, share_slope=(-0.01, 0.01), mup=1.0, ntk=0.05):
    shares = {
        (setting, name): evidence({8: share if name == "mup" else 0.2, 16: 0.97}, (0.0, share_slope))
        for setting in ("linear network", "ConvNet, cross-entropy")
        for name in ("mup", "ntk")
    }
    growths = {"mup": evidence({8: mup, 16: 1.0}), "ntk": evidence({8: 0.6, 16: ntk})}
    return script.judge(shares, growths)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "holds"),
        ({"share": 0.91}, "inconclusive"),
        ({"share": 0.8}, "fails"),
        ({"share_slope": (-0.2, -0.02)}, "inconclusive"),
        ({"share_slope": (-0.2, -0.06)}, "fails"),
        ({"share_slope": (-np.inf, np.inf)}, "inconclusive"),
        ({"mup": 0.51}, "inconclusive"),
        ({"mup": 0.3}, "fails"),
        ({"ntk": 0.25}, "inconclusive"),
        ({"ntk": -0.5}, "fails"),
    ],
)
def test_the_verdict_follows_its_rule(changes, verdict):
    assert judged(**changes) == verdict


def test_growth_counts_octaves_since_the_start_in_the_second_half():
    steps = [0, 1, 2, 3, 4]
    table = pd.DataFrame(
        [
            {"parameterization": "mup", "width": width, "learning_rate": 1.0, "seed": seed, "step": step,
             "gauss_newton": (1 + seed) * 2.0 ** (step * factor)}
            for width, factor in ((8, 1.0), (16, 0.5))
            for seed in (0, 1)
            for step in steps
        ]
    )  # fmt: skip
    found = script.growth_of(table)
    assert {width: mean for width, (mean, _) in found.means.items()} == pytest.approx({8: 3.0, 16: 1.5})
    assert found.slope[0] == pytest.approx(-1.5)


@pytest.mark.slow
def test_the_whole_figure(tmp_path):
    finding = script.find("smoke", tmp_path)
    assert set(finding.table["part"]) == {"trained", "closed"}
    deviation = finding.numbers["closed_dynamics"]["largest_relative_deviation_of_a_run"]
    assert max(deviation.values()) < 2e-3
    assert len([ax for ax in finding.figure.axes if ax.has_data()]) == 12
