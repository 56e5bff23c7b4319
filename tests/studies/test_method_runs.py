"""Methods beside each other: lanes against plain loops of optax, one program for all numbers, and sharpness halfway."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from sharplab.studies.lr_free import lr_free_methods, nadamw
from sharplab.studies.method_runs import run_methods, sharpness_halfway

STEPS, RECORDS, RATES = 12, 4, (0.05, 0.2)
CURVATURE = {"a": np.array([1.0, 0.5], np.float32), "b": np.array([4.0], np.float32)}
FACTORS = {"sgd": {"a": 0.25, "b": 1.0}, "adam": {"a": 0.5, "b": 1.0}}
SCHEDULE = optax.linear_schedule(1.0, 0.0, STEPS)
METHODS = {name: lr_free_methods(SCHEDULE)[name] for name in ("dowg", "momo", "schedule-free")} | {
    "nadamw": nadamw(SCHEDULE)
}
DATA = jnp.asarray(np.random.default_rng(0).standard_normal((32, 3)), jnp.float32)
ORDERS = np.random.default_rng(1).integers(32, size=(2, STEPS, 8))
STARTS = {"a": jnp.array([[1.0, -1.0], [2.0, 0.5]]), "b": jnp.array([[0.5], [-0.5]])}
TRACES = []


def loss(w, batch):
    TRACES.append(1)
    centre = {"a": batch[:, :2], "b": batch[:, 2:]}
    parts = jax.tree.map(lambda w, x, c: jnp.mean(jnp.sum(c[None] * (w[None] - x) ** 2, axis=1)), w, centre, CURVATURE)
    return 0.5 * sum(parts.values())


def run(rates=RATES, factors=FACTORS, **more):
    given = {"params": STARTS, "methods": METHODS, "data": DATA, "orders": ORDERS, "records": RECORDS} | more
    return run_methods(loss, **given, probe=DATA, rates={"nadamw": rates}, factors=factors)


@pytest.fixture(scope="module")
def found():
    return run()


def alone(transformation, kind, seed, evaluated=lambda state, w: w):
    """The losses at the records, by optax's own loop in the variables w/s, whose gradients are s·g."""
    units = {name: (f**0.5 if kind == "sgd" else f) for name, f in FACTORS[kind].items()}

    def times(x):
        return jax.tree.map(lambda s, leaf: s * leaf, units, x)

    def own(x, batch):
        return loss(times(x), batch)

    x = jax.tree.map(lambda s, w: w[seed] / s, units, STARTS)
    state, step = transformation.init(x), jax.jit(jax.value_and_grad(own))
    update = jax.jit(transformation.update)
    seen = [loss(times(x), DATA)]
    for t, rows in enumerate(ORDERS[seed]):
        value, gradient = step(x, DATA[rows])
        updates, state = update(gradient, state, x, value=value)
        x = optax.apply_updates(x, updates)
        if (t + 1) % (STEPS // RECORDS) == 0:
            seen.append(loss(times(evaluated(state, x)), DATA))
    return np.array(seen)


@pytest.mark.parametrize("name", ["momo", "schedule-free", "nadamw"])
def test_lanes_are_plain_loops_of_optax_in_the_units_of_the_factors(found, name):
    plain = {
        "momo": contrib.momo(SCHEDULE),
        "schedule-free": contrib.schedule_free_adamw(),
        "nadamw": optax.with_extra_args_support(optax.nadamw(lambda t: RATES[1] * SCHEDULE(t))),
    }[name]
    own = found.lanes["learning_rate"] == RATES[1] if name == "nadamw" else found.lanes["method"] == name
    assert found.steps.tolist() == [0, 3, 6, 9, 12] and found.lanes["seed"].tolist() == [0, 1] * 5
    evaluated = {"evaluated": contrib.schedule_free_eval_params} if name == "schedule-free" else {}
    for seed, lane in enumerate(np.flatnonzero(own)):
        expected = alone(plain, METHODS[name].kind, seed, **evaluated)
        assert np.allclose(found.losses[:, lane], expected, rtol=1e-4)


def test_rates_are_those_of_the_last_update(found):
    nadam = (found.lanes["method"] == "nadamw").to_numpy()
    factors = np.array([SCHEDULE(t - 1) for t in found.steps[1:]])
    assert np.allclose(found.rates[1:, nadam], factors[:, None] * found.lanes["learning_rate"][nadam].to_numpy())
    assert np.isnan(found.rates[0]).all() and (found.rates[1:, 0] > 0).all()


def test_other_numbers_need_no_new_program(found):
    TRACES.clear()
    held = {"a": 1.0, "b": 0.0}
    other = run(rates=(0.1, 0.01), factors={"sgd": held, "adam": held}, data=DATA + 1)
    assert not TRACES
    assert (other.losses[-1] != found.losses[-1]).all() and np.isfinite(other.rates[1:]).all()
    # What has no learning rate stays where it was.
    assert np.allclose(np.asarray(other.halfway[0])[:, 2], np.tile(np.asarray(STARTS["b"][:, 0]), 5))


def test_sharpness_halfway_is_the_largest_eigenvalue_in_the_metric(found):
    lanes = np.arange(len(found.lanes))
    sharpness = sharpness_halfway(loss, found, jax.tree.map(lambda w: w[0], STARTS), DATA, lanes)
    hessian = np.concatenate([CURVATURE["a"], CURVATURE["b"]])
    of = found.lanes["method"].to_numpy()
    assert np.allclose(sharpness[np.isin(of, ["dowg", "momo"])], max(0.25 * 1.0, 1.0 * 4.0), rtol=1e-2)
    assert np.isnan(sharpness[of == "schedule-free"]).all() and np.isnan(found.thresholds[of == "schedule-free"]).all()
    roots = np.asarray(found.halfway[1])[of == "nadamw"]
    assert np.allclose(sharpness[of == "nadamw"], (roots**2 * hessian).max(axis=1), rtol=1e-2)
    momo = of == "momo"
    assert np.allclose(found.thresholds[momo], 19 * 2 / found.rates[RECORDS // 2, momo])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"orders": ORDERS[0]}, "orders"),
        ({"orders": ORDERS[:1]}, "orders"),
        ({"orders": ORDERS + 1}, "order"),
        ({"records": 3}, "records"),
        ({"records": 14}, "records"),
        ({"methods": {}}, "methods"),
        ({"methods": {"dowg": METHODS["dowg"]}}, "rates"),
        ({"rates": (0.0,)}, "rates"),
    ],
)
def test_wrong_calls_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        run(**wrong)
