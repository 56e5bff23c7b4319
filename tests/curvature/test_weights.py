"""Losses that weigh examples: operators by chunks and from the host against the dense matrices of the whole loss."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial
from networks import close
from weighing import BATCH, IGNORED, LABELS, LENGTHS, MASK, PARAMS, TOKENS, dense, masked_loss, model

from sharplab.curvature import fisher, gauss_newton, hessian
from sharplab.losses import cross_entropy
from sharplab.spectrum import eigsh

IGNORING = partial(cross_entropy, ignore=-100)

OPERATORS = {
    "hessian": lambda loss, batch, **options: hessian(loss, PARAMS, batch, model=model, **options),
    "gauss_newton": lambda loss, batch, **options: gauss_newton(model, loss, PARAMS, batch, **options),
    "empirical": lambda loss, batch, **options: fisher(model, loss, PARAMS, batch, kind="empirical", **options),
}


@cache
def exact(operator):
    return dict(zip(OPERATORS, dense(), strict=True))[operator]


def cut(array, *ends):
    return [array[part] for part in map(slice, (0, *ends), (*ends, None))]


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("operator", OPERATORS)
def test_mean_over_tokens_is_the_same_in_chunks(operator, chunk):
    op = OPERATORS[operator](masked_loss, BATCH, chunk=chunk, weight=LENGTHS)
    assert close(op.dense(), exact(operator), np.float32)
    # A partial of functools in chunks: see the tests from the host and inside of programs.
    loss = Partial(cross_entropy, ignore=-100) if chunk else IGNORING
    whole = tuple(map(jnp.asarray, (TOKENS, IGNORED)))
    assert close(OPERATORS[operator](loss, whole, chunk=chunk).dense(), exact(operator), np.float32)


SOURCES = {
    "lists": (list, list),
    "functions": (lambda parts: partial(iter, parts), lambda parts: partial(iter, parts)),
    "iterators": (iter, iter),
    "mixed": (iter, list),
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_mean_over_tokens_is_the_same_from_the_host(operator):
    make, ends = OPERATORS[operator], (4, 4)  # between two halves a batch without examples
    parts = [(x, (y, m)) for x, y, m in zip(*(cut(a, *ends) for a in (TOKENS, LABELS, MASK)), strict=True)]
    for source, (of_batches, of_weights) in SOURCES.items():
        op = make(masked_loss, of_batches(parts), weight=of_weights(cut(LENGTHS, *ends)))
        assert close(op.dense(), exact(operator), np.float32), source
    ignored = list(zip(cut(TOKENS, *ends), cut(IGNORED, *ends), strict=True))
    for chunk in (None, 3):
        assert close(make(IGNORING, ignored, chunk=chunk).dense(), exact(operator), np.float32), chunk


def test_host_batches_of_which_nothing_counts_contribute_nothing():
    ignored, nothing = list(zip(cut(TOKENS, 4), cut(IGNORED, 4), strict=True)), (TOKENS[:4], np.full((4, 6), -100))
    op = hessian(IGNORING, PARAMS, [nothing, ignored[0], nothing, ignored[1]], model=model)
    assert close(op.dense(), exact("hessian"), np.float32)


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("kind", ["exact", "mc", "empirical"])
def test_factors_leave_out_what_is_ignored(kind, chunk):
    op = fisher(model, IGNORING, PARAMS, (TOKENS, IGNORED), kind=kind, chunk=chunk)
    rows, columns = op.dual().dense(), op.dense()
    assert np.isclose(np.trace(rows), np.trace(columns), rtol=1e-5)
    assert np.allclose(np.linalg.eigvalsh(rows)[-20:], np.linalg.eigvalsh(columns)[-20:], atol=1e-6)
    size = op.factor.range.shape[-1]
    assert np.array_equal(np.diag(rows) > 1e-9, np.repeat(MASK.reshape(-1) > 0, size))


def test_sampled_fisher_draws_alike_in_chunks_and_its_mean_is_the_exact_one():
    whole = fisher(model, IGNORING, PARAMS, (TOKENS, IGNORED), kind="mc", samples=200)
    parts = fisher(model, IGNORING, PARAMS, (TOKENS, IGNORED), kind="mc", samples=200, chunk=3)
    assert close(parts.dense(), np.asarray(whole.dense()), np.float32)
    assert np.abs(whole.dense() - exact("gauss_newton")).max() < 0.1 * np.abs(exact("gauss_newton")).max()


def weighted_loss(outputs, targets):
    """Σ ω |f − y|³ / Σ ω, one prediction per example."""
    y, weight = targets
    return jnp.sum(weight * jnp.sum(jnp.abs(outputs - y) ** 3, -1)) / jnp.sum(weight)


def tanh_model(w, x):
    return jnp.tanh(x @ w)


X, Y = np.random.default_rng(0).standard_normal((2, 6, 3)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((3, 3)).astype(np.float32)
WEIGHTS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0]), min_size=6, max_size=6).filter(any)
KINDS = st.sampled_from([np.asarray, jnp.asarray])


@jax.jit
def weighted_matrices(weight):
    def of_params(w):
        return tanh_model(w.reshape(3, 3), X)

    flat, targets = W.reshape(-1), (Y, weight)
    J, f = jax.jit(jax.jacrev(of_params))(flat), of_params(flat)
    H = jax.jit(jax.hessian(lambda w: weighted_loss(of_params(w), targets)))(flat)
    J2 = J.reshape(18, 9)
    G = J2.T @ jax.jit(jax.hessian(weighted_loss))(f, targets).reshape(18, 18) @ J2
    gradients = jnp.einsum("nc,ncp->np", 3 * (f - Y) ** 2 * jnp.sign(f - Y), J)
    return H, G, jnp.einsum("n,np,nq->pq", weight, gradients, gradients) / weight.sum()


@settings(max_examples=30)
@given(WEIGHTS, st.permutations(range(6)), st.sampled_from([None, 2]), KINDS, st.booleans())
def test_any_weights_in_any_order_give_the_operators_of_the_whole_loss(weights, order, chunk, kind, from_host):
    weight, order = np.array(weights, np.float32), np.array(order)
    matrices = weighted_matrices(weight)
    x, y, weight = (kind(array[order]) for array in (X, Y, weight))
    batch, given = (x, (y, weight)), 3 * weight  # whatever their scale
    if from_host:
        batch = [(a, (b, c)) for a, b, c in zip(*(cut(array, 2) for array in (x, y, weight)), strict=True)]
        given = cut(given, 2)
    options = {"chunk": chunk, "weight": given}
    found = (
        hessian(weighted_loss, W, batch, model=tanh_model, **options),
        gauss_newton(tanh_model, weighted_loss, W, batch, **options),
        fisher(tanh_model, weighted_loss, W, batch, kind="empirical", **options),
    )
    for op, matrix in zip(found, matrices, strict=True):
        assert np.allclose(op.dense(), matrix, atol=1e-5 * np.abs(matrix).max())


def test_parts_of_no_weight_contribute_nothing():
    """Their own mean is 0/0; derivatives of the operator are finite, too."""
    weight = np.array([0, 0, 1, 2, 0, 0], np.float32)
    batch = (X, (Y, weight))
    op = hessian(weighted_loss, W, batch, model=tanh_model, chunk=2, weight=weight)
    assert np.allclose(op.dense(), weighted_matrices(weight)[0], atol=1e-5)


def test_operators_of_weights_pass_through_jit_and_do_not_retrace():
    traces = []

    def counted(outputs, targets):
        traces.append(1)
        return masked_loss(outputs, targets)

    @jax.jit
    def top(op):
        return eigsh(op, 1).values[0]

    made = [
        hessian(counted, jax.tree.map(lambda w, s=s: s * w, PARAMS), BATCH, model=model, chunk=3, weight=LENGTHS)
        for s in (1.0, 1.5)
    ]
    first = top(made[0])
    before = len(traces)
    second = top(made[1])
    assert len(traces) == before
    assert np.isclose(first, np.linalg.eigvalsh(exact("hessian"))[-1], rtol=1e-3)
    assert not np.isclose(first, second, rtol=1e-2)


def test_operators_of_weights_are_made_inside_of_traced_programs():
    product = jax.jit(
        lambda params, weight: hessian(masked_loss, params, BATCH, model=model, chunk=3, weight=weight).dense()
    )
    assert close(product(PARAMS, LENGTHS.astype(np.float32)), exact("hessian"), np.float32)
    ignoring = jax.jit(lambda params, y: gauss_newton(model, IGNORING, params, (TOKENS, y), chunk=3).dense())
    assert close(ignoring(PARAMS, IGNORED), exact("gauss_newton"), np.float32)


BAD = {
    "short": LENGTHS[:7],
    "columns": LENGTHS[:, None],
    "number": 1.0,
    "negative": -LENGTHS,
    "nan": LENGTHS * np.nan,
    "infinite": LENGTHS * np.inf,
    "nothing": 0 * LENGTHS,
    "text": "LENGTHS",
    "source": lambda: iter([LENGTHS]),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("operator", OPERATORS)
def test_bad_weights_are_refused(operator, bad):
    with pytest.raises(ValueError, match="weight"):
        OPERATORS[operator](masked_loss, BATCH, weight=BAD[bad])


@pytest.mark.parametrize("weight", [LENGTHS, [LENGTHS[:4]], [LENGTHS[:4]] * 3, [LENGTHS[:3], LENGTHS[3:]]], ids=len)
def test_weights_that_do_not_go_with_host_batches_are_refused(weight):
    parts = [jax.tree.map(lambda x, p=p: x[p], BATCH) for p in np.s_[:4, 4:]]
    with pytest.raises(ValueError, match="weight"):
        hessian(masked_loss, PARAMS, parts, model=model, weight=weight)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("options", [{}, {"chunk": 3}], ids=str)
@pytest.mark.parametrize("bad", [-1, -100, 5])
def test_labels_that_are_no_classes_are_refused_when_an_operator_is_made(operator, options, bad):
    targets = np.where(MASK > 0, LABELS, bad)
    for batch in ((TOKENS, targets), [(TOKENS, targets)], (jnp.asarray(TOKENS), jnp.asarray(targets))):
        with pytest.raises(ValueError, match=r"targets .*ignore="):
            OPERATORS[operator](cross_entropy, batch, **options)
    with pytest.raises(ValueError, match=r"targets .*ignore="):
        OPERATORS[operator](IGNORING, (TOKENS, targets + 200 * (MASK == 0)), **options)
    with pytest.raises(ValueError, match=r"targets .*ignore"):
        OPERATORS[operator](IGNORING, (TOKENS, np.full_like(TOKENS, -100)), **options)
