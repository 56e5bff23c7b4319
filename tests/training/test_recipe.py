"""A run's step is plain SGD with the role's learning rate; divergence freezes it; records measure it."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from problems import make_batch, make_recipe

from sharplab.core import tree
from sharplab.losses import LOSSES
from sharplab.models import MODELS
from sharplab.models.layers import ScaledLinear
from sharplab.optimizers import OPTIMIZERS, make_optimizer
from sharplab.scaling import Rule, parameterization
from sharplab.schedules import find_schedule
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe
from sharplab.training.sources import ByRule

RATE = 0.1
# Of the recipe as an argument, so that recipes of one structure share their programs.
BEGIN, STEP, UPDATE = map(jax.jit, (Recipe.begin, Recipe.step, Recipe.update))


@cache
def begin(x64=False, **settings):
    """A recipe of the residual MLP, its compiled step, its run of seed 3, one batch."""
    recipe = make_recipe("residual_mlp", 8, "mean_field", **settings)
    inputs, classes = make_batch("residual_mlp")
    inputs = recipe.prepare(inputs.astype(np.float64 if x64 else np.float32))
    return recipe, partial(STEP, recipe), BEGIN(recipe, 3), (inputs, classes)


def test_step_is_plain_gradient_descent_with_the_roles_factors(float64):
    recipe, step, run, batch = begin(x64=True)
    by_hand, gradient_of = run.params, jax.jit(jax.grad(lambda w: recipe.loss(recipe.forward(w, batch[0]), batch[1])))
    factors = {"stem": 2.0, "blocks": 2.0, "readout": 2.0}  # width 8 over base 4: mean field trains all by n
    for _ in range(3):
        gradient = gradient_of(by_hand)
        run = step(run, RATE, batch)
        by_hand = nnx.State(
            {
                name: jax.tree.map(lambda w, g, f=f: w - RATE * f * g, by_hand[name], gradient[name])
                for name, f in factors.items()
            }
        )
    assert run.step == 3
    for found, wanted in zip(jax.tree.leaves(run.params), jax.tree.leaves(by_hand), strict=True):
        assert np.allclose(found, wanted, rtol=0, atol=1e-14)


def test_seed_alone_decides_the_initial_params():
    start = partial(BEGIN, begin()[0])
    first, again, other = (jax.tree.leaves(start(seed).params) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.allclose(first[0], other[0])


@pytest.mark.parametrize("model", ["gpt", "residual_mlp", pytest.param("vit", marks=pytest.mark.long)])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_keeps_the_types_it_begins_with_so_that_its_programs_are_compiled_once(model, optimizer):
    text = model == "gpt"
    inputs = jax.ShapeDtypeStruct((4, 16) if text else (4, 16, 16, 1), jnp.int32 if text else jnp.float32)
    targets = jax.ShapeDtypeStruct((4, 16) if text else (4,), jnp.int32)
    recipe = make_recipe("residual_mlp", 8, optimizer=make_optimizer(optimizer), observables=("sharpness",))
    source = replace(recipe.network.source, build=MODELS[model], input_shape=inputs.shape[1:])
    recipe = replace(recipe, network=Network(source))
    batch = jax.eval_shape(lambda x, y: (recipe.prepare(x), y), inputs, targets)
    run = jax.eval_shape(recipe.begin, 0)
    tracker = jax.eval_shape(recipe.measurement().init, run.params, batch)
    later = jax.eval_shape(recipe.step, run, jnp.asarray(0.1), batch)
    seen, _ = jax.eval_shape(recipe.observe, run, tracker, 0, batch, batch)
    types = [[(x.dtype, x.weak_type) for x in jax.tree.leaves(state)] for state in (run, later, tracker, seen)]
    assert types[0] == types[1]
    assert types[2] == types[3]


def test_factors_are_those_of_the_rule_per_role():
    recipe = make_recipe("residual_mlp", 8, "mean_field", gamma=2.0)
    assert jax.tree.leaves(recipe.factors()) == [recipe.network.source.rule.lr_factor("hidden")] * 4
    assert recipe.network.source.rule.lr_factor("hidden") == 8 / 4 * 2.0**2


def test_step_with_adamw_is_optaxs_with_the_roles_factors_and_an_epsilon_beside_the_gradients(float64):
    """Each parameter by `optax.adamw` of its own learning rate, ε and decay; three steps, ε of the gradients' size."""
    eps, decay = 1e-3, 0.1
    optimizer = make_optimizer("adamw", eps=eps, weight_decay=decay)
    recipe, step, run, batch = begin(x64=True, optimizer=optimizer)
    factors, scales = recipe.factors(), recipe.gradient_scales()
    assert len(set(jax.tree.leaves(factors))) == len(set(jax.tree.leaves(scales))) == 3  # stem, hidden, readout

    def by_hand(params):
        gradients = jax.jit(jax.grad(recipe.objective))
        rules = jax.tree.map(
            lambda w, f, s: optax.adamw(RATE * f, eps=eps * s, weight_decay=decay / f), params, factors, scales
        )
        rules = jax.tree.leaves(rules, is_leaf=lambda x: isinstance(x, optax.GradientTransformation))
        leaves, treedef = jax.tree.flatten(params)
        states = [rule.init(w) for rule, w in zip(rules, leaves, strict=True)]
        for _ in range(3):
            found = jax.tree.leaves(gradients(jax.tree.unflatten(treedef, leaves), batch))
            steps = [r.update(g, s, w) for r, g, s, w in zip(rules, found, states, leaves, strict=True)]
            leaves, states = [w + u for w, (u, _) in zip(leaves, steps, strict=True)], [s for _, s in steps]
        return leaves

    expected = by_hand(run.params)
    for _ in range(3):
        run = step(run, RATE, batch)
    for found, wanted in zip(jax.tree.leaves(run.params), expected, strict=True):
        assert np.allclose(found, wanted, rtol=0, atol=1e-12)


def test_a_schedule_is_a_factor_on_the_learning_rate_of_each_step():
    plain, step, run, batch = begin()
    scheduled = jax.jit(replace(plain, schedule=find_schedule("linear", 4)).step)
    by_hand = run
    for factor in (1.0, 0.75, 0.5):
        run, by_hand = scheduled(run, RATE, batch), step(by_hand, factor * RATE, batch)
    for a, b in zip(jax.tree.leaves(run.params), jax.tree.leaves(by_hand.params), strict=True):
        assert np.allclose(a, b, rtol=0, atol=1e-6)


def test_random_features_keep_all_but_the_readout():
    recipe, _, run, batch = begin()
    recipe = replace(recipe, trainable="readout", optimizer=make_optimizer("adamw", weight_decay=1.0))
    run = jax.jit(recipe.begin)(3)
    after = jax.jit(recipe.step)(run, RATE, batch)
    before, after = (nnx.to_pure_dict(state.params) for state in (run, after))
    assert jax.tree.all(jax.tree.map(np.array_equal, before["stem"], after["stem"]))
    assert jax.tree.all(jax.tree.map(np.array_equal, before["blocks"], after["blocks"]))
    assert not np.array_equal(before["readout"]["kernel"], after["readout"]["kernel"])


def test_effective_sharpness_of_random_features_is_that_of_the_readouts_block():
    recipe, _, run, batch = begin(loss="squared_error", observables=("sharpness",))
    recipe = replace(recipe, trainable="readout")
    tracker = recipe.measurement().init(run.params, batch)
    _, row = jax.jit(recipe.observe)(run, tracker, 0, batch, batch)
    jacobian = tree.named_leaves(jax.jacrev(recipe.forward)(run.params, batch[0]))["readout/kernel"]
    J = np.asarray(jacobian).reshape(24 * 3, -1)
    # The loss is quadratic in the readout: H = JᵀJ/n.
    exact = recipe.network.source.rule.lr_factor("output") * np.linalg.eigvalsh(J @ J.T / 24)[-1]
    assert abs(row["sharpness"] / exact - 1) < 0.02


def test_augmented_batches_differ_by_step_and_seed_alone():
    """The augmentation sees raw images and a key of seed and step; the model prepares what comes out."""
    seen = []

    def record(key, images):
        jax.debug.callback(lambda k: seen.append(tuple(k.tolist())), jax.random.key_data(key), ordered=True)
        return 2 * images

    plain, plain_step, run, _ = begin()
    images, classes = make_batch("residual_mlp")
    augmented = replace(plain, augment=record)
    step = jax.jit(augmented.step)
    once = step(run, RATE, (images, classes))
    by_hand = plain_step(run, RATE, (plain.prepare(2 * images), classes))
    for a, b in zip(jax.tree.leaves(once.params), jax.tree.leaves(by_hand.params), strict=True):
        assert np.allclose(a, b, rtol=0, atol=1e-6)
    step(once, RATE, (images, classes))
    step(run, RATE, (images, classes))
    step(BEGIN(plain, 4), RATE, (images, classes))
    jax.effects_barrier()
    assert seen[0] == seen[2]
    assert len(set(seen)) == 3


def test_advance_reads_the_examples_of_its_order_and_ends_at_stop():
    recipe, step, run, batch = begin()
    order = np.array([[0, 1, 2], [5, 4, 3], [9, 9, 9]], np.int32)
    advanced = jax.jit(recipe.advance)(run, RATE, order, batch, 2)
    for rows in order[:2]:
        run = step(run, RATE, jax.tree.map(lambda x, rows=rows: x[rows], batch))
    assert advanced.step == 2
    for a, b in zip(jax.tree.leaves(advanced.params), jax.tree.leaves(run.params), strict=True):
        assert np.allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cause", ["infinite loss", "a hundred times the first loss", "dead units"])
def test_diverged_run_is_flagged_with_its_step_and_frozen(cause):
    _, step, run, (inputs, classes) = begin()
    run = step(run, 0.01, (inputs, classes))
    broken = {
        "infinite loss": jnp.full_like(inputs, jnp.inf),
        "a hundred times the first loss": 1e4 * inputs,
        "dead units": jnp.zeros((64, *inputs.shape[1:]), inputs.dtype),
    }[cause]
    after = step(run, 0.01, (broken, jnp.resize(classes, len(broken))))
    assert after.diverged_step == 1
    later = step(step(after, 0.01, (inputs, classes)), 0.01, (inputs, classes))
    assert later.diverged_step == 1
    assert later.step == 4
    for a, b in zip(jax.tree.leaves(run.params), jax.tree.leaves(later.params), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(("share", "diverged"), [(0.0, -1), (5e-4, -1), (0.5, 1)])
def test_a_gradient_of_0_is_that_of_a_dead_network_unless_the_loss_is_small(share, diverged):
    """Softmax that rounds to 1 at every target has it too."""
    recipe, step, run, batch = begin()
    batch = jax.tree.map(lambda x: jnp.tile(x[:1], (64, *[1] * (x.ndim - 1))), batch)
    run = step(run, 0.01, batch)
    flat = replace(recipe, loss=lambda outputs, targets: 0 * outputs.sum() + share * run.first_loss)
    assert flat.step(run, 0.01, batch).diverged_step == diverged


def test_examples_that_move_nothing_are_a_dead_network_when_there_are_64_in_a_row():
    """A single one, for which all units happen to be off, wakes none, and the next one may."""
    _, step, run, (inputs, classes) = begin()
    seen, unseen = (inputs[:16], classes[:16]), (jnp.zeros_like(inputs[:16]), classes[:16])
    run = step(run, 0.01, seen)
    for batch in (unseen, unseen, unseen, seen, unseen, unseen, unseen):
        run = step(run, 0.01, batch)
    assert run.diverged_step == -1 and run.idle == 48
    assert step(run, 0.01, unseen).diverged_step == 8


def test_a_gradient_that_is_no_number_is_not_followed():
    recipe, step, run, batch = begin()
    run = step(run, 0.01, batch)
    steep = replace(recipe, loss=lambda outputs, targets: 2 + jnp.sqrt(0 * outputs).sum())
    after = steep.step(run, 0.01, batch)
    assert after.diverged_step == 1
    assert all(map(np.array_equal, jax.tree.leaves(after.params), jax.tree.leaves(run.params)))


def test_an_update_is_a_step_that_takes_no_note_of_divergence():
    recipe, step, run, (inputs, classes) = begin()
    update = partial(UPDATE, recipe)
    after, loss, gradient = update(run, RATE, (inputs, classes))
    stepped = step(run, RATE, (inputs, classes))
    for a, b in zip(jax.tree.leaves(after.params), jax.tree.leaves(stepped.params), strict=True):
        assert np.allclose(a, b, rtol=0, atol=1e-6)  # two programs, rounded each in its own way
    assert after.step == 1 and loss == pytest.approx(float(recipe.objective(run.params, (inputs, classes))))
    assert jax.tree.structure(gradient) == jax.tree.structure(run.params)
    onward = update(run._replace(diverged_step=jnp.int32(0)), RATE, (inputs, classes))[0]
    assert all(map(np.array_equal, jax.tree.leaves(onward.params), jax.tree.leaves(after.params)))


def test_run_below_a_hundred_times_its_first_loss_goes_on():
    _, step, run, (inputs, classes) = begin()
    run = step(run, 0.0, (inputs, classes))
    run = step(run, 0.0, (20 * inputs, classes))
    assert run.diverged_step == -1


def test_record_of_a_diverged_run_is_nan():
    recipe, _, run, batch = begin(observables=("train_loss", "eval_loss", "eval_accuracy"))
    tracker = recipe.measurement().init(run.params, batch)
    observe = jax.jit(recipe.observe)
    _, sound = observe(run, tracker, 0, batch, batch)
    _, diverged = observe(run._replace(diverged_step=jnp.int32(0)), tracker, 0, batch, batch)
    assert np.isfinite(list(sound.values())).all()
    assert np.isclose(sound["train_loss"], recipe.objective(run.params, batch))
    assert np.isnan(list(diverged.values())).all()


def test_equal_recipes_share_their_programs():
    assert make_recipe("residual_mlp", 8) == make_recipe("residual_mlp", 8)
    assert hash(make_recipe("residual_mlp", 8)) == hash(make_recipe("residual_mlp", 8))
    assert make_recipe("residual_mlp", 8) != make_recipe("residual_mlp", 8, gamma=2.0)


class Roleless(nnx.Module):
    """A model one of whose parameters says nothing of its role."""

    def __init__(self, *, input_shape, classes, width, depth, rule, rngs):
        self.first = ScaledLinear(input_shape[0], width, role="input", rule=rule, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(width))


def test_parameter_without_role_is_named_as_the_fault():
    rule = Rule(parameterization("mup"), 4)
    recipe = Recipe(Network(ByRule(Roleless, rule, (5,), 3)), LOSSES["cross_entropy"], OPTIMIZERS["sgd"], ())
    with pytest.raises(ValueError, match="'bias' without role"):
        recipe.factors()


def test_a_gradient_whose_square_underflows_is_no_dead_network():
    recipe, _, run, batch = begin()
    faint = replace(recipe, loss=lambda outputs, targets: 1 + 1e-25 * recipe.loss(outputs, targets))
    after = faint.step(run, RATE, batch)
    assert after.diverged_step == -1 and after.step == 1
