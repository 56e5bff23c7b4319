"""`Tracker` in anyone's own loop: rows against the dense Hessian, warm starts, metric, missing arguments, NaN."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

from sharplab.core.files import write_arrays
from sharplab.losses import cross_entropy, squared_error
from sharplab.models import find_model
from sharplab.optimizers import adam
from sharplab.scaling import Rule, parameterization
from sharplab.tracking.measurement import TOLERANCE
from sharplab.tracking.observables import OBSERVABLES
from sharplab.tracking.tracker import Tracker

RNG = np.random.default_rng(0)
PARAMS = {
    "hidden": jnp.asarray(RNG.standard_normal((5, 7)) / 5**0.5, jnp.float32),
    "readout": jnp.asarray(RNG.standard_normal((7, 3)) / 7**0.5, jnp.float32),
}
BATCH = (jnp.asarray(RNG.standard_normal((20, 5)), jnp.float32), jnp.asarray(RNG.integers(0, 3, 20), jnp.int32))
EVAL_BATCH = (jnp.asarray(RNG.standard_normal((16, 5)), jnp.float32), jnp.asarray(RNG.integers(0, 3, 16), jnp.int32))
FACTORS = {"hidden": 4.0, "readout": 0.25}
RATE = optax.linear_schedule(0.5, 0.0, 40)


def model(params, inputs):
    return jnp.tanh(inputs @ params["hidden"]) @ params["readout"]


def metric(params, opt_state):
    return FACTORS


def whole_loss(params, batch):
    return cross_entropy(model(params, batch[0]), batch[1])


def full_tracker(key=0):
    """Every observable; all of these share one program."""
    return Tracker(
        cross_entropy,
        BATCH,
        tuple(OBSERVABLES),
        model=model,
        metric=metric,
        eval_batch=EVAL_BATCH,
        chunk=8,
        learning_rate=RATE,
        key=jax.random.key(key),
    )


gradient = jax.jit(jax.grad(whole_loss))
# Of D^½, flat as `ravel_pytree` makes it of the parameters.
ROOT = np.concatenate([np.full(PARAMS[name].size, FACTORS[name] ** 0.5, np.float32) for name in sorted(PARAMS)])


@jax.jit
def dense(params, batch=BATCH):
    flat, unravel = ravel_pytree(params)
    return jax.hessian(lambda w: whole_loss(unravel(w), batch))(flat)


def spectra(params):
    """Eigenvalues of H and of D^½ H D^½, ascending."""
    H, root = np.asarray(dense(params), np.float64), ROOT
    return {"sharpness_raw": np.linalg.eigvalsh(H), "sharpness": np.linalg.eigvalsh(root[:, None] * H * root)}


@pytest.fixture(scope="module")
def trajectory():
    """Forty steps of `optax.sgd` on a dict of parameters, with a record every fourth."""
    tracker, optimizer = full_tracker(), optax.sgd(RATE)
    params, opt_state, visited = PARAMS, optimizer.init(PARAMS), []
    for step in range(40):
        if step % 4 == 0:
            tracker.record(step, params, opt_state)
            visited.append(params)
        updates, opt_state = optimizer.update(gradient(params, BATCH), opt_state)
        params = optax.apply_updates(params, updates)
    return tracker, visited


def test_sharpness_is_that_of_the_dense_matrix_in_the_metric_and_without_it(trajectory):
    tracker, visited = trajectory
    beyond = 0
    for row, params in zip(tracker.rows, visited, strict=True):
        for name, exact in spectra(params).items():
            true_error = abs(row[name] - exact[-1])
            assert np.abs(row[name] - exact).min() <= row[f"{name}_residual"]
            assert row[f"{name}_error"] <= 1.001 * TOLERANCE * row[name]
            beyond += true_error > TOLERANCE * exact[-1]
            # The tolerance is met by an estimate; only the residual is a bound.
            assert true_error <= 2 * TOLERANCE * exact[-1]
    assert beyond <= 1, f"{beyond} of {2 * len(visited)}"


def test_rows_hold_losses_accuracy_step_and_the_schedules_learning_rate(trajectory):
    tracker, visited = trajectory
    curves = tracker.curves
    assert curves["step"].tolist() == list(range(0, 40, 4))
    assert np.allclose(curves["learning_rate"], 0.5 * (1 - curves["step"] / 40))
    for row, params in zip(tracker.rows, visited, strict=True):
        right = model(params, EVAL_BATCH[0]).argmax(-1) == EVAL_BATCH[1]
        assert np.isclose(row["train_loss"], whole_loss(params, BATCH), rtol=1e-5)
        assert np.isclose(row["eval_loss"], whole_loss(params, EVAL_BATCH), rtol=1e-5)
        assert np.isclose(row["eval_accuracy"], right.mean())
    assert curves["train_loss"].iloc[-1] < curves["train_loss"].iloc[0]


class Logger:
    """What wandb, trackio and a SummaryWriter are called with, by their signatures, and what they would refuse."""

    def log(self, data, step=None):
        assert type(data) is dict and all(type(name) is str for name in data)
        assert all(type(value) in (int, float) for value in data.values())
        assert step is None or type(step) is int

    def add_scalar(self, tag, scalar_value, global_step=None):
        assert type(tag) is str and type(scalar_value) in (int, float) and type(global_step) is int


def test_rows_go_into_loggers_as_they_are(trajectory):
    tracker, logger = full_tracker(), Logger()
    broken = jax.tree.map(lambda w: w * jnp.nan, PARAMS)
    for step, params in ((0, PARAMS), (np.int64(1), PARAMS), (jnp.asarray(2), broken)):
        row = tracker.record(step, params)
        logger.log(row, step=row["step"])
        logger.log(row)
        for name, value in row.items():
            logger.add_scalar(name, value, row["step"])
    assert [row["step"] for row in tracker.rows] == [0, 1, 2]
    assert list(row) == list(tracker.curves) == list(trajectory[0].curves)
    assert all(type(value) is float for name, value in row.items() if name != "step")
    assert np.isnan(row["sharpness"]) and json.loads(json.dumps(row)).keys() == row.keys()
    row.clear()  # as one who moves values elsewhere
    assert tracker.rows[-1]["step"] == 2


def test_a_named_optimizers_sharpness_is_that_of_the_dense_matrix_in_its_metric():
    optimizer = optax.adam(2**-6, b2=0.95)
    updates, opt_state = optimizer.update(jax.grad(whole_loss)(PARAMS, BATCH), optimizer.init(PARAMS))
    params = optax.apply_updates(PARAMS, updates)
    H = np.asarray(dense(params), np.float64)
    tracker = Tracker(whole_loss, BATCH, ["sharpness"], metric=adam(b2=0.95))
    assert np.isnan(tracker.record(0, PARAMS, optimizer.init(PARAMS))["sharpness"])
    row = tracker.record(1, params, opt_state)
    v = ravel_pytree(opt_state[0].nu)[0] / 0.05
    root = np.asarray((0.1 * (jnp.sqrt(v) + 1e-8)) ** -0.5, np.float64)
    exact = np.linalg.eigvalsh(root[:, None] * H * root)[-1]
    assert abs(row["sharpness"] - exact) <= 2 * TOLERANCE * exact
    usual = Tracker(whole_loss, BATCH, ["sharpness"], metric="adam").measurement.metric(params, opt_state)
    for found, same in zip(jax.tree.leaves(usual), jax.tree.leaves(adam().preconditioner(opt_state)), strict=True):
        assert np.array_equal(found, same)


@pytest.mark.parametrize("metric", ["adm", "lion", optax.adam(0.1), 1.0], ids=["adm", "lion", "optax", "number"])
def test_what_is_no_metric_is_named(metric):
    with pytest.raises(ValueError, match="metric"):
        Tracker(whole_loss, BATCH, ["sharpness"], metric=metric)


def test_warm_starts_save_products(trajectory):
    curves = trajectory[0].curves
    for name in ("sharpness_raw", "sharpness"):
        cold = [full_tracker(key).record(0, PARAMS)[f"{name}_matvecs"] for key in range(4)]
        assert curves[f"{name}_matvecs"][1:].mean() < np.mean(cold)


def test_key_alone_decides_the_random_part():
    first, again, other = (full_tracker(key).record(0, PARAMS) for key in (0, 0, 1))
    assert first == again
    assert first != other


def test_nan_params_give_nan_rows_for_at_most_two_products_and_leave_no_trace():
    tracker = full_tracker()
    tracker.record(0, PARAMS)
    row = tracker.record(1, jax.tree.map(lambda w: w.at[0].set(jnp.nan), PARAMS))
    for name in OBSERVABLES:
        assert np.isnan(row[name]), name
    assert row["sharpness_matvecs"] <= 2
    assert row["sharpness_raw_matvecs"] <= 2
    recovered, exact = tracker.record(2, PARAMS), spectra(PARAMS)["sharpness"][-1]
    assert abs(recovered["sharpness"] - exact) <= 2 * TOLERANCE * exact


def test_loss_of_params_needs_no_model_and_is_traced_no_more_from_the_second_record_on(trajectory):
    traces = []

    def loss(params, batch):
        traces.append(1)
        return whole_loss(params, batch)

    tracker = Tracker(loss, BATCH, ["train_loss", "sharpness_raw"], learning_rate=0.5)
    first = tracker.record(0, PARAMS)
    assert first["learning_rate"] == 0.5
    assert np.isclose(first["train_loss"], trajectory[0].rows[0]["train_loss"])
    assert abs(first["sharpness_raw"] / trajectory[0].rows[0]["sharpness_raw"] - 1) <= 2 * TOLERANCE
    tracker.record(1, jax.tree.map(lambda w: 0.9 * w, PARAMS))
    traced = len(traces)
    for step in (2, 3):
        tracker.record(step, jax.tree.map(lambda w: 0.8 * w, PARAMS))
    # Looking for convolutions may trace the loss once per record; nothing else does.
    assert len(traces) - traced <= 2


def test_convolving_model_is_recorded_too_and_survives_nan():
    rule = Rule(parameterization("mup"), 4)
    network = find_model("convolving_model:ConvolvingModel")(
        input_shape=(8, 8, 1), classes=3, width=4, depth=1, rule=rule, rngs=nnx.Rngs(0)
    )
    graphdef, params = nnx.split(network)
    images = jnp.asarray(np.random.default_rng(0).standard_normal((8, 8, 8, 1)), jnp.float32)
    batch = (network.prepare(images), jnp.arange(8) % 3)

    def apply(params, inputs):
        return nnx.merge(graphdef, params).forward(inputs)

    tracker = Tracker(cross_entropy, batch, ["sharpness_raw"], model=apply)
    row = tracker.record(0, params)
    flat, unravel = ravel_pytree(params)
    H = jax.jit(jax.hessian(lambda w: cross_entropy(apply(unravel(w), batch[0]), batch[1])))(flat)
    exact = np.linalg.eigvalsh(H)[-1]
    assert abs(row["sharpness_raw"] - exact) <= 2 * TOLERANCE * exact
    broken = tracker.record(1, jax.tree.map(lambda w: w * jnp.nan, params))
    assert np.isnan(broken["sharpness_raw"])
    assert broken["sharpness_raw_matvecs"] <= 2


@pytest.mark.parametrize("lost", [jnp.nan, jnp.inf])
def test_a_point_that_is_not_finite_has_no_curvature_though_a_linear_models_hessian_is_the_same_everywhere(lost):
    def loss(w, batch):
        return 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2)

    tracker = Tracker(loss, (jnp.diag(jnp.array([2.0, 1.0])), jnp.ones(2)), ["sharpness_raw", "hessian_top2"])
    assert np.isclose(tracker.record(0, jnp.zeros(2))["sharpness_raw"], 2.0)
    row = tracker.record(1, jnp.array([0.0, lost]))
    assert all(np.isnan(row[f"{name}{end}"]) for name in ("sharpness_raw", "hessian_2") for end in ("", "_error"))
    assert np.isclose(tracker.record(2, jnp.zeros(2))["hessian_2"], 0.5)


@pytest.mark.parametrize(
    "observable, given, said",
    [
        ("sharpnes", {}, "'sharpnes'.*'sharpness'"),
        ("sharpness", {}, "'sharpness' needs metric="),
        ("eval_loss", {}, "'eval_loss' needs eval_batch="),
        ("eval_accuracy", {"eval_batch": EVAL_BATCH}, "'eval_accuracy' needs model="),
        ("eval_accuracy", {"model": model}, "'eval_accuracy' needs eval_batch="),
    ],
)
def test_missing_arguments_are_named(observable, given, said):
    with pytest.raises(ValueError, match=said):
        Tracker(whole_loss, BATCH, [observable], **given)


@pytest.fixture(scope="module")
def several():
    """Ten records of the three largest eigenvalues of each operator in the metric, and of the gradient."""
    names = ["hessian_top3", "gauss_newton_top3", "ntk_top2", "gradient_norm", "directional_sharpness"]
    names += ["hessian_trace", "batch_sharpness"]
    tracker = Tracker(cross_entropy, BATCH, names, model=model, metric=metric, chunk=8)
    params, visited = PARAMS, []
    for step in range(10):
        tracker.record(step, params)
        visited.append(params)
        params = jax.tree.map(lambda w, g: w - 0.3 * g, params, gradient(params, BATCH))
    return tracker, visited


@jax.jit
def dense_kernels(params, batch=BATCH, root=ROOT):
    """D^½ G D^½ and J D Jᵀ/n."""
    flat, unravel = ravel_pytree(params)
    outputs = model(params, batch[0])
    J = (jax.jacobian(lambda w: model(unravel(w), batch[0]))(flat) * root[None, None]).reshape(outputs.size, -1)
    H = jax.hessian(lambda f: cross_entropy(f.reshape(outputs.shape), batch[1]))(outputs.ravel())
    return J.T @ H @ J, J @ J.T / len(outputs)


def test_several_eigenvalues_of_each_operator_are_those_of_the_dense_matrices(several):
    tracker, visited = several
    for row, params in zip(tracker.rows, visited, strict=True):
        G, K = (np.linalg.eigvalsh(np.asarray(A, np.float64))[::-1] for A in dense_kernels(params))
        for name, exact in (("hessian", spectra(params)["sharpness"][::-1]), ("gauss_newton", G), ("ntk", K)):
            for i in range(2 if name == "ntk" else 3):
                assert abs(row[f"{name}_{i + 1}"] - exact[i]) <= 2 * TOLERANCE * exact[i], (name, i)
                assert np.abs(row[f"{name}_{i + 1}"] - exact).min() <= row[f"{name}_{i + 1}_residual"]


def test_gradient_columns_are_in_the_metric(several):
    tracker, visited = several
    for row, params in zip(tracker.rows, visited, strict=True):
        along = np.concatenate(jax.tree.leaves(gradient(params, BATCH)), None) * ROOT
        H = ROOT[:, None] * np.asarray(dense(params)) * ROOT
        assert np.isclose(row["gradient_norm"], np.linalg.norm(along), rtol=1e-4)
        assert np.isclose(row["directional_sharpness"], along @ H @ along / (along @ along), rtol=1e-3)


def test_traces_are_within_their_errors_of_the_dense_matrix(several):
    tracker, visited = several
    for row, params in zip(tracker.rows, visited, strict=True):
        eigenvalues = spectra(params)["sharpness"]
        assert 0 < row["hessian_trace_error"] < np.linalg.norm(eigenvalues)
        assert abs(row["hessian_trace"] - eigenvalues.sum()) < 4 * row["hessian_trace_error"]


def test_batch_sharpness_is_the_mean_over_batches_drawn_from_the_probe(several):
    tracker, visited = several

    def sharpness(params, batch):
        H = ROOT[:, None] * np.asarray(dense(params, batch)) * ROOT
        along = np.concatenate(jax.tree.leaves(gradient(params, batch)), None) * ROOT
        return along @ H @ along / (along @ along)

    number = len(BATCH[0])
    drawn = np.random.default_rng(0).permutation(number)[: number // 8 * 8].reshape(-1, 8)
    batches = [tuple(x[rows] for x in BATCH) for rows in drawn]
    for row, params in list(zip(tracker.rows, visited, strict=True))[::4]:
        values = [float(sharpness(params, batch)) for batch in batches]
        assert np.isclose(row["batch_sharpness"], np.mean(values), rtol=1e-3)
        assert np.isclose(row["batch_sharpness_error"], np.std(values, ddof=1) / len(values) ** 0.5, rtol=1e-2)


def test_identities_begin_apart_and_audits_find_nothing_missed(several):
    curves = several[0].curves
    assert curves[["hessian_1_identity", "hessian_2_identity", "hessian_3_identity"]].iloc[0].tolist() == [0, 1, 2]
    assert not curves[["hessian_missed", "gauss_newton_missed", "ntk_missed"]].any(axis=None)
    assert curves["hessian_matvecs"][7] > curves["hessian_matvecs"][6]  # the audit's


def test_saved_tracker_goes_on_as_if_never_interrupted(several, tmp_path):
    whole, visited = several
    observables = whole.measurement.observables

    def fresh():
        return Tracker(cross_entropy, BATCH, observables, model=model, metric=metric, chunk=8)

    first = fresh()
    for step in range(4):
        first.record(step, visited[step])
    first.save(tmp_path / "tracker.npz")
    second = fresh()
    second.restore(tmp_path / "tracker.npz")
    for step in range(4, 10):
        second.record(step, visited[step])
    assert second.rows == whole.rows
    other = Tracker(cross_entropy, BATCH, ["sharpness_raw"], model=model)
    with pytest.raises(ValueError, match="observables"):
        other.restore(tmp_path / "tracker.npz")


def test_files_of_the_format_without_a_digest_are_restored(several, tmp_path):
    whole, visited = several
    leaves = jax.device_get(jax.tree.leaves(whole.state))
    named = {f"leaf_{i}": leaf for i, leaf in enumerate(leaves)}
    np.savez(tmp_path / "tracker.npz", rows=np.array(json.dumps(whole.rows)), **named)
    old, new = (
        Tracker(cross_entropy, BATCH, whole.measurement.observables, model=model, metric=metric, chunk=8)
        for _ in range(2)
    )
    old.restore(tmp_path / "tracker.npz")
    whole.save(tmp_path / "tracker")
    new.restore(tmp_path / "tracker")
    assert old.record(10, visited[-1]) == new.record(10, visited[-1])
    assert old.rows == new.rows and old.rows[:10] == whole.rows


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: b"", lambda content: content[9:]])
def test_damaged_file_is_named(tmp_path, damage):
    tracker, path = Tracker(whole_loss, BATCH, ["train_loss"]), tmp_path / "tracker"
    tracker.record(0, PARAMS)
    tracker.save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path}.*record anew"):
        tracker.restore(path)


def test_model_with_a_state_is_recorded_in_both_modes():
    def training(params, inputs, state):
        return model(params, inputs - inputs.mean(axis=0, keepdims=True))

    def evaluation(params, inputs, state):
        return model(params, inputs - state[None])

    observables, means = ["train_loss", "eval_loss", "sharpness_raw", "ntk_top2"], jnp.arange(5.0) / 5
    given = {"model": training, "eval_model": evaluation, "eval_batch": EVAL_BATCH}
    tracker = Tracker(cross_entropy, BATCH, observables, **given)
    row, other = (tracker.record(step, PARAMS, state=state) for step, state in enumerate((means, 2 * means)))
    assert row["train_loss"] == other["train_loss"]
    for found, state in ((row, means), (other, 2 * means)):
        expected = whole_loss(PARAMS, (EVAL_BATCH[0] - state[None], EVAL_BATCH[1]))
        assert np.isclose(found["eval_loss"], expected, rtol=1e-5)
    centred = (BATCH[0] - BATCH[0].mean(axis=0, keepdims=True), BATCH[1])
    assert np.isclose(row["train_loss"], whole_loss(PARAMS, centred), rtol=1e-3)
    assert np.isclose(row["sharpness_raw"], np.linalg.eigvalsh(dense(PARAMS, centred))[-1], rtol=2 * TOLERANCE)
    _, K = dense_kernels(PARAMS, centred, np.ones_like(ROOT))
    assert np.allclose([row["ntk_1"], row["ntk_2"]], np.linalg.eigvalsh(K)[:-3:-1], rtol=2 * TOLERANCE)
    with pytest.raises(ValueError, match="state="):
        Tracker(whole_loss, BATCH, ["train_loss"]).record(0, PARAMS, state=means)
    with pytest.raises(ValueError, match="state="):
        Tracker(cross_entropy, BATCH, ["train_loss"], model=model).record(0, PARAMS, state=means)


class Normalised(nnx.Module):
    """A network with batch statistics, which are a state beside its parameters."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.hidden, self.norm = nnx.Linear(5, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.readout = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.readout(jnp.tanh(self.norm(self.hidden(x))))


def test_state_that_moves_is_followed_where_it_is_given_and_warned_of_where_a_closure_holds_it():
    module = Normalised()
    module.eval()
    graphdef, params, statistics = nnx.split(module, nnx.Param, ...)
    held = statistics

    def outputs(params, inputs, state):
        return nnx.merge(graphdef, params, state)(inputs)

    def loss(params, batch, state):
        return cross_entropy(outputs(params, batch[0], state), batch[1])

    def closed(params, batch):
        return loss(params, batch, held)

    names = ["train_loss", "sharpness_raw"]
    given = Tracker(loss, BATCH, names), Tracker(cross_entropy, BATCH, names, model=outputs)
    stale = Tracker(closed, BATCH, names)
    flat, unravel = ravel_pytree(params)
    dense, compiled = jax.jit(jax.hessian(lambda w, state: loss(unravel(w), BATCH, state))), jax.jit(loss)
    tops = []
    for step in range(3):
        exact = np.linalg.eigvalsh(dense(flat, statistics))[-1]
        for tracker in given:
            row = tracker.record(step, params, state=statistics)
            assert abs(row["sharpness_raw"] - exact) <= 2 * TOLERANCE * exact
            assert np.isclose(row["train_loss"], compiled(params, BATCH, statistics), rtol=1e-5)
        if step == 1:
            with pytest.warns(UserWarning, match="held/norm/mean.*state="):
                stale.record(step, params)
        else:
            stale.record(step, params)  # a warning would be an error
        tops.append(exact)
        held = statistics = jax.tree.map(lambda x: 1.5 * x + 0.1, statistics)
    assert np.ptp(tops) > 0.05 * tops[0]
    assert len({row["train_loss"] for row in stale.rows}) == 1


def test_numbers_that_a_function_reads_are_said_to_have_changed_too():
    settings = {"decay": 0.1}

    def loss(params, batch):
        return cross_entropy(model(params, batch[0]), batch[1]) + settings["decay"] * sum(
            jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)
        )

    tracker = Tracker(loss, BATCH, ["train_loss"])
    tracker.record(0, PARAMS)
    settings["decay"] = 0.2
    with pytest.warns(UserWarning, match=r"settings/decay: read by a function .*state="):
        tracker.record(1, PARAMS)


def test_parameters_that_a_captured_module_shares_with_each_record_are_no_stale_arrays():
    module = nnx.Linear(5, 3, rngs=nnx.Rngs(0))

    def loss(params, batch):
        return cross_entropy(nnx.merge(nnx.graphdef(module), params)(batch[0]), batch[1])

    tracker = Tracker(loss, BATCH, ["train_loss"])
    for step in range(3):
        tracker.record(step, nnx.state(module))
        nnx.update(module, jax.tree.map(lambda w: 0.9 * w, nnx.state(module)))
    assert tracker.rows[0]["train_loss"] != tracker.rows[2]["train_loss"]


def test_outputs_and_targets_may_be_dicts_of_heads():
    def heads(params, inputs):
        logits = model(params, inputs)
        return {"class": logits, "square": logits**2}

    def loss(outputs, targets):
        return cross_entropy(outputs["class"], targets["class"]) + squared_error(outputs["square"], targets["square"])

    def of_heads(batch):
        return batch[0], {"class": batch[1], "square": jnp.ones((len(batch[1]), 3))}

    probe, held_out = of_heads(BATCH), of_heads(EVAL_BATCH)
    names = ["train_loss", "eval_loss", "eval_accuracy", "sharpness_raw", "gauss_newton_top2"]
    row = Tracker(loss, probe, names, model=heads, eval_batch=held_out).record(0, PARAMS)
    flat, unravel = ravel_pytree(PARAMS)

    @jax.jit
    def dense(flat):
        H = jax.hessian(lambda w: loss(heads(unravel(w), probe[0]), probe[1]))(flat)
        linear, J = jax.linearize(lambda w: heads(unravel(w), probe[0]), flat)
        G = jax.hessian(lambda v: loss(jax.tree.map(jnp.add, linear, J(v)), probe[1]))(jnp.zeros_like(flat))
        return H, G

    H, G = dense(flat)
    assert np.isclose(row["eval_loss"], loss(heads(PARAMS, held_out[0]), held_out[1]), rtol=1e-5)
    assert "eval_accuracy" not in row
    assert np.isclose(row["sharpness_raw"], np.linalg.eigvalsh(H)[-1], rtol=2 * TOLERANCE)
    assert np.isclose(row["gauss_newton_1"], np.linalg.eigvalsh(G)[-1], rtol=2 * TOLERANCE)


def test_a_loss_of_outputs_without_rows_is_evaluated():
    def norm(outputs, targets):
        return (outputs - targets) ** 2

    def total(params, inputs):
        return model(params, inputs).sum()

    row = Tracker(norm, (BATCH[0], jnp.asarray(3)), ["eval_loss"], model=total, eval_batch=(BATCH[0], 3)).record(
        0, PARAMS
    )
    assert np.isclose(row["eval_loss"], (total(PARAMS, BATCH[0]) - 3) ** 2, rtol=1e-5)


def test_eigenvalues_beyond_those_there_are_are_nan_and_said_once():
    x = jnp.asarray(RNG.standard_normal((6, 3)), jnp.float32)

    def linear(w, inputs):
        return (inputs @ w)[:, None]

    def loss(w, batch):
        return jnp.mean((batch[0] @ w - batch[1]) ** 2) / 2

    exact = np.linalg.eigvalsh(x.T @ x / 6)[::-1]
    for k in (3, 5):
        tracker = Tracker(loss, (x, jnp.ones(6)), [f"hessian_top{k}"])
        if k > 3:
            with pytest.warns(UserWarning, match="hessian_top5"):
                tracker.record(0, jnp.zeros(3))
        for step in range(1, 9):
            row = tracker.record(step, jnp.zeros(3))
            assert np.allclose([row[f"hessian_{i + 1}"] for i in range(3)], exact, rtol=1e-3)
            assert [row[f"hessian_{i + 1}_identity"] for i in range(3)] == [0, 1, 2]
        for i in range(3, k):
            assert all(np.isnan(row[f"hessian_{i + 1}{suffix}"]) for suffix in ("", "_error", "_residual", "_identity"))
    tracker = Tracker(squared_error, (x[:2], jnp.ones((2, 1))), ["ntk_top4"], model=linear)
    with pytest.warns(UserWarning, match="ntk_top4"):
        row = tracker.record(0, jnp.zeros(3))
    assert np.allclose([row["ntk_1"], row["ntk_2"]], np.linalg.eigvalsh(x[:2] @ x[:2].T / 2)[::-1], rtol=1e-3)
    assert np.isnan(row["ntk_3"])


def test_parameters_of_16_bits_are_recorded_in_float32():
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), PARAMS)
    exact = spectra(jax.tree.map(lambda w: w.astype(jnp.float32), half))
    tracker = full_tracker()
    for step in range(2):
        row = tracker.record(step, half)
    for name in ("sharpness_raw", "sharpness"):
        assert abs(row[name] - exact[name][-1]) <= 0.04 * exact[name][-1]
    assert abs(row["hessian_trace"] - exact["sharpness"].sum()) <= 4 * row["hessian_trace_error"] + 0.5
    assert np.isfinite([value for value in row.values()]).all()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(tracker.state.tracked["sharpness"].vectors))


def quadratic(w, batch):
    return 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2)


def quadratic_tracker(size=2, observables=("train_loss", "sharpness_raw")):
    return Tracker(quadratic, (np.eye(size), np.ones(size)), list(observables))


@pytest.mark.parametrize(
    "note", [None, 5, [], {}, {"rows": 5}, {"rows": [1]}, {"rows": [{"loss": "low"}]}, {"rows": [{"loss": None}]}]
)
def test_a_file_of_something_else_is_named_and_leaves_the_tracker_as_it_was(tmp_path, note):
    tracker = quadratic_tracker()
    tracker.record(0, jnp.zeros(2))
    write_arrays(tmp_path / "file", [np.zeros(3)], note)
    with pytest.raises(ValueError, match="file holds no rows"):
        tracker.restore(tmp_path / "file")
    assert [row["step"] for row in tracker.rows] == [0] and tracker.state is not None


def test_a_file_of_other_observables_is_named_and_leaves_the_tracker_as_it_was(tmp_path):
    quadratic_tracker(observables=["train_loss"]).save(tmp_path / "file")
    tracker = quadratic_tracker()
    tracker.record(0, jnp.zeros(2))
    with pytest.raises(ValueError, match=r"file is of the observables .*train_loss"):
        tracker.restore(tmp_path / "file")
    assert len(tracker.rows) == 1


def test_rows_of_other_parameters_do_not_stay(tmp_path):
    saved = quadratic_tracker(3)
    saved.record(0, jnp.zeros(3))
    saved.save(tmp_path / "file")
    tracker = quadratic_tracker()
    tracker.restore(tmp_path / "file")
    with pytest.raises(ValueError, match="other observables or parameters"):
        tracker.record(1, jnp.zeros(2))
    assert tracker.rows == []
    assert tracker.record(1, jnp.zeros(2))["step"] == 1
