"""Re-warming: lanes against a plain optax loop, what is made of curves, and updates that settle."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import sharplab as sl
from sharplab.studies.rewarming import SETTLED, outcomes, rewarm, rewarming_rates, settled_update

DATA = jnp.asarray(np.random.default_rng(0).standard_normal((32, 3)), jnp.float32)
OLD = DATA - 2
ORDER = np.random.default_rng(1).integers(32, size=(40, 8))
CURVATURE = np.array([1.0, 0.5, 0.1], np.float32)
PARAMS = jnp.array([1.0, -1.0, 0.5])
ADAMW = optax.adamw(1.0, weight_decay=0.1)
TRACES = []


def loss(w, batch):
    TRACES.append(1)
    return 0.5 * jnp.mean(jnp.sum(CURVATURE[None] * (w[None] - batch) ** 2, axis=1))


def alone(optimizer, rates, state):
    """The losses on `DATA` and `OLD` at each step, by optax's own loop."""
    w, seen = PARAMS, [(loss(PARAMS, DATA), loss(PARAMS, OLD))]
    for rate, rows in zip(rates, ORDER, strict=True):
        updates, state = optimizer.update(jax.grad(loss)(w, DATA[rows]), state, w)
        w = optax.apply_updates(w, jax.tree.map(lambda u, rate=rate: jnp.float32(rate) * u, updates))
        seen.append((loss(w, DATA), loss(w, OLD)))
    return w, np.array(seen).T


def test_lanes_are_a_plain_loop_of_optax_from_a_carried_state():
    state = settled_update(loss, PARAMS, ADAMW, OLD)[1]
    found = rewarm(
        loss, PARAMS, ADAMW, DATA, ORDER, peaks=(0.01, 0.2), warmups=(0, 0.1), probe=DATA, old=OLD, opt_state=state
    )
    assert found.steps[0] == 0 and found.steps[-1] == 40 and found.losses.shape == (len(found.steps), 4)
    for lane, run in found.runs.iterrows():
        w, seen = alone(ADAMW, rewarming_rates(run["peak"], run["warmup"], 40), state)
        for losses, expected in zip((found.losses, found.old_losses), seen, strict=True):
            assert np.allclose(losses[:, lane], expected[found.steps], rtol=1e-5)
        assert np.allclose(found.params[lane], w, atol=1e-5)
        assert run["final"] == pytest.approx(seen[0][-1], rel=1e-5)
        assert run["forgetting"] == pytest.approx(seen[1][-1] - seen[1][0], rel=1e-4, abs=1e-5)


def test_one_program_serves_other_rates_and_checkpoints():
    train = {"warmups": (0.0, 0.1), "probe": DATA}
    rewarm(loss, PARAMS, optimizer := optax.sgd(1.0), DATA, ORDER, peaks=(0.5, 3.0), **train)
    TRACES.clear()
    found = rewarm(loss, PARAMS + 1, optimizer, DATA, ORDER, peaks=np.array([1.0, 9.0]), **train)
    assert not TRACES
    assert (found.runs["spike"][2:] > 1).all() and (found.runs["spike"][:2] < 0.1).all()  # stable below 2
    assert np.array_equal(found.losses, found.old_losses)


def test_rates_rise_below_the_peak_and_fall_by_a_cosine():
    rates = rewarming_rates(2.0, 0.02, 100)
    assert np.allclose(rates[:3], [2 / 3, 4 / 3, 2])
    schedule = optax.cosine_decay_schedule(2.0, 98)
    assert np.allclose(rates[2:], [schedule(t) for t in range(98)], atol=1e-6)
    assert np.allclose(rewarming_rates(2.0, 0.0, 98), rates[2:])


def test_a_warm_up_of_nearly_all_steps_leaves_one_to_fall():
    found = rewarming_rates(2.0, 0.99, 10)
    assert np.isfinite(found).all() and (np.diff(found) > 0).all() and found[-1] == 2


def test_spike_final_and_forgetting_of_curves():
    steps = np.array([0, 1, 5, 10, 11, 100])
    losses = np.array(
        [[1, 3, 2, 1, 9, 0.5], [1, 0.9, 0.8, 0.7, 0.6, 0.5], [1, np.nan, 2, 2, 2, 2], [1, 1, 1, 1, 1, np.inf]]
    )
    old = losses[:, ::-1].copy()
    old[2:] = 1
    found = outcomes(pd.DataFrame({"peak": range(4)}), steps, losses.T, old.T)
    assert found["spike"].tolist() == [2, 0, np.inf, 0]  # the rise at step 11 is none: past the first tenth
    assert found["final"].tolist() == [0.5, 0.5, 2, np.inf]
    assert found["forgetting"].tolist() == [0.5, 0.5, 0, 0]


def test_an_update_settles_on_the_gradient():
    gradient = jax.grad(loss)(PARAMS, DATA)
    plain, _ = settled_update(loss, PARAMS, optax.sgd(1.0), DATA)
    assert np.allclose(plain, -gradient)
    heavy = optax.sgd(1.0, momentum=0.5)
    _, moved = heavy.update(jnp.ones(3), heavy.init(PARAMS), PARAMS)
    update, _ = settled_update(loss, PARAMS, heavy, DATA, moved)
    assert np.allclose(update, -(2 * (1 - 0.5**SETTLED) * gradient + 0.5**SETTLED), rtol=1e-5)
    critical = sl.critical_sharpness(loss, PARAMS, plain, DATA)
    rayleigh = float(gradient @ (CURVATURE * gradient) / (gradient @ gradient))
    assert abs(float(critical.value) - rayleigh) <= float(critical.error)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"peaks": ()}, "peaks"),
        ({"peaks": (0.1, np.inf)}, "peaks"),
        ({"warmups": (1.0,)}, "warmups"),
        ({"order": ORDER[0]}, "order"),
        ({"order": ORDER + 1}, "order"),  # an example that there is not, for which jax would take the last
        ({"order": -ORDER}, "order"),
        ({"order": ORDER / 1.0}, "order"),
        ({"data": (DATA, DATA[1:])}, "data"),
        ({"params": PARAMS * np.nan}, "params"),
    ],
)
def test_wrong_calls_are_refused(wrong, named):
    given = {"params": PARAMS, "order": ORDER, "peaks": (0.5, 3.0), "warmups": (0.0, 0.1), "probe": DATA, "data": DATA}
    with pytest.raises(ValueError, match=named):
        rewarm(loss, optimizer=optax.sgd(1.0), **(given | wrong))
