"""Networks with backward passes written by hand: the same operators as of those that JAX derives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.curvature import fisher, gauss_newton, hessian, ntk
from sharplab.losses import cross_entropy

rng = np.random.default_rng(0)
TOKENS, LABELS = rng.integers(0, 5, (2, 5, 4)).astype(np.int32)
PARAMS = {
    name: rng.standard_normal(shape).astype(np.float32)
    for name, shape in (("embedding", (5, 4)), ("qkv", (4, 12)), ("readout", (4, 5)))
}


def plain(q, k, v):
    """Attention softmax(qkᵀ/√d) v of one head."""
    return jax.nn.softmax(jnp.einsum("nqd,nkd->nqk", q, k) / 2.0) @ v


@jax.custom_vjp
def fused(q, k, v):
    return plain(q, k, v)


def fused_forward(q, k, v):
    return fused(q, k, v), (q, k, v)


def fused_backward(saved, g):
    q, k, v = saved
    p = jax.nn.softmax(jnp.einsum("nqd,nkd->nqk", q, k) / 2.0)
    of_p = jnp.einsum("nqd,nkd->nqk", g, v)
    of_scores = p * (of_p - jnp.sum(p * of_p, -1, keepdims=True)) / 2.0
    return of_scores @ k, jnp.swapaxes(of_scores, 1, 2) @ q, jnp.swapaxes(p, 1, 2) @ g


fused.defvjp(fused_forward, fused_backward)


def network(attention):
    def model(params, tokens):
        h = params["embedding"][tokens]
        return (h + attention(*jnp.split(h @ params["qkv"], 3, -1))) @ params["readout"]

    return model


MODELS = {"plain": network(plain), "fused": network(fused)}
BATCH = (TOKENS, LABELS)
OPERATORS = {
    "hessian": lambda model, **options: hessian(cross_entropy, PARAMS, BATCH, model=model, **options),
    "gauss_newton": lambda model, **options: gauss_newton(model, cross_entropy, PARAMS, BATCH, **options),
    "mc": lambda model, **options: fisher(model, cross_entropy, PARAMS, BATCH, kind="mc", **options),
    "empirical": lambda model, **options: fisher(model, cross_entropy, PARAMS, BATCH, kind="empirical", **options),
    "ntk": lambda model, **options: ntk(model, PARAMS, TOKENS, **options),
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_backward_passes_written_by_hand_give_the_operators_of_derived_ones(operator):
    exact = OPERATORS[operator](MODELS["plain"]).dense()
    assert np.abs(exact).max() > 0.05
    for chunk in (None, 2):
        found = OPERATORS[operator](MODELS["fused"], chunk=chunk).dense()
        assert np.allclose(found, exact, atol=2e-6 * np.abs(exact).max()), chunk


def test_their_dual_has_the_same_spectrum():
    op = OPERATORS["gauss_newton"](MODELS["fused"])
    found = np.linalg.eigvalsh(op.dual().dense())[-10:]
    assert np.allclose(found, np.linalg.eigvalsh(op.dense())[-10:], rtol=1e-4)


def test_other_errors_of_a_model_stay_what_they_are():
    with pytest.raises(TypeError, match="unsupported"):
        gauss_newton(lambda params, tokens: 1 + "tokens", lambda f, y: f.sum(), PARAMS, BATCH) @ PARAMS
