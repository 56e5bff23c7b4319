"""The exact, sampled and empirical Fisher: what they equal, and what they converge to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import close, curvature, in_precision, network

from sharplab.curvature import fisher, gauss_newton
from sharplab.losses import cross_entropy, squared_error

LOSSES = {"dict": cross_entropy, "tuple": squared_error}


def made_fisher(made, **options):
    return fisher(made.model, made.loss, made.params, made.batch, **options)


@pytest.mark.parametrize("name", LOSSES)
def test_exact_fisher_is_the_gauss_newton(float64, name):
    made = in_precision(name)
    assert made.loss is LOSSES[name]
    op = made_fisher(made)
    assert close(op.dense(), curvature(name).gauss_newton)
    assert op.factor.range.shape == gauss_newton(made.model, made.loss, made.params, made.batch).factor.range.shape


@pytest.mark.parametrize("name", LOSSES)
def test_exact_fisher_is_the_expectation_over_the_models_own_targets(float64, name):
    """Σ_y p(y) g(y) g(y)ᵀ over classes; over y = f ± e_c, which have a normal distribution's first two moments."""
    made = in_precision(name)
    found, J = curvature(name), curvature(name).jacobian
    N, C = found.scores.shape
    outputs = np.asarray(made.model(made.params, made.batch[0])).reshape(N, C)
    expected = 0
    for i, f in enumerate(outputs):
        if name == "dict":
            weights, scores = np.exp(f) / np.exp(f).sum(), np.exp(f) / np.exp(f).sum() - np.eye(C)
        else:
            weights, scores = np.full(2 * C, 0.5), np.concatenate([np.eye(C), -np.eye(C)])
        gradients = scores @ J.reshape(N, C, -1)[i]
        expected = expected + np.einsum("y,yp,yq->pq", weights, gradients, gradients) / N
    assert close(made_fisher(made).dense(), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_sampled_fisher_draws_by_example_number(float64, name):
    made, key = in_precision(name), jax.random.key(7)
    J = curvature(name).jacobian
    N, C = curvature(name).scores.shape
    outputs = made.model(made.params, made.batch[0])
    expected = 0
    for sample_key in jax.random.split(key, 2):
        for i in range(N):
            own = jax.random.fold_in(sample_key, i)
            if name == "dict":
                score = jax.nn.softmax(outputs[i]) - jax.nn.one_hot(jax.random.categorical(own, outputs[i]), C)
            else:
                score = -jax.random.normal(own, (C,), np.float64)
            g = score @ J.reshape(N, C, -1)[i]
            expected = expected + np.outer(g, g) / (2 * N)
    whole = made_fisher(made, kind="mc", key=key, samples=2)
    assert close(whole.dense(), expected)
    assert whole.factor.range.shape == (N, 2)
    assert np.allclose(np.linalg.eigvalsh(whole.dual().dense())[-5:], np.linalg.eigvalsh(expected)[-5:], atol=1e-12)


def test_sampled_fisher_is_the_same_in_chunks_and_from_the_host(float64):
    made = in_precision("dict")
    whole = made_fisher(made, kind="mc", samples=2).dense()
    assert close(made_fisher(made, kind="mc", samples=2, chunk=3).dense(), np.asarray(whole))
    batches = [jax.tree.map(lambda x, part=part: np.asarray(x[part]), made.batch) for part in np.s_[:3, 3:6, 6:]]
    assert close(made_fisher(made._replace(batch=batches), kind="mc", samples=2).dense(), np.asarray(whole))


@pytest.mark.parametrize("kind", ["mc", "empirical"])
def test_every_prediction_of_a_sequence_is_a_draw(kind):
    made = network("attention")
    assert made_fisher(made, kind=kind).factor.range.shape == (5, 4, 1)
    assert made_fisher(made, kind=kind, chunk=2).factor.range.shape == (5, 4, 1)


def test_sampled_fisher_converges_to_the_exact_one(float64):
    """Of 4,000 draws per prediction the mean is within 5 of its standard errors, and not within a tenth of one."""
    made, samples = in_precision("tuple"), 4000
    exact = curvature("tuple").gauss_newton
    errors = np.linalg.norm(made_fisher(made, kind="mc", samples=samples).dense() - exact)
    one = np.linalg.norm(made_fisher(made, kind="mc", key=jax.random.key(1)).dense() - exact)
    assert 0.1 * one / samples**0.5 < errors < 5 * one / samples**0.5


def test_keys_give_different_draws():
    made = network("dict")
    first, second = (made_fisher(made, kind="mc", key=jax.random.key(i)) @ jnp.ones(40) for i in (0, 1))
    assert not np.allclose(first, second, rtol=1e-2)
    assert np.array_equal(first, made_fisher(made, kind="mc") @ jnp.ones(40))


def scalar_model(w, x):
    return x @ w


def absolute_error(outputs, targets):
    return jnp.abs(outputs - targets).mean()


def test_empirical_fisher_takes_any_loss_and_one_number_per_example(float64):
    x = np.random.default_rng(0).standard_normal((6, 3))
    op = fisher(scalar_model, absolute_error, jnp.zeros(3), (x, x @ np.ones(3)), kind="empirical")
    assert close(op.dense(), x.T @ x / 6)
    assert op.factor.range.shape == (6, 1)
    assert np.allclose(np.diag(op.dual().dense()), (x**2).sum(1) / 6)


@pytest.mark.parametrize("kind", ["exact", "mc"])
def test_loss_without_likelihood_is_refused_with_the_alternatives(kind):
    with pytest.raises(ValueError, match=r"loss .*likelihood"):
        fisher(scalar_model, absolute_error, jnp.zeros(3), (np.ones((2, 3)), np.ones(2)), kind=kind)


def test_bad_kind_and_samples_are_refused():
    with pytest.raises(ValueError, match="kind 'empiric'"):
        made_fisher(network("dict"), kind="empiric")
    with pytest.raises(ValueError, match=r"samples .*0"):
        made_fisher(network("dict"), kind="mc", samples=0)


def single(w, x):
    return jnp.tanh(x @ w)


def column(w, x):
    return single(w, x)[:, None]


def steps(w, x):
    """Three predictions of one number for each example."""
    return jnp.stack([single(w, x), single(2 * w, x), single(3 * w, x)], 1)[..., None]


@pytest.mark.parametrize(
    "model, axis, integers",  # every pair of values of any two
    [
        (single, False, False),
        (single, True, True),
        (column, False, True),
        (column, True, False),
        pytest.param(steps, False, False, marks=pytest.mark.long),
        pytest.param(steps, True, True, marks=pytest.mark.long),
    ],
)
def test_all_kinds_are_as_defined_for_one_number_per_prediction(float64, model, axis, integers):
    """F = (1/N) Σ_i ⟨r_i²⟩ J_iᵀJ_i, with r² the squared residual, its draw, or the expectation 1."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 3)), rng.standard_normal(3)
    outputs = model(w, x)
    y = rng.standard_normal(outputs.shape) if not integers else rng.integers(0, 4, outputs.shape)
    y = y.reshape(outputs.shape if axis else outputs.shape[:1] if model is not steps else outputs.shape[:2])
    rows = jax.jacrev(model)(w, x).reshape(-1, 3)
    N, residuals = len(rows), np.asarray(outputs).reshape(-1) - y.reshape(-1)

    def made(kind, **options):
        return fisher(model, squared_error, w, (x, y), kind=kind, **options)

    for chunk in (None, 3):
        G = gauss_newton(model, squared_error, w, (x, y), chunk=chunk)
        assert close(G.dense(), rows.T @ rows / N)
        assert close(made("exact", chunk=chunk).dense(), rows.T @ rows / N)
        assert close(made("empirical", chunk=chunk).dense(), (rows * residuals[:, None] ** 2).T @ rows / N)
        assert np.isclose(
            np.trace(made("empirical", chunk=chunk).dual().dense()), (residuals**2) @ (rows**2).sum(1) / N
        )
    keys = [jax.random.fold_in(jax.random.split(jax.random.key(0), 1)[0], i) for i in range(4)]
    draws = np.concatenate([np.ravel(jax.random.normal(key, outputs.shape[1:], np.float64)) for key in keys])
    assert close(made("mc").dense(), (rows * draws[:, None] ** 2).T @ rows / N)


def test_loss_that_weighs_nothing_takes_targets_that_are_a_tree(float64):
    made = in_precision("dict")

    def loss(outputs, targets):
        return cross_entropy(outputs, targets["classes"][0])

    x, y = made.batch
    op = fisher(made.model, loss, made.params, (x, {"classes": (y, y)}), kind="empirical", chunk=3)
    assert close(op.dense(), curvature("dict").empirical)


def test_outputs_that_are_a_tree_are_refused():
    def heads(w, x):
        return {"a": x @ w, "b": x @ w}

    def loss(outputs, targets):
        return squared_error(outputs["a"], targets)

    x = np.ones((4, 3), np.float32)
    for options in ({"kind": "empirical"}, {"kind": "empirical", "chunk": 2}):
        with pytest.raises(ValueError, match=r"model .*array"):
            fisher(heads, loss, jnp.ones(3), (x, x[:, 0]), **options)
    for kind in ("exact", "mc", "empirical"):
        with pytest.raises(ValueError, match=r"outputs .*array"):
            fisher(heads, squared_error, jnp.ones(3), (x, x[:, 0]), kind=kind)
