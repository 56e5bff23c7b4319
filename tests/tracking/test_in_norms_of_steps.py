"""The sharpness of Lion and Muon: in the norm of their steps, over the dual norm of the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import dense_hessian, make_batch, make_recipe

from sharplab import Tracker, norm_sharpness, operator
from sharplab.core import tree
from sharplab.optimizers import OPTIMIZERS
from sharplab.sweep import Experiment


def trained(name, steps):
    """A recipe of a small network that records its sharpness, a run of it, and its batch."""
    recipe = make_recipe("residual_mlp", 6, optimizer=OPTIMIZERS[name], observables=("sharpness",))
    inputs, classes = make_batch("residual_mlp")
    batch = (recipe.prepare(inputs), classes)
    state, advance = jax.jit(recipe.begin)(0), jax.jit(recipe.step)
    for _ in range(steps):
        state = advance(state, OPTIMIZERS[name].usual_learning_rate, batch)
    return recipe, state, batch


@pytest.mark.parametrize("name", ["lion", "muon"])
def test_a_record_is_the_curvature_of_its_direction_over_the_dual_norm_of_the_gradient(name):
    recipe, state, batch = trained(name, 8)
    observe = jax.jit(recipe.observe)
    tracker, first = observe(state, recipe.init_tracker(state, batch), 0, batch, batch)
    tracker, row = observe(state, tracker, 0, batch, batch)
    steps = {path: leaf for path, leaf in tree.named_leaves(tracker.tracked["sharpness"]).items()}
    factors, roles = (tree.named_leaves(x) for x in (recipe.factors(), recipe._scaled(lambda of: of.role)))
    moved = [path for path in steps if name == "lion" or roles[path] == "hidden"]
    gradient = tree.named_leaves(jax.grad(recipe.objective)(state.params, batch))
    if name == "lion":
        assert np.isclose(max(np.abs(d).max() for d in steps.values()), 1)
        dual = sum(factors[path] * np.abs(gradient[path]).sum() for path in moved)
    else:
        assert 0 < len(moved) < len(steps)
        dual = sum(factors[path] * np.linalg.svd(gradient[path], compute_uv=False).sum() for path in moved)
        assert np.allclose([np.linalg.svd(steps[path], compute_uv=False) for path in moved], 1, atol=1e-4)
    flat = np.concatenate([np.ravel((path in moved) * factors[path] * d) for path, d in steps.items()])
    H = dense_hessian(recipe)(state.params, batch)
    assert np.isclose(row["sharpness"], flat @ H @ flat / dual, rtol=1e-3)
    # A second record starts from the direction of the first.
    assert row["sharpness"] >= first["sharpness"] * (1 - 1e-4)
    assert row["sharpness_error"] >= 0 and 6 <= row["sharpness_matvecs"] < 100
    if name == "lion":
        # No point of the ball is higher to first order, by the dense matrix: ‖F H F d‖₁ = dᵀ F H F d.
        scale = np.concatenate([np.full(d.size, factors[path]) for path, d in steps.items()])
        assert np.abs(scale * (H @ flat)).sum() / dual <= (1 + 0.5e-2 + 1e-3) * row["sharpness"]
    else:
        dispatched = recipe.observe(state, tracker, 0, batch, batch, loop="python")[1]
        assert np.isclose(dispatched["sharpness"], row["sharpness"], rtol=1e-3)
    lost = state._replace(diverged_step=jnp.asarray(3))
    _, row = observe(lost, tracker, 0, batch, batch)
    assert np.isnan(row["sharpness"]) and row["sharpness_matvecs"] == 1


def quadratic(w, batch):
    """½ wᵀHw of both leaves together, with H the batch."""
    flat = jnp.concatenate([w["a"].ravel(), w["b"]])
    return 0.5 * flat @ batch @ flat


def test_a_tracker_measures_anyones_normalised_steps():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((8, 8))
    H = jnp.asarray(root @ root.T, jnp.float32)
    w = {"a": jnp.asarray(rng.standard_normal((2, 3)), jnp.float32), "b": jnp.ones(2)}
    gradient = jax.grad(quadratic)(w, H)
    # The maximum in ℓ∞ is at one of the 2^8 signs; ascents reach a lower bound.
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1).T
    largest = max(np.einsum("ni,ij,nj->n", signs, H, signs))
    row = Tracker(quadratic, H, ["sharpness", "critical_sharpness"], norm="linf").record(0, w)
    dual = sum(float(np.abs(g).sum()) for g in gradient.values())
    assert 0.9 * largest / dual <= row["sharpness"] <= 1.0001 * largest / dual
    # Along the sign step, λ_c = ΔᵀHΔ / −gᵀΔ, which S/‖g‖* bounds.
    d = np.concatenate([np.sign(g).ravel() for g in gradient.values()])
    assert np.isclose(row["critical_sharpness"], d @ H @ d / dual, rtol=0.1)
    assert row["critical_sharpness"] <= 1.1 * row["sharpness"]

    def factors(params, opt_state):
        return {"a": 0.5, "b": 0.0}

    row = Tracker(quadratic, H, ["sharpness"], norm="spectral", metric=factors).record(0, w)
    alone = norm_sharpness(operator(lambda d: {"a": 0.25 * (H[:6, :6] @ d["a"].ravel()).reshape(2, 3)}, {"a": w["a"]}))
    dual = 0.5 * np.linalg.svd(gradient["a"], compute_uv=False).sum()
    assert np.isclose(row["sharpness"], alone.value / dual, rtol=1e-2)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"metric": "lion"}, "metric .*norm='linf'"),
        ({"metric": "adam", "norm": "linf"}, "metric"),
        ({"norm": "euclidean"}, "norm"),
        ({"norm": "linf", "matrices": {"a": ((0,), (1,))}}, "matrices"),
        ({"matrices": {"a": ((0,), (1,))}, "metric": "sgd"}, "matrices"),
    ],
)
def test_norms_that_steps_have_not_are_refused(given, named):
    with pytest.raises(ValueError, match=named):
        Tracker(quadratic, jnp.eye(8), ["sharpness"], **given)


def test_own_steps_without_a_norm_are_refused():
    with pytest.raises(ValueError, match=r"observables: 'sharpness' .*sharpness_raw"):
        Experiment(widths=(8,), learning_rates=(0.1,), optimizer="own_objects:make_signs", observables=("sharpness",))
