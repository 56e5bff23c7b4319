"""The coordinate check: its numbers in closed form, its verdict on sound and broken networks."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from checked_models import CLASSES, FEATURES, Attention, Lever, Perceptron, batch_of, by_path, scaled_adam
from flax import nnx

from sharplab.checks import coordinate_check
from sharplab.checks.coordinates import _sizes
from sharplab.losses import cross_entropy

WIDTHS = (32, 256)
ADAM = optax.adam(2**-5, eps=1e-12)


def check(build, model=Perceptron, **options):
    settings = {"widths": WIDTHS, "optimizer": scaled_adam(2**-5), "seeds": 4, "steps": 3}
    return coordinate_check(build, batch=batch_of(model), loss=cross_entropy, **settings | options)


def mean_output(outputs, targets):
    return outputs.mean(0).sum()


def lever(power, **options):
    """Plain SGD of learning rate width^power: each step changes the outputs by width^power · mean(x) · x."""
    settings = {"widths": (4, 8, 16), "optimizer": lambda width: optax.sgd(width**power), "steps": 2, "seeds": 2}
    settings |= {"batch": (np.array([[1.0], [3.0]], np.float32), None), "loss": mean_output}
    return coordinate_check(Lever, **settings | options)


def test_changes_and_slopes_are_those_of_the_closed_form():
    found = lever(0.5)
    table = found.table().set_index(["width", "seed", "step"])
    assert table.loc[(16, 1, 2), "change"] == pytest.approx(2 * 4 * 2 * 2, rel=1e-5)  # steps × η × mean x × mean |x|
    assert (table["size"].xs(0, level="step") == 0).all()
    slopes = found.slopes()
    assert set(slopes["step"]) == {1, 2}  # nothing to see at the start, where all is 0
    np.testing.assert_allclose(slopes[["slope", "low", "high"]], 0.5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_tenth_of_a_size_is_a_change_in_every_type_and_a_rounding_is_none(dtype):
    before = jnp.asarray(np.random.default_rng(0).normal(size=1000), dtype)
    found = _sizes(before * jnp.asarray(0.9, dtype), before)
    assert found["change"] == pytest.approx(0.1 * float(found["size"]) / 0.9, rel=0.02)
    rounded = before * (1 + jnp.finfo(dtype).eps * jnp.asarray(np.arange(1000) % 4 == 0, dtype))
    assert (rounded != before).any() and _sizes(rounded, before)["change"] == 0


@pytest.mark.parametrize(("power", "verdict"), [(0.0, "holds"), (0.5, "fails"), (-0.5, "fails")])
def test_the_verdict_follows_the_slope(power, verdict):
    found = lever(power)
    assert found.verdict == verdict
    assert bool(found.reasons) == (verdict == "fails")


def test_a_sound_network_holds():
    found = check(Perceptron, seeds=10)
    assert found.verdict == "holds", str(found)
    kinds = found.slopes().set_index("module")["kind"]
    assert kinds["hidden"].eq("hidden").all() and kinds["(output)"].eq("output").all()
    assert kinds["readout"].eq("free").all()  # a multiplier follows


def test_a_plain_optimizer_instead_of_the_scaled_one_fails():
    found = check(Perceptron, optimizer=ADAM)
    assert found.verdict == "fails"
    assert any("optimizer" in reason for reason in found.reasons)
    assert found.reasons[0].startswith("hidden")


def test_a_forgotten_readout_multiplier_fails():
    found = check(lambda width, rngs: Perceptron(width, rngs, multiplier=1.0))
    assert found.verdict == "fails"
    assert "(output)" in found.reasons[0] and "readout" in found.reasons[0]
    assert not any("optimizer" in reason for reason in found.reasons)


@pytest.mark.long
def test_attention_over_the_root_of_the_head_size_fails_and_over_the_head_size_does_not():
    wrong = check(lambda width, rngs: Attention(width, rngs, power=0.5), Attention, widths=(16, 256), seeds=8)
    assert wrong.verdict == "fails"
    assert any(r.startswith("attention/(logits)") and "√d" in r for r in wrong.reasons)
    right = check(Attention, Attention, widths=(16, 256))
    logits = right.slopes().query("kind == 'logits' and step == 3").iloc[0]
    assert right.verdict != "fails", str(right)
    assert logits["verdict"] == "holds"


def test_what_is_asked_of_outputs_depends_on_the_parameterization():
    asked = lever(0.5).slopes().query("kind == 'output'")
    not_asked = lever(0.5, parameterization="standard").slopes().query("kind == 'output'")
    assert set(asked["verdict"]) == {"fails"}
    assert set(not_asked["verdict"]) == {"not asked"}


def test_the_same_functions_are_compiled_once():
    traces, optimizer = [], optax.sgd(0.1)

    def loss(outputs, targets):
        traces.append(outputs.shape)
        return mean_output(outputs, targets)

    for _ in range(2):
        lever(0.0, optimizer=optimizer, loss=loss)
    assert sorted(traces) == [(2, width) for width in (4, 8, 16)]


class Stateful(nnx.Module):
    """Batch statistics and dropout, in training mode."""

    def __init__(self, width, rngs):
        self.stem = nnx.Linear(FEATURES, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.readout = nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.readout(self.dropout(self.norm(self.stem(x))))


def test_activations_are_compared_under_one_dropout_mask():
    still = check(Stateful, optimizer=optax.sgd(0.0), seeds=2, steps=1, widths=(4, 8))
    assert (still.table()["change"] == 0).all()
    assert still.verdict == "inconclusive" and "learning rate" in still.reasons[0]
    moving = check(Stateful, optimizer=optax.sgd(0.1), seeds=2, steps=1, widths=(4, 8))
    assert (moving.table().query("step == 1 and module == 'norm'")["change"] > 0).all()


def test_an_overflow_at_the_larger_widths_fails():
    batch = (np.array([[1.0]], np.float32), None)
    found = lever(0.0, widths=(4, 8), batch=batch, optimizer=lambda width: optax.sgd(3e38 if width > 4 else 1.0))
    assert found.verdict == "fails" and "width 8" in found.reasons[0]


def test_the_picture_has_a_mark_for_every_slope():
    figure = lever(0.5).draw()
    sizes, changes, _, slopes = figure.axes
    assert changes.get_ylabel().startswith("mean |x")
    assert len(changes.lines) == 1 and not sizes.lines
    assert len(slopes.containers) == 1
    plt.close(figure)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"widths": (8, 8)}, "widths"),
        ({"seeds": 1}, "seeds"),
        ({"steps": 0}, "steps"),
        ({"parameterization": "mpu"}, "'mpu'.*'mup'"),
        ({"optimizer": "adm"}, "'adm'.*'adam'"),
        ({"base": 4}, "base"),
        ({"optimizer": "muon"}, "base"),
    ],
)
def test_bad_input_is_named(options, says):
    with pytest.raises(ValueError, match=says):
        lever(0.0, **options)


def test_nothing_is_asked_of_what_is_frozen():
    def readout_alone(width):
        def labels(params):
            return by_path(lambda path, _: "train" if path.startswith("readout") else "freeze", params)

        return optax.partition({"train": scaled_adam(2**-5)(width), "freeze": optax.set_to_zero()}, labels)

    found = check(Perceptron, optimizer=readout_alone, seeds=10)
    slopes = found.slopes()
    changes = slopes[slopes["quantity"] == "change"]
    assert found.verdict == "holds" and set(changes["module"]) == {"(output)", "readout"}
    # Under "standard" nothing is asked of outputs either, and that they move is no matter of rounding.
    plain = check(Perceptron, optimizer=readout_alone, parameterization="standard")
    assert "rounding" not in str(plain) and plain.verdict != "fails"
