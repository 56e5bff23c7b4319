"""Every operator against its dense matrix, on every network and pytree of parameters, before and after training."""

import jax
import numpy as np
import pytest
from networks import CASES, close, curvature, in_precision, network

from sharplab.curvature import fisher, gauss_newton, hessian, ntk

OPERATORS = {
    "hessian": (
        lambda n, **kw: hessian(n.loss, n.params, n.batch, model=n.model, **kw),
        lambda exact: exact.hessian,
    ),
    "gauss_newton": (
        lambda n, **kw: gauss_newton(n.model, n.loss, n.params, n.batch, **kw),
        lambda exact: exact.gauss_newton,
    ),
    "empirical_fisher": (
        lambda n, **kw: fisher(n.model, n.loss, n.params, n.batch, kind="empirical", **kw),
        lambda exact: exact.empirical,
    ),
    "ntk": (
        lambda n, **kw: ntk(n.model, n.params, n.batch[0], **kw),
        lambda exact: exact.jacobian @ exact.jacobian.T,
    ),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
@pytest.mark.parametrize("operator", OPERATORS)
def test_operator_equals_its_dense_matrix(float64, operator, case):
    make, reference = OPERATORS[operator]
    assert close(make(in_precision(*case)).dense(), reference(curvature(*case)))


@pytest.mark.parametrize("operator", OPERATORS)
def test_operator_in_float32_differs_by_rounding(operator):
    make, reference = OPERATORS[operator]
    op = make(in_precision("convnet", 30, np.float32))
    assert op.dtype == np.float32
    assert close(op.dense(), reference(curvature("convnet", 30)), np.float32)


@pytest.mark.parametrize("operator", OPERATORS)
def test_operator_is_the_same_in_chunks_of_any_size(float64, operator):
    make, reference = OPERATORS[operator]
    n = len(network("dict").batch[0])
    assert n % 3
    for chunk in (1, 3, n, n + 3):
        assert close(make(in_precision("dict", 0), chunk=chunk).dense(), reference(curvature("dict"))), chunk


@pytest.mark.parametrize("operator", ["gauss_newton", "empirical_fisher"])
def test_operator_of_sequences_is_the_same_in_chunks(operator):
    make, reference = OPERATORS[operator]
    op = make(in_precision("attention", 0, np.float32), chunk=2)
    assert close(op.dense(), reference(curvature("attention")), np.float32)


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("operator", OPERATORS)
def test_operator_is_the_same_from_host_batches(float64, operator, chunk):
    make, reference = OPERATORS[operator]
    whole = in_precision("dict", 0)
    batches = [jax.tree.map(lambda x, part=part: np.asarray(x[part]), whole.batch) for part in np.s_[:3, 3:6, 6:]]
    if operator == "ntk":
        op = ntk(whole.model, whole.params, lambda: iter([inputs for inputs, _ in batches]), chunk=chunk)
    else:
        op = make(whole._replace(batch=batches), chunk=chunk)
    assert not op.jittable
    assert close(op.dense(), reference(curvature("dict")))


@pytest.mark.parametrize(("name", "chunk"), [("dict", 3), ("tuple", None), ("attention", None)])
@pytest.mark.parametrize("operator", [operator for operator in OPERATORS if operator != "hessian"])
def test_dual_has_the_same_nonzero_spectrum(float64, operator, name, chunk):
    make, reference = OPERATORS[operator]
    op = make(in_precision(name, 0), chunk=chunk)
    exact = np.linalg.eigvalsh(reference(curvature(name)))[::-1]
    dual = op.dual()
    assert dual.shape[0] == sum(leaf.size for leaf in jax.tree.leaves(op.factor.range))
    found = np.linalg.eigvalsh(dual.dense())[::-1]
    shared = min(len(exact), len(found))
    assert exact[0] > 0.01
    assert np.allclose(found[:shared], exact[:shared], atol=1e-12 * exact[0])
    assert np.abs(found[shared:]).max(initial=0) <= 1e-12 * exact[0]
    assert np.abs(exact[shared:]).max(initial=0) <= 1e-12 * exact[0]


def test_dual_of_the_dual_is_the_operator(float64):
    op = OPERATORS["gauss_newton"][0](in_precision("dict", 0))
    assert close(op.dual().dual().dense(), curvature("dict").gauss_newton)


def test_eigenvectors_of_the_dual_map_to_those_of_the_operator(float64):
    op = OPERATORS["gauss_newton"][0](in_precision("dict", 30))
    values, vectors = np.linalg.eigh(op.dual().dense())
    _, transposed = op.factor.maps()
    mapped = jax.flatten_util.ravel_pytree(transposed(vectors[:, -1].reshape(op.factor.range.shape)))[0]
    assert np.allclose(mapped @ mapped, values[-1], rtol=1e-12)
    assert np.allclose(op @ mapped, values[-1] * mapped, atol=1e-12 * values[-1] ** 1.5)
