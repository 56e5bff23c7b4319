"""The sharpness in a norm against closed forms, exhaustive search, and what is known of indefinite operators."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharplab import curvature
from sharplab.core import tree
from sharplab.curvature import LinearOperator
from sharplab.spectrum import eigsh, norm_sharpness
from sharplab.spectrum.ascent import _begin, _moved, _scaled
from sharplab.spectrum.unit_balls import Matrices, UnitBall, named_ball

TRACES = []
TWO = {"a": jnp.zeros((2, 2)), "b": jnp.zeros((2, 2))}


def by_matrix(H):
    TRACES.append(1)
    return lambda d: tree.unravel(H @ tree.ravel(d), d)


def dense(H, like):
    return LinearOperator(by_matrix, jnp.asarray(H, tree.dtype(like)), like)


def nuclear(x):
    return np.linalg.svd(x, compute_uv=False).sum()


@pytest.mark.parametrize("v, sharpness", [(np.diag([1.0, 0.0]), 1.2), (np.eye(2) / 2**0.5, 2.2)])
def test_one_spectrum_has_different_spectral_norm_sharpness(v, sharpness, float64):
    op = dense(0.1 * np.eye(4) + np.outer(v, v), jnp.zeros((2, 2)))
    found = norm_sharpness(op, tol=1e-9)
    assert np.isclose(found.value, sharpness, rtol=1e-8) and found.converged and found.value <= found.upper
    assert np.isclose(np.linalg.norm(found.direction, 2), 1)
    assert np.isclose(norm_sharpness(op, "euclidean").value, 1.1, rtol=1e-6)


@pytest.mark.long
def test_of_rank_one_it_is_the_square_of_the_dual_norm_of_leaves_that_interact():
    """S = ‖v‖*² of vvᵀ, ‖v‖* the sum over leaves of nuclear norms, or of moduli: more than the sum of its layers."""
    rng = np.random.default_rng(0)
    shapes = {"bias": (3,), "conv": (2, 1, 2, 3), "kernel": (4, 2), "scale": ()}
    v = {name: jnp.asarray(rng.standard_normal(shape), jnp.float32) for name, shape in shapes.items()}
    op = LinearOperator(lambda v: lambda d: tree.scale(tree.dot(v, d), v), v, v)
    sizes = {
        "bias": float(np.abs(v["bias"]).sum()), "conv": nuclear(v["conv"].reshape(4, 3)),
        "kernel": nuclear(v["kernel"]), "scale": float(abs(v["scale"])),
    }  # fmt: skip
    found = norm_sharpness(op, per_layer=True, matrices={"conv": ((0, 1, 2), (3,))})
    assert np.isclose(found.value, sum(sizes.values()) ** 2, rtol=1e-4)
    assert {name: float(x) for name, x in found.per_layer.items()} == pytest.approx(
        {name: size**2 for name, size in sizes.items()}, rel=1e-4
    )
    assert sum(found.per_layer.values()) < found.value < len(shapes) * sum(found.per_layer.values())
    # On the host, in a loop of Python.
    signs = norm_sharpness(curvature.operator(op.matvec(), v, jittable=False), "linf")
    assert np.isclose(signs.value, sum(np.abs(x).sum() for x in v.values()) ** 2, rtol=1e-5)
    assert all((np.abs(d) == 1).all() for d in signs.direction.values())


def orthogonal(angles):
    """Rotations and reflections of the plane, flat: the extreme points of the ball of 2×2 matrices."""
    c, s = np.cos(angles), np.sin(angles)
    return np.concatenate([np.stack([c, -s, s, c], 1), np.stack([c, s, s, -c], 1)])


def test_values_are_those_of_exhaustive_search_where_curvature_is_positive_and_layers_add_up_where_apart(float64):
    rng = np.random.default_rng(1)
    A = rng.standard_normal((8, 3))
    H = A @ A.T
    points = orthogonal(np.linspace(0, 2 * np.pi, 400, endpoint=False))
    own = [np.einsum("ai,ij,aj->a", points, H[i : i + 4, i : i + 4], points) for i in (0, 4)]
    highest = (own[0][:, None] + own[1][None] + 2 * points @ H[:4, 4:] @ points.T).max()
    found = norm_sharpness(dense(H, TWO), tol=1e-6)
    assert highest <= found.value * (1 + 1e-9) and found.value <= highest * (1 + 1e-3)
    d = tree.ravel(found.direction)
    assert np.isclose(d @ H @ d, found.value) and 0 <= found.gap < 1e-6 * found.value
    apart = H * np.kron(np.eye(2), np.ones((4, 4)))
    alone = norm_sharpness(dense(apart, TWO), tol=1e-6)
    assert np.isclose(alone.value, own[0].max() + own[1].max(), rtol=1e-3)
    assert alone.value < found.value
    signs = np.array(list(product([-1, 1], repeat=8)))
    highest = np.einsum("ai,ij,aj->a", signs, H, signs).max()
    assert np.isclose(norm_sharpness(dense(H, TWO), "linf").value, highest)
    assert found.lowest <= found.value


@pytest.mark.parametrize("norm", ["spectral", "linf"])
def test_the_inside_of_faces_is_reached_where_curvature_is_negative_there(norm, float64):
    """Of Σ hᵢdᵢ² with one hᵢ = 1 and all others below 0 it is 1, at the corner; polar factors and signs have less."""
    h = np.array([1.0, -1, -1, -2, -1, -1, -1, -1])
    found = norm_sharpness(dense(np.diag(h), TWO), norm, tol=1e-6)
    assert np.isclose(found.value, 1, atol=1e-6) and found.converged
    sunk = norm_sharpness(dense(-np.eye(8), TWO), norm)
    assert sunk.value <= 0 and sunk.converged  # S = 0, at d = 0
    assert sunk.upper == 0 == norm_sharpness(dense(-np.eye(8), TWO), "euclidean").upper


def test_no_step_lowers_the_value_of_an_indefinite_operator(float64):
    rng = np.random.default_rng(2)
    A = rng.standard_normal((16, 16))
    op = dense(A + A.T - 3 * np.eye(16), {"m": jnp.zeros((3, 4)), "v": jnp.zeros(4)})
    for ball in (named_ball(norm, op.domain, {}) for norm in ("spectral", "linf")):
        d = _scaled(ball, tree.unravel(jnp.asarray(rng.standard_normal(16)), op.domain))
        state, values = _begin(ball, d, op(d)), []
        for _ in range(60):
            values.append(float(state.value))
            state = _moved(ball, state, op(state.goal))
        assert (np.diff(values) >= -1e-12).all() and values[-1] > values[0]
        assert ball.norm(state.d) <= 1 + 1e-12 and state.gap < 1e-2 * state.value


def test_euclidean_is_the_largest_eigenvalue_and_new_numbers_compile_nothing(float64):
    A = np.random.default_rng(3).standard_normal((8, 8))
    H = A + A.T
    found = norm_sharpness(dense(H, TWO), "euclidean", tol=1e-6, per_layer=True)
    assert np.isclose(found.value, eigsh(dense(H, TWO), tol=1e-6).values[0]) and np.isclose(
        tree.norm(found.direction), 1
    )
    tops = [np.linalg.eigvalsh(H[i : i + 4, i : i + 4])[-1] for i in (0, 4)]
    assert np.allclose(list(found.per_layer.values()), tops)
    value = jax.jit(lambda op: norm_sharpness(op, "linf").value)
    first = value(dense(H, TWO))
    traced = len(TRACES)
    assert value(dense(2 * H, TWO)) == pytest.approx(2 * float(first))
    assert len(TRACES) == traced
    with pytest.raises(ValueError, match="not finite"):
        norm_sharpness(dense(np.nan * H, TWO), "linf")


def test_matrices_in_parallel_have_a_norm_each(float64):
    ball = UnitBall((Matrices((2,), (0,)),))
    x = jnp.asarray(np.random.default_rng(4).standard_normal((2, 3, 4)))
    assert np.isclose(ball.dual_norm(x), sum(nuclear(x[:, i]) for i in range(3)))
    assert np.isclose(tree.dot(x, ball.farthest(x)), ball.dual_norm(x)) and np.isclose(ball.norm(ball.farthest(x)), 1)
    assert ball.most_square(x) == 6
    near = ball.farthest(0.3 * x, 0.7)  # the nearest point of the ball to 0.3 x/0.7
    far = [np.clip(np.linalg.svd(0.3 / 0.7 * x[:, i], compute_uv=False), 0, 1) for i in range(3)]
    assert np.allclose([np.linalg.svd(near[:, i], compute_uv=False) for i in range(3)], far)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"norm": "l1"}, "norm must .*'l1'"),
        ({"norm": "linf", "matrices": {"k": ((0,), (1,))}}, "matrices"),
        ({}, r"matrices: 'k' has 3 axes.*\(0, 1\), \(2,\)"),
        ({"matrices": {"w": ((0,), (1,))}}, "matrices .*'w'"),
        ({"matrices": {"k": ((0, 1), (1,))}}, "matrices: 'k'"),
    ],
)
def test_bad_arguments_are_named(arguments, said):
    op = dense(np.eye(8), {"k": jnp.zeros((2, 2, 2))})
    with pytest.raises(ValueError, match=said):
        norm_sharpness(op, **arguments)
