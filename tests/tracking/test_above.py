"""All eigenvalues above a level: their number may change, few cost few products, and a full place is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import matrix_operator
from test_tracker import BATCH, PARAMS, metric, whole_loss

from sharplab.sweep import Experiment, run
from sharplab.sweep.store.columns import describe
from sharplab.tracking.above import track_above
from sharplab.tracking.eigentracking import begin_tracking
from sharplab.tracking.tracker import Tracker

N, LIMIT = 30, 4


def operator(tops, rotation=None):
    values = np.r_[tops, np.linspace(-0.3, 0.3, N - len(tops))]
    Q = np.eye(N) if rotation is None else rotation
    return matrix_operator(((Q * values) @ Q.T).astype(np.float32))


@jax.jit
def record(op, tracked, level, key):
    return track_above(op, tracked, level, key, tol=1e-3)


def test_their_number_grows_and_shrinks_and_identities_stay():
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))[0]
    state, products, identities = begin_tracking(jnp.zeros(N), LIMIT - 1), [], []
    tops = [(3, 0.9, 0.8), (3, 1.4, 0.9), (3, 3.3, 1.2), (2.5, 3.3, 0.9), (0.9, 0.8, 0.7), (1.5, 1.5, 0.6)]
    for number, top in enumerate(tops):
        state, found = record(operator(top, rotation), state, 1.0, jax.random.key(number))
        above = sorted((x for x in top if x > 1), reverse=True)
        assert found.number == len(above) and found.full == 0
        assert np.allclose(found.values[: len(above)], above, rtol=2e-3) and np.isnan(found.values[len(above) :]).all()
        for value, residual, true in zip(found.values, found.residuals, above, strict=False):
            assert abs(value - true) <= residual + 1e-5
        products.append(int(found.matvecs))
        identities.append([int(x) for x in found.identities[: len(above)]])
    # The second has had its number since it was the next one below, and keeps it where it overtakes the first.
    assert identities[:4] == [[0], [0, 1], [1, 0, 2], [1, 0]]
    assert products[4] < products[3] < products[2]  # as few as there are, and one


def test_that_all_places_are_taken_is_said_and_a_multiple_eigenvalue_is_found_whole():
    state = begin_tracking(jnp.zeros(N), LIMIT - 1)
    for number, count in enumerate((3, 4, 5)):
        state, found = record(operator([2.0] * count), state, 1.0, jax.random.key(number))
        assert found.number == min(count, LIMIT) and found.full == (count >= LIMIT)
        assert np.allclose(found.values[: int(found.number)], 2, rtol=1e-3)
    _, dispatched = track_above(operator([2.0] * 3), state, 1.0, jax.random.key(8), tol=1e-3, loop="python")
    assert dispatched.number == 3 and np.allclose(dispatched.values[:3], 2, rtol=1e-3)
    _, found = record(operator([np.nan]), state, 1.0, jax.random.key(9))
    assert np.isnan(found.number) and np.isnan(found.values).all()


def test_a_tracker_records_them_in_the_metric_above_a_multiple_of_the_inverse_rate():
    tracker = Tracker(whole_loss, BATCH, ["above_threshold_top3"], learning_rate=1.0, metric=metric)
    top = Tracker(whole_loss, BATCH, ["hessian_top3"], metric=metric).record(0, PARAMS)
    values = [top[f"hessian_{i}"] for i in (1, 2, 3)]
    tracker.learning_rate = lambda step: 1.5 / ((values[step] + values[step + 1]) / 2)
    for step in (0, 1):
        row = tracker.record(step, PARAMS)
        assert row["above_threshold_count"] == step + 1 and row["above_threshold_full"] == 0
        assert np.allclose([row[f"above_threshold_{i + 1}"] for i in range(step + 1)], values[: step + 1], rtol=1e-2)
    assert np.isnan(row["above_threshold_3"])


def test_experiments_store_and_describe_them(tmp_path):
    observed = ("train_loss", "above_threshold_top2")
    grid = Experiment(
        widths=(8,), learning_rates=(8.0,), parameterizations="mup", seeds=1, model="mlp", data="gaussian-clusters",
        steps=4, records=3, observables=observed, probe_size=64,
    )  # fmt: skip
    curves = run(grid, tmp_path).curves
    assert (curves["above_threshold_count"] >= 0).all()
    known = curves["above_threshold_1"].dropna()
    assert (known > 1.5 / 8).all() and len(known) == (curves["above_threshold_count"] > 0).sum()
    for column in curves.filter(like="above_threshold"):
        assert describe(column), column
    with pytest.raises(ValueError, match=r"above_threshold_top2.* learning_rate"):
        Tracker(whole_loss, BATCH, ["above_threshold_top2"])
