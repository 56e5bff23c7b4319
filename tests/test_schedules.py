"""Learning-rate schedules at the points where their formulas are known, and by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sharplab.schedules import (
    SCHEDULES,
    canonical,
    find_schedule,
    inverse_sqrt,
    points,
    points_name,
    power,
    refined,
    refined_schedule,
    rex,
    tabulated,
    wsd,
)
from sharplab.sweep import Experiment
from sharplab.sweep.plan import tasks
from sharplab.sweep.store.identity import run_id
from sharplab.training.task import Run


def values(schedule, steps):
    return np.array([float(schedule(step)) for step in range(steps)])


def test_wsd_is_linear_up_constant_and_linear_down_to_0_after_the_last_step():
    found = values(wsd(100, 0.3, warmup=0.1, decay=0.2), 101)
    np.testing.assert_allclose(found[:10], 0.3 * np.arange(1, 11) / 10, rtol=1e-6)
    np.testing.assert_allclose(found[10:81], 0.3, rtol=1e-6)
    np.testing.assert_allclose(found[80:], 0.3 * (1 - np.arange(21) / 20), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(values(wsd(8, decay=1.0), 8), values(optax.linear_schedule(1, 0, 8), 8), rtol=1e-6)
    np.testing.assert_array_equal(values(wsd(8, decay=0), 8), 1)


def test_rex_is_two_thirds_half_way_and_0_at_the_end():
    assert [float(rex(20, 3.0)(step)) for step in (0, 10, 20, 30)] == pytest.approx([3.0, 2.0, 0.0, 0.0])


def test_the_inverse_square_root_falls_to_half_in_four_times_its_warm_up():
    found = inverse_sqrt(1000, 0.4, warmup=0.05)
    assert [float(found(step)) for step in (24, 49, 199, 799)] == pytest.approx([0.2, 0.4, 0.2, 0.1])


def test_power_is_the_published_law_between_warm_up_and_decay():
    """η = min(η_max, β a n^b) with a = 4, b = −0.51, η_max = 0.02; n tokens, β sequences of a batch."""
    steps, sequences, peak = 10_000, 128, 0.02
    tokens = 4096 * sequences * np.arange(1, steps)
    law = np.minimum(peak, sequences * 4 * tokens**-0.51)
    flat = (peak / (4 * sequences)) ** (-1 / 0.51) / (4096 * sequences) / steps
    found = power(steps, peak, flat=flat, exponent=-0.51, warmup=0.01, decay=0.1, last=0.05)
    at = np.array([100, 1000, 5000, 8999])
    np.testing.assert_allclose([float(found(step)) for step in at], law[at - 1], rtol=1e-5)
    assert law[at[0] - 1] == peak > law[at[1] - 1]
    assert float(found(49)) == pytest.approx(peak / 2)
    assert float(found(9500)) == pytest.approx(law[9499] * 0.05**0.5, rel=1e-5)
    assert float(found(steps)) == pytest.approx(peak * (1 / flat) ** -0.51 * 0.05, rel=1e-5)


def test_points_from_1_to_0_are_linear_decay_and_names_keep_their_values():
    np.testing.assert_allclose(values(points(8, values=(1, 0)), 9), values(optax.linear_schedule(1, 0, 8), 9))
    shape = np.array([0.0, 0.5, 2.0, 1.0, 0.0])
    found = find_schedule(points_name(shape), 8)
    np.testing.assert_allclose(values(found, 9)[::2], shape / 2, rtol=1e-6)
    coarse = values(find_schedule(points_name(np.linspace(3, 0, 1001)), 1000), 1000)
    np.testing.assert_allclose(coarse, 1 - np.arange(1000) / 1000, atol=1e-4)


@pytest.mark.parametrize("name", ["linear", "cosine", "rex", "power(flat=0.2)", "own_objects:linear@1"])
def test_a_table_of_factors_is_the_schedule_to_rounding_and_few_lengths_serve_all(name):
    traced = []

    @jax.jit
    def factor(schedule, step):
        traced.append(step)
        return jnp.float32(0.3) * schedule(step)

    for steps in (9, 300):
        table, schedule = tabulated(find_schedule(name, steps), steps), find_schedule(name, steps)
        compiled = jax.jit(lambda step, of=schedule: jnp.float32(0.3) * of(step))
        of_table = [factor(table, jnp.int32(t)) for t in range(steps + 1)]
        np.testing.assert_allclose(of_table, [compiled(jnp.int32(t)) for t in range(steps + 1)], rtol=3e-7, atol=1e-8)
    assert len(traced) == 1
    assert tabulated(None, 9) is None


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("size", [1e-8, 3.0])
def test_constant_norms_refine_to_exactly_linear_decay(norm, size):
    steps = 50
    found = refined_schedule(np.full(steps, size), 0.5, norm=norm)
    np.testing.assert_allclose(found, 0.5 * (steps - np.arange(1, steps + 1)) / (steps - 1), rtol=1e-14, atol=0)


def test_refined_schedules_are_weights_times_the_later_weights():
    norms = np.array([4.0, 2.0, 1.0, 1.0, 2.0])
    for norm, weights in (("l2", norms**-2.0), ("l1", 1 / norms)):
        by_hand = np.array([w * weights[t + 1 :].sum() for t, w in enumerate(weights)])
        found = refined_schedule(norms, norm=norm, smoothing=0)
        np.testing.assert_allclose(found, by_hand / by_hand.max(), rtol=1e-14)
        assert found[0] < found[1] < found[2]  # falling norms give a warm-up
        schedule = refined(norms, 2.0, norm=norm, smoothing=0)
        np.testing.assert_allclose(values(schedule, 7), [*2 * found, 0, 0], rtol=1e-6)


def test_a_spike_of_the_norm_is_no_matter_after_smoothing():
    norms = np.ones(100)
    norms[40] = 50
    np.testing.assert_allclose(refined_schedule(norms), np.linspace(1, 0, 100), atol=1e-12)


def test_norms_that_rise_at_the_end_anneal_faster_there():
    norms = np.where(np.arange(100) < 80, 1.0, 2.0)
    linear, found = np.linspace(1, 0, 100), refined_schedule(norms)
    assert (found[85:99] < linear[85:99]).all()


@pytest.mark.parametrize("make", [wsd, rex, power, inverse_sqrt])
def test_schedules_are_optax_schedules(make):
    optimizer = optax.sgd(make(10, 0.5))
    state = optimizer.init(jnp.ones(2))
    updates, _ = optimizer.update(jnp.ones(2), state)
    np.testing.assert_allclose(updates, -float(make(10, 0.5)(0)), rtol=1e-6)


def test_arguments_follow_a_name_in_brackets():
    found, expected = find_schedule("wsd(decay=0.5, warmup=0.25)", 8), wsd(8, warmup=0.25, decay=0.5)
    assert [float(found(step)) for step in range(8)] == [float(expected(step)) for step in range(8)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("wsd(decay=.2)", "wsd(decay=0.2)"),
        ("wsd( warmup=5e-2 ,decay=0.2)", "wsd(decay=0.2, warmup=0.05)"),
        ("wsd(decay=0.1)", "wsd"),
        ("power(exponent=-0.5)", "power(exponent=-0.5)"),
        ("cosine()", "cosine"),
        ("points(1,.5, 0 )", "points(1, 0.5, 0)"),
        ("points(1, 0)", "points"),
    ],
)
def test_one_schedule_has_one_name_and_runs_are_known_by_it(text, name):
    assert canonical(text) == canonical(name) == name
    given = {"widths": (8,), "learning_rates": (1.0,), "model": "mlp"}
    experiments = [Experiment(**given, schedule=each) for each in (text, name)]
    assert [each.schedule for each in experiments] == [name, name]
    ids = {run_id(next(tasks(each)), Run(1.0, 0)) for each in (*experiments, Experiment(**given, schedule="linear"))}
    assert len(ids) == 2


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_begin_at_1_and_are_one_object_per_name_and_steps(name):
    schedule = find_schedule(name, 8)
    assert schedule is find_schedule(name, 8)
    assert schedule is None if name == "constant" else schedule(0) == 1


def test_own_schedules_are_found_by_module():
    own, ours = find_schedule("own_objects:linear@2", 8), find_schedule("linear", 8)
    assert [own(step) for step in range(8)] == [ours(step) for step in range(8)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cosin", "schedule 'cosin'.*'cosine'"),
        ("own_objects:make_number", "make_number' .*int"),
        ("points(1, x)", "points"),
        ("points(0, 0)", "values"),
        ("points(1, -1)", "values"),
        ("points(1, 0", "points"),
    ],
)
def test_what_is_no_schedule_is_named(name, said):
    with pytest.raises(ValueError, match=said):
        find_schedule(name, 8)


@pytest.mark.parametrize("make", [wsd, power])
def test_phases_that_overlap_are_refused_for_the_peak_is_never_reached(make):
    with pytest.raises(ValueError, match="warmup and decay"):
        make(100, warmup=0.7, decay=0.7)
    with pytest.raises(ValueError, match="warmup and decay"):
        Experiment(widths=(8,), learning_rates=(1.0,), schedule=f"{make.__name__}(warmup=0.7, decay=0.7)")
    touching = make(100, warmup=0.1, decay=0.9)
    assert max(float(touching(step)) for step in range(100)) > 0.9
