"""The critical sharpness: on quadratics a Rayleigh quotient, from the loss alone, and NaN where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hand_written_attention import attending, fused, plain
from hypothesis import given
from hypothesis import strategies as st

from sharplab.curvature import critical_sharpness, hessian
from sharplab.losses import cross_entropy

SIZE = 6
RNG = np.random.default_rng(0)
TOKENS, LABELS = RNG.integers(0, 5, (2, 7, 4)).astype(np.int32)


def quadratic(w, H):
    return 3.0 + 0.5 * w["a"] @ H @ w["a"]


def problem(seed, lowest=0.1, top=30.0):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0]
    H = (Q * np.linspace(lowest, top, SIZE)) @ Q.T
    return H, rng.uniform(0.1, 2, SIZE), rng.standard_normal(SIZE)


@given(st.integers(0, 2**31), st.floats(-12, 12))
def test_on_quadratics_it_is_the_rayleigh_quotient_in_the_metric_from_any_start(seed, octaves):
    H, D, w = problem(seed)
    g = H @ w
    with jax.enable_x64(True):
        found = critical_sharpness(quadratic, {"a": w}, {"a": -D * g}, jnp.asarray(H), start=2.0**octaves)
    found = jax.tree.map(float, found)
    A, u = np.sqrt(D)[:, None] * H * np.sqrt(D), np.sqrt(D) * g
    exact = u @ A @ u / (u @ u)
    assert abs(found.value - exact) <= found.error
    assert found.error <= (1 / 31 + 1e-6) * found.value  # 1 − low/high ≤ 1/16
    assert exact <= np.linalg.eigvalsh(A)[-1]
    assert found.value - found.error <= np.linalg.eigvalsh(A)[-1]
    assert np.isclose(found.learning_rate * found.value, 2)


@pytest.mark.parametrize(("moved", "most"), [(1.0, 5), (1.1, 4), (0.9, 4), (1.4, 6), (0.7, 6), (2.3, 8), (1e6, 18)])
def test_evaluations_from_the_last_learning_rate_are_few(moved, most):
    H, D, w = problem(0)
    evaluated = []

    def loss(w, H):
        jax.debug.callback(lambda: evaluated.append(1))
        return quadratic(w, H)

    d = -D * (H @ w)
    eta = -2 * (H @ w) @ d / (d @ H @ d)
    found = critical_sharpness(loss, {"a": jnp.asarray(w)}, {"a": d}, jnp.asarray(H), start=eta * moved)
    jax.effects_barrier()
    assert len(evaluated) == found.evaluations <= most


def test_a_smaller_tolerance_gives_a_smaller_error(float64):
    H, D, w = problem(1)
    d = -D * (H @ w)
    exact = d @ H @ d / -(H @ w @ d)
    found = critical_sharpness(quadratic, {"a": w}, {"a": d}, jnp.asarray(H), tol=1e-6)
    assert abs(found.value - exact) <= found.error <= 1e-6 * exact


def test_what_rounding_moves_is_part_of_the_error():
    H, D, w = problem(2)
    H, w = jnp.asarray(H, jnp.float32), jnp.asarray(w, jnp.float32)
    for size in (4e-4, 2e-4):
        d = -jnp.asarray(D, jnp.float32) * (H @ w)
        exact = d @ H @ d / -(H @ w @ d)
        found = critical_sharpness(quadratic, {"a": size * w}, {"a": size * d}, H, tol=1e-3)
        assert abs(found.value - exact) <= found.error, size
        assert found.error > 1e-3 * found.value
    assert np.isnan(critical_sharpness(quadratic, {"a": 1e-5 * w}, {"a": 1e-5 * d}, H).value)


def test_where_a_loss_is_small_next_to_its_logits_its_rounding_is_not_taken_for_a_descent():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 128)
    x = (5 * np.eye(5)[labels] + rng.standard_normal((128, 5))).astype(np.float32)
    w = (1.5 * np.eye(5) + 0.02 * rng.standard_normal((5, 5)) + 20 * rng.standard_normal((5, 1))).astype(np.float32)

    def loss(w, batch):
        return optax.softmax_cross_entropy_with_integer_labels(batch[0] @ w, batch[1]).mean()

    def of(update, dtype=np.float32):
        return critical_sharpness(loss, w.astype(dtype), update.astype(dtype), (x.astype(dtype), labels))

    assert loss(w, (x, labels)) < 0.03
    g = np.asarray(jax.grad(loss)(w, (x, labels)), float)
    told = []
    for _ in range(50):
        aside = rng.standard_normal((5, 5))
        aside -= (aside * g).sum() / (g * g).sum() * g
        update = 10 ** rng.uniform(-4, 1) * g + np.sqrt((g * g).sum()) * aside
        assert np.isnan(of(update).value)
        found = of(-update)
        with jax.enable_x64(True):
            exact = jax.tree.map(float, of(-update, float))
        told.append(np.isfinite(found.value))
        assert not told[-1] or abs(found.value - exact.value) <= found.error + exact.error
    assert 10 < sum(told) < 50


def test_of_networks_it_is_where_the_loss_comes_to_exceed_its_value(float64):
    model, params = attending(plain)
    params = jax.tree.map(lambda w: w.astype(np.float64), params)
    g = jax.grad(lambda w: cross_entropy(model(w, TOKENS), LABELS))(params)
    found = critical_sharpness(cross_entropy, params, jax.tree.map(jnp.negative, g), (TOKENS, LABELS), model=model)

    def at(critical):
        return cross_entropy(model(jax.tree.map(lambda w, u: w - 2 / critical * u, params, g), TOKENS), LABELS)

    slack = 1 + 1e-9
    assert at((found.value + found.error) * slack) <= at(np.inf) < at((found.value - found.error) / slack)


@pytest.mark.parametrize("form", ["whole", "chunks", "host", "loader"])
def test_it_needs_no_second_derivative_and_is_one_number_however_the_batch_is_read(form):
    model, params = attending(fused)
    batch = (TOKENS, LABELS)
    parts = [(TOKENS[:3], LABELS[:3]), (TOKENS[3:], LABELS[3:])]
    read = {"whole": batch, "chunks": batch, "host": parts, "loader": lambda: iter(parts)}[form]
    whole = jax.value_and_grad(lambda w: cross_entropy(model(w, TOKENS), LABELS))
    with pytest.raises(TypeError, match="no derivative"):
        hessian(cross_entropy, params, batch, model=model).dense()
    update = jax.tree.map(jnp.negative, whole(params)[1])
    exact = critical_sharpness(cross_entropy, params, update, batch, model=model, tol=1e-3)
    chunk = None if form == "whole" else 2
    found = critical_sharpness(cross_entropy, params, update, read, model=model, chunk=chunk, tol=1e-3)
    assert abs(found.value - exact.value) <= found.error + exact.error
    assert 0 < exact.error < 2e-3 * exact.value


def test_weights_of_examples_add_up_over_chunks(float64):
    x, y = RNG.standard_normal((8, 3)), RNG.standard_normal(8)
    mask = np.array([1, 1, 0, 1, 0, 0, 0, 1.0])

    def loss(w, batch):
        x, y, mask = batch
        return jnp.sum(mask * (x @ w - y) ** 2) / jnp.sum(mask)

    w, batch = np.ones(3), (x, y, mask)
    update = -jax.grad(loss)(w, batch)
    exact = critical_sharpness(loss, w, update, batch, tol=1e-4)
    for parts, weights in (
        (batch, mask),
        ([tuple(a[:3] for a in batch), tuple(a[3:] for a in batch)], [mask[:3], mask[3:]]),
    ):
        found = critical_sharpness(loss, w, update, parts, chunk=2, weight=weights, tol=1e-4)
        assert np.isclose(found.value, exact.value, rtol=1e-12)


def test_the_relative_form_follows_the_loss_of_another_task(float64):
    H, D, w = problem(3)
    other, *_ = problem(4)
    d = -D * (H @ w)
    exact = d @ other @ d / -(other @ w @ d)
    assert exact > 0
    found = critical_sharpness(quadratic, {"a": w}, {"a": d}, jnp.asarray(H), other=(quadratic, jnp.asarray(other)))
    assert abs(found.value - exact) <= found.error
    assert abs(exact - d @ H @ d / -(H @ w @ d)) > found.error


def test_any_update_of_optax_will_do(float64):
    H, _, w = problem(5)
    optimizer = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(0.1), optax.scale(-0.25))
    g = {"a": jnp.asarray(H @ w)}
    update, _ = optimizer.update(g, optimizer.init({"a": w}), {"a": w})
    found = critical_sharpness(quadratic, {"a": w}, update, jnp.asarray(H))
    d = update["a"]
    assert abs(found.value - d @ H @ d / -(g["a"] @ d)) <= found.error


def test_there_is_none_of_no_update_of_one_that_climbs_and_of_a_loss_that_is_not_finite():
    H, D, w = problem(6)
    w, d = {"a": w}, -D * (H @ w)
    for update in (0 * d, -d, d * np.nan):
        found = critical_sharpness(quadratic, w, {"a": update}, jnp.asarray(H))
        assert np.isnan([found.value, found.error, found.learning_rate]).all()
    found = critical_sharpness(quadratic, {"a": w["a"] * np.nan}, {"a": d}, jnp.asarray(H))
    assert np.isnan(found.value) and found.evaluations == 1


def test_where_the_loss_is_not_finite_it_counts_as_larger(float64):
    def loss(w, _):
        return -w - jnp.log(2.0 - w)  # falls from 0 to 1, and is infinite at 2

    found = critical_sharpness(loss, jnp.zeros(()), jnp.ones(()), jnp.zeros(1), start=64.0, tol=1e-3)
    assert loss(found.learning_rate - 3e-3, None) < loss(0.0, None) < loss(found.learning_rate + 3e-3, None)


def test_a_loss_that_falls_for_ever_is_as_flat_as_numbers_tell():
    found = critical_sharpness(lambda w, _: jnp.sum(w), jnp.zeros(2), -jnp.ones(2), jnp.zeros(1))
    assert 0 <= found.value <= 1e-28


def test_it_runs_under_jit_and_traces_once_for_all_points():
    H, D, w = problem(7)
    H, w = jnp.asarray(H), jnp.asarray(w)
    traces, values = [], []

    def loss(w, H):
        traces.append(1)
        return quadratic(w, H)

    for size in (1.0, 2.0, 3.0):
        values.append(critical_sharpness(loss, {"a": size * w}, {"a": -size * D * (H @ w)}, H, start=size).value)
    before = len(traces)
    critical_sharpness(loss, {"a": 4.0 * w}, {"a": -4.0 * D * (H @ w)}, H, start=0.25, tol=0.1)
    assert len(traces) == before

    @jax.jit
    def of(w):
        return critical_sharpness(quadratic, {"a": w}, {"a": -D * (H @ w)}, H).value

    assert np.isclose(of(w), values[0], rtol=0.1)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("update", {"b": jnp.ones(SIZE)}),
        ("update", {"a": jnp.ones(3)}),
        ("other", quadratic),
        ("other", (quadratic,)),
        ("start", -1.0),
        ("tol", 1.0),
    ],
)
def test_wrong_arguments_are_named(name, wrong):
    H, _, w = problem(0)
    right = {"update": {"a": w}}
    with pytest.raises(ValueError, match=name):
        critical_sharpness(quadratic, {"a": w}, batch=jnp.asarray(H), **right | {name: wrong})
