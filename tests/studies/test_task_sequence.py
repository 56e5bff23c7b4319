"""Sequences of tasks: which examples they have, and runs through them against a plain loop with dense Hessians."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import sharplab as sl
from sharplab.studies import task_sequence
from sharplab.studies.task_sequence import draw_tasks, order_of_tasks, train_tasks

RNG = np.random.default_rng(0)
TARGETS = np.arange(240) % 4
INPUTS = (2 * np.eye(4)[TARGETS][:, :3] + RNG.normal(size=(240, 3))).astype(np.float32)
DATA = jnp.asarray(INPUTS), jnp.asarray(TARGETS)
TASKS = np.array([[[0, 1], [1, 2], [2, 3]], [[0, 3], [1, 2], [1, 3]]])
ORDER = np.stack([order_of_tasks(TARGETS, tasks, steps=3, batch=8, seed=s) for s, tasks in enumerate(TASKS)])
PARAMS = jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32)
RATES = [0.1, 0.5, 3e38]
PROBE = INPUTS[:40], TARGETS[:40]
SGD = optax.sgd(1.0)
TRACES = []


def model(w, x):
    return x @ w


def loss(w, batch):
    TRACES.append(1)
    return optax.softmax_cross_entropy_with_integer_labels(model(w, batch[0]), batch[1]).mean()


def batch_of(rows):
    return DATA[0][rows], DATA[1][rows]


def by_class(w):
    logits = np.asarray(model(w, PROBE[0]), float)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(40), PROBE[1]]
    right = logits.argmax(axis=1) == PROBE[1]
    return np.array([(losses[PROBE[1] == c].mean(), right[PROBE[1] == c].mean()) for c in range(4)]).T


def alone(rate, seed):
    """The weights before the first task and after each."""
    w = PARAMS[seed]
    found = [w]
    for task in ORDER[seed]:
        for rows in task:
            w = w - jnp.float32(rate) * jax.grad(loss)(w, batch_of(rows))
        found.append(w)
    return found


@pytest.fixture(scope="module")
def runs():
    return train_tasks(loss, model, PARAMS, SGD, DATA, ORDER, learning_rates=RATES, probe=PROBE, examples=16)


def test_tasks_come_back_with_other_classes_each_time():
    tasks = draw_tasks(10, 2, 2000, seed=1)
    assert tasks.shape == (2000, 2) and (tasks[:, 0] < tasks[:, 1]).all()
    assert np.allclose(np.bincount(tasks.ravel()) / 2000, 0.2, atol=0.04)
    assert np.array_equal(tasks, draw_tasks(10, 2, 2000, seed=1)) and len(np.unique(tasks, axis=0)) == 45
    with pytest.raises(ValueError, match="per_task"):
        draw_tasks(3, 4, 1, seed=0)


def test_an_epoch_passes_once_over_the_examples_of_a_task():
    one, two = (order_of_tasks(TARGETS, [[0, 2], [1, 3]], steps=4, batch=10, epochs=e, seed=3) for e in (1, 2))
    for order, times in ((one, 1), (two, 2)):
        assert order.shape == (2, 4, 10)
        for task, classes in zip(order, ([0, 2], [1, 3]), strict=True):
            assert set(TARGETS[task].ravel()) == set(classes)
            assert (np.unique(task, return_counts=True)[1] == times).all()
    assert np.array_equal(np.sort(two[0, :2].ravel()), np.sort(two[0, 2:].ravel()))
    assert not np.array_equal(two[0, :2], two[0, 2:])
    with pytest.raises(ValueError, match="epochs"):
        order_of_tasks(TARGETS, [[0]], steps=4, batch=5, epochs=3)
    with pytest.raises(ValueError, match="tasks need 80"):
        order_of_tasks(TARGETS, [[0]], steps=8, batch=10)


def test_lanes_are_plain_loops(runs):
    for lane, seed in ((0, 0), (0, 1), (1, 0), (1, 1)):
        ws = alone(RATES[lane], seed)
        expected = np.array([by_class(w) for w in ws])
        assert np.allclose(runs.params[lane, seed], ws[-1], atol=1e-5)
        assert np.allclose(runs.losses[lane, seed], expected[:, 0], rtol=1e-4)
        assert np.allclose(runs.accuracies[lane, seed], expected[:, 1], atol=1e-6)
    (row,) = runs.switches.query("learning_rate == 0.5 and seed == 1 and task == 2").to_dict("records")
    assert row["shared"] == 1 and row["old_loss"] == pytest.approx(runs.losses[1, 1, 2, [1, 2]].mean())
    assert row["old_loss_after"] == pytest.approx(runs.losses[1, 1, 3, [1, 2]].mean())
    assert row["old_accuracy_after"] == pytest.approx(runs.accuracies[1, 1, 3, [1, 2]].mean())
    assert runs.current_loss[1, 1, 1] == pytest.approx(row["old_loss"])


def test_curvature_at_a_switch_is_that_of_dense_hessians_and_updates(runs):
    w = alone(0.5, 1)[2]
    old, new = (batch_of(ORDER[1, t].ravel()[:16]) for t in (1, 2))
    (row,) = runs.switches.query("learning_rate == 0.5 and seed == 1 and task == 2").to_dict("records")
    flat, back = ravel_pytree(w)
    for name, batch in (("old", old), ("new", new)):
        top = np.linalg.eigvalsh(jax.hessian(lambda v, batch=batch: loss(back(v), batch))(flat))[-1]
        assert abs(row[f"{name}_sharpness"] - top) <= row[f"{name}_sharpness_error"] + 1e-5
        assert row[f"{name}_over_threshold"] == pytest.approx(row[f"{name}_sharpness"] * 0.5 / 2)
    of_old, update = jax.grad(loss)(w, old), -jax.grad(loss)(w, new)
    assert row["slope"] == pytest.approx(0.5 * float(jnp.sum(of_old * update)), rel=1e-3)
    critical = sl.critical_sharpness(loss, w, update, new).learning_rate
    assert row["over_critical"] == pytest.approx(0.5 / float(critical), rel=0.1)
    descends = row["slope"] < 0  # else no learning rate lowers the old loss
    assert np.isfinite(row["over_relative"]) == descends


def test_an_update_that_climbs_to_first_order_has_no_relative_critical_rate(monkeypatch):
    """Whatever rounding makes of the old loss along it."""
    monkeypatch.setattr(
        task_sequence, "critical_sharpness", lambda *args, **options: SimpleNamespace(learning_rate=1e-8)
    )
    order = [order_of_tasks(TARGETS, draw_tasks(4, 2, tasks=8, seed=s), steps=1, batch=8, seed=s) for s in range(2)]

    def own(w, batch):  # of which no program is known yet
        return loss(w, batch)

    rows = train_tasks(
        own,
        model,
        jnp.asarray(5 * np.eye(3, 4) + np.asarray(PARAMS), jnp.float32),
        SGD,
        DATA,
        np.stack(order),
        learning_rates=[1e-3],
        probe=PROBE,
    ).switches
    climbs = rows["slope"] >= 0
    assert climbs.any() and not climbs.all()
    assert np.isinf(rows["over_relative"][climbs]).all() and np.isfinite(rows["over_relative"][~climbs]).all()


def test_a_run_that_diverges_has_learned_nothing_and_spoils_no_other(runs):
    assert not np.isfinite(runs.losses[2, :, 1:]).any() and not runs.accuracies[2, :, 1:].any()
    assert np.isfinite(runs.losses[:2]).all() and runs.accuracies[:2].any()


def test_one_program_serves_other_rates_and_starts(runs):
    TRACES.clear()
    found = train_tasks(loss, model, PARAMS + 1, SGD, DATA, ORDER, learning_rates=[1, 2, 3], probe=PROBE, examples=16)
    assert not TRACES and found.losses.shape == runs.losses.shape


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("order", {"order": ORDER[0]}),
        ("order", {"order": ORDER + 220}),
        ("params", {"params": PARAMS[:1]}),
        ("learning_rates", {"learning_rates": [0.1, -1.0]}),
        ("probe", {"probe": (INPUTS[:2], TARGETS[:2])}),
        ("probe", {"probe": (PROBE[0], PROBE[1] - 1)}),
        ("data", {"data": (INPUTS, TARGETS - 1)}),
        ("data", {"data": (INPUTS, TARGETS + 0.0)}),
        ("every", {"every": 3}),
    ],
    ids=["one seed", "examples", "seeds", "rates", "classes", "ignored", "negative", "fractions", "no switch"],
)
def test_what_cannot_be_trained_is_refused(name, change):
    given = {"params": PARAMS, "data": DATA, "order": ORDER, "learning_rates": RATES, "probe": PROBE} | change
    with pytest.raises(ValueError, match=name):
        train_tasks(loss, model, optimizer=SGD, **given)
