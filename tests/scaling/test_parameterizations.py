"""The table of exponents against the literature's forms, and the numbers that a width gets from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from problems import make_batch, make_recipe

from sharplab.scaling import PARAMETERIZATIONS, ROLES, WidthRule, parameterization

# (a, b, c) with W = n^-a w, w ~ N(0, n^-2b), SGD learning rate n^-c, as the literature writes them:
# arXiv 2203.03466 tables 3, 8 and 9, and the unit-variance form of arXiv 2402.17457. Fan-in and fan-out that
# grow are n.
MUP_FORMS = {
    "3: no multipliers": {"input": (0, 0, -1), "hidden": (0, 0.5, 0), "output": (0, 1, 1)},
    "8: readout multiplier": {"input": (0, 0, -1), "hidden": (0, 0.5, 0), "output": (1, 0, -1)},
    "9": {"input": (-0.5, 0.5, 0), "hidden": (0, 0.5, 0), "output": (0.5, 0.5, 0)},
    "unit variance": {"input": (0, 0, -1), "hidden": (0.5, 0, -1), "output": (1, 0, -1)},
}
LITERATURE = {
    "mup": MUP_FORMS["9"],
    "mean_field": MUP_FORMS["unit variance"],
    "ntk": {"input": (0, 0, 0), "hidden": (0.5, 0, 0), "output": (0.5, 0, 0)},
    "standard": {"input": (0, 0, 0), "hidden": (0, 0.5, 0), "output": (0, 0.5, 0)},
}
FAN_IN = {"input": lambda n: 27, "hidden": lambda n: 9 * n, "output": lambda n: n, "vector": lambda n: 1}


def slope(quantity):
    """The exponent of n in `quantity(n)`, exact for a power."""
    return np.log2(quantity(256) / quantity(64)) / 2


@pytest.mark.parametrize("role", ["input", "hidden", "output"])
@pytest.mark.parametrize("name", LITERATURE)
@pytest.mark.parametrize("base_width", [1, 16])
def test_sizes_go_with_width_as_in_the_literature(name, role, base_width):
    def rule(n):
        return WidthRule(parameterization(name), n, base_width)

    a, b, c = LITERATURE[name][role]
    assert np.isclose(slope(lambda n: rule(n).multiplier(role, FAN_IN[role](n))), -a)
    assert np.isclose(slope(lambda n: rule(n).init_std(role, FAN_IN[role](n))), -b)
    assert np.isclose(slope(lambda n: rule(n).lr_factor(role)), -c)


@pytest.mark.parametrize("form", MUP_FORMS)
def test_mup_is_every_form_of_the_literature_up_to_the_symmetry(form):
    for role, (a, b, c) in MUP_FORMS[form].items():
        ours = parameterization("mup").roles[role]
        assert ours.a + ours.b == a + b  # the size of the initial weight
        assert 2 * ours.a + ours.c["sgd"] == 2 * a + c  # the size of its change in a step


def test_ntk_and_mup_differ_by_more_than_the_symmetry():
    ntk, mup = parameterization("ntk").roles["output"], parameterization("mup").roles["output"]
    assert ntk.a + ntk.b != mup.a + mup.b


@pytest.mark.parametrize("N", [8, 64])
def test_figure_1_network_has_the_papers_multipliers_under_mean_field(N):
    rule = WidthRule(parameterization("mean_field"), N)
    assert np.isclose(rule.multiplier("input", 27), 1 / np.sqrt(27))
    assert np.isclose(rule.multiplier("hidden", 9 * N), 1 / np.sqrt(9 * N))
    assert np.isclose(rule.multiplier("output", N), 1 / N)
    for role in ("input", "hidden", "output"):
        assert rule.init_std(role, FAN_IN[role](N)) == 1
        assert np.isclose(rule.lr_factor(role), N)


def test_ntk_has_the_papers_multipliers_and_one_learning_rate():
    rule = WidthRule(parameterization("ntk"), 64)
    sizes = [rule.multiplier(role, FAN_IN[role](64)) for role in ("input", "hidden", "output")]
    assert np.allclose(sizes, 1 / np.sqrt([27, 9 * 64, 64]))
    assert all(
        rule.init_std(role, FAN_IN[role](64)) == 1 == rule.lr_factor(role) for role in FAN_IN if role != "vector"
    )


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_biases_scale_as_input_weights_and_the_readouts_not_at_all(name):
    roles = parameterization(name).roles
    assert set(roles) == set(ROLES)
    assert roles["vector"] == roles["input"]
    scalar = roles["scalar"]
    assert (scalar.a, scalar.b, scalar.c["sgd"]) == (0, 0, 0)


@pytest.mark.parametrize("model", ["residual_mlp", "figure1_convnet"])
def test_all_parameterizations_are_one_network_at_the_base_width(float64, model):
    images, _ = make_batch(model, examples=4)

    def outputs(name):
        return make_recipe(model, 8, name, base_width=8).build(nnx.Rngs(1))(images.astype(np.float64))

    expected = outputs("standard")
    assert np.abs(expected).max() > 0.1
    for name in PARAMETERIZATIONS:
        assert np.allclose(outputs(name), expected, rtol=1e-12)
        assert all(WidthRule(parameterization(name), 8, 8).lr_factor(role) == 1 for role in ROLES)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_initial_weights_have_size_one_over_root_fan_in_at_the_base(name):
    rule = WidthRule(parameterization(name), 16, 16)
    for role in ("input", "hidden", "output"):
        fan_in = FAN_IN[role](16)
        size = rule.multiplier(role, fan_in, gain=2.0) * rule.init_std(role, fan_in, gain=2.0)
        assert np.isclose(size, 2 / np.sqrt(fan_in))


def test_shift_moves_size_from_multiplier_to_weight():
    shifted = parameterization("ntk").shift(0.25)
    before, after = (p.roles["hidden"] for p in (parameterization("ntk"), shifted))
    assert (after.a, after.b, after.c["sgd"]) == (before.a + 0.25, before.b - 0.25, before.c["sgd"] - 0.5)
    assert shifted.roles["scalar"] == parameterization("ntk").roles["scalar"]
    assert shifted.name == "ntk.shift(0.25)"
    assert parameterization("mup").shift(0.5).roles == parameterization("mean_field").roles


def test_table_lists_every_role_with_its_exponents():
    table = parameterization("mup").table()
    assert list(table.index) == list(ROLES)
    assert tuple(table.loc["output", ["a", "b", "c (sgd)"]]) == (0.5, 0.5, 0.0)
    assert "a bias or gain" in str(parameterization("mup"))


def test_unknown_parameterization_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="unknown parameterization 'meanfield': did you mean 'mean_field'"):
        parameterization("meanfield")


def test_richness_divides_outputs_and_leaves_their_first_order_motion(float64):
    """Outputs fall as 1/γ while J D Jᵀ stays: the weights' way to a given change of outputs shrinks with γ."""
    images, _ = make_batch("residual_mlp", examples=4)

    def outputs_and_kernel(gamma):
        recipe = make_recipe("residual_mlp", 8, "mup", gamma=gamma)
        params = recipe.begin(jnp.asarray(0)).params
        x = recipe.prepare(images.astype(np.float64))
        jacobian = jax.jacrev(recipe.forward)(params, x)
        factors = jax.tree.leaves(recipe.factors("sgd"))
        blocks = [np.asarray(J).reshape(len(x) * 3, -1) for J in jax.tree.leaves(jacobian)]
        kernel = sum(f * J @ J.T for f, J in zip(factors, blocks, strict=True))
        return recipe.forward(params, x), kernel

    rich, kernel = outputs_and_kernel(1.0)
    lazy, lazy_kernel = outputs_and_kernel(0.1)
    assert np.allclose(lazy, 10 * rich, rtol=1e-12)
    assert np.allclose(lazy_kernel, kernel, rtol=1e-12)
    assert np.isclose(WidthRule(parameterization("mup"), 8, gamma=0.1).lr_factor("hidden"), 0.01)
