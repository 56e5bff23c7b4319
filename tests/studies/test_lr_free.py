"""Methods that find their learning rate: that rate against the updates that optax makes, and the units they run in."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sharplab.studies.lr_free import in_units, lr_free_methods, nadamw, units_of

STEPS = 400
CURVATURE = jnp.array([1.0, 0.3, 0.1])
START = jnp.array([1.0, -1.0, 0.5])
SCHEDULE = optax.linear_schedule(1.0, 0.5, STEPS)
METHODS = {**lr_free_methods(SCHEDULE), "nadamw": nadamw(SCHEDULE)}
# What each method's learning rate multiplies, at learning rate −1.
DIRECTIONS = {
    "prodigy": optax.ema(0.9),
    "dadapt": optax.ema(0.9),
    "mechanic": optax.scale_by_adam(nesterov=True),
    "dog": optax.identity(),
    "dowg": optax.identity(),
    "momo": optax.ema(0.9, debias=False),
    "momo-adam": optax.scale_by_adam(),
    "schedule-free": optax.scale_by_rms(0.999, bias_correction=True, eps_in_sqrt=False),
    "cocob": optax.identity(),
    "nadamw": optax.scale_by_adam(nesterov=True),
}


def value_of(w, centre):
    return 0.5 * jnp.sum(CURVATURE * (w - centre) ** 2)


@jax.jit
def trained():
    """For each method: updates, its learning rate, the direction of the base optimizer, P^-1, z of schedule-free."""
    centres = 0.3 * jax.random.normal(jax.random.key(0), (STEPS, 3))

    def run(name):
        method, direction = METHODS[name], DIRECTIONS[name]

        def step(carry, centre):
            w, state, base = carry
            value, gradient = jax.value_and_grad(value_of)(w, centre)
            updates, after = method.transformation.update(gradient, state, w, value=value)
            along, base = direction.update(gradient, base, w)
            inverse = jnp.nan if method.inverse is None else method.inverse(after)
            z = after.z - state.z if name == "schedule-free" else updates
            row = {"w": w, "updates": z, "rate": method.rate(state, after, w), "along": along, "inverse": inverse}
            return (w + updates, after, base), row | {"gradient": gradient}

        _, rows = jax.lax.scan(step, (START, method.transformation.init(START), direction.init(START)), centres)
        return rows

    return {name: run(name) for name in METHODS}


@pytest.fixture(scope="module")
def rows():
    return jax.tree.map(lambda x: np.asarray(x, float), trained())


def off(updates, expected):
    return np.linalg.norm(updates - expected, axis=1) / np.linalg.norm(updates, axis=1)


@pytest.mark.parametrize("name", ["dog", "dowg", "schedule-free"])
def test_updates_are_the_rate_times_the_direction(rows, name):
    run = rows[name]
    assert off(run["updates"], -run["rate"][:, None] * run["along"]).max() < 1e-3  # z of schedule-free is rounded


def test_updates_of_nadamw_are_along_its_direction_but_for_the_decay(rows):
    run = rows["nadamw"]
    moved = -run["rate"][:, None] * (run["along"] + 1e-4 * run["w"])
    assert off(run["updates"], moved).max() < 1e-4
    assert np.allclose(run["rate"], [SCHEDULE(t) for t in range(STEPS)], rtol=1e-5)


@pytest.mark.parametrize("name", ["prodigy", "dadapt"])
def test_an_estimate_that_has_settled_is_the_learning_rate_of_adam(rows, name):
    run = rows[name]
    estimate = run["rate"] / [SCHEDULE(t) for t in range(STEPS)]
    assert np.ptp(estimate[280:]) < 1e-3 * estimate[-1] and estimate[-1] > 1e3 * estimate[0]
    moved = -run["rate"][:, None] * run["inverse"] * run["along"]
    assert np.median(off(run["updates"], moved)[300:]) < 0.01
    second = 0.001 * 0.999 ** np.arange(STEPS)[::-1] @ run["gradient"] ** 2 / (1 - 0.999**STEPS)
    adam = run["inverse"][-1] * np.sqrt(second)
    # Prodigy weights gradients by its estimate, which was nothing at first, and so steps by more.
    assert np.allclose(adam, 1, rtol=0.01) if name == "dadapt" else adam.max() > 1.1


def test_the_distance_from_the_start_is_the_sum_of_mechanics_bets_times_that_of_the_base(rows):
    run = rows["mechanic"]
    factors = np.array([SCHEDULE(t) for t in range(STEPS)])
    moved = -np.cumsum(factors[:, None] * run["along"], axis=0)
    ends = run["w"] + run["updates"] - np.asarray(START)
    assert np.allclose(ends[100:], (run["rate"] / factors)[100:, None] * moved[100:], rtol=0.02, atol=1e-3)


def test_momo_steps_at_the_least_of_its_bound_and_polyaks_rate(rows):
    """The mean that it steps along begins at the first gradient, or uncorrected in Adam's form."""
    gradients, weights = rows["momo"]["gradient"], 0.9 ** np.arange(STEPS)[::-1]
    mean = 0.1 * (weights[1:] @ gradients[1:]) + weights[0] * gradients[0]
    run = rows["momo"]
    assert np.allclose(run["updates"][-1], -run["rate"][-1] * mean, rtol=1e-3)
    run = rows["momo-adam"]
    mean = run["along"] * (1 - 0.9 ** np.arange(1, STEPS + 1))[:, None]
    assert off(run["updates"], -run["rate"][:, None] * mean).max() < 1e-3
    assert (run["rate"] <= 0.01 / (1 - 0.9 ** np.arange(1, STEPS + 1)) + 1e-6).all()


@pytest.mark.parametrize("name", METHODS)
def test_parameters_in_parts_are_one_vector(name):
    method, gradient = METHODS[name], jnp.array([0.3, -2.0, 1.0])

    def parts(x):
        return {"a": x[:2], "b": x[2:]}

    found = []
    for w, g in ((START, gradient), (parts(START), parts(gradient))):
        before = method.transformation.init(w)
        _, state = method.transformation.update(g, before, w, value=1.0)
        _, after = method.transformation.update(g, state, w, value=0.5)
        rate = method.rate(state, after, w)
        inverse = 0.0 if method.inverse is None else method.inverse(after)
        found.append(np.concatenate([np.ravel(x) for x in (rate, *jax.tree.leaves(inverse))]))
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_cocob_has_no_rate_and_no_threshold(rows):
    assert np.isnan(rows["cocob"]["rate"]).all() and np.isnan(METHODS["cocob"].ratio)


@pytest.mark.parametrize("name", ["momo", "nadamw"])
def test_thresholds_are_where_steps_on_a_quadratic_turn_unstable(name):
    """The spectral radius of w and the mean of gradients, of a quadratic of curvature just above and below it."""
    ratio, ahead = METHODS[name].ratio, 0.9 if name == "nadamw" else None

    def radius(sharpness):
        along = [0.9, 0.1 * sharpness]  # of (mean, w) after a gradient
        step = along if ahead is None else [0.9 * along[0], 0.9 * along[1] + 0.1 * sharpness]
        return max(abs(np.linalg.eigvals([along, [-step[0], 1 - step[1]]])))

    assert radius(2 * ratio * 0.999) < 1 < radius(2 * ratio * 1.001)


@pytest.mark.parametrize(("kind", "optimizer"), [("sgd", optax.sgd(0.1)), ("adam", optax.adam(0.1, eps=0.0))])
def test_in_its_units_a_method_has_the_learning_rates_of_the_parameterization(kind, optimizer):
    factors = {"a": 4.0, "b": 0.25}
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    gradient = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0, -1.0, 2.0])}
    own = in_units(optimizer, units_of(factors, kind))
    found, _ = own.update(gradient, own.init(params), params)
    plain, _ = optimizer.update(gradient, optimizer.init(params), params)
    for name, factor in factors.items():
        assert np.allclose(found[name], factor * plain[name])


def test_distances_are_counted_in_units():
    """DoG's first step, 1e-6 (1 + ‖w/s‖) / ‖s g‖ · s² g; what has no unit stays."""
    dog, units = lr_free_methods()["dog"].transformation, {"a": 2.0, "b": 0.0}
    w, g = {"a": jnp.array([6.0, 8.0]), "b": jnp.ones(1)}, {"a": jnp.array([3.0, 4.0]), "b": jnp.ones(1)}
    own = in_units(dog, units)
    updates, _ = own.update(g, own.init(w), w, value=1.0)
    assert np.allclose(updates["a"], -1e-6 * 6 / 10 * 4 * g["a"])
    assert updates["b"].tolist() == [0.0]
