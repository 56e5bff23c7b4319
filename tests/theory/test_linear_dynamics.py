"""The closed dynamics of the two-layer linear network against the networks themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import sharplab as sl
from sharplab.losses import squared_error
from sharplab.scaling import Rule, parameterization
from sharplab.theory import LinearState, infinite_linear_state, linear_state, linear_trajectory
from sharplab.training.task import Run, Task, find_recipe
from sharplab.training.train import train_runs

FEATURES, EXAMPLES = 5, 12
STEPS = np.array([0, 1, 5, 30])
BOTH = pytest.mark.parametrize("name", ["mup", "ntk"])


def make_data(outputs):
    """Inputs whose directions differ in size, and targets that no linear function meets."""
    keys = jax.random.split(jax.random.key(0), 2)
    inputs = jax.random.normal(keys[0], (EXAMPLES, FEATURES)) * jnp.linspace(0.5, 1.5, FEATURES)[None]
    return inputs, jax.random.normal(keys[1], (EXAMPLES, outputs))


def make_rule(name, width, gamma=1.0):
    return Rule(parameterization(name), width, gamma=gamma)


def draw(rule, outputs, seed=1):
    rng = np.random.default_rng(seed)
    E = rule.init_std("input", FEATURES) * rng.standard_normal((FEATURES, rule.width))
    V = rule.init_std("output", rule.width) * rng.standard_normal((rule.width, outputs))
    return {"E": jnp.asarray(E), "V": jnp.asarray(V)}


def network(multiplier, weights, x):
    return multiplier * x @ weights["E"] @ weights["V"]


def make_model(rule):
    return Partial(network, rule.multiplier("input", FEATURES) * rule.multiplier("output", rule.width))


@jax.jit
def loss_and_gradient(model, weights, data):
    return jax.value_and_grad(lambda w: squared_error(model(w, data[0]), data[1]))(weights)


def loss_of(rule, weights, data):
    return float(loss_and_gradient(make_model(rule), weights, data)[0])


def rates(rule):
    return {"E": rule.lr_factor("input"), "V": rule.lr_factor("output")}


def descend(rule, weights, data, learning_rate):
    """Gradient descent by automatic differentiation: the weights at each of STEPS."""
    model, seen = make_model(rule), []
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            seen.append(weights)
        _, gradient = loss_and_gradient(model, weights, data)
        weights = jax.tree.map(lambda w, g, rate: w - learning_rate * rate * g, weights, gradient, rates(rule))
    return seen


def dense_spectra(rule, weights, data):
    """Eigenvalues, ascending, of H, G and R in the metric, from dense matrices."""
    model = make_model(rule)
    root = jax.tree.map(lambda w, rate: jnp.full(w.shape, rate**0.5), weights, rates(rule))
    H = sl.precondition(sl.hessian(squared_error, weights, data, model=model), root).dense()
    G = sl.precondition(sl.gauss_newton(model, squared_error, weights, data), root).dense()
    return [np.linalg.eigvalsh(np.asarray(matrix)) for matrix in (H, G, H - G)]


@BOTH
@pytest.mark.parametrize("width, gamma, outputs", [(3, 1.0, 1), (20, 0.7, 1), (20, 2.0, 3)])
def test_loss_function_and_kernels_are_those_of_gradient_descent_on_the_weights(float64, name, width, gamma, outputs):
    rule, data = make_rule(name, width, gamma), make_data(outputs)
    weights = draw(rule, outputs)
    trajectory = linear_trajectory(linear_state(*weights.values(), rule), *data, 0.8, STEPS)
    assert trajectory.loss[-1] < 0.95 * trajectory.loss[0]
    for i, trained in enumerate(descend(rule, weights, data, 0.8)):
        assert trajectory.loss[i] == pytest.approx(loss_of(rule, trained, data), rel=1e-10)
        now = linear_state(*trained.values(), rule)
        for part in ("u", "s", "Q", "coupling"):
            np.testing.assert_allclose(getattr(trajectory.state, part)[i], getattr(now, part), rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(data[0] @ trajectory.state.u[i], make_model(rule)(trained, data[0]), atol=1e-10)


@BOTH
@pytest.mark.parametrize("width, outputs", [(2, 1), (20, 1), (9, 3)])
def test_spectra_are_those_of_the_dense_matrices(float64, name, width, outputs):
    rule, data = make_rule(name, width, 1.3), make_data(outputs)
    weights = draw(rule, outputs)
    trajectory = linear_trajectory(linear_state(*weights.values(), rule), *data, 0.5, STEPS)
    for i, trained in enumerate(descend(rule, weights, data, 0.5)):
        H, G, R = dense_spectra(rule, trained, data)
        assert trajectory.hessian[i] == pytest.approx(H[-1], rel=1e-10)
        count = min(FEATURES * outputs, len(G))
        np.testing.assert_allclose(trajectory.gauss_newton[i, :count], G[::-1][:count], atol=1e-10)
        np.testing.assert_allclose(G[:-count], 0, atol=1e-10)
        expected = np.sort(np.concatenate([np.repeat(trajectory.residual[i], width), np.zeros(len(R))]))[-len(R) :]
        positive = min(FEATURES, outputs) * width
        np.testing.assert_allclose(R[-positive:], expected[-positive:], atol=1e-10)
        np.testing.assert_allclose(R[:positive][::-1], -expected[-positive:], atol=1e-10)


def test_the_residual_part_lifts_the_top_of_the_hessian_above_that_of_gauss_newton(float64):
    rule, data = make_rule("mup", 30), make_data(1)
    trajectory = linear_trajectory(linear_state(*draw(rule, 1).values(), rule), *data, 0.5, STEPS)
    assert (trajectory.hessian > 1.01 * trajectory.gauss_newton[:, 0]).any()
    assert (trajectory.hessian >= trajectory.gauss_newton[:, 0] * (1 - 1e-12)).all()
    assert (trajectory.hessian <= trajectory.gauss_newton[:, 0] + trajectory.residual[:, 0] + 1e-12).all()


def duplicated(rule, weights, copies):
    """Each neuron `copies` times, in a network that many times as wide whose weights are drawn in other units."""
    wide = make_rule(rule.parameterization.name, copies * rule.width)
    units = {part: wide.init_std(role, 1) / rule.init_std(role, 1) for part, role in (("E", "input"), ("V", "output"))}
    return wide, {
        "E": units["E"] * jnp.repeat(weights["E"], copies, axis=1),
        "V": units["V"] * jnp.repeat(weights["V"], copies, axis=0),
    }


@pytest.mark.parametrize("outputs", [1, pytest.param(2, marks=pytest.mark.long)])
def test_duplicating_every_neuron_changes_nothing_under_mup_and_much_under_ntk(float64, outputs):
    data = make_data(outputs)

    def simulated(rule, weights):
        seen = descend(rule, weights, data, 0.8)
        losses = [loss_of(rule, w, data) for w in seen]
        tops = [[eigenvalues[-1] for eigenvalues in dense_spectra(rule, w, data)] for w in seen]
        return np.column_stack([losses, tops])

    def closed(rule, weights):
        found = linear_trajectory(linear_state(*weights.values(), rule), *data, 0.8, STEPS)
        return np.stack([found.loss, found.hessian, found.gauss_newton[:, 0], found.residual[:, 0]], axis=1)

    for name in ("mup", "ntk"):
        rule = make_rule(name, 4)
        weights = draw(rule, outputs)
        wide, copies = duplicated(rule, weights, 3)
        for of in (simulated, closed):
            once, thrice = of(rule, weights), of(wide, copies)
            if name == "mup":
                np.testing.assert_allclose(thrice, once, rtol=1e-9)
            else:
                assert (np.abs(thrice / once - 1).max(axis=0) > 1e-2).all()


@pytest.mark.long
@pytest.mark.parametrize("name, lost", [("mup", "u"), ("ntk", "coupling")])
def test_drawn_networks_approach_the_infinite_one_as_the_root_of_the_width(float64, name, lost):
    data, widths, seeds = make_data(2), 4 ** np.arange(3, 8), range(24)
    rule = make_rule(name, 1, gamma=1.5)
    infinite = infinite_linear_state(rule, FEATURES, 2, jax.random.key(0))
    assert not getattr(infinite, lost).any()

    def distance(width, seed):
        finite = make_rule(name, int(width), gamma=1.5)
        drawn = linear_state(*draw(finite, 2, seed).values(), finite)
        # Under NTK the function at initialisation is random at any width: the limit is to start from the same.
        limit = infinite if name == "mup" else LinearState(drawn.u, infinite.s, infinite.Q, infinite.coupling)
        one, other = (linear_trajectory(state, *data, 0.4, STEPS[1:]) for state in (drawn, limit))
        top = one.gauss_newton[:, 0] / other.gauss_newton[:, 0]
        return [
            np.log(ratio[1]) for ratio in (one.loss / other.loss, top, one.hessian / other.hessian)
        ]  # after 5 steps

    distances = np.array([[distance(width, seed) for seed in seeds] for width in widths])
    rms = np.sqrt((distances**2).mean(axis=1))  # (widths, quantities)
    slopes = np.polyfit(np.log(widths), np.log(rms), 1)[0]
    np.testing.assert_allclose(slopes, -0.5, atol=0.12)
    assert (rms[-1] < 0.1).all()


def test_the_infinite_state_has_the_moments_of_drawn_ones(float64):
    for name in ("mup", "ntk", "mean_field"):
        rule = Rule(parameterization(name), 4096, base_width=8, gamma=0.5)
        states = [linear_state(*draw(rule, 2, seed).values(), rule) for seed in range(40)]
        limits = [infinite_linear_state(rule, FEATURES, 2, jax.random.key(seed)) for seed in range(40)]
        np.testing.assert_allclose(np.mean([x.Q for x in states], axis=0), limits[0].Q, atol=0.02 * limits[0].Q[0, 0])
        np.testing.assert_allclose(np.mean([x.s for x in states], axis=0), limits[0].s, atol=0.02 * limits[0].s[0, 0])
        sizes = [np.sqrt(np.mean([x.u**2 for x in drawn])) for drawn in (states, limits)]
        if name == "ntk":
            assert sizes[0] == pytest.approx(sizes[1], rel=0.15)
            assert states[0].coupling == pytest.approx(0, abs=1e-2 * rule.gamma**2)
        else:
            assert sizes[1] == 0 and sizes[0] < 0.2
            assert states[0].coupling == pytest.approx(limits[0].coupling)


def test_mup_and_mean_field_are_one_dynamics(float64):
    key = jax.random.key(0)
    for one, other in zip(
        *(jax.tree.leaves(infinite_linear_state(make_rule(name, 3), 4, 2, key)) for name in ("mup", "mean_field")),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-14)


def test_standard_parameterization_has_no_infinite_width():
    with pytest.raises(ValueError, match=r"standard .*Q"):
        infinite_linear_state(make_rule("standard", 8), 4, 1, jax.random.key(0))


def test_the_lazy_limit_is_linear_regression_by_a_fixed_kernel(float64):
    X, y = make_data(1)
    state = infinite_linear_state(make_rule("ntk", 1), FEATURES, 1, jax.random.key(3))
    trajectory = linear_trajectory(state, X, y, 0.5, STEPS)
    K = X @ (state.s[0, 0] * jnp.eye(FEATURES) + state.Q) @ X.T
    for i, step in enumerate(STEPS):
        shrink = np.linalg.matrix_power(np.eye(EXAMPLES) - 0.5 * K / EXAMPLES, step)
        assert trajectory.loss[i] == pytest.approx(float(squared_error(y + shrink @ (X @ state.u - y), y)), rel=1e-10)
        assert trajectory.hessian[i] == pytest.approx(np.linalg.eigvalsh(K / EXAMPLES)[-1], rel=1e-10)
    assert (trajectory.residual == 0).all()


def test_the_balance_of_the_layers_drifts_in_proportion_to_the_learning_rate(float64):
    """tr Q − tr s is conserved by gradient flow; a step of descent changes it by η² and a run by η."""
    data, rule = make_data(2), make_rule("mup", 10)
    state = linear_state(*draw(rule, 2).values(), rule)

    def drift(learning_rate, steps):
        last = linear_trajectory(state, *data, learning_rate, [0, steps]).state
        balance = jnp.trace(last.Q, axis1=1, axis2=2) - jnp.trace(last.s, axis1=1, axis2=2)
        assert abs(jnp.trace(last.Q[1] - last.Q[0])) > 0.05
        return float(balance[1] - balance[0])

    assert drift(0.01, 1000) / drift(0.02, 500) == pytest.approx(0.5, abs=0.02)
    assert abs(drift(0.01, 1000)) < 1e-2


def test_class_indices_are_one_hot_targets(float64):
    X, _ = make_data(3)
    classes = jnp.arange(EXAMPLES) % 3
    state = linear_state(*draw(make_rule("mup", 6), 3).values(), make_rule("mup", 6))
    indexed, one_hot = (linear_trajectory(state, X, y, 0.3, STEPS) for y in (classes, jax.nn.one_hot(classes, 3)))
    np.testing.assert_allclose(indexed.loss, one_hot.loss, rtol=1e-12)


def test_fewer_examples_than_features_leave_fewer_eigenvalues_and_steps_must_ascend():
    state = LinearState(jnp.zeros((3, 2)), jnp.eye(2), jnp.eye(3), jnp.zeros(()))
    X = jnp.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    found = linear_trajectory(state, X, jnp.ones((2, 2)), 0.1, [0, 3, 3])
    # XXᵀ/P ⊗ 1 of both s and Q; the third direction is flat.
    np.testing.assert_allclose(found.gauss_newton[0], [4, 4, 1, 1], rtol=1e-6)
    assert found.loss[1] == found.loss[2]
    for steps in ([2, 0, 1], [-1, 0], [0.5, 1.0], 3):
        with pytest.raises(ValueError, match="steps"):
            linear_trajectory(state, X, jnp.ones((2, 2)), 0.1, steps)
    traced = jax.jit(lambda steps: linear_trajectory(state, X, jnp.ones((2, 2)), 0.1, steps).loss)
    np.testing.assert_allclose(traced(jnp.array([0, 3, 3])), found.loss, rtol=1e-6)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"first .*\(5, 4\) and readout .*\(4, 1\).*width 8"):
        linear_state(jnp.ones((5, 4)), jnp.ones((4, 1)), make_rule("mup", 8))


@BOTH
@pytest.mark.long
def test_the_lab_trains_its_linear_network_along_the_closed_trajectory(name):
    """Batches of all training examples, in whatever order, are full-batch gradient descent."""
    steps = (0, 3, 20, 60)
    task = Task(
        model="linear_network",
        width=24,
        depth=2,
        parameterization=name,
        base_width=1,
        alpha=0.0,
        gamma=1.5,
        optimizer="sgd",
        loss="squared_error",
        data="teacher-student",
        steps=60,
        batch_size=1024,
        probe_size=1024,
        observables=("train_loss", "sharpness", "gauss_newton_top1"),
        record_steps=steps,
    )
    recipe, data = find_recipe(task), sl.data.load_dataset("teacher-student")
    ((run,),) = train_runs(task, [Run(0.5, 7)])
    params = recipe.init_params(jnp.asarray(7))
    state = linear_state(params["first"]["kernel"][...], params["readout"]["kernel"][...], recipe.network.source.rule)
    trajectory = linear_trajectory(state, data.train_inputs, data.train_targets, 0.5, steps)
    assert trajectory.loss[-1] < 0.9 * trajectory.loss[0]
    np.testing.assert_allclose(run.curves["train_loss"], trajectory.loss, rtol=1e-4)
    found = {"sharpness": trajectory.hessian, "gauss_newton_1": trajectory.gauss_newton[:, 0]}
    for column, expected in found.items():
        bound = 2 * run.curves[f"{column}_error"] + 1e-4 * expected
        assert (np.abs(run.curves[column] - expected) <= bound).all()
