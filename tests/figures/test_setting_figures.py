"""The figures over settings other than size: their rules on made-up sweeps, and that they run through."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
from made_figures import judged, script

import sharplab as sl

NAMES = ("batch-size", "augmentation", "vit", "gamma", "loss-mse", "parameterizations")


def sweep(best, widths=(16, 64), seeds=3, **settings):
    """Runs whose loss is lowest at the learning rate `best` of each width, with a little noise."""
    rates, width, seed = (a.ravel() for a in np.meshgrid(2.0 ** np.arange(-8, 8.5, 0.5), widths, range(seeds)))
    noise = 1e-3 * np.random.default_rng(0).standard_normal(rates.size)
    loss = 1 + 0.1 * np.log2(rates / best) ** 2 + noise
    table = {"width": width, "learning_rate": rates, "seed": seed, "train_loss": loss, "diverged": False}
    return sl.Records(pd.DataFrame({"parameterization": "mup", **table, **settings}))


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_experiments(name):
    presets = script(name).PRESETS
    assert list(presets) == ["smoke", "quick", "full", "paper"]
    assert all(isinstance(preset, sl.Experiment) for preset in presets.values())
    assert presets["quick"].data == "fashion-mnist-10k"
    assert max(presets["paper"].widths) >= 1024


@pytest.mark.parametrize("power", [-1.0, 0.5])
def test_shift_over_a_setting_is_its_power_at_every_width(power):
    shared = script("batch-size").shared
    sweeps = [sweep((size / 128) ** power, batch_size=size) for size in (32, 128, 512)]
    shifts = shared.shifts_over("batch_size", sweeps)
    assert list(shifts) == [16, 64]
    for shift in shifts.values():
        assert shift.shift == pytest.approx(power, abs=0.02)
        assert shift.sizes == (1, 4, 16)
    assert f"width 64: {power:+.2f}" in script("batch-size").note(shifts)


def test_rule_of_every_sweep():
    judge = script("batch-size").shared.judge_all
    assert judge([judged("transfers")] * 3) == "holds"
    assert judge([judged("transfers"), judged("inconclusive")]) == "inconclusive"
    assert judge([judged("transfers"), judged("inconclusive"), judged("shifts")]) == "fails"


@pytest.mark.parametrize(
    ("mup", "ntk", "late", "verdict"),
    [
        (judged("transfers"), judged("shifts", 0.7), (0.8, 0.9), "holds"),
        (judged("transfers"), judged("shifts", 0.7), (0.3, 0.9), "inconclusive"),
        (judged("transfers"), judged("shifts", 0.7), (0.3, 0.4), "fails"),
        (judged("transfers"), judged("shifts", 0.7), (math.nan, 0.9), "inconclusive"),
        (judged("transfers"), judged("shifts", -0.7), (0.8, 0.9), "inconclusive"),
        (judged("transfers"), judged("transfers"), (0.8, 0.9), "fails"),
        (judged("shifts", 0.5), judged("shifts", 0.7), (0.8, 0.9), "fails"),
        (judged("inconclusive"), judged("shifts", 0.7), (0.8, 0.9), "inconclusive"),
    ],
)
def test_rule_of_squared_error(mup, ntk, late, verdict):
    assert script("loss-mse").judge(mup, ntk, late) == verdict


@pytest.mark.parametrize(
    ("one_rate", "per_layer", "verdict"),
    [
        (("shifts", "shifts"), ("transfers", "transfers", "transfers"), "holds"),
        (("shifts", "inconclusive"), ("transfers", "transfers", "transfers"), "inconclusive"),
        (("shifts", "shifts"), ("transfers", "inconclusive", "transfers"), "inconclusive"),
        (("shifts", "transfers"), ("transfers", "transfers", "transfers"), "fails"),
        (("shifts", "shifts"), ("shifts", "transfers", "transfers"), "fails"),
    ],
)
def test_rule_of_parameterizations(one_rate, per_layer, verdict):
    assert script("parameterizations").judge(map(judged, one_rate), map(judged, per_layer)) == verdict


@pytest.mark.parametrize("name", ["standard", "ntk"])
def test_per_layer_exponents_are_mup_with_a_larger_readout(name):
    # Under Adam, what the abc symmetry leaves: size at the start, n^-(a+b), and size of a step, n^-(a+c).
    layered, mup = sl.parameterization(name).per_layer("full").roles, sl.parameterization("mup").roles
    for role, e in layered.items():
        assert e.a + e.c["adam"] == mup[role].a + mup[role].c["adam"]
        assert e.a + e.b == mup[role].a + mup[role].b - (0.5 if role == "output" else 0.0)


def test_large_readout_is_mup_but_for_the_readouts_size():
    from flax import nnx

    from sharplab.models.residual_mlp import ResidualMLP
    from sharplab.scaling import Rule

    def draw(kind):
        rule = Rule(sl.parameterization("mup"), 64, 16)
        return kind(input_shape=(8,), classes=4, width=64, depth=2, rule=rule, rngs=nnx.Rngs(0))

    plain, large = draw(ResidualMLP), draw(script("parameterizations").LargeReadout)
    np.testing.assert_array_equal(large.readout.kernel[...], 2 * plain.readout.kernel[...])
    np.testing.assert_array_equal(large.stem.kernel[...], plain.stem.kernel[...])
    np.testing.assert_array_equal(large.blocks[1].kernel[...], plain.blocks[1].kernel[...])


def test_a_fast_embedding_is_the_same_network_with_larger_steps_in_its_tables():
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from sharplab.losses import cross_entropy
    from sharplab.models.gpt import GPT
    from sharplab.scaling import Rule

    rule = Rule(sl.parameterization("standard"), 64, 16)
    tokens = jax.random.randint(jax.random.key(0), (4, 9), 0, 7)

    @partial(jax.jit, static_argnums=0)
    def vectors(kind):
        """The logits, the token vectors and their change by a step of Adam's first kind, the sign of the gradient."""
        model = kind(input_shape=(8,), classes=7, width=64, depth=1, rule=rule, rngs=nnx.Rngs(0))
        before = model.tokens(jnp.arange(7))
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        loss = lambda p: cross_entropy(nnx.merge(graph, p, rest)(tokens[:, :-1]), tokens[:, 1:])  # noqa: E731
        step = jax.tree.map(lambda g: -1e-3 * jnp.sign(g), jax.grad(loss)(params))
        after = nnx.merge(graph, optax.apply_updates(params, step), rest)
        return model(tokens[:, :-1]), before, after.tokens(jnp.arange(7)) - before

    plain, fast = vectors(GPT), vectors(script("embedding").FastEmbedding)
    np.testing.assert_allclose(fast[0], plain[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fast[1], plain[1], rtol=1e-6)
    seen = np.abs(plain[2]) > 0
    np.testing.assert_allclose(fast[2][seen] / plain[2][seen], 4.0, rtol=1e-2)


def test_distance_pairs_equal_runs_and_leaves_out_what_diverged():
    a, b = sweep(1.0), sweep(1.0)
    b.runs["train_loss"] *= 1.01
    b.runs.loc[0, "train_loss"] = math.inf
    stated = script("parameterizations").distance(a, b)
    assert stated["pairs"] == len(a.runs) - 1
    assert stated["median_relative_difference"] == pytest.approx(math.log(1.01))
    assert 0 < stated["median_relative_spread_of_seeds"] < 1e-2


LAYERS = 3


def made_up_richness(lazy, rich, seeds=3):
    """Sweeps and trajectories whose optimum goes as γ₀^lazy below 1 and γ₀^rich above, the sharpness inversely."""
    sweeps, trajectories = {}, []
    rng = np.random.default_rng(1)
    for gamma in 2.0 ** np.arange(-4, 5):
        best = gamma ** (lazy if gamma < 1 else rich)
        records = sweep(1.0, gamma=gamma, seeds=seeds)
        sweeps[gamma] = sl.Records(records.runs.assign(learning_rate=records.runs["learning_rate"] * best))
        width, seed, step = (a.ravel() for a in np.meshgrid([16, 64], range(seeds), [0, 8, 16]))
        noise = np.exp(0.02 * rng.standard_normal(width.size))
        table = {"width": width, "seed": seed, "step": step, "sharpness_raw": np.where(step, 1 / best, 5.0) * noise}
        trajectories.append(pd.DataFrame({"gamma": gamma, **table}))
    return sweeps, pd.concat(trajectories, ignore_index=True)


@pytest.mark.parametrize(
    ("lazy", "rich", "verdict"), [(2.0, 2 / 3, "holds"), (2.0, 1.2, "fails"), (1.5, 2 / 3, "fails")]
)
def test_slopes_over_richness_are_the_powers_of_each_regime(lazy, rich, verdict):
    gamma = script("gamma")
    sweeps, trajectory = made_up_richness(lazy, rich)
    late = gamma.late_sharpness(trajectory)
    slopes = {regime: gamma.regime_slopes(sweeps, late, regime) for regime in gamma.REGIMES}
    for regime, power in (("lazy", lazy), ("rich", rich)):
        optimum, sharpness = slopes[regime]["optimum"], slopes[regime]["sharpness"]
        assert optimum.slope == pytest.approx(power, abs=0.02)
        assert sharpness.slope == pytest.approx(-power, abs=0.05)
        assert sharpness.interval[0] < -power < sharpness.interval[1]
    assert gamma.judge(slope for each in slopes.values() for slope in each.values()) == verdict


def test_rule_of_richness_is_inconclusive_where_an_interval_is_open():
    gamma = script("gamma")
    sound = gamma.Slope(2.0, (1.9, 2.1), 2.0)
    assert gamma.judge([sound, sound]) == "holds"
    assert gamma.judge([sound, gamma.Slope(0.7, (-math.inf, math.inf), 2 / 3)]) == "inconclusive"
    assert gamma.judge([sound, gamma.Slope(1.2, (1.1, 1.3), 2 / 3)]) == "fails"


def test_best_common_learning_rate_is_one_that_every_width_has_and_survives():
    rows = [(8, 1.0, 0.5, False), (8, 2.0, 0.1, False), (8, 4.0, 0.4, False), (16, 1.0, 0.5, False)]
    rows += [(16, 2.0, 0.1, True), (16, 4.0, 0.3, False), (8, 8.0, 0.01, False)]
    runs = pd.DataFrame(rows, columns=["width", "learning_rate", "train_loss", "diverged"])
    assert script("gamma").common_best(runs) == 4.0


@pytest.mark.slow
def test_figure_of_richness_shows_every_run_and_states_four_slopes(tmp_path):
    gamma = script("gamma")
    finding = gamma.find("smoke", tmp_path / "runs")
    assert finding.verdict in ("holds", "fails", "inconclusive")
    assert set(finding.table["gamma"]) == set(gamma.GAMMAS["smoke"])
    trajectory = finding.table[finding.table["part"] == "course"]
    assert (trajectory["sharpness_raw"] > 0).all()
    slopes = finding.numbers["slopes_per_doubling_of_gamma"]
    assert [set(slopes[regime]) for regime in ("lazy", "rich")] == [{"optimum", "sharpness"}] * 2
    assert len(finding.figure.axes) == 2


@pytest.mark.slow
def test_mean_field_is_mup_in_other_units(tmp_path):
    stated = script("parameterizations").find("smoke", tmp_path / "runs").numbers["mean_field_against_mup"]
    assert stated["median_relative_difference"] < 1e-4 < stated["median_relative_spread_of_seeds"]
