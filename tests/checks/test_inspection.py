"""The inspection of optimizers: what it finds of known ones, and the causes that it names."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest
from checked_models import BASE, Perceptron, batch_of, by_path, factor_table, scaled_adam
from optax import contrib

from sharplab.checks import inspect_optimizer
from sharplab.checks.probing import UPDATES, probe
from sharplab.losses import cross_entropy


def inspect(optimizer, **options):
    settings = {"widths": (16, 64), "batch": batch_of(Perceptron), "loss": cross_entropy}
    return inspect_optimizer(Perceptron, optimizer=optimizer, **settings | options)


def muon(learning_rate):
    dimensions = contrib.MuonDimensionNumbers
    spectral = contrib.scale_by_muon(weight_dimension_numbers=lambda x: jax.tree.map(lambda _: dimensions(), x))
    return optax.chain(spectral, optax.scale_by_learning_rate(learning_rate))


@pytest.mark.parametrize(
    ("transformation", "kind", "decay", "coupled"),
    [
        (optax.sgd(0.1), "sgd", 0.0, False),
        (optax.adam(0.1), "adam", 0.0, False),
        (optax.lion(0.1, weight_decay=0.5), "adam", 0.05, False),
        (optax.adamw(0.1, weight_decay=0.5), "adam", 0.05, False),
        (muon(0.1), "spectral", 0.0, False),
        (optax.lamb(0.1, weight_decay=0.01), "relative", 0.0, False),
        (optax.lars(0.1, trust_coefficient=1.0, momentum=0.0), "relative", 0.0, False),
        (optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1)), "sgd", 0.05, False),  # the same as decoupled
        (optax.chain(optax.add_decayed_weights(0.5), optax.adam(0.1)), "adam", None, True),
    ],
)
def test_known_optimizers_are_recognised(transformation, kind, decay, coupled):
    params = {"w": jnp.ones((24, 24))}
    found = probe(transformation, params, params, jax.random.key(0))["w"]
    assert (found.kind, found.coupled) == (kind, coupled)
    assert found.learning_rate / UPDATES == pytest.approx(0.1, rel=0.25 if kind == "spectral" else 1e-3)
    if decay is not None:
        assert found.decay / UPDATES == pytest.approx(decay, rel=1e-4, abs=1e-7)


def test_a_warm_up_that_begins_at_0_is_no_obstacle():
    schedule = optax.linear_schedule(0.0, 0.4, 4)
    found = probe(optax.sgd(schedule), {"w": jnp.ones(3)}, {"w": jnp.ones(3)}, jax.random.key(0))["w"]
    assert found.learning_rate == pytest.approx(0.0 + 0.1 + 0.2 + 0.3, rel=1e-5)


def test_a_gradient_that_is_rounding_does_not_drown_in_epsilon():
    params = {"large": jnp.ones(5), "rounding": jnp.ones(5), "none": jnp.ones(5)}
    gradient = {"large": jnp.full(5, 1e-3), "rounding": jnp.full(5, 1e-12), "none": jnp.zeros(5)}
    found = probe(optax.adam(0.1), params, gradient, jax.random.key(0))
    assert max(response.epsilon for response in found.values()) < 1e-2


def test_the_scaled_optimizer_holds():
    found = inspect(scaled_adam(0.01, decay=0.1), factors=factor_table)
    assert found.verdict == "holds" and found.reasons == ()
    table = found.table()
    assert table.loc["hidden/kernel", "exponent"] == pytest.approx(-1, abs=0.01)
    assert table["decay_exponent"].abs().max() < 0.01


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon", "lars"])
@pytest.mark.long
def test_the_optimizers_that_the_library_scales_hold(name):
    assert inspect(name, base=BASE).verdict == "holds"


def test_a_plain_optimizer_instead_of_the_scaled_one_fails():
    found = inspect(optax.adam(0.01), factors=factor_table)
    assert found.verdict == "fails"
    (reason,) = found.reasons
    assert re.search(r"every parameter .*width\^0.*width\^-1.*optimizer", reason)


def test_a_norm_gain_with_the_wrong_learning_rate_fails():
    found = inspect(scaled_adam(0.01, wrong=lambda width: {"norm/scale": BASE / width}), factors=factor_table)
    assert found.verdict == "fails"
    (reason,) = found.reasons
    assert re.search(r"^norm/scale.*LayerNorm.*gain.*width\^-1.*width\^0", reason)


def test_coupled_weight_decay_fails():
    found = inspect(scaled_adam(0.01, decay=0.1, coupled=True), factors=factor_table)
    assert found.verdict == "fails"
    (reason,) = found.reasons
    assert "coupled" in reason and "AdamW" in reason


def test_a_decay_that_goes_with_the_learning_rate_factor_fails():
    def within(width):
        return optax.chain(scaled_adam(1.0)(width), optax.add_decayed_weights(-0.1 * BASE / width))

    found = inspect(within, factors=factor_table)
    assert found.verdict == "fails"
    (reason,) = found.reasons
    assert re.search(r"decay.*width\^-1", reason)


def test_an_epsilon_that_does_not_go_with_the_gradient_fails():
    found = inspect(scaled_adam(0.01, eps=1e-3), factors=factor_table)
    assert found.verdict == "fails"
    assert found.reasons[0].startswith("ε")
    assert found.table().loc["hidden/kernel", "exponent"] == pytest.approx(-1, abs=0.02)  # without ε


def test_without_factors_nothing_is_said_of_learning_rates():
    found = inspect(optax.adam(0.01))
    assert found.verdict == "inconclusive" and "base=" in found.reasons[0] and "factors=" in found.reasons[0]


def test_factors_that_lack_a_parameter_are_refused():
    with pytest.raises(ValueError, match=r"factors.*'hidden/bias'"):
        inspect(optax.adam(0.01), factors=lambda width: {})


def frozen_stem(width):
    def labels(params):
        return by_path(lambda path, _: "freeze" if path.startswith("stem") else "train", params)

    return optax.partition({"train": scaled_adam(0.1)(width), "freeze": optax.set_to_zero()}, labels)


def test_nothing_is_asked_of_what_is_frozen():
    def of_trained(width):
        return {path: f for path, f in factor_table(width).items() if not path.startswith("stem")}

    found = inspect(frozen_stem, factors=of_trained)
    table = found.table()
    frozen = table.index.str.startswith("stem")
    assert found.verdict == "holds" and not found.reasons
    assert set(table["kind"][frozen]) == {"frozen"} and set(table["verdict"][frozen]) == {"not asked"}
    assert set(table["kind"][~frozen]) == {"adam"}

    def at_some_widths(width):
        return frozen_stem(width) if width == 16 else scaled_adam(0.1)(width)

    assert inspect(at_some_widths, factors=factor_table).verdict == "fails"


def test_a_tiny_gradient_is_none_that_is_zero():
    params = {"w": jnp.ones(5), "v": jnp.ones(5)}
    gradient = {"w": jnp.full(5, 1e-25), "v": jnp.full(5, 1e-25)}
    found = probe(optax.sgd(0.1), params, gradient, jax.random.key(0))
    assert all(r.learning_rate / UPDATES == pytest.approx(0.1, rel=1e-3) and r.kind == "sgd" for r in found.values())
    sizes = [found["w"].epsilon for found in (probe(optax.adam(0.1, eps=1e-27), params, gradient, jax.random.key(0)),)]
    assert sizes[0] < 0.05
