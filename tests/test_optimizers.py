"""Named optimizers: their metric is the diagonal that steps are made of, their threshold is where they diverge."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

from sharplab import scaling
from sharplab.core import tree
from sharplab.optimizers import (
    KINDS,
    OPTIMIZERS,
    adam,
    find_optimizer,
    lamb,
    lars,
    make_optimizer,
    metric_of_state,
    momentum,
    step_metric,
    trust_ratios,
)

FACTORS = {"a": 2.0, "b": 0.5}
PARAMS = {"a": jnp.array([1.0, -1.0]), "b": jnp.array([3.0])}
CURVATURE = {"a": jnp.array([1.0, 0.5]), "b": jnp.array([3.0])}  # effective: 2, 1, 1.5


STEADY = [name for name, optimizer in OPTIMIZERS.items() if optimizer.preconditioner is momentum().preconditioner]


def steps(optimizer, learning_rate, count, noise=0.0):
    """Parameters and states along steps −η · factors · direction on a diagonal quadratic."""
    direction = optimizer.direction({"a": "sgd", "b": "sgd"})
    params, state, trajectory = PARAMS, direction.init(PARAMS), []
    for i in range(count):
        gradient = jax.tree.map(lambda c, w, i=i: c * w + noise * (-1) ** i, CURVATURE, params)
        update, state = direction.update(gradient, state, params)
        params = jax.tree.map(lambda w, f, u: w - learning_rate * f * u, params, FACTORS, update)
        trajectory.append((params, state))
    return trajectory


def norm(params):
    return float(sum(jnp.sum(w**2) for w in jax.tree.leaves(params)) ** 0.5)


@pytest.mark.parametrize("name", STEADY)
def test_quadratic_diverges_exactly_beyond_the_threshold(name):
    optimizer = OPTIMIZERS[name]
    effective_sharpness = 2.0
    edge = next(rate for rate in np.geomspace(1e-3, 1e3, 6001) if optimizer.threshold(rate) < effective_sharpness)
    assert norm(steps(optimizer, 0.97 * edge, 200)[-1][0]) < 0.1
    assert norm(steps(optimizer, 1.03 * edge, 200)[-1][0]) > 10


def test_adams_threshold_is_where_its_frozen_preconditioner_diverges(float64):
    """On a quadratic with P held fixed, Adam is heavy-ball descent: it diverges exactly beyond (2+2β₁)/((1−β₁)η)."""
    b1, eta = 0.9, 0.01
    threshold = adam(b1).threshold(eta)

    def size_after(effective_sharpness):
        w, m = 1.0, 0.0
        for _ in range(3000):
            m = b1 * m + (1 - b1) * effective_sharpness * w
            w -= eta * m
        return abs(w)

    assert size_after(0.99 * threshold) < 1e-3
    assert size_after(1.01 * threshold) > 1e3


def test_adams_metric_turns_gradients_into_its_steps_without_momentum(float64):
    """With β₁ = 0 every step is exactly −η D g, D with the second moments after the gradient is seen."""
    optimizer, scales = adam(b1=0.0, b2=0.9, eps=1e-3), {"a": 0.5, "b": 4.0}
    direction = optimizer.direction(None)
    params, state = jax.tree.map(lambda w: w.astype(jnp.float64), PARAMS), direction.init(PARAMS)
    for i in range(4):
        gradient = jax.tree.map(lambda w, i=i: (1 + i) * w, params)
        update, state = direction.update(jax.tree.map(lambda g, s: g / s, gradient, scales), state, params)
        D = step_metric(optimizer, FACTORS, scales, state)
        for name, factor in FACTORS.items():
            assert np.allclose(factor * update[name], D[name] * gradient[name], rtol=1e-6)


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (lamb(b1=0.8, b2=0.9, eps=1e-3), optax.lamb(0.1, b1=0.8, b2=0.9, eps=1e-3)),
        (lars(0.8, trust_coefficient=0.3), optax.lars(0.1, trust_coefficient=0.3, momentum=0.8)),
        (lars(0.0), optax.lars(0.1, trust_coefficient=1.0, momentum=0.0)),
        (lamb(), optax.lamb(0.1)),
    ],
    ids=["lamb", "lars", "lars without momentum", "lamb as usual"],
)
def test_trust_ratio_steps_are_those_of_optax_with_ratio_1_where_a_norm_is_0(ours, theirs):
    """A readout of zeros takes a step of Adam's, or of the gradient, at first; so does what has no gradient."""
    key = jax.random.key(0)
    params = {
        "a": jax.random.normal(key, (3, 4)),
        "readout": jnp.zeros((4, 2)),
        "still": jnp.ones(()),
        "b": PARAMS["a"],
    }
    direction = optax.chain(ours.direction(None), optax.scale_by_learning_rate(0.1))
    runs = [(params, transformation.init(params)) for transformation in (direction, theirs)]
    assert all(np.isnan(r) and r.shape == () for r in jax.tree.leaves(trust_ratios(runs[0][1])))
    for i in range(5):
        noise = jax.tree.map(lambda w, i=i: jax.random.normal(jax.random.fold_in(key, i), w.shape), params)
        gradient = noise | {"still": jnp.zeros(())}
        steps = [t.update(gradient, s, w) for t, (w, s) in zip((direction, theirs), runs, strict=True)]
        jax.tree.map(lambda *u: np.testing.assert_allclose(*u, rtol=2e-6, atol=1e-9), steps[0][0], steps[1][0])
        runs = [(optax.apply_updates(w, u), s) for (w, _), (u, s) in zip(runs, steps, strict=True)]
        ratios = trust_ratios(runs[0][1])
        assert ratios["still"] == 1 and (ratios["readout"] == 1) == (i == 0) and ratios["a"] != 1
    assert np.abs(runs[0][0]["readout"]).max() > 0


@pytest.mark.parametrize("optimizer", [lamb(b1=0.0, b2=0.9, eps=1e-3), lars(0.0)], ids=["lamb", "lars"])
def test_the_trust_ratio_is_a_part_of_the_metric(float64, optimizer):
    """Without momentum each step is −η D g, of one factor and share of its parameter's norm."""
    scales, factors, direction = {"a": 0.5, "b": 4.0}, {"a": 2.0, "b": 1.0}, optimizer.direction(None)
    params = jax.tree.map(lambda w: w.astype(jnp.float64), PARAMS)
    state = direction.init(params)
    assert all(np.isnan(d).all() for d in jax.tree.leaves(step_metric(optimizer, factors, scales, state)))
    for i in range(3):
        gradient = jax.tree.map(lambda w, i=i: (1 + i) * w**2, params)
        update, state = direction.update(jax.tree.map(lambda g, s: g / s, gradient, scales), state, params)
        D = step_metric(optimizer, factors, scales, state)
        for name, factor in factors.items():
            assert np.allclose(factor * update[name], D[name] * gradient[name], rtol=1e-12)
            assert np.isclose(norm(update[name]), norm(params[name])) and D[name].shape == params[name].shape
        params = jax.tree.map(lambda w, u: w - 0.1 * u, params, update)


def test_a_step_of_lars_raises_a_bowl_exactly_where_its_sharpness_is_above_the_threshold():
    """½h‖w − c‖² of one parameter: D h = ‖w‖/‖w − c‖ against 2/η."""
    h, w, c, optimizer = 3.0, jnp.array([2.0, -1.0]), jnp.array([1.5, 0.5]), lars(0.0)
    direction = optimizer.direction(None)
    step, state = direction.update(h * (w - c), direction.init(w), w)
    sharpness = h * float(step_metric(optimizer, 1.0, 1.0, state)[0])
    edge = 2 / sharpness
    assert optimizer.threshold(edge) == pytest.approx(sharpness)
    for eta in (0.99 * edge, 1.01 * edge):
        assert (norm(w - eta * step - c) > norm(w - c)) == (sharpness > optimizer.threshold(eta))
    assert lars(0.9).threshold(0.1) == pytest.approx(38) and lamb(0.9).threshold(0.1) == pytest.approx(380)


def test_trust_ratios_are_read_off_the_state_of_any_loop_that_keeps_them():
    model = nnx.Module()
    model.b, model.a = nnx.Param(PARAMS["b"]), nnx.Param(PARAMS["a"])
    training = nnx.Optimizer(model, optax.chain(lars(0.0).direction(None), optax.scale(-0.1)), wrt=nnx.Param)
    gradient = nnx.state(model, nnx.Param)
    training.update(model, jax.tree.map(lambda w: w / 2, gradient))
    found = tree.named_leaves(trust_ratios(training.opt_state))
    assert found == pytest.approx({"a": 2.0, "b": 2.0})
    D = metric_of_state(lars(0.0), nnx.state(model, nnx.Param), training.opt_state)
    assert all(np.allclose(d, 2.0) for d in jax.tree.leaves(D))
    with pytest.raises(ValueError, match=r"opt_state .*trust ratios"):
        trust_ratios(optax.lamb(0.1).init(PARAMS))
    direction = lamb().direction(None)
    with pytest.raises(ValueError, match="params"):
        direction.update(PARAMS, direction.init(PARAMS))


@pytest.mark.parametrize("loop", ["chain", "accumulated", "masked", "TrainState", "nnx.Optimizer"])
def test_adams_metric_is_read_off_the_state_of_any_loop(loop):
    """D = 1/((1 − β₁^t)(√v̂ + ε)), v̂ the mean of squared gradients with weights β₂^(t−i), from three known gradients."""
    gradients = [{"a": i * jnp.array([1.0, -2.0]), "b": jnp.array([0.5 / i])} for i in (1.0, 2.0, 3.0)]
    params, transformation = PARAMS, optax.adam(0.1, b1=0.8, b2=0.9, eps=0.1)
    if loop == "nnx.Optimizer":
        model = nnx.Module()
        model.b, model.a = nnx.Param(params["b"]), nnx.Param(params["a"])
        training = nnx.Optimizer(model, transformation, wrt=nnx.Param)
        for gradient in gradients:
            of_model = nnx.state(model, nnx.Param)
            training.update(model, nnx.State({n: of_model[n].replace(g) for n, g in gradient.items()}))
        params, state = nnx.state(model, nnx.Param), training.opt_state
    elif loop == "TrainState":
        training = TrainState.create(apply_fn=None, params=params, tx=transformation)
        for gradient in gradients:
            training = training.apply_gradients(grads=gradient)
        params, state = training.params, training.opt_state
    else:
        if loop == "accumulated":
            transformation = optax.MultiSteps(transformation, 1)
        elif loop == "masked":
            transformation = optax.masked(transformation, {"a": True, "b": False})
        else:
            transformation = optax.chain(optax.clip_by_global_norm(100.0), transformation)
        state = transformation.init(params)
        for gradient in gradients:
            _, state = transformation.update(gradient, state, params)
    D = metric_of_state(adam(b1=0.8, b2=0.9, eps=0.1), params, state)
    assert jax.tree.structure(D) == jax.tree.structure(params)
    weights = 0.9 ** np.array([2, 1, 0])
    for name, found in tree.named_leaves(D).items():
        v = sum(w * np.asarray(g[name]) ** 2 for w, g in zip(weights, gradients, strict=True)) / weights.sum()
        expected = 0.0 if (loop, name) == ("masked", "b") else 1 / ((1 - 0.8**3) * (np.sqrt(v) + 0.1))
        assert np.allclose(found, expected, rtol=1e-5), name


def test_a_state_of_other_parameters_is_refused():
    state = optax.adam(0.1).init(PARAMS)
    for params in ({"params": PARAMS}, {"a": PARAMS["a"]}, PARAMS | {"b": jnp.ones(2)}):
        with pytest.raises(ValueError, match=r"opt_state .*params"):
            metric_of_state(adam(), params, state)
    with pytest.raises(ValueError, match="opt_state holds 0"):
        metric_of_state(adam(), PARAMS, optax.sgd(0.1).init(PARAMS))
    assert metric_of_state(momentum(), PARAMS, None) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_adams_metric_of_16_bits_is_that_of_its_moments(dtype):
    params = {"w": jnp.zeros(2, dtype)}
    _, state = optax.adam(0.1).update({"w": jnp.array([2.0, 0.5], dtype)}, optax.adam(0.1).init(params))
    assert np.allclose(metric_of_state(adam(), params, state)["w"], [5, 20], rtol=4 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2.0**-13), ("float32", 2.0**-80), ("float32", 2.0**70)])
def test_trust_ratios_are_those_of_vectors_whose_squares_are_no_floats(dtype, size):
    params = {"w": jnp.ones(16, dtype)}
    direction = lars(0.0).direction({"w": "relative"})
    _, state = direction.update({"w": jnp.full(16, size, dtype)}, direction.init(params), params)
    assert trust_ratios(state)["w"] == 1 / size


def test_adams_metric_is_undefined_before_its_first_step():
    state = adam().direction(None).init(PARAMS)
    assert all(np.isnan(d).all() for d in jax.tree.leaves(step_metric(adam(), FACTORS, FACTORS, state)))


def test_sgd_metric_is_the_learning_rate_factors():
    optimizer = OPTIMIZERS["sgd"]
    state = optimizer.direction(None).init(PARAMS)
    assert step_metric(optimizer, FACTORS, {"a": 1.0, "b": 1.0}, state) == FACTORS
    assert optimizer.threshold(0.5) == 4


@pytest.mark.parametrize("name", ["lion", "muon"])
def test_optimizers_without_a_diagonal_have_no_metric(name):
    with pytest.raises(ValueError, match="no metric"):
        step_metric(OPTIMIZERS[name], FACTORS, FACTORS, None)


def test_a_normalised_step_lowers_a_quadratic_exactly_below_its_threshold():
    """Of ½ dᵀHd with H of one entry per leaf: −η argmax ⟨g, d⟩ from w lowers it where ηS < 2‖g‖*, S = Σ H for Lion."""
    optimizer, H, w = OPTIMIZERS["lion"], np.array([1.0, 3.0]), np.array([2.0, 1.0])
    direction = optimizer.direction(None)
    step, _ = direction.update(jnp.asarray(H * w), direction.init(jnp.zeros(2)), None)
    assert np.array_equal(step, [1, 1])  # the signs of Hw: the corner of ℓ∞ where S is reached too
    edge = next(eta for eta in np.geomspace(1e-2, 1e2, 9001) if optimizer.threshold(eta) < H.sum() / np.sum(H * w))
    for eta, lower in ((0.99 * edge, True), (1.01 * edge, False)):
        assert (np.sum(H * (w - eta * np.asarray(step)) ** 2) < np.sum(H * w**2)) == lower


def edge_of(direction, eta, decay):
    """By bisection, the h where steps w ← (1 − ηγ) w − η · direction of ½hw² begin to have a root beyond modulus 1."""
    leaves, treedef = jax.tree.flatten(direction.init(jnp.zeros(())))
    floating = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def step(x, h):
        rest = iter(x[1:])
        state = [next(rest) if is_float else leaf for leaf, is_float in zip(leaves, floating, strict=True)]
        u, after = direction.update(h * x[0], jax.tree.unflatten(treedef, state), x[0])
        moved = [leaf for leaf, is_float in zip(jax.tree.leaves(after), floating, strict=True) if is_float]
        return jnp.stack([(1 - eta * decay) * x[0] - eta * u, *moved])

    companion = jax.jit(jax.jacobian(step))
    low, high = 0.0, 1e4
    for _ in range(40):
        h = (low + high) / 2
        stable = np.abs(np.linalg.eigvals(companion(jnp.zeros(1 + sum(floating)), h))).max() <= 1
        low, high = (h, high) if stable else (low, h)
    return low


def test_thresholds_know_of_weight_decay(float64):
    """By the roots of the companion matrix; Adam with its preconditioner frozen at 1, an EMA of gradients."""
    eta, decay, beta = 0.1, 0.5, 0.9
    ema = optax.ema(beta, debias=False)
    assert np.isclose(adam(b1=beta, weight_decay=decay).threshold(eta), 370.5)
    assert np.isclose(edge_of(ema, eta, decay), 370.5) and np.isclose(edge_of(ema, eta, 0.0), 380)
    for nesterov in (False, True):
        optimizer = momentum(beta, nesterov=nesterov, weight_decay=decay)
        assert np.isclose(edge_of(optimizer.direction(None), eta, decay), optimizer.threshold(eta)) and optimizer.decay
    assert np.isclose(momentum(beta, weight_decay=decay).threshold(eta), 37.05)


def test_batch_sharpness_of_momentum_has_two_plateaus_the_upper_its_threshold():
    assert momentum(0.9).plateaus(0.1) == pytest.approx((2, 38))
    assert momentum(0.9).plateaus(0.1)[1] == pytest.approx(momentum(0.9).threshold(0.1))
    assert OPTIMIZERS["sgd"].plateaus(0.1) == pytest.approx((20, 20)) and OPTIMIZERS["nesterov"].plateaus is None


def test_muon_orthogonalises_hidden_matrices_and_leaves_the_rest_to_adam():
    optimizer = OPTIMIZERS["muon"]
    assert [optimizer.kind(role) for role in ("input", "hidden", "output")] == ["adam", "spectral", "adam"]
    gradient = {"w": jnp.asarray(np.random.default_rng(0).standard_normal((6, 6))), "b": jnp.array([2.0, -3.0])}
    direction = optimizer.direction({"w": "spectral", "b": "adam"})
    update, _ = direction.update(gradient, direction.init(gradient), gradient)
    assert np.abs(np.linalg.svd(update["w"], compute_uv=False) - 1).max() < 0.35  # as Newton-Schulz is tuned
    assert np.allclose(update["b"], [1, -1], atol=1e-3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_optimizer_has_a_threshold_a_metric_or_a_norm_and_a_usual_learning_rate(optimizer):
    assert optimizer.threshold(0.1) > 0
    assert (optimizer.preconditioner is None) == bool(optimizer.norms)
    assert 2.0**-16 < optimizer.usual_learning_rate < 2


def test_kinds_are_those_of_the_scaling():
    assert set(KINDS) == set(scaling.KINDS)
    with pytest.raises(ValueError, match=r"directions .*sign"):
        replace(OPTIMIZERS["sgd"], directions={"sign": OPTIMIZERS["lion"].directions["adam"]})
    for norms in ({"sgd": "linf"}, {"adam": "l1"}):
        with pytest.raises(ValueError, match="norms"):
            replace(OPTIMIZERS["lion"], norms=norms)


def test_own_optimizers_are_found_by_module_once_per_name():
    assert find_optimizer("sgd") is OPTIMIZERS["sgd"]
    made = find_optimizer("own_objects:make_sgd@2")
    assert made is find_optimizer("own_objects:make_sgd@2")
    assert made.threshold(0.5) == 4 and made.usual_learning_rate is None
    assert find_optimizer("own_objects:ready").threshold(0.5) == 4


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("sdg", {}, "optimizer 'sdg'.*'sgd'"),
        ("adam", {"beta": 0.9}, "optimizer 'adam' .*beta"),
        ("own_objects:make_sgd", {"beta": 0.9}, "optimizer 'own_objects:make_sgd' .*beta"),
        ("own_objects:ready", {"beta": 0.9}, "optimizer 'own_objects:ready' .*beta"),
        ("own_objects:make_number", {}, "optimizer 'own_objects:make_number' .*int"),
        ("own_objects:number", {}, "optimizer 'own_objects:number'"),
    ],
)
def test_what_is_no_optimizer_or_takes_no_such_options_is_named(name, options, said):
    with pytest.raises(ValueError, match=said):
        make_optimizer(name, **options)
