"""The readings of made-up sweeps whose optimum and sharpness are known."""

import numpy as np
import pandas as pd
import pytest

from sharplab.analysis.readings import readings
from sharplab.records import Records

STEPS = 100
RATES = 2.0 ** np.arange(-3, 4)
BASE = {"batch_size": 16, "steps": STEPS, "parameterization": "mup", "optimizer": "sgd", "diverged": False}


def sweep(optimum, *, rates=RATES, seeds=3, **settings):
    """Runs of a falling learning rate whose loss is a parabola about a known optimum, with a little noise."""
    keys = BASE | {"width": 8, "depth": 2, "schedule": "linear", "probe_size": 64} | settings
    grid = [(rate, seed) for rate in rates for seed in range(seeds)]
    noise = 0.001 * np.random.default_rng(0).standard_normal(len(grid))
    rows = [
        keys | {"learning_rate": rate, "seed": seed, "train_loss": 1 + 0.1 * np.log2(rate / optimum) ** 2 + noise[i]}
        for i, (rate, seed) in enumerate(grid)
    ]
    return pd.DataFrame(rows)


def recorded(rate, values, *, seeds=2, **settings):
    """Runs of one constant learning rate, and their curves of a sharpness at given steps; seed 1's is 4 times that."""
    runs = sweep(1.0, rates=[rate], seeds=seeds, **{"schedule": "constant", "probe_size": 32} | settings)
    curves = [
        {"learning_rate": rate, "seed": seed, "step": step, "sharpness": value * 4.0**seed, "run": seed}
        for seed in range(seeds)
        for step, value in values.items()
    ]
    return runs, pd.DataFrame(curves)


def records(*parts):
    """Records of several parts, each runs or (runs, curves)."""
    runs, curves = [], []
    for number, part in enumerate(parts):
        table, curve = part if isinstance(part, tuple) else (part, None)
        table = table.assign(run_id=[f"{number}-{i}" for i in range(len(table))])
        runs.append(table)
        if curve is not None:
            ids = dict(zip(table["seed"], table["run_id"], strict=True))
            curves.append(curve.assign(run_id=curve.pop("run").map(ids)))
    return Records(pd.concat(runs, ignore_index=True), pd.concat(curves, ignore_index=True) if curves else None)


VALUES = {0: 1.0, 12: 2.0, 25: 100.0, 50: 4.0, 100: 16.0}


def test_optima_and_readings_are_those_the_tables_were_made_of():
    found = readings(
        records(
            sweep(1.3),
            sweep(0.6, width=16),
            recorded(0.25, VALUES),
            recorded(8.0, dict.fromkeys(VALUES, 1e6)),  # further from the optimum
            recorded(0.25, {0: 1e9}, batch_size=32),  # of another setting
            recorded(1.0, {0: 1e9}, schedule="cosine"),  # whose threshold changes
        )
    )
    assert found["width"].tolist() == [8, 16] and set(found["over"]) == {"width"}
    np.testing.assert_allclose(found["optimum"], [1.3, 0.6], rtol=0.05)
    assert (found["optimum_low"] < found["optimum"]).all()
    first = found.iloc[0]
    assert first["recorded_rate"] == 0.25
    # Over seeds λ is twice the given; a reading is 2/λ, and the plateau's the mean of log λ from step 50 on.
    np.testing.assert_allclose(first[["init", "early", "late"]].astype(float), [1.0, 0.5, 1 / 8])
    assert found.iloc[1][["recorded_rate", "init", "early", "late"]].isna().all()


def test_momentum_and_adam_have_their_own_thresholds_and_adam_none_before_it_steps():
    parts = [sweep(1.0, optimizer=name) for name in ("momentum", "adam", "lion")]
    after = {step: value for step, value in VALUES.items() if step}
    parts += [recorded(0.5, VALUES if name == "lion" else after, optimizer=name) for name in ("momentum", "adam")]
    found = readings(records(*parts)).set_index("optimizer")
    assert found.loc["momentum", "early"] == pytest.approx(3.8 / 4) and found.loc["adam", "early"] == pytest.approx(9.5)
    assert found["init"].isna().all()
    assert "lion" not in found.index  # nothing was recorded of it


def test_an_optimum_at_the_end_of_a_grid_is_none_and_a_record_far_from_a_tenth_is_not_early():
    found = readings(records(sweep(64.0), sweep(1.0, width=16), recorded(1.0, {0: 1.0, 30: 1.0}, width=16)))
    assert np.isnan(found["optimum"].iloc[0]) and np.isnan(found["early"].iloc[1]) and found["init"].iloc[1] == 1.0


def test_sweeps_over_depth_and_late_losses_of_constant_rates():
    parts = [sweep(2.0**i, depth=depth, schedule="constant") for i, depth in enumerate((2, 4, 8))]
    made = records(*parts, recorded(0.5, VALUES, depth=4))
    # Of constant learning rates the late curve counts, not the final loss.
    runs = made.runs.assign(train_loss=np.where(made.runs["probe_size"] == 64, -made.runs["train_loss"], 1.0))
    late = made.runs[["run_id", "learning_rate", "seed", "train_loss"]]
    curves = pd.concat([made.curves, *(late.assign(step=step) for step in (80, 100))], ignore_index=True)
    found = readings(Records(runs, curves))
    assert set(found["over"]) == {"depth"} and found["sweep"].nunique() == 1
    np.testing.assert_allclose(found["optimum"], [1, 2, 4], rtol=0.05)
    assert found["early"].notna().tolist() == [False, True, False]


def test_runs_without_a_recorded_curvature_give_no_rows_and_runs_of_another_lab_are_refused():
    assert readings(records(sweep(1.0))).empty
    with pytest.raises(ValueError, match="'depth'"):
        readings(Records(sweep(1.0).assign(run_id="a").drop(columns="depth")))
