"""All eigenvalues above a level: their number may change, few cost few products, and a full place is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from problems import matrix_operator
from test_tracker import BATCH, FACTORS, PARAMS, dense, metric, whole_loss

from sharplab.sweep.store.columns import describe
from sharplab.tracking.eigentracking import AUDIT_EVERY, begin_tracking, track_eigenpairs
from sharplab.tracking.tracker import Tracker

N, LIMIT = 60, 8


def operator(tops, rotation=None):
    values = np.r_[tops, np.linspace(-0.3, 0.3, N - len(tops))]
    Q = np.eye(N) if rotation is None else rotation
    return matrix_operator(((Q * values) @ Q.T).astype(np.float32))


@jax.jit
def record(op, tracked, level, key):
    return track_eigenpairs(op, tracked, key, k=LIMIT, tol=1e-3, level=level)


def count(found):
    return int((found.pairs.values > 0).sum())


def test_their_number_grows_and_shrinks_and_identities_stay():
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))[0]
    state, products, identities = begin_tracking(jnp.zeros(N), LIMIT), [], []
    tops = [(3, 0.9, 0.8), (3, 1.4, 0.9), (3, 3.3, 1.2), (2.5, 3.3, 0.9), (0.9, 0.8, 0.7), (1.5, 0.8, 0.6)]
    for number, top in enumerate(tops):
        state, found = record(operator(top, rotation), state, 1.0, jax.random.key(number))
        above, pairs = sorted((x for x in top if x > 1), reverse=True), found.pairs
        assert count(found) == len(above) and np.isnan(pairs.values[len(above) :]).all()
        assert np.allclose(pairs.values[: len(above)], above, rtol=2e-3) and pairs.converged[: len(above)].all()
        assert (np.abs(pairs.values[: len(above)] - np.array(above)) <= pairs.residuals[: len(above)]).all()
        products.append(int(pairs.matvecs))
        identities.append([int(x) for x in found.identities[: len(above)]])
    # The second has had its number since it was the next one below, and keeps it where it overtakes the first.
    assert identities[:4] == [[0], [0, 1], [1, 0, 2], [1, 0]] and identities[5] == [0]
    assert (state.vectors[2:] == 0).all()  # what is left of the one below


def test_few_take_fewer_products_than_all_places_would():
    op, state = operator([3.0, 2.0]), begin_tracking(jnp.zeros(N), LIMIT)
    few, none, every = (record(op, state, level, jax.random.key(0))[1] for level in (1.5, 5.0, -1.0))
    assert (count(none), count(few), count(every)) == (0, 2, LIMIT)
    assert none.pairs.matvecs < few.pairs.matvecs < every.pairs.matvecs / 1.5


def test_all_copies_are_found_of_which_there_may_be_more_than_places():
    state = begin_tracking(jnp.zeros(N), LIMIT)
    for copies in (7, 8, 9):
        _, found = record(operator([2.0] * copies), state, 1.0, jax.random.key(copies))
        assert count(found) == min(copies, LIMIT) and np.allclose(found.pairs.values[: count(found)], 2, rtol=1e-3)
    _, found = record(operator([np.nan]), state, 1.0, jax.random.key(9))
    assert np.isnan(found.pairs.values).all() and not np.isfinite(found.pairs.floor)


def test_an_audit_finds_one_that_no_start_holds():
    op, state = operator([3.0, 2.0]), begin_tracking(jnp.zeros(N), LIMIT)
    for number in range(AUDIT_EVERY - 1):
        state, _ = record(op, state, 1.0, jax.random.key(number))
    # The second has come up since, but no start holds it, nor can the random share find it in so few products.
    lost = state._replace(vectors=jnp.zeros_like(state.vectors).at[0, 0].set(1.0))
    _, found = record(op, lost, 1.0, jax.random.key(7))
    assert count(found) == 2 and np.allclose(found.pairs.values[:2], [3, 2], rtol=1e-3)


def test_a_tracker_records_them_in_the_metric_above_a_multiple_of_the_inverse_rate():
    tracker = Tracker(whole_loss, BATCH, ["above_threshold_top3"], learning_rate=1.0, metric=metric)
    root = ravel_pytree({name: jnp.full(w.shape, FACTORS[name] ** 0.5) for name, w in PARAMS.items()})[0]
    values = np.linalg.eigvalsh(root[:, None] * dense(PARAMS) * root[None])[::-1].tolist()
    tracker.learning_rate = lambda step: 1.5 / ((values[step] + values[step + 1]) / 2)
    for step in (0, 1):
        row = tracker.record(step, PARAMS)
        assert row["above_threshold_count"] == step + 1 and row["above_threshold_full"] == 0
        assert np.allclose([row[f"above_threshold_{i + 1}"] for i in range(step + 1)], values[: step + 1], rtol=1e-2)
    assert np.isnan(row["above_threshold_3"])
    assert all(describe(column) for column in row if column != "step")
    with pytest.raises(ValueError, match=r"above_threshold_top2.* learning_rate"):
        Tracker(whole_loss, BATCH, ["above_threshold_top2"])
