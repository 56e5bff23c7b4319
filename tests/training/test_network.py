"""Any module of Flax trains through the engine, scaled by the roles of its parameters."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from flax import nnx
from own_networks import Branched, Deep, Net, Noisy, Tied, Untellable

import sharplab as sl
from sharplab.core.tree import named_leaves
from sharplab.losses import cross_entropy
from sharplab.models.building import takes
from sharplab.models.layers import ScaledLinear
from sharplab.optimizers import OPTIMIZERS, from_optax
from sharplab.scaling import PARAMETERIZATIONS, DepthRule, Rule, parameterization
from sharplab.scaling.abc import GROWTH, WITHOUT_MULTIPLIERS
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe
from sharplab.training.sources import AsBuilt, ByRoles, ByRule, find_source

RATE, STEPS = 0.05, 4


def rule_of(name, width, base=8, depth=1, alpha=0.0, gamma=1.0):
    return Rule(parameterization(name), width, base, gamma, DepthRule(depth, 1, alpha))


def recipe_of(build, name="mup", width=16, optimizer="sgd", shape=(16,), classes=4, **settings):
    source = find_source(build, rule_of(name, width, **settings), shape, classes, OPTIMIZERS[optimizer])
    return Recipe(Network(source), cross_entropy, OPTIMIZERS[optimizer], ("train_loss",))


def batch_of(examples=24, seed=0):
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((examples, 16), dtype=np.float32)
    return jnp.asarray(inputs), jnp.asarray(random.integers(0, 4, examples))


# Of the recipe as an argument, so that recipes of one structure share their programs.
begin, step = jax.jit(Recipe.begin), jax.jit(Recipe.step)


def trained(recipe, batch, seed=3, rate=RATE):
    run = begin(recipe, seed)
    for _ in range(STEPS):
        run = step(recipe, run, rate, batch)
    return run


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_run_under_mup_is_that_of_the_scaling_by_hand(optimizer):
    batch = batch_of()
    recipe = recipe_of(Net, optimizer=optimizer)
    scaling = sl.mup(Net, base=8, width=16, optimizer=optimizer)
    found = trained(recipe, batch)

    model = scaling.init(jax.random.key(3))
    graphdef, params = nnx.split(model)
    transformation = scaling.optimizer(RATE)
    state = transformation.init(params)
    gradient = jax.jit(jax.grad(lambda w: cross_entropy(nnx.merge(graphdef, w)(batch[0]), batch[1])))
    for _ in range(STEPS):
        updates, state = transformation.update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
    for path, w in named_leaves(params).items():
        assert np.allclose(w, named_leaves(found.params)[path], rtol=1e-5, atol=3e-6), path


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_module_as_it_is_built_steps_by_the_updates_of_an_optax_transformation(dtype):
    def build(width, rngs):
        return nnx.Linear(16, width, param_dtype=dtype, rngs=rngs)

    def below_zero(outputs, targets):
        return cross_entropy(outputs, targets) - 10

    transformation, batch = optax.adamw(RATE), batch_of()
    recipe = Recipe(Network(AsBuilt(build, 4)), below_zero, from_optax(transformation), ())
    assert recipe == Recipe(Network(AsBuilt(build, 4)), below_zero, from_optax(transformation), ())
    found = trained(recipe, batch, rate=1.0)
    assert found.diverged_step == -1

    graphdef, params = nnx.split(build(4, nnx.Rngs(3)))
    state = transformation.init(params)
    gradient = jax.jit(jax.grad(lambda w: below_zero(nnx.merge(graphdef, w)(batch[0]), batch[1])))
    for _ in range(STEPS):
        updates, state = transformation.update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
    for path, w in named_leaves(params).items():
        assert named_leaves(found.params)[path].dtype == dtype
        assert np.allclose(w, named_leaves(found.params)[path], rtol=4 * jnp.finfo(dtype).eps, atol=1e-6), path


@pytest.mark.parametrize("name", list(WITHOUT_MULTIPLIERS))
@pytest.mark.parametrize("role", list(GROWTH))
def test_exponents_without_multipliers_are_those_of_the_table_by_the_symmetry(name, role):
    of_table = PARAMETERIZATIONS[name].roles[role]
    assert WITHOUT_MULTIPLIERS[name](*GROWTH[role]).shift(of_table.a) == of_table


def test_at_the_base_width_all_parameterizations_are_one_run():
    batch = batch_of()
    runs = [trained(recipe_of(Net, name, width=8), batch) for name in WITHOUT_MULTIPLIERS]
    for run in runs[1:]:
        for one, other in zip(jax.tree.leaves(runs[0].params), jax.tree.leaves(run.params), strict=True):
            assert np.array_equal(one, other)


def test_ntk_has_the_learning_rates_that_its_multipliers_stand_for():
    factors = named_leaves(recipe_of(Net, "ntk", width=32).factors())
    assert [factors[f"{layer}/kernel"] for layer in ("stem", "hidden", "readout")] == [1.0, 8 / 32, 8 / 32]
    assert set(named_leaves(recipe_of(Net, "standard", width=32).factors()).values()) == {1.0}


def test_richness_divides_the_outputs_and_raises_the_learning_rates():
    plain, rich = recipe_of(Net), recipe_of(Net, gamma=2.0)
    batch, params = batch_of(), plain.init_params(0)
    assert np.allclose(rich.forward(params, batch[0]), plain.forward(params, batch[0]) / 2)
    assert jax.tree.leaves(rich.factors()) == [4 * factor for factor in jax.tree.leaves(plain.factors())]


def test_mean_field_is_mup_for_a_module_without_multipliers_and_is_refused():
    with pytest.raises(ValueError, match="mean_field"):
        recipe_of(Net, "mean_field")


def test_dropout_and_batch_statistics_go_with_the_run_and_not_with_its_records():
    recipe, batch = recipe_of(Noisy), batch_of()
    run = trained(recipe, batch)
    before, after = recipe.network.init(3)[1], run.variables
    moved = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)]
    assert all(moved)
    # Training drops units, records and evaluation do not; evaluation takes the running statistics.
    dropped, _ = recipe.network.train(run.params, batch[0], run.variables)
    again, _ = recipe.network.train(run.params, batch[0], run.variables)
    recorded = recipe.network.forward(run.params, batch[0], run.variables)
    evaluated = recipe.network.evaluate(run.params, batch[0], run.variables)
    assert np.array_equal(dropped, again)
    assert not np.allclose(dropped, recorded)
    assert not np.allclose(recorded, evaluated)
    alone = recipe.network.evaluate(run.params, batch[0][:1], run.variables)
    assert np.allclose(alone, evaluated[:1], rtol=1e-5)
    assert recipe.network.abstract.examples_interact


@pytest.mark.long
def test_depth_is_scaled_where_the_module_takes_what_its_branches_are_multiplied_by():
    deep = recipe_of(Branched, depth=4, alpha=0.5)
    assert isinstance(deep.network.source, ByRoles)
    assert deep.network.source.draw(jax.random.key(0)).branch == 0.5
    factors = named_leaves(recipe_of(Branched, depth=4, alpha=1.0, optimizer="adam").factors())
    assert factors["blocks/3/kernel"] == 8 / 16  # of width; of depth m^(alpha − 1) = 1
    with pytest.raises(ValueError, match="branch_multiplier"):
        recipe_of(Deep, depth=4, alpha=0.5)
    assert len(recipe_of(Deep, depth=4).network.source.draw(jax.random.key(0)).blocks) == 4


@pytest.mark.parametrize(("name", "multiplier"), [("mup", 1 / 4), ("ntk", 1 / 2), ("standard", 1.0)])
def test_a_tied_readout_is_multiplied_where_the_module_takes_the_multiplier(name, multiplier):
    recipe = recipe_of(Tied, name, width=32, shape=(6,))
    assert recipe.network.source.draw(jax.random.key(0)).multiplier == multiplier

    def deaf(width, rngs, classes):
        return Tied(width, rngs, classes)

    if multiplier == 1:
        recipe_of(deaf, name, width=32, shape=(6,))
    else:
        with pytest.raises(ValueError, match="readout_multiplier"):
            recipe_of(deaf, name, width=32, shape=(6,))


def test_a_class_takes_what_it_passes_on_to_its_parent():
    class Wide(Branched):
        def __init__(self, *, width, **settings):
            super().__init__(width=2 * width, **settings)

    class OfTheLab(sl.models.MODELS["residual_mlp"]):
        def __init__(self, *, rule, **settings):
            super().__init__(rule=rule, **settings)

    class Careless(nnx.Module):
        def __init__(self, width, rngs, **ignored):
            self.readout = nnx.Linear(16, width, rngs=rngs)

    assert takes(Careless, "width")
    assert not takes(Careless, "rule")
    assert takes(Wide, "branch_multiplier")
    assert not takes(Wide, "rule")
    assert recipe_of(Wide, depth=2).init_params(0)["stem"]["kernel"].shape == (16, 32)
    assert recipe_of(OfTheLab, depth=2).init_params(0)["stem"]["kernel"].shape == (16, 16)


def test_statistics_of_ones_own_layer_keep_the_probe_in_one_piece():
    class Centred(Net):
        def __init__(self, width, rngs):
            super().__init__(width, rngs)
            self.mean = nnx.BatchStat(jnp.zeros(16))

        def __call__(self, x):
            self.mean[...] = x.mean(0)
            return super().__call__(x - self.mean[...])

    assert replace(recipe_of(Centred), probe_chunk=4).measurement().chunk is None
    assert replace(recipe_of(Net), probe_chunk=4).measurement().chunk == 4


def test_a_function_that_names_its_sizes_is_given_no_rule():
    assert not takes(lambda width, rngs, **ignored: None, "rule")


def test_a_build_that_takes_something_else_is_refused():
    with pytest.raises(ValueError, match="channels, kernel_size, rngs, groups"):
        takes(lambda channels, kernel_size, rngs, groups: None, "depth")


def test_what_cannot_be_told_is_refused_with_the_parameters_name():
    with pytest.raises(ValueError, match="'w'"):
        recipe_of(Untellable, "ntk")


def test_a_model_that_takes_a_rule_scales_itself():
    source = find_source(sl.models.MODELS["mlp"], rule_of("mup", 8, depth=2), (16,), 4, OPTIMIZERS["sgd"])
    assert isinstance(source, ByRule)


@pytest.mark.long
def test_sweeps_of_ones_own_networks_are_trained_by_workers_to_the_bit(tmp_path):
    plain = sl.Experiment(
        model="own_networks:Net",
        data="teacher-student",
        loss="squared_error",
        widths=(8, 16),
        base_width=8,
        depths=1,
        parameterizations=("mup", "standard"),
        learning_rates=(0.01, 0.02),
        seeds=2,
        steps=6,
        batch_size=16,
        probe_size=32,
        records=3,
        observables=("train_loss", "eval_loss"),
    )
    with sl.sweep.Processes(1) as executor:
        for experiment in (plain, replace(plain, model="own_networks:Noisy")):
            name = experiment.model.partition(":")[2]
            here = sl.run(experiment, tmp_path / f"{name}-here").curves
            there = sl.run(experiment, tmp_path / f"{name}-there", executor=executor).curves
            assert len(here) == 2 * 2 * 2 * 2 * 3
            assert np.isfinite(here[["train_loss", "eval_loss"]]).all(axis=None)
            pd.testing.assert_frame_equal(here, there)


def test_the_curvature_of_a_network_with_batch_statistics_is_that_of_the_whole_probe():
    recipe, batch = recipe_of(Noisy), batch_of()
    run = trained(recipe, batch)
    recipe = replace(recipe, observables=("sharpness_raw", "hessian_trace"), probe_chunk=8)
    _, row = jax.jit(recipe.observe)(run, recipe.init_tracker(run, batch), 0, batch, batch)

    def loss(params, batch):
        return cross_entropy(recipe.network.forward(params, batch[0], run.variables), batch[1])

    exact = sl.eigsh(sl.hessian(loss, run.params, batch), tol=1e-4)
    assert abs(row["sharpness_raw"] - exact.values[0]) <= 0.02 * exact.values[0]


def test_several_depths_of_a_module_that_takes_none_are_refused():
    settings = {"model": "own_networks:Net", "data": "teacher-student", "widths": 8, "learning_rates": 0.1}
    assert sl.Experiment(**settings).depths == (1,)
    with pytest.raises(ValueError, match="depths"):
        sl.Experiment(**settings, depths=(2, 4))


def test_variables_are_asked_for_where_a_network_has_some():
    recipe, batch = recipe_of(Noisy), batch_of()
    with pytest.raises(ValueError, match="state"):
        recipe.forward(recipe.init_params(0), batch[0])


def test_too_few_outputs_for_the_classes_are_refused(tmp_path):
    experiment = sl.Experiment(
        model="own_networks:Net",
        data="gaussian-clusters",
        widths=8,
        base_width=8,
        depths=1,
        learning_rates=0.1,
        seeds=1,
        steps=2,
        batch_size=16,
        probe_size=32,
        records=2,
    )
    with pytest.raises(ValueError, match="4 outputs"):
        sl.run(experiment, tmp_path)


def test_recipes_of_equal_settings_are_equal_and_share_their_programs():
    one, other = recipe_of(Net), recipe_of(Net)
    assert one == other
    assert hash(one.network) == hash(other.network)
    assert replace(one, trainable="readout") != one


class Constant(nnx.Module):
    """A model that keeps a plain array."""

    def __init__(self, width, rule, rngs):
        self.readout = ScaledLinear(16, 4, role="output", rule=rule, rngs=rngs)
        self.table = jnp.ones(16) / 2

    def __call__(self, x):
        return self.readout(self.table * x)


def test_an_array_that_is_no_variable_is_refused_by_its_name():
    with pytest.raises(ValueError, match="'table'"):
        trained(recipe_of(Constant), batch_of())


class OwnUnit(nnx.Module):
    """A model that says by itself which part of a weight's size is in its multiplier."""

    def __init__(self, width, rule, rngs):
        draw = rule.init_std("output", 16) * jax.random.normal(rngs.params(), (16, 4))
        self.kernel = nnx.Param(draw, role="output", unit=rule.unit("output", 16))

    def __call__(self, x):
        return x @ self.kernel[...]


def test_a_unit_of_ones_own_counts_within_programs_too():
    recipe = recipe_of(OwnUnit, optimizer="adam")
    rule = recipe.network.source.rule
    expected = rule.lr_factor("output", "adam", unit=rule.unit("output", 16))
    assert expected != rule.lr_factor("output", "adam")
    assert jax.tree.leaves(recipe.factors()) == [expected]
    assert np.allclose(jax.jit(lambda recipe: jax.tree.leaves(recipe.factors()))(recipe), expected, rtol=1e-6)
    trained(recipe, batch_of())


class Projected(nnx.Module):
    """A network that projects its inputs with an array drawn once, held plainly or otherwise."""

    def __init__(self, width, rngs, hold):
        self.projection = hold(jax.random.normal(rngs.params(), (16,)))
        self.net = Net(width, rngs)

    def __call__(self, x):
        projection = self.projection["drawn"] if isinstance(self.projection, dict) else self.projection
        return self.net(projection[None] * x)


def plainly(width, rngs):
    return Projected(width, rngs, lambda x: x)


def in_a_variable(width, rngs):
    return Projected(width, rngs, nnx.Variable)


def in_a_dict(width, rngs):
    return Projected(width, rngs, lambda x: {"drawn": x})


def test_an_array_of_a_module_scaled_by_its_roles_is_a_part_of_its_state():
    batch = batch_of()
    plain, variable = (trained(recipe_of(build), batch) for build in (plainly, in_a_variable))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(variable), strict=True):
        assert np.array_equal(a, b)
    held = jax.tree.leaves(plain.variables.statistics)
    assert len(held) == 1 and np.array_equal(held[0], jax.random.normal(nnx.Rngs(jax.random.key(3)).params(), (16,)))
    scaling = sl.mup(plainly, base=8, width=16)
    assert scaling.init(0).projection.shape == (16,)


def test_arrays_that_flax_holds_for_static_are_refused_by_their_name():
    for scaled in (lambda: recipe_of(in_a_dict), lambda: sl.mup(in_a_dict, base=8, width=16)):
        with pytest.raises(ValueError, match="'projection'"):
            scaled()


class Gated(nnx.Module):
    """A gated network whose hidden size is 8/3 of the width, rounded up to a multiple of 8."""

    def __init__(self, width, rngs):
        hidden = -(-width // 3) * 8
        self.stem, self.readout = nnx.Linear(16, width, rngs=rngs), nnx.Linear(width, 4, rngs=rngs)
        self.up, self.gate = (nnx.Linear(width, hidden, rngs=rngs) for _ in range(2))
        self.down = nnx.Linear(hidden, width, rngs=rngs)

    def __call__(self, x):
        h = self.stem(x)
        return self.readout(h + self.down(nnx.silu(self.gate(h)) * self.up(h)))


def test_a_network_of_rounded_sizes_is_trained_with_the_factors_of_its_shapes():
    recipe = recipe_of(Gated, optimizer="adamw")
    factors = named_leaves(recipe.factors())
    assert factors["down/kernel"] == pytest.approx(24 / 48) and factors["up/kernel"] == pytest.approx(1 / 2)
    wider = named_leaves(recipe_of(Gated, optimizer="adamw", width=28).factors())
    assert wider["down/kernel"] == pytest.approx(24 / 80) and wider["up/kernel"] == pytest.approx(8 / 28)
    assert np.isfinite(trained(recipe, batch_of()).first_loss)
