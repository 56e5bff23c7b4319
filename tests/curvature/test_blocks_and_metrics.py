"""Diagonal blocks by path, and operators in a metric."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree
from networks import close, curvature, in_precision, network
from problems import matrix_operator

from sharplab.core import tree
from sharplab.curvature import block, gauss_newton, hessian, ntk, precondition


def positions(params, select):
    """Where the chosen leaves lie in the flat order, leaf by leaf as a dict sorts their paths."""
    numbered = ravel_pytree(params)[1](np.arange(float(tree.size(params))))
    named = tree.named_leaves(numbered)
    return np.concatenate([np.ravel(named[path]) for path in sorted(named) if select(path)]).astype(int)


@pytest.mark.parametrize(
    ("name", "select"),
    [("dict", lambda path: path.startswith("first/")), ("attention", lambda path: path in ("qkv", "readout"))],
)
def test_block_is_the_submatrix_of_the_chosen_leaves(float64, name, select):
    *_, params, batch = made = in_precision(name)
    op = block(hessian(made.loss, params, batch, model=made.model), select)
    chosen = positions(params, select)
    assert sorted(op.domain) == sorted(filter(select, tree.named_leaves(params)))
    assert 0 < len(chosen) < tree.size(params)
    assert close(op.dense(), curvature(name).hessian[np.ix_(chosen, chosen)])


def test_block_of_no_leaf_is_answered_with_the_paths():
    op = matrix_operator(np.eye(3, dtype=np.float32), {"layer": {"w": jnp.zeros(2), "b": jnp.zeros(1)}})
    with pytest.raises(ValueError, match=r"select .*layer/b, layer/w"):
        block(op, lambda path: "kernel" in path)


def test_precondition_matches_scale_by_path_and_names_it():
    op = matrix_operator(np.eye(3, dtype=np.float32), {"w": jnp.zeros(2), "b": jnp.zeros(1)})
    with pytest.raises(ValueError, match=r"scale .*b, w.*b, v"):
        precondition(op, {"v": 1.0, "b": 1.0})


def metric(params):
    return jax.tree.map(lambda w: 1.0 + w**2, params)


def test_kernel_in_a_metric_is_the_dual_of_the_preconditioned_gauss_newton(float64):
    """For squared error K/n and D^½ G D^½ share their spectrum."""
    *_, params, (inputs, targets) = made = in_precision("tuple")
    D = metric(params)
    kernel = ntk(made.model, params, inputs, scale=D)
    J = curvature("tuple").jacobian
    assert close(kernel.dense(), J @ np.diag(ravel_pytree(D)[0]) @ J.T)
    G = precondition(gauss_newton(made.model, made.loss, params, (inputs, targets)), jax.tree.map(jnp.sqrt, D))
    assert close(G.dual().dense(), kernel.dense() / len(inputs))
    chunked = ntk(made.model, params, inputs, scale=D, chunk=3)
    assert close(chunked.dual().dense(), len(inputs) * np.asarray(G.dense()))


def test_kernel_takes_a_number_per_leaf(float64):
    *_, params, (inputs, _) = made = in_precision("tuple")
    J = curvature("tuple").jacobian
    flat = ravel_pytree((jnp.full((4, 5), 2.0), [jnp.zeros((5, 3)), jnp.full(3, 0.5)]))[0]
    kernel = ntk(made.model, params, inputs, scale=(2.0, [0.0, 0.5]))
    assert close(kernel.dense(), J @ np.diag(flat) @ J.T)


def test_kernel_refuses_a_negative_metric():
    made = network("tuple")
    kernel = partial(ntk, made.model, made.params, made.batch[0])
    with pytest.raises(ValueError, match=r"scale .*negative"):
        kernel(scale=(1.0, [-1.0, 1.0]))
    with pytest.raises(ValueError, match=r"scale .*0, 1/0, 1/1"):
        kernel(scale=(1.0, 1.0))


def test_block_chooses_by_the_names_of_the_tree_also_where_they_are_value():
    params = {"value": jnp.ones(2), "head": {"value": jnp.ones(3), "key": jnp.ones(1)}}

    def loss(params, batch):
        flat = ravel_pytree(params)[0]
        return jnp.mean((batch @ flat) ** 2) / 2

    batch = jax.random.normal(jax.random.key(0), (9, 6))
    H = batch.T @ batch / len(batch)
    for same in (params, nnx.State(jax.tree.map(nnx.Param, params))):
        op = hessian(loss, same, batch)
        assert np.allclose(block(op, lambda path: path == "head/value").dense(), H[1:4, 1:4], rtol=1e-5)
        assert np.allclose(block(op, lambda path: path.endswith("value")).dense(), H[1:, 1:], rtol=1e-5)
