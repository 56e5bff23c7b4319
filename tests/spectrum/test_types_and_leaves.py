"""Parameters of any floating type and leaves of any kind: every estimator against dense matrices, under either loop."""

from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from jax.flatten_util import ravel_pytree
from problems import symmetric

import sharplab as sl
from sharplab.core import tree
from sharplab.curvature import LinearOperator

SIZE, TOLERANCE = 30, 1e-4
DOMAINS = {
    "bfloat16": {"w": jnp.zeros((9, 3), jnp.bfloat16), "b": jnp.zeros(3, jnp.bfloat16)},
    "float16 and float32": {"w": jnp.zeros((9, 3), jnp.float16), "b": jnp.zeros(3), "none": None},
    "float32 and empty": {"w": jnp.zeros((9, 3)), "b": jnp.zeros(3), "empty": jnp.zeros((0, 4))},
}
ESTIMATORS = {
    "eigenvalues": lambda op: sl.eigsh(op, 2, tol=TOLERANCE).values,
    "both ends": lambda op: sl.eigsh(op, 3, which="BE", tol=TOLERANCE).values,
    "exact trace": lambda op: sl.trace(op).value,
    "xtrace": lambda op: sl.trace(op, matvecs=24),
    "hutch++": lambda op: sl.trace(op, method="hutch++", matvecs=24),
    "hutchinson": lambda op: sl.trace(op, method="hutchinson", matvecs=24),
    "exact diagonal": lambda op: tree.ravel(sl.diagonal(op).value),
    "diagonal": lambda op: sl.diagonal(op, matvecs=24),
    "first moment": lambda op: sl.spectral_density(op, steps=10, probes=12).integrate(lambda x: x),
    "logdet": lambda op: sl.logdet(op, 4.0, steps=10, probes=12),
    "effective dimension": lambda op: sl.effective_dimension(op, 4.0, steps=10, probes=12),
}
EXACT = {
    "eigenvalues": lambda A: np.linalg.eigvalsh(A)[:-3:-1],
    "both ends": lambda A: np.linalg.eigvalsh(A)[[-1, 0, -2]],
    "exact trace": np.trace,
    "xtrace": np.trace,
    "hutch++": np.trace,
    "hutchinson": np.trace,
    "exact diagonal": np.diag,
    "diagonal": np.diag,
    "first moment": lambda A: np.trace(A) / SIZE,
    "logdet": lambda A: np.linalg.slogdet(A + 4 * np.eye(SIZE))[1],
    "effective dimension": lambda A: np.trace(A @ np.linalg.inv(A + 4 * np.eye(SIZE))),
}


def matrix_product(args):
    return partial(multiplied, args)


def multiplied(A, v):
    """A v in the types of v, as a network of that precision multiplies."""
    return tree.unravel(A @ tree.ravel(v), v)


def estimates(op):
    return {name: estimator(op) for name, estimator in ESTIMATORS.items()}


ESTIMATED = {"eagerly": estimates, "under jit": jax.jit(estimates), "from Python": estimates}


@pytest.mark.parametrize(
    ("domain", "how"),
    [
        ("bfloat16", "eagerly"),
        ("bfloat16", "from Python"),
        ("float16 and float32", "under jit"),
        ("float32 and empty", "eagerly"),
    ],
)
@settings(max_examples=3)
@given(seed=st.integers(0, 1000), top=st.floats(1, 3))
@pytest.mark.long
def test_every_estimate_is_that_of_the_dense_matrix(domain, how, seed, top):
    domain = DOMAINS[domain]
    A = symmetric(np.linspace(-1, 1, SIZE) ** 3 * top, seed=seed)
    op = LinearOperator(matrix_product, jnp.asarray(A, jnp.float32), domain, jittable=how != "from Python")
    rounding = 4 * top * max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(domain))
    for name, found in ESTIMATED[how](op).items():
        value, allowed = (found.value, found.stderr) if isinstance(found, sl.spectrum.Estimate) else (found, TOLERANCE)
        value, allowed = (np.asarray(ravel_pytree(x)[0]) for x in (value, allowed))
        assert value.dtype == np.float32, name
        assert np.all(np.abs(value - EXACT[name](A)) <= 8 * allowed + (1 + SIZE * (value.size == 1)) * rounding), name


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)
def test_vectors_are_of_length_one_in_float32_and_can_be_multiplied_and_start_a_solve(domain):
    A = symmetric(np.linspace(-1, 2, SIZE) ** 3)
    op = LinearOperator(matrix_product, jnp.asarray(A, jnp.float32), domain)
    pairs = sl.eigsh(op, 2, tol=1e-2)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(pairs.vectors))
    V = np.asarray(jax.vmap(tree.ravel)(pairs.vectors))
    assert np.allclose(V @ V.T, np.eye(2), atol=1e-5)
    first = jax.tree.map(lambda v: v[0], pairs.vectors)
    assert jax.tree.map(jnp.result_type, op @ first) == jax.tree.map(jnp.result_type, domain)
    rest = np.asarray(tree.ravel(op @ first)) - pairs.values[0] * V[0]
    assert np.linalg.norm(rest) <= pairs.residuals[0] + 0.1
    assert sl.eigsh(op, 2, tol=1e-2, start=pairs.vectors).matvecs <= pairs.matvecs + 3


def test_a_domain_of_integers_is_refused():
    op = LinearOperator(matrix_product, jnp.eye(3), jnp.zeros(3, int))
    for estimator in (sl.eigsh, sl.trace, sl.diagonal, sl.spectral_density):
        with pytest.raises(ValueError, match=r"op\.domain .*int32"):
            estimator(op)


def model(params, inputs):
    return jnp.tanh(inputs @ params["hidden"] * params["scale"]) @ params["readout"]


def loss(params, batch):
    return sl.losses.squared_error(model(params, batch[0]), batch[1])


RNG = np.random.default_rng(0)
BATCH = tuple(jnp.asarray(RNG.standard_normal((6, n)), jnp.float32) for n in (3, 2))
ODD = {
    "hidden": RNG.standard_normal((3, 2)),  # float64 of numpy
    "readout": np.asarray(RNG.standard_normal((2, 2)), np.float32),
    "scale": 0.7,
    "number": np.float64(0.3),
    "empty": jnp.zeros((0,)),
    "none": None,
}


@pytest.fixture(scope="module")
def dense():
    flat, unravel = ravel_pytree(jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), ODD))
    H = jax.jit(jax.hessian(lambda w: loss(unravel(w), BATCH)))(flat)
    J = jax.jacobian(lambda w: model(unravel(w), BATCH[0]).ravel())(flat)
    return {"hessian": np.asarray(H, np.float64), "gauss_newton": np.asarray(J.T @ J / 6, np.float64), "ntk": J @ J.T}


@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.long
def test_numbers_empty_leaves_and_none_are_parameters_of_every_operator(dense, chunk):
    operators = {
        "hessian": sl.hessian(loss, ODD, BATCH, chunk=chunk),
        "gauss_newton": sl.gauss_newton(model, sl.losses.squared_error, ODD, BATCH, chunk=chunk),
        "ntk": sl.ntk(model, ODD, BATCH[0], chunk=chunk),
    }
    for name, op in operators.items():
        assert np.allclose(op.dense(), dense[name], atol=1e-4), name
        assert np.isclose(sl.eigsh(op, tol=1e-4).values[0], np.linalg.eigvalsh(dense[name])[-1], rtol=1e-3), name
        assert np.isclose(float(sl.trace(op)), np.trace(dense[name]), rtol=1e-3), name


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float16])
def test_errors_of_exact_estimates_state_the_rounding_of_products_in_16_bits(kind):
    hidden, readout = (jnp.asarray(RNG.standard_normal(shape) / 2, kind) for shape in ((3, 4), (4, 2)))
    half = {"hidden": hidden, "readout": readout, "scale": jnp.asarray(0.7, kind)}
    ops = [sl.hessian(loss, params, BATCH) for params in (half, tree.wide(half))]
    for estimator in (sl.trace, sl.diagonal):
        found, exact = (estimator(op, matvecs=op.shape[0]) for op in ops)
        error = tree.norm(jax.tree.map(jnp.subtract, found.value, exact.value))
        assert 20 * tree.norm(exact.stderr) < error <= tree.norm(found.stderr), estimator
        eps = jnp.finfo(kind).eps
        assert np.isclose(tree.norm(found.stderr) / tree.norm(exact.stderr), eps / jnp.finfo(jnp.float32).eps, rtol=0.1)


@pytest.mark.parametrize("domain", ["bfloat16", "float16 and float32"])
def test_errors_of_exact_rules_state_the_rounding_of_products_in_16_bits(domain):
    op = LinearOperator(lambda c: partial(tree.scale, c), jnp.float32(1.3), DOMAINS[domain])
    found = sl.spectral_density(op, probes=4).integrate(lambda x: x)
    assert 1e-4 < abs(float(found) - 1.3) <= found.stderr < 0.1
    whole = sl.logdet(op, 1.0, probes=4)
    assert 1e-3 < abs(float(whole) - SIZE * np.log(2.3)) <= whole.stderr


class Dropping(nnx.Module):
    def __init__(self):
        self.layer, self.dropout = nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"w": jnp.ones(2), "layers": [jnp.arange(3)]}, "layers/0"),
        ({"mask": np.ones(2, bool)}, "mask"),
        ({"count": 3}, "count"),
        ({"phase": jnp.ones(2, jnp.complex64)}, "phase"),
        ({"key": jax.random.key(0)}, "key"),
        ({"name": "linear"}, "name"),
        (nnx.state(Dropping()), "dropout/rngs"),
    ],
    ids=["integers", "booleans", "a number", "complex", "a key", "text", "a module's state"],
)
def test_what_is_no_float_is_refused_with_its_path_and_how_to_split(params, path):
    def square(params, batch):
        return jnp.zeros(())

    makers = {
        "hessian": lambda: sl.hessian(square, params, BATCH),
        "gauss_newton": lambda: sl.gauss_newton(model, sl.losses.squared_error, params, BATCH),
        "fisher": lambda: sl.fisher(model, sl.losses.squared_error, params, BATCH, kind="mc"),
        "ntk": lambda: sl.ntk(model, params, BATCH[0]),
        "tracker": lambda: sl.Tracker(square, BATCH, ["train_loss"]).record(0, params),
    }
    for make in makers.values():
        with pytest.raises(ValueError, match=rf"params .*{path}.*nnx.split"):
            make()
