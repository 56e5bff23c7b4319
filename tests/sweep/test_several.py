"""Products and zips of experiments."""

import dataclasses

import pytest
from fake_training import experiment

from sharplab.sweep import Experiment
from sharplab.sweep.several import product, zipped

VALUES = {
    "widths": (8, 16),
    "depths": ("1:2",),
    "learning_rates": ("2^-1:2^1", (0.1, 0.2)),
    "seeds": (2, "5:6"),
    "parameterizations": ("mup", "standard"),
    "base_width": (1, 4),
    "base_depth": "1:2",
    "model": ("mlp", "residual_mlp"),
    "optimizer": ("sgd", "adam"),
    "loss": ("cross_entropy", "squared_error"),
    "data": ("gaussian-clusters", "fashion-mnist-10k"),
    "alpha": ("0", "0.5"),
    "gamma": (0.5, 1),
    "steps": ("8:16",),
    "batch_size": (32, 64),
    "observables": (("train_loss",), ("train_loss", "sharpness")),
    "probe_size": (64, 128),
    "records": (2, 3),
    "spacing": ("linear", "log"),
    "refine": (False, True),
    "trainable": ("all", "readout"),
    "augment": ("none", "crop_and_flip"),
    "schedule": ("constant", "cosine"),
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Experiment)])
def test_every_setting_takes_several_values_and_leaves_the_others(name):
    # Of one width and parameterization, so that seeds and learning rates are kept alike when these change.
    base = experiment(widths=4, parameterizations="ntk")
    found = product(base, **{name: VALUES[name]})
    assert len(found) == 2
    assert getattr(found[0], name) != getattr(found[1], name)
    kept_by = {"widths": "seeds", "parameterizations": "learning_rates"}.get(name)
    for field in dataclasses.fields(Experiment):
        if field.name not in (name, kept_by):
            assert getattr(found[0], field.name) == getattr(base, field.name)


def test_a_product_has_every_combination_the_last_setting_fastest():
    found = product(experiment(), gamma=(2, "0.5:1"), batch_size="32:64")
    assert [(each.gamma, each.batch_size) for each in found] == [
        (2.0, 32),
        (2.0, 64),
        (0.5, 32),
        (0.5, 64),
        (1.0, 32),
        (1.0, 64),
    ]


def test_a_zip_takes_values_together_in_their_order():
    found = zipped(experiment(), widths=("16", "4:8"), depths=(2, 3, 2))
    assert [(each.widths, each.depths) for each in found] == [((16,), (2,)), ((4,), (3,)), ((8,), (2,))]


def test_without_settings_there_is_the_one_experiment():
    assert product(experiment()) == zipped(experiment()) == (experiment(),)


def test_what_all_widths_and_parameterizations_share_is_kept_when_these_change():
    base = experiment(learning_rates="1:4", seeds=(3, 5))
    (changed,) = product(base, widths=32, parameterizations="standard")
    assert changed.seeds_of(32) == (3, 5)
    assert changed.rates_of("standard") == (1.0, 2.0, 4.0)


def test_what_differs_between_widths_has_to_be_said_for_new_ones():
    with pytest.raises(ValueError, match=r"seeds.* 32"):
        product(experiment(seeds={4: 1, 8: 2}), widths=32)


@pytest.mark.parametrize(
    ("make", "values", "said"),
    [
        (product, {"gama": 1}, "'gama'.*'gamma'"),
        (zipped, {"width": 8}, "'width'.*'widths'"),
        (product, {"gamma": ()}, "gamma.*empty"),
        (product, {"gamma": (1, 1.0)}, "gamma = 1.0"),
        (zipped, {"gamma": (1, 2, 1), "steps": (8, 8, 8)}, "gamma = 1, steps = 8"),
        (zipped, {"widths": "4:16", "depths": (1, 2)}, "widths.* 3.*depths.* 2"),
        (product, {"batch_size": "many"}, "batch_size: 'many'"),
        (product, {"alpha": "half"}, "alpha: 'half'"),
        (product, {"records": 50}, "records.* 50"),
    ],
)
def test_bad_values_get_one_sentence(make, values, said):
    with pytest.raises(ValueError, match=said) as caught:
        make(experiment(), **values)
    assert "\n" not in str(caught.value)
