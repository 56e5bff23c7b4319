"""How examples come to an operator: in chunks within a program, or in batches from the host."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import network

from sharplab.curvature import fisher, gauss_newton, hessian, ntk
from sharplab.losses import cross_entropy, squared_error

MADE = network("dict")
INPUTS, TARGETS = (np.asarray(part) for part in MADE.batch)
PARTS = [(INPUTS[part], TARGETS[part]) for part in np.s_[:3, 3:6, 6:]]
V = jnp.ones(40)


class Loader:
    """Iterable again and again, as data loaders are."""

    def __iter__(self):
        return iter(PARTS)


SOURCES = {
    "function": lambda: partial(iter, PARTS),
    "loader": Loader,
    "list": lambda: [list(part) for part in PARTS],
    "generator": lambda: (part for part in PARTS),
    "device": lambda: [jax.tree.map(jnp.asarray, part) for part in PARTS],
}


def made_hessian(batch, **options):
    return hessian(MADE.loss, MADE.params, batch, model=MADE.model, **options)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_of_batches_gives_the_operator_of_all_examples(source):
    op = made_hessian(SOURCES[source]())
    first, second = op @ V, op @ V
    assert not op.jittable
    assert np.allclose(first, made_hessian(MADE.batch) @ V, atol=1e-6)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("source", [[], lambda: iter([]), (part for part in [])], ids=["list", "function", "generator"])
def test_empty_source_is_refused(source):
    with pytest.raises(ValueError, match=r"batch .*source"):
        made_hessian(source)


def test_function_that_gives_its_iterator_twice_is_refused():
    used = iter(PARTS)
    op = made_hessian(lambda: used)
    with pytest.raises(ValueError, match=r"batch .*\(3, 3, 1\).*\(\)"):
        op @ V


@pytest.mark.parametrize("chunk", [0, -3, 2.5, "2"])
def test_bad_chunk_is_refused(chunk):
    with pytest.raises(ValueError, match="chunk"):
        made_hessian(MADE.batch, chunk=chunk)


@pytest.mark.parametrize("batch", [(INPUTS, TARGETS[:-1]), (INPUTS, TARGETS[0])])
@pytest.mark.parametrize("cut", [{"chunk": 2}, {"chunk": 20}, {"weight": np.ones(7)}, {"host": True}, {}], ids=str)
def test_batch_without_a_common_example_axis_is_refused(batch, cut):
    """By its name where examples are told apart, and else by the outputs and targets that do not fit."""
    options = {name: value for name, value in cut.items() if name != "host"}
    message = r"batch .*leading axis" if cut else "outputs .*targets"
    batch = [batch] if "host" in cut else batch
    with pytest.raises(ValueError, match=message):
        made_hessian(batch, **options)
    with pytest.raises(ValueError, match=message):
        gauss_newton(MADE.model, MADE.loss, MADE.params, batch, **options)


def physics_loss(w, batch):
    """The mean square of a residual inside, and of another on the boundary."""
    return jnp.mean((batch["inside"] @ w - 1) ** 2) + jnp.mean((batch["boundary"] @ w) ** 2)


POINTS = {name: np.random.default_rng(n).standard_normal((n, 3)) for name, n in (("inside", 40), ("boundary", 2))}


def test_points_of_several_kinds_are_one_batch_where_nothing_is_cut(float64):
    w = jnp.arange(3.0)
    assert np.allclose(hessian(physics_loss, w, POINTS).dense(), jax.hessian(physics_loss)(w, POINTS), atol=1e-14)
    inside, boundary = POINTS.values()

    def model(w, points):
        return jnp.concatenate([points["inside"] @ w, points["boundary"] @ w])

    rows = np.concatenate([inside, boundary])
    G = gauss_newton(model, squared_error, w, (POINTS, np.zeros(42)))
    assert np.allclose(G.dense(), rows.T @ rows / 42, atol=1e-14)
    assert np.allclose(np.trace(G.dual().dense()), np.trace(rows.T @ rows) / 42)
    assert np.allclose(ntk(model, w, POINTS).dense(), rows @ rows.T, atol=1e-13)
    for options in ({"chunk": 2}, {"chunk": 50}, {"weight": np.ones(40)}):
        with pytest.raises(ValueError, match=r"batch .*leading axis"):
            hessian(physics_loss, w, POINTS, **options)
    with pytest.raises(ValueError, match=r"batch .*leading axis"):
        hessian(physics_loss, w, [POINTS])


@pytest.mark.parametrize("options", [{}, {"chunk": 2}, {"weight": np.ones(0)}], ids=str)
@pytest.mark.parametrize(
    "parts", [(INPUTS[:0], TARGETS[:0]), [(INPUTS[:0], TARGETS[:0])] * 2], ids=["arrays", "source"]
)
def test_batch_without_examples_is_refused(parts, options):
    for make in (made_hessian, lambda batch, **kw: gauss_newton(MADE.model, MADE.loss, MADE.params, batch, **kw)):
        with pytest.raises(ValueError, match=r"batch .*examples|weight .*source"):
            make(parts, **options)


def test_outputs_that_are_a_tree_of_heads_have_a_gauss_newton(float64):
    """For losses whose Hessian in the outputs is the whole one: the model is linear."""
    rng = np.random.default_rng(0)
    x, params = rng.standard_normal((5, 3)), {"a": rng.standard_normal((3, 2)), "b": rng.standard_normal(3)}
    batch = (x, {"a": rng.integers(0, 2, 5), "b": rng.standard_normal(5)})

    def heads(params, x):
        return {name: x @ w for name, w in params.items()}

    def loss(outputs, targets):
        return cross_entropy(outputs["a"], targets["a"]) + squared_error(outputs["b"], targets["b"])

    for chunk in (None, 2):
        op = gauss_newton(heads, loss, params, batch, chunk=chunk)
        exact = hessian(loss, params, batch, model=heads).dense()
        assert np.allclose(op.dense(), exact, atol=1e-13)


def test_kernel_names_its_inputs():
    with pytest.raises(ValueError, match=r"inputs .*leading axis"):
        ntk(MADE.model, MADE.params, (INPUTS, INPUTS[:-1]), chunk=2)
    with pytest.raises(ValueError, match=r"inputs .*no examples"):
        ntk(MADE.model, MADE.params, INPUTS[:0])


def test_host_batches_refuse_to_be_traced():
    op = made_hessian(PARTS)
    with pytest.raises(ValueError, match="jit"):
        jax.jit(lambda v: op @ v)(V)
    with pytest.raises(ValueError, match="jit"):
        jax.jit(lambda params: hessian(MADE.loss, params, PARTS, model=MADE.model) @ params)(MADE.params)


OPERATORS = {
    "hessian": lambda model, params, batch, **kw: hessian(cross_entropy, params, batch, model=model, **kw),
    "gauss_newton": lambda model, params, batch, **kw: gauss_newton(model, cross_entropy, params, batch, **kw),
    "fisher": lambda model, params, batch, **kw: fisher(model, cross_entropy, params, batch, kind="mc", **kw),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("how", ["chunks", "host"])
def test_new_params_and_examples_do_not_retrace(operator, how):
    traces = []

    def model(params, x):
        traces.append(1)
        return MADE.model(params, x)

    def product(params, shift):
        if how == "chunks":
            return OPERATORS[operator](model, params, (INPUTS + shift, TARGETS), chunk=3) @ V
        parts = [(x + shift, y) for x, y in PARTS[:2]]
        return OPERATORS[operator](model, params, parts) @ V

    first = product(MADE.params, 0.0)
    traced = len(traces)
    second = product(jax.tree.map(lambda w: 2 * w, MADE.params), 1.0)
    assert len(traces) == traced > 0
    assert not np.allclose(first, second)


def wide(params, x):
    return jnp.tanh(x @ params["a"]) @ params["b"]


def convolving(params, x):
    h = jax.lax.conv_general_dilated(x, params["a"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.tanh(h).mean((1, 2)) @ params["b"]


def program(model, shape, kernel, chunk, channels):
    rng = np.random.default_rng(0)
    params = {"a": rng.standard_normal(kernel).astype(np.float32), "b": np.ones((channels, 3), np.float32)}
    batch = (rng.standard_normal(shape).astype(np.float32), rng.integers(0, 3, shape[0]))
    op = gauss_newton(model, cross_entropy, params, batch, chunk=chunk)
    return jax.jit(lambda op, v: op @ v).lower(op, params)


@pytest.mark.parametrize(
    ("model", "shape", "kernel"),
    [(wide, (512, 4), (4, 256)), (convolving, (64, 16, 16, 1), (3, 3, 1, 32))],
    ids=["products", "convolutions"],
)
def test_chunks_hold_the_activations_of_one_chunk(model, shape, kernel):
    def bytes_of(chunk):
        return program(model, shape, kernel, chunk, kernel[-1]).compile().memory_analysis().temp_size_in_bytes

    assert bytes_of(shape[0] // 8) < 0.3 * bytes_of(None)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="loops are unrolled on CPUs alone")
def test_chunks_are_a_loop_unless_the_model_convolves():
    assert "stablehlo.while" in program(wide, (8, 4), (4, 8), 2, 8).as_text()
    assert "stablehlo.while" not in program(convolving, (8, 4, 4, 1), (3, 3, 1, 8), 2, 8).as_text()


def test_convolutions_in_chunks_give_the_operator_of_all_examples_and_its_derivative(float64):
    rng = np.random.default_rng(0)
    params = {"a": jnp.asarray(rng.standard_normal((3, 3, 1, 2))), "b": jnp.asarray(rng.standard_normal((2, 3)))}
    batch = (rng.standard_normal((7, 4, 4, 1)), rng.integers(0, 3, 7))

    def made(params, chunk):
        return hessian(cross_entropy, params, batch, model=convolving, chunk=chunk)

    @jax.jit
    def curved(params):
        return jnp.vdot(params["b"], (made(params, 2) @ params)["b"])

    assert np.allclose(made(params, 2).dense(), made(params, None).dense(), atol=1e-14)
    slope, step = jax.jit(jax.grad(curved))(params)["b"][0, 0], jnp.zeros((2, 3)).at[0, 0].set(1e-4)
    difference = curved(params | {"b": params["b"] + step}) - curved(params | {"b": params["b"] - step})
    assert np.abs(slope) > 1e-3
    assert np.isclose(slope, difference / 2e-4, rtol=1e-5)


def test_columns_share_the_pass_of_each_unrolled_chunk():
    """Else the chunk's place would differ from column to column, and its examples be gathered for each."""
    params = {"a": jnp.ones((3, 3, 1, 2)), "b": jnp.ones((2, 3))}
    batch = (jnp.ones((6, 4, 4, 1)), jnp.ones((6, 3)))
    op = gauss_newton(convolving, squared_error, params, batch, chunk=2)
    program = jax.jit(lambda op, V: op @ V).lower(op, jnp.ones((24, 5))).as_text()
    assert "stablehlo.dynamic_slice" in program
    assert "stablehlo.gather" not in program
