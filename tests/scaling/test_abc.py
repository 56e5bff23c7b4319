"""The table of exponents against the literature's formulations, and the numbers that a width gets from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import make_batch, make_recipe

from sharplab.scaling import PARAMETERIZATIONS, ROLES, DepthRule, Rule, parameterization

# (a, b, c of SGD, c of Adam, gradient) with W = n^-a w, w ~ N(0, n^-2b), learning rate n^-c, gradients n^gradient, as
# the literature writes them: arXiv 2203.03466 tables 3, 8 and 9, and the unit-variance formulation of arXiv 2402.17457.
# Fan-in and fan-out that grow are n; a bias into such a width is a "vector".
MUP_FORMULATIONS = {
    "3: no multipliers": {
        "input": (0, 0, -1, 0, -1),
        "hidden": (0, 0.5, 0, 1, -1),
        "output": (0, 1, 1, 1, 0),
        "vector": (0, 0, -1, 0, -1),
    },
    "8: readout multiplier": {
        "input": (0, 0, -1, 0, -1),
        "hidden": (0, 0.5, 0, 1, -1),
        "output": (1, 0, -1, 0, -1),
        "vector": (0, 0, -1, 0, -1),
    },
    "9": {
        "input": (-0.5, 0.5, 0, 0.5, -0.5),
        "hidden": (0, 0.5, 0, 1, -1),
        "output": (0.5, 0.5, 0, 0.5, -0.5),
        "vector": (-0.5, 0.5, 0, 0.5, -0.5),
    },
    "unit variance": {
        "input": (0, 0, -1, 0, -1),
        "hidden": (0.5, 0, -1, 0.5, -1.5),
        "output": (1, 0, -1, 0, -1),
        "vector": (0, 0, -1, 0, -1),
    },
}
LITERATURE = {
    "mup": MUP_FORMULATIONS["9"],
    "mean_field": MUP_FORMULATIONS["unit variance"],
    "ntk": {"input": (0, 0, 0, 0, -0.5), "hidden": (0.5, 0, 0, 0, -1), "output": (0.5, 0, 0, 0, -0.5)},
    "standard": {"input": (0, 0, 0, 0, -0.5), "hidden": (0, 0.5, 0, 0, -0.5), "output": (0, 0.5, 0, 0, 0)},
}
# Minus the learning-rate exponents of Adam for (embedding, hidden, readout) in arXiv 2407.05872; mean field with no
# alignment derived by the symmetry.
PER_LAYER = {
    ("standard", "full"): (0, 1, 1),
    ("ntk", "full"): (0, 0.5, 0.5),
    ("mup", "full"): (0.5, 1, 0.5),
    ("mean_field", "full"): (0, 0.5, 0),
    ("standard", "none"): (0, 0.5, 0.5),
    ("ntk", "none"): (0, 0, 0),
    ("mup", "none"): (0.5, 0.5, 0),
    ("mean_field", "none"): (0, 0, -0.5),
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
        return Rule(parameterization(name), n, base_width)

    a, b, c, c_adam, gradient = LITERATURE[name][role]
    assert np.isclose(slope(lambda n: rule(n).multiplier(role, FAN_IN[role](n))), -a)
    assert np.isclose(slope(lambda n: rule(n).init_std(role, FAN_IN[role](n))), -b)
    assert np.isclose(slope(lambda n: rule(n).lr_factor(role)), -c)
    assert np.isclose(slope(lambda n: rule(n).lr_factor(role, "adam")), -c_adam)
    assert np.isclose(slope(lambda n: rule(n).gradient_scale(role)), gradient)


@pytest.mark.parametrize("formulation", MUP_FORMULATIONS)
def test_mup_is_every_formulation_of_the_literature_up_to_the_symmetry(formulation):
    for role, (a, b, c, c_adam, gradient) in MUP_FORMULATIONS[formulation].items():
        ours = parameterization("mup").roles[role]
        shifted = ours.shift(a - ours.a)
        assert (shifted.a, shifted.b, shifted.c["sgd"], shifted.c["adam"], shifted.gradient) == (
            a, b, c, c_adam, gradient,
        )  # fmt: skip


@pytest.mark.parametrize("name, alignment", PER_LAYER)
def test_learning_rates_per_layer_are_the_literatures(name, alignment):
    roles = parameterization(name).per_layer(alignment).roles
    assert tuple(roles[role].c["adam"] for role in ("input", "hidden", "output")) == PER_LAYER[name, alignment]
    assert roles["vector"].c == roles["input"].c
    assert roles["scalar"].c["adam"] == 0
    assert all(np.isclose(e.c["sgd"], e.c["adam"] + e.gradient) for e in roles.values())


def test_per_layer_rates_are_two_classes_under_the_symmetry():
    """Standard and NTK are one, muP and mean field the other; they differ in the readout's initial size alone."""
    for alignment in ("full", "none"):
        plain = {name: parameterization(name).per_layer(alignment).roles for name in PARAMETERIZATIONS}
        plain = {name: {role: e.shift(-e.a) for role, e in roles.items()} for name, roles in plain.items()}
        for role in ("input", "hidden", "output"):
            rates = {name: roles[role].c["adam"] for name, roles in plain.items()}
            assert len(set(rates.values())) == 1
        assert plain["standard"]["output"].b == plain["ntk"]["output"].b == 0.5
        assert plain["mup"]["output"].b == plain["mean_field"]["output"].b == 1
    assert parameterization("mup").per_layer("full").roles == parameterization("mup").roles


@pytest.mark.parametrize("alignment", ["full", "none"])
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_per_layer_rates_let_an_orthogonal_step_move_as_much_at_every_width(name, alignment):
    """Whose norm it is by which it moves a vector, aligned or not."""
    hidden = parameterization(name).per_layer(alignment).roles["hidden"]
    assert hidden.c["spectral"] + hidden.a == 0


@pytest.mark.parametrize("alpha, sgd, adam", [(0.5, 1, 4**-0.5), (1.0, 4, 1), (0.75, 2, 4**-0.25), (0.0, 1, 1)])
def test_rates_within_branches_go_with_depth(alpha, sgd, adam):
    rule = Rule(parameterization("mup"), 8, 8, depth=DepthRule(12, 3, alpha))
    assert np.isclose(rule.lr_factor("hidden", "sgd", in_branch=True), sgd)
    assert np.isclose(rule.lr_factor("hidden", "adam", in_branch=True), adam)
    assert np.isclose(rule.gradient_scale("hidden", in_branch=True), 4**-alpha)
    assert rule.lr_factor("hidden", "adam") == rule.gradient_scale("hidden") == 1


def test_ntk_and_mup_differ_by_more_than_the_symmetry():
    ntk, mup = parameterization("ntk").roles["output"], parameterization("mup").roles["output"]
    assert ntk.a + ntk.b != mup.a + mup.b


@pytest.mark.parametrize("N", [8, 64])
def test_figure_1_network_has_the_papers_multipliers_under_mean_field(N):
    rule = Rule(parameterization("mean_field"), N)
    assert np.isclose(rule.multiplier("input", 27), 1 / np.sqrt(27))
    assert np.isclose(rule.multiplier("hidden", 9 * N), 1 / np.sqrt(9 * N))
    assert np.isclose(rule.multiplier("output", N), 1 / N)
    for role in ("input", "hidden", "output"):
        assert rule.init_std(role, FAN_IN[role](N)) == 1
        assert np.isclose(rule.lr_factor(role), N)


def test_ntk_has_the_papers_multipliers_and_one_learning_rate():
    rule = Rule(parameterization("ntk"), 64)
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
        return make_recipe(model, 8, name, base_width=8).network.source.draw(jax.random.key(1))(
            images.astype(np.float64)
        )

    expected = outputs("standard")
    assert np.abs(expected).max() > 0.1
    for name in PARAMETERIZATIONS:
        assert np.allclose(outputs(name), expected, rtol=1e-12)
        assert all(Rule(parameterization(name), 8, 8).lr_factor(role) == 1 for role in ROLES)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_initial_weights_have_size_one_over_root_fan_in_at_the_base(name):
    rule = Rule(parameterization(name), 16, 16)
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
    with pytest.raises(ValueError, match="readout"):
        parameterization("mup").shift({"readout": 0.5})


def test_table_lists_every_role_with_its_exponents():
    table = parameterization("mup").table()
    assert list(table.index) == list(ROLES)
    assert tuple(table.loc["output", ["a", "b", "c (sgd)"]]) == (0.5, 0.5, 0.0)
    assert ROLES["vector"] in str(parameterization("mup"))


def test_unknown_parameterization_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'meanfield'.*'mean_field'"):
        parameterization("meanfield")


def test_richness_divides_outputs_and_leaves_their_first_order_motion(float64):
    """Outputs fall as 1/γ while J D Jᵀ stays: the weights' way to a given change of outputs shrinks with γ."""
    images, _ = make_batch("residual_mlp", examples=4)

    def outputs_and_kernel(gamma):
        recipe = make_recipe("residual_mlp", 8, "mup", gamma=gamma)
        params = recipe.begin(jnp.asarray(0)).params
        x = recipe.prepare(images.astype(np.float64))
        jacobian = jax.jacrev(recipe.forward)(params, x)
        factors = jax.tree.leaves(recipe.factors())
        blocks = [np.asarray(J).reshape(len(x) * 3, -1) for J in jax.tree.leaves(jacobian)]
        kernel = sum(f * J @ J.T for f, J in zip(factors, blocks, strict=True))
        return recipe.forward(params, x), kernel

    rich, kernel = outputs_and_kernel(1.0)
    lazy, lazy_kernel = outputs_and_kernel(0.1)
    assert np.allclose(lazy, 10 * rich, rtol=1e-12)
    assert np.allclose(lazy_kernel, kernel, rtol=1e-12)
    assert np.isclose(Rule(parameterization("mup"), 8, gamma=0.1).lr_factor("hidden"), 0.01)
