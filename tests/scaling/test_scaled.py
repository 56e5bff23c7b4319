"""Scaled optimizers: duplicated neurons train alike, the base is untouched, and checkpoints carry the scaling."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax_models import CLASSES, FEATURES, MLP, TOKENS, ConvNet, Transformer, batch

from sharplab.core.tree import named_leaves, norm
from sharplab.curvature import block, hessian, precondition
from sharplab.losses import cross_entropy
from sharplab.optimizers import make_optimizer
from sharplab.scaling.any_module import mup
from sharplab.scaling.scaled import Scaling
from sharplab.scaling.transformation import ScaledState, as_matrices, by_path

BASE, COPIES, STEPS = 4, 2, 5
WIDTH = BASE * COPIES


def one_block(width, rngs):
    return Transformer(width, 1, rngs)


def unusual(width, rngs):
    """Stacked blocks, queries and keys normalised, the embedding read out."""
    return Transformer(width, 2, rngs, stacked=True, normalize_qk=True, tied=True)


@cache
def inferred(build, width):
    roles = {"embed/*": "tied"} if build is unusual else None
    with jax.enable_x64(False):  # whatever the test that comes first
        return mup(build, base=BASE, width=width, roles=roles)


def scaling_of(build, width, optimizer):
    return replace(inferred(build, width), algorithm=optimizer)


@cache
def module_of(build, width):
    with jax.enable_x64(False):
        return build(width, nnx.Rngs(0))


def perturbed(build):
    """Parameters at the base in float64, none of them zero."""
    params = nnx.state(module_of(build, BASE), nnx.Param)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda w: jnp.asarray(np.float64(w) + 0.1 * rng.standard_normal(w.shape)), params)


@cache
def network(build, width):
    """(loss and gradient)(params, multiplier of the logits), compiled."""
    graphdef, _, rest = nnx.split(module_of(build, width), nnx.Param, ...)
    rest = jax.tree.map(lambda x: jnp.asarray(np.float64(x)), rest)
    inputs, targets = batch(build)
    classes = CLASSES if build in (MLP, ConvNet) else TOKENS

    def loss(params, rest, inputs, multiplier):
        outputs = nnx.merge(graphdef, params, jax.tree.map(lambda x: x, rest))(inputs)
        return cross_entropy(multiplier * outputs.reshape(-1, classes), targets.reshape(-1))

    compiled = jax.jit(jax.value_and_grad(loss))
    return lambda params, multiplier: compiled(params, rest, inputs, multiplier)


def losses(build, scaling, params, learning_rate, options):
    optimizer = scaling.optimizer(learning_rate, **options)

    @jax.jit
    def step(gradient, state, params):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state, found = jax.jit(optimizer.init)(params), []
    for _ in range(STEPS):
        loss, gradient = network(build, scaling.width)(params, scaling.readout_multiplier)
        params, state = step(gradient, state, params)
        found.append(float(loss))
    return np.array(found)


def duplicated(scaling, params):
    """Every neuron `COPIES` times side by side, what sums over them divided by that: the same function."""
    known, module = {p.path: p for p in scaling.parameters}, module_of(scaling.build, scaling.width)

    def copies(path):
        w, p = np.asarray(named_leaves(params)[path]), known[path]
        for axis, size in enumerate(p.shape):
            w = np.repeat(w, size // w.shape[axis], axis)
        return w * COPIES ** (p.growth.fold - p.growth.fan_in)

    return by_path(lambda path, _: copies(path), nnx.state(module, nnx.Param))


@cache
def reference(build, optimizer):
    """The losses at the base."""
    return losses(build, scaling_of(build, BASE, optimizer), perturbed(build), *OPTIMIZERS[optimizer])


OPTIMIZERS = {
    "sgd": (0.1, {}),
    "nesterov": (0.02, {}),
    "adam": (0.02, {"eps": 1e-2}),
    "adamw": (0.02, {"eps": 1e-3, "weight_decay": 0.3}),
    "lion": (0.005, {}),
    "muon": (0.02, {}),
}
CASES = [
    *((MLP, optimizer) for optimizer in OPTIMIZERS),
    pytest.param(ConvNet, "sgd", marks=pytest.mark.long),
    *(pytest.param(b, "adamw", marks=pytest.mark.long) for b in (one_block, unusual)),
    *(pytest.param(ConvNet, optimizer, marks=pytest.mark.slow) for optimizer in ("adamw", "muon")),
    *(
        pytest.param(b, optimizer, marks=pytest.mark.slow)
        for b in (one_block, unusual)
        for optimizer in ("sgd", "muon")
    ),
]


@pytest.mark.parametrize("build, optimizer", CASES)
def test_duplicated_neurons_train_as_the_base_does(float64, build, optimizer):
    """Wrong roles, folds, learning rates, decays, ε or multipliers would tell the two runs apart."""
    expected, scaling = reference(build, optimizer), scaling_of(build, WIDTH, optimizer)
    found = losses(build, scaling, duplicated(scaling, perturbed(build)), *OPTIMIZERS[optimizer])
    assert expected[-1] < expected[0] - 0.01
    # Flax's attention takes its softmax in float32, its Embed multiplies in it.
    assert np.allclose(found, expected, rtol=0, atol=1e-8 if build in (MLP, ConvNet) else 2e-5)


@pytest.mark.parametrize("what", ["learning_rates", "decays", "gradients"])
def test_a_wrong_factor_would_be_seen(float64, what):
    params, (rate, options) = perturbed(MLP), OPTIMIZERS["adamw"]
    scaling = scaling_of(MLP, WIDTH, "adamw")
    optimizer = scaling.optimizer(rate, **options)

    class Unscaled:
        width, readout_multiplier = WIDTH, 1.0

        def optimizer(self, *args, **kwargs):
            def init(params):
                state = optimizer.init(params)
                return state._replace(**{what: jnp.ones_like(getattr(state, what))})

            return optax.GradientTransformation(init, optimizer.update)

    found = losses(MLP, Unscaled(), duplicated(scaling, params), rate, options)
    assert np.abs(found - reference(MLP, "adamw")).max() > 1e-4


OPTAX = {
    "sgd": (optax.sgd(0.1), {}),
    "momentum": (optax.sgd(0.1, 0.9), {}),
    "adam": (optax.adam(0.1, b1=0.8), {"b1": 0.8}),
    "adamw": (optax.adamw(0.1, weight_decay=0.3), {"weight_decay": 0.3}),
    "lion": (optax.lion(0.1, weight_decay=0.0), {}),
    "lamb": (optax.lamb(0.1), {}),
}


@pytest.mark.parametrize("name", OPTAX)
def test_at_the_base_training_is_that_of_optax(name):
    plain, options = OPTAX[name]
    ours = scaling_of(MLP, BASE, name).optimizer(0.1, **options)
    params = gradient = nnx.state(MLP(BASE, nnx.Rngs(0)), nnx.Param)
    runs = []
    for optimizer in (plain, ours):
        weights, state = params, optimizer.init(params)
        for _ in range(3):
            updates, state = optimizer.update(gradient, state, weights)
            weights = optax.apply_updates(weights, updates)
        runs.append(jax.tree.leaves(weights))
    assert all(np.array_equal(*pair) for pair in zip(*runs, strict=True))


@cache
def params_and_gradient(width):
    with jax.enable_x64(False):  # whatever the test that comes first
        module = scaling_of(MLP, width, "adamw").init(0)
        inputs, targets = batch(MLP)
        gradient = nnx.grad(lambda module: cross_entropy(module(jnp.asarray(inputs, jnp.float32)), targets))(module)
        return nnx.state(module, nnx.Param), gradient


def test_a_schedule_is_followed():
    params, gradient = params_and_gradient(WIDTH)
    optimizer = scaling_of(MLP, WIDTH, "sgd").optimizer(lambda step: 0.1 / (1 + step))
    first, state = optimizer.update(gradient, optimizer.init(params))
    second, _ = optimizer.update(gradient, state)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert np.allclose(a, 2 * b)


@pytest.mark.parametrize("kind, own, name, options", [
    ("sgd", optax.sgd(0.1, 0.9), "momentum", {}),
    ("adam", optax.adamw(0.1, eps=1e-3, weight_decay=0.3), "adamw", {"eps": 1e-3, "weight_decay": 0.3}),
    ("spectral", optax.chain(make_optimizer("muon").direction(
        lambda params: by_path(lambda path, _: "spectral" if path == "second/kernel" else "adam", params)
    ), optax.scale(-0.1)), "muon", {}),
    ("relative", optax.lamb(0.1), "lamb", {}),
])  # fmt: skip
def test_ones_own_optimizer_is_scaled_as_its_kind(kind, own, name, options):
    params, gradient = params_and_gradient(WIDTH)
    scaling = scaling_of(MLP, WIDTH, name)
    runs = []
    for optimizer in (scaling.scale(own, kind), scaling.optimizer(0.1, **options)):
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = optimizer.update(gradient, state, params)
        runs.append(jax.tree.leaves(updates))
    assert all(np.allclose(*pair, rtol=1e-6) for pair in zip(*runs, strict=True))
    with pytest.raises(ValueError, match="kind 'adamw'"):
        scaling.scale(own, "adamw")


def test_a_clip_in_front_of_the_scaled_optimizer_sees_the_gradients_own_norm():
    """Within it the gradients come in units of their size at the base, as Adam's ε wants them."""
    params, gradient = params_and_gradient(WIDTH)
    scaling, seen = scaling_of(MLP, WIDTH, "adam"), []

    def spy():
        def update(updates, state, params=None):
            seen.append(float(norm(updates)))
            return updates, state

        return optax.GradientTransformation(lambda params: optax.EmptyState(), update)

    true = float(norm(gradient))
    for clip in (optax.identity(), optax.clip_by_global_norm(true / 2)):
        within = optax.chain(spy(), optax.adam(0.1))
        optimizer = optax.chain(clip, spy(), scaling.scale(within, "adam"))
        optimizer.update(gradient, optimizer.init(params), params)
    assert np.allclose([seen[0], seen[2]], [true, true / 2], rtol=1e-5)
    assert seen[1] > 1.1 * true and np.isclose(seen[3], seen[1] / 2, rtol=1e-5)
    assert "optax.clip_by_global_norm" in Scaling.scale.__doc__


def test_plain_dicts_states_and_nnx_optimizers_train_alike():
    params, gradient = params_and_gradient(WIDTH)
    transformation = scaling_of(MLP, WIDTH, "adamw").optimizer(0.1)
    module = scaling_of(MLP, WIDTH, "adamw").init(0)
    training = nnx.Optimizer(module, transformation, wrt=nnx.Param)
    for _ in range(2):
        nnx.jit(lambda training, module, gradient: training.update(module, gradient))(training, module, gradient)
    expected = named_leaves(nnx.state(module, nnx.Param))
    for convert in (lambda state: state, nnx.to_pure_dict):
        weights, g = convert(params), convert(gradient)
        state = transformation.init(weights)
        for _ in range(2):
            updates, state = jax.jit(transformation.update)(g, state, weights)
            weights = optax.apply_updates(weights, updates)
        for path, w in named_leaves(weights).items():
            assert np.allclose(w, expected[path], rtol=1e-6)
            assert np.abs(w - named_leaves(params)[path]).max() > 1e-3


def test_parameters_of_another_model_are_refused():
    transformation = scaling_of(MLP, WIDTH, "adam").optimizer(0.1)
    params = nnx.state(MLP(WIDTH, nnx.Rngs(0)), nnx.Param)
    narrow = nnx.state(MLP(BASE, nnx.Rngs(0)), nnx.Param)
    wrong = r"width 8 \(base 4\).*'first/bias'.*\(8,\).*\(4,\)"
    with pytest.raises(ValueError, match=wrong):
        transformation.init(narrow)
    with pytest.raises(ValueError, match=wrong):
        jax.eval_shape(transformation.update, narrow, transformation.init(params), narrow)
    with pytest.raises(ValueError, match="parameter 'other'"):
        transformation.init({"other": jnp.ones(3)})


def test_some_of_the_parameters_can_be_trained_alone():
    params, gradient = params_and_gradient(WIDTH)
    transformation = scaling_of(MLP, WIDTH, "adamw").optimizer(0.1)
    readout = {"readout": nnx.to_pure_dict(params)["readout"]}
    updates, _ = transformation.update(
        {"readout": nnx.to_pure_dict(gradient)["readout"]}, transformation.init(readout), readout
    )
    whole, _ = transformation.update(gradient, transformation.init(params), params)
    for path, u in named_leaves(updates).items():
        assert np.allclose(u, named_leaves(whole)[path], rtol=1e-6)


def test_a_checkpoint_carries_the_scaling_and_goes_on_bit_by_bit(tmp_path):
    checkpoint = pytest.importorskip("orbax.checkpoint")
    scaling = scaling_of(MLP, WIDTH, "adamw")
    optimizer = scaling.optimizer(0.05, weight_decay=0.1)
    params, gradient = (nnx.to_pure_dict(tree) for tree in params_and_gradient(WIDTH))
    step = jax.jit(lambda g, state, params: optimizer.update(g, state, params))
    updates, state = step(gradient, optimizer.init(params), params)
    params = optax.apply_updates(params, updates)
    args = checkpoint.args
    with checkpoint.Checkpointer(checkpoint.CompositeCheckpointHandler()) as saver:
        saved = args.Composite(
            train=args.StandardSave({"params": params, "state": state}), scaling=args.JsonSave(scaling.to_dict())
        )
        saver.save(tmp_path / "checkpoint", saved)
        like = jax.tree.map(jnp.zeros_like, {"params": params, "state": state})
        restored = saver.restore(
            tmp_path / "checkpoint", args.Composite(train=args.StandardRestore(like), scaling=args.JsonRestore())
        )
    assert isinstance(restored.train["state"], ScaledState)
    assert np.array_equal(restored.train["state"].learning_rates, state.learning_rates)
    again = Scaling.from_dict(restored.scaling, MLP)
    assert again == scaling
    there = jax.jit(again.optimizer(0.05, weight_decay=0.1).update)
    straight, resumed = (
        step(gradient, state, params),
        there(gradient, restored.train["state"], restored.train["params"]),
    )
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(straight), jax.tree.leaves(resumed), strict=True))


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_metric_makes_steps_of_gradients(name):
    """Adam without momentum: −η D g is its step; SGD's D are the factors."""
    options = {"b1": 0.0} if name == "adam" else {}
    scaling = scaling_of(MLP, WIDTH, name)
    params, gradient = params_and_gradient(WIDTH)
    optimizer = scaling.optimizer(0.1, **options)
    updates, state = optimizer.update(gradient, optimizer.init(params), params)
    metric = scaling.metric(params, state, **options)
    for d, g, u in zip(*map(jax.tree.leaves, (metric, gradient, updates)), strict=True):
        assert np.allclose(-0.1 * d * g, u, rtol=1e-4, atol=1e-9)
    training = nnx.Optimizer(scaling.init(0), optimizer, wrt=nnx.Param)
    training.update(scaling.init(0), gradient)
    found = partial(scaling.metric, **options)(params, training.opt_state)
    for a, b in zip(jax.tree.leaves(metric), jax.tree.leaves(found), strict=True):
        assert np.allclose(a, b)


def test_what_no_metric_or_option_fits_is_an_error():
    with pytest.raises(ValueError, match="diagonal"):
        scaling_of(MLP, WIDTH, "lion").metric({}, ())
    own = mup(MLP, base=BASE, width=WIDTH, optimizer=make_optimizer("adam", b1=0.5))
    with pytest.raises(ValueError, match="b1"):
        own.optimizer(0.1, b1=0.9)
    with pytest.raises(ValueError, match="beta3"):
        scaling_of(MLP, WIDTH, "adam").optimizer(0.1, beta3=0.9)


def test_kernels_of_many_axes_are_orthogonalised_as_matrices():
    """Fan-in × fan-out singular values are one for each block that runs in parallel, whatever the order of axes."""
    transformation = as_matrices(make_optimizer("muon").directions["spectral"], {"w": ((1, 3), (0,))})
    w = {"w": jnp.asarray(np.random.default_rng(0).standard_normal((5, 2, 3, 4)), jnp.float32)}
    updates, _ = transformation.update(w, transformation.init(w), w)
    assert updates["w"].shape == w["w"].shape
    for i in range(3):
        values = np.linalg.svd(updates["w"][:, :, i].reshape(5, 8), compute_uv=False)
        assert np.all((values > 0.6) & (values < 1.3))


class Named(nnx.Module):
    """Hidden layer and gain under names of one's choice."""

    def __init__(self, width, rngs, *, hidden, gain):
        self.hidden_and_gain = hidden, gain
        setattr(self, hidden, nnx.Linear(FEATURES, width, rngs=rngs))
        setattr(self, gain, nnx.Param(jnp.ones(width)))
        self.readout = nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x):
        hidden, gain = (getattr(self, name) for name in self.hidden_and_gain)
        return self.readout(jnp.tanh(hidden(x)) * gain[None])


def test_names_that_flax_has_too_change_nothing():
    """A head called "value", or a parameter called so, is trained as it is under any other name."""

    def trained(**names):
        build = partial(Named, **names)
        scaling = mup(build, base=BASE, width=WIDTH, optimizer="adamw")
        module = scaling.init(0)
        training = nnx.Optimizer(module, scaling.optimizer(0.1), wrt=nnx.Param)
        inputs, targets = batch(MLP)
        loss = nnx.value_and_grad(lambda module: cross_entropy(module(inputs), targets))
        losses = []
        for _ in range(3):
            value, gradient = loss(module)
            training.update(module, gradient)
            losses.append(float(value))
        params = nnx.state(module, nnx.Param)
        scaling.metric(params, training.opt_state)
        return scaling.table()["role"].to_dict(), losses

    roles, losses = trained(hidden="value", gain="scale")
    assert roles["value/kernel"] == "input" and losses[-1] < losses[0]
    roles, of_gain = trained(hidden="hidden", gain="value")
    assert roles["value"] == "vector"
    assert of_gain == losses == trained(hidden="hidden", gain="scale")[1]


def freezings(scaling, params, options):
    """Ways to train the second layer and the readout alone, by name: (transformation, its state after a step)."""
    trained = by_path(lambda path, _: not path.startswith("first"), params)
    labels = jax.tree.map(lambda train: "train" if train else "freeze", trained)
    inner = scaling.optimizer(0.1, **options)
    frozen = jax.tree.map(lambda train: not train, trained)
    yield "partition", optax.partition({"train": inner, "freeze": optax.set_to_zero()}, labels)
    yield "masked", optax.chain(optax.masked(inner, trained), optax.masked(optax.set_to_zero(), frozen))


@pytest.mark.parametrize("name, options", [("sgd", {}), ("adam", {"b1": 0.0}), ("adamw", {}), ("muon", {})])
def test_what_is_frozen_has_no_part_in_the_metric(name, options):
    """D = 0 there, and the effective sharpness is that of the block of what is trained."""
    scaling = scaling_of(MLP, WIDTH, name)
    params, gradient = (nnx.to_pure_dict(tree) for tree in params_and_gradient(WIDTH))
    whole = scaling.optimizer(0.1, **options)
    alone, state = whole.update(gradient, whole.init(params), params)
    for way, transformation in freezings(scaling, params, options):
        updates, frozen_state = transformation.update(gradient, transformation.init(params), params)
        for path, u in named_leaves(updates).items():
            expected = 0 if path.startswith("first") else named_leaves(alone)[path]
            assert np.allclose(u, expected, rtol=1e-5, atol=1e-8), (way, path)
        if name == "muon":
            continue
        for metric in (partial(scaling.metric, **options), jax.jit(partial(scaling.metric, **options))):
            D, of_all = named_leaves(metric(params, frozen_state)), named_leaves(metric(params, state))
            for path, d in of_all.items():
                assert np.allclose(D[path], 0 if path.startswith("first") else d, rtol=1e-6, atol=0), (way, path)
    if name == "muon":
        return
    graphdef = nnx.graphdef(MLP(WIDTH, nnx.Rngs(0)))

    def loss(params, batch):
        return cross_entropy(nnx.merge(graphdef, nnx.State(params))(batch[0]), batch[1])

    op = hessian(loss, params, batch(MLP))
    root = jax.tree.map(jnp.sqrt, scaling.metric(params, frozen_state, **options))
    alone = {path: d for path, d in named_leaves(root).items() if not path.startswith("first")}
    trained = precondition(block(op, lambda path: path in alone), alone)
    values, expected = (np.linalg.eigvalsh(np.asarray(A.dense())) for A in (precondition(op, root), trained))
    assert np.isclose(values[-1], expected[-1], rtol=1e-4) and np.isclose(values[0], min(expected[0], 0), rtol=1e-3)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_what_an_nnx_optimizer_leaves_out_has_no_part_in_the_metric(name):
    scaling = scaling_of(MLP, WIDTH, name)
    module = scaling.init(0)
    chosen = nnx.All(nnx.Param, lambda path, _: path[0] != "first")
    training = nnx.Optimizer(module, scaling.optimizer(0.1), wrt=chosen)
    inputs, targets = batch(MLP)
    gradient_of = nnx.grad(lambda m: cross_entropy(m(inputs), targets), argnums=nnx.DiffState(0, chosen))
    training.update(module, gradient_of(module))
    every = named_leaves(scaling.metric(nnx.state(module, nnx.Param), training.opt_state))
    some = named_leaves(scaling.metric(nnx.state(module, chosen), training.opt_state))
    for path, d in every.items():
        assert np.all(d == 0) if path.startswith("first") else np.array_equal(d, some[path]) and np.all(d > 0)


def test_a_state_of_several_scaled_optimizers_has_no_one_metric():
    scaling = scaling_of(MLP, WIDTH, "sgd")
    params, _ = params_and_gradient(WIDTH)
    parts = {"slow": scaling.optimizer(0.1), "fast": scaling.optimizer(0.2)}
    both = optax.partition(parts, by_path(lambda path, _: "slow" if path.startswith("first") else "fast", params))
    with pytest.raises(ValueError, match="opt_state"):
        scaling.metric(params, both.init(params))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_factors_keep_the_types_of_parameters_where_no_type_is_promoted(dtype):
    scaling = scaling_of(MLP, WIDTH, "sgd")
    with jax.enable_x64(dtype == jnp.float64):
        params, gradient = (jax.tree.map(lambda x: x.astype(dtype), tree) for tree in params_and_gradient(WIDTH))
        optimizer = scaling.optimizer(0.25)
        with jax.numpy_dtype_promotion("strict"):
            updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        factors = scaling.table()["lr_factor"]
        for path, u in named_leaves(updates).items():
            assert u.dtype == dtype
            expected = -0.25 * factors[path] * np.asarray(named_leaves(gradient)[path], np.float64)
            assert np.allclose(np.asarray(u, np.float64), expected, rtol=float(jnp.finfo(dtype).eps))
