"""The spread over batches, apart from the solver's error."""

import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.curvature import LinearOperator, hessian
from sharplab.spectrum import eigsh
from sharplab.spectrum.resampling import resample
from sharplab.spectrum.stochastic import diagonal, trace


def squares(w, batch):
    return 0.5 * jnp.mean((batch @ w) ** 2)


def make_operator(batch):
    return hessian(squares, jnp.zeros(batch.shape[1]), batch)


def batches(count, examples=50, features=5):
    x = np.random.default_rng(0).standard_normal((count, examples, features)).astype(np.float32)
    x[..., 0] *= 2  # one direction stands out
    return x


def test_eigenvalues_spread_as_those_of_the_batches_do():
    data = batches(8)
    found = resample(make_operator, data, lambda op: eigsh(op, tol=1e-6))
    tops = np.array([np.linalg.eigvalsh(x.T @ x / len(x))[-1] for x in data])
    assert found.values.shape == (8, 1)
    assert np.allclose(found.values[:, 0], tops, rtol=1e-4)
    assert np.allclose(found.mean, tops.mean(), rtol=1e-4)
    assert np.allclose(found.std, tops.std(ddof=1), rtol=1e-3)
    assert np.allclose(found.stderr, tops.std(ddof=1) / np.sqrt(8), rtol=1e-3)
    # What the solver does not know is a small thing beside what the batch does not know.
    assert np.all(found.solver_error > 0)
    assert np.all(100 * found.solver_error < found.std)


def test_largest_of_the_solver_errors_is_given():
    data = batches(3)
    errors = [float(eigsh(make_operator(x), tol=1e-2).errors[0]) for x in data]
    assert len(set(errors)) == 3
    assert np.isclose(resample(make_operator, data, lambda op: eigsh(op, tol=1e-2)).solver_error[0], max(errors))


def test_estimates_bring_their_own_errors_and_pytrees_stay():
    def make(batch):
        return LinearOperator(outer, batch, {"a": jnp.zeros(4), "b": jnp.zeros(8)})

    data = batches(3, 12, 12)
    traces = resample(make, data, lambda op: trace(op, method="hutchinson", matvecs=6))
    assert traces.values.shape == (3,)
    assert float(traces.solver_error) > 0
    entries = resample(make, data, lambda op: diagonal(op, matvecs=12))
    exact = np.einsum("bij,bij->bj", data, data)
    assert np.allclose(entries.values["a"], exact[:, :4], rtol=1e-4)
    assert np.allclose(entries.std["b"], exact[:, 4:].std(axis=0, ddof=1), rtol=1e-3)
    assert np.allclose(entries.mean["b"], exact[:, 4:].mean(axis=0), rtol=1e-4)
    assert entries.solver_error["a"].shape == (4,)


def outer(x):
    def product(v):
        Av = x.T @ (x @ jnp.concatenate([v["a"], v["b"]]))
        return {"a": Av[:4], "b": Av[4:]}

    return product


def test_plain_numbers_have_no_solver_error_and_batches_are_read_once():
    found = resample(make_operator, iter(batches(4)), lambda op: float(op.dense()[0, 0]))
    assert found.values.shape == (4,)
    assert found.solver_error == 0
    assert float(found.std) > 0


def test_fewer_than_two_batches_are_refused():
    with pytest.raises(ValueError, match=r"batches .*1"):
        resample(make_operator, batches(1), eigsh)
