"""Operators of anyone's products, on the host and in JAX, against dense matrices."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from problems import symmetric

import sharplab as sl

EIGENVALUES = np.concatenate([np.linspace(-2, 3, 38), [7.0, 7.5]])
A = symmetric(EIGENVALUES)


def product(v):
    return A @ v


@pytest.mark.long
def test_products_of_numpy_get_certified_eigenvalues_densities_and_traces(float64):
    calls = []

    def counted(v):
        assert isinstance(v, np.ndarray) and v.dtype == np.float64 and v.flags.writeable
        calls.append(1)
        return A @ v

    op = sl.operator(counted, np.zeros(40), jittable=False)
    assert np.allclose(op.dense(), A, atol=1e-14)
    for which, wanted in (("LA", EIGENVALUES[[-1, -2]]), ("SA", EIGENVALUES[:2]), ("BE", EIGENVALUES[[-1, 0]])):
        calls.clear()
        found = sl.eigsh(op, 2, which=which)
        assert len(calls) == found.matvecs
        assert found.converged.all()
        assert (np.abs(found.values - wanted) <= found.errors).all()
        assert (np.abs(np.asarray(found.values)[:, None] - EIGENVALUES).min(1) <= found.residuals).all()
    assert np.isclose(sl.trace(op, matvecs=40).value, EIGENVALUES.sum())
    assert np.isclose(sl.spectral_density(op, steps=40, probes=4).moment(0), 1)
    assert np.allclose(op.to_scipy() @ np.eye(40), A)
    assert np.allclose((2.0 * op - op).dense(), A)


def test_in_single_precision_values_keep_their_certificates():
    found = sl.eigsh(sl.operator(product, np.zeros(40, np.float32), jittable=False))
    assert found.values.dtype == np.float32
    assert abs(found.values[0] - 7.5) <= found.errors[0]


def test_vectors_may_be_any_pytree_and_be_changed_in_place():
    like = {"w": np.zeros((2, 3), np.float32), "b": [np.zeros(1, np.float32)]}

    def doubled(v):
        v["w"] *= 2
        return v

    op = sl.operator(doubled, like, jittable=False)
    v = {"w": jnp.ones((2, 3)), "b": [jnp.ones(1)]}
    found = op(v)
    assert np.array_equal(found["w"], np.full((2, 3), 2.0)) and np.array_equal(found["b"][0], [1.0])
    assert np.array_equal(v["w"], np.ones((2, 3)))
    assert np.isclose(sl.eigsh(sl.block(op, lambda path: path == "w")).values[0], 2)


def test_what_the_function_raises_reaches_the_user_as_it_is():
    class OutOfReach(Exception):
        pass

    def raising(v):
        raise OutOfReach("the machine is gone")

    op = sl.operator(raising, np.zeros(3, np.float32), jittable=False)
    for use in (lambda: op @ np.ones(3), lambda: sl.eigsh(op), lambda: sl.trace(op, matvecs=4), op.dense):
        with pytest.raises(OutOfReach, match=r"^the machine is gone$"):
            use()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda v: v[:2],
        lambda v: v[None],
        lambda v: [v],
        lambda v: None,
        lambda v: v + 1j,
        lambda v: np.array(["a", "b", "c"]),
        lambda v: v > 0,
        lambda v: 1.0,
    ],
)
@pytest.mark.parametrize("jittable", [True, False])
def test_products_unlike_the_vector_are_refused_by_name(wrong, jittable):
    with pytest.raises(ValueError if not jittable else (ValueError, TypeError), match=r"matvec|JAX|jax"):
        sl.operator(wrong, np.zeros(3, np.float32), jittable=jittable) @ np.ones(3)


def test_a_matrix_that_is_not_symmetric_and_products_that_are_not_finite_are_refused():
    skewed = np.triu(np.ones((9, 9), np.float32))
    with pytest.raises(ValueError, match="symmetric"):
        sl.eigsh(sl.operator(lambda v: skewed @ v, np.zeros(9, np.float32), jittable=False), 2)
    with pytest.raises(ValueError, match="finite"):
        sl.eigsh(sl.operator(lambda v: np.nan * v, np.zeros(9, np.float32), jittable=False))


def test_the_host_cannot_be_reached_from_a_program():
    op = sl.operator(product, np.zeros(40, np.float32), jittable=False)
    for program in (jax.jit(lambda v: op @ v), jax.jit(lambda v: sl.eigsh(op, start=v).values)):
        with pytest.raises(ValueError, match="jit"):
            program(jnp.ones(40))


def test_functions_of_jax_run_compiled_and_are_traced_once_for_all_arrays():
    traces = []

    def scaled(d, v):
        traces.append(1)
        return d * v

    @jax.jit
    def top(d):
        return sl.eigsh(sl.operator(Partial(scaled, d), jnp.zeros(5))).values[0]

    assert np.isclose(top(jnp.arange(5.0)), 4)
    assert np.isclose(sl.eigsh(sl.operator(Partial(scaled, jnp.arange(5.0)), jnp.zeros(5))).values[0], 4)
    traced = len(traces)
    found = sl.eigsh(sl.operator(Partial(scaled, 2 * jnp.arange(5.0)), jnp.zeros(5)))
    assert np.isclose(found.values[0], 8)
    assert len(traces) <= traced + 1  # the look at its shapes
    assert np.isclose(jax.grad(top)(jnp.arange(5.0))[-1], 1)
    assert np.isclose(sl.eigsh(sl.operator(partial(scaled, jnp.arange(5.0)), jnp.zeros(5))).values[0], 4)


def test_products_of_a_torch_model():
    torch = pytest.importorskip("torch")
    x = torch.tensor(np.random.default_rng(0).standard_normal((20, 4)), dtype=torch.float32)
    w = torch.full((4,), 0.1, requires_grad=True)

    def hvp(v):
        loss = (torch.tanh(x @ w) ** 2).mean()
        (g,) = torch.autograd.grad(loss, w, create_graph=True)
        return torch.autograd.grad(g @ torch.from_numpy(v), w)[0]

    op = sl.operator(hvp, np.zeros(4, np.float32), jittable=False)
    exact = sl.hessian(lambda w, x: jnp.mean(jnp.tanh(x @ w) ** 2), jnp.full(4, 0.1), jnp.asarray(x.numpy()))
    assert np.isclose(sl.eigsh(op).values[0], sl.eigsh(exact).values[0], rtol=1e-4)


def test_without_pytorch_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install"):
        sl.torch_hessian(lambda x: x, lambda y, t: y, np.ones(2), np.ones(2))
