"""The settings of a sweep: normal form, checks, record steps."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
from fake_training import experiment
from hypothesis import given
from hypothesis import strategies as st

from sharplab.sweep import Experiment


def test_equal_settings_are_equal_and_hash_alike_however_they_are_typed():
    plain = experiment(alpha=1.0, seeds=(0, 1), learning_rates=(0.5, 1.0, 2.0))
    typed = experiment(
        widths=np.array([4, 8]),
        depths=2,
        alpha=1,
        gamma=np.float64(1),
        seeds=np.int64(2),
        steps=np.int32(8),
        learning_rates=np.array([2.0, 1.0, 0.5]),
    )
    assert plain == typed
    assert hash(plain) == hash(typed)
    assert type(typed.widths[0]) is int


def test_texts_stand_for_numbers_wherever_there_are_several():
    texts = experiment(widths="4:8", depths=("2", 3), learning_rates=("2^-1:2^1", 3), seeds="0:4")
    assert texts == experiment(widths=(4, 8), depths=(2, 3), learning_rates=(0.5, 1, 2, 3), seeds=5)
    assert type(texts.widths[0]) is int


def test_texts_may_differ_by_parameterization_and_width():
    sweep = experiment(learning_rates={"mup": "1:4", "ntk": "0.5"}, seeds={4: "2", 8: ("2", "5:6")})
    assert sweep.rates_of("mup") == (1.0, 2.0, 4.0)
    assert sweep.seeds_of(4) == (0, 1)
    assert sweep.seeds_of(8) == (2, 5, 6)


def test_grids_and_seeds_may_differ_by_parameterization_and_width():
    sweep = experiment(learning_rates={"mup": (2, 1), "ntk": (4,)}, seeds={4: 3, 8: (7, 5)})
    assert sweep.rates_of("mup") == (1.0, 2.0)
    assert sweep.rates_of("ntk") == (4.0,)
    assert sweep.seeds_of(4) == (0, 1, 2)
    assert sweep.seeds_of(8) == (7, 5)


def test_an_experiment_with_one_setting_replaced_keeps_the_others():
    sweep = experiment(learning_rates={"mup": (1, 2), "ntk": (4,)}, seeds={4: 3, 8: 2})
    longer = dataclasses.replace(sweep, steps=16)
    assert longer.steps == 16
    assert dataclasses.replace(longer, steps=8) == sweep
    assert dataclasses.replace(sweep, parameterizations=("ntk",)).rates_of("ntk") == (4.0,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rates": ()}, "learning_rates.*empty"),
        ({"learning_rates": (0.0,)}, r"learning_rates.* 0\.0"),
        ({"learning_rates": (-1.0,)}, r"learning_rates.* -1\.0"),
        ({"learning_rates": (math.nan,)}, "learning_rates.* nan"),
        ({"learning_rates": (math.inf,)}, "learning_rates.* inf"),
        ({"learning_rates": "2^"}, r"learning_rates: '2\^'"),
        ({"learning_rates": (0.5, "0.5", "quick")}, "learning_rates: 'quick'"),
        ({"learning_rates": {"mup": "1:", "ntk": 1}}, "learning_rates: '1:'"),
        ({"widths": "wide"}, "widths: 'wide'"),
        ({"widths": (4, "8:4")}, "widths: '8:4'"),
        ({"depths": "2.5"}, r"depths: '2\.5'"),
        ({"seeds": "-1"}, "seeds: '-1'"),
        ({"seeds": {4: "3:1", 8: 1}}, "seeds: '3:1'"),
        ({"learning_rates": (1.0, 1)}, "learning_rates.*1.0, 1.0"),
        ({"learning_rates": {"mup": (1.0,)}}, "learning_rates.*'ntk'"),
        ({"widths": ()}, "widths.*empty"),
        ({"widths": (0,)}, "widths.* 0"),
        ({"widths": (8, 8)}, "widths.*8, 8"),
        ({"widths": (8.5,)}, r"widths.* 8\.5"),
        ({"depths": (-1,)}, "depths.* -1"),
        ({"steps": 0}, "steps.* 0"),
        ({"batch_size": 0}, "batch_size.* 0"),
        ({"probe_size": "many"}, "probe_size.*'many'"),
        ({"records": 1}, "records.* 9.* 1"),
        ({"records": 10}, "records.* 9.* 10"),
        ({"seeds": 0}, "seeds.* 0"),
        ({"seeds": (0.5,)}, r"seeds.* 0\.5"),
        ({"seeds": (1, 1)}, "seeds.*1, 1"),
        ({"seeds": {4: 1}}, "seeds.* 8"),
        ({"seeds": (2**31,)}, "seeds.* 2147483648"),
        ({"gamma": 0.0}, r"gamma.* 0\.0"),
        ({"alpha": math.nan}, "alpha.* nan"),
        ({"model": "residual_mpl"}, "model 'residual_mpl'.*'residual_mlp'"),
        ({"model": "nowhere.at_all:build"}, "model 'nowhere.at_all:build'"),
        ({"parameterizations": ("mpu",)}, "parameterization 'mpu'.*'mup'"),
        ({"optimizer": "sdg"}, "optimizer 'sdg'.*'sgd'"),
        ({"loss": "cross_entropie"}, "loss 'cross_entropie'"),
        ({"data": "fashion-mnist-10"}, "data set 'fashion-mnist-10'.*'fashion-mnist-10k'"),
        ({"observables": ("sharpnes",)}, "observable 'sharpnes'.*'sharpness'"),
        ({"observables": ()}, "observables.*empty"),
        ({"spacing": "square"}, "spacing 'square'"),
        ({"refine": "yes"}, "refine.*'yes'"),
        ({"refine": True, "observables": ("eval_loss",)}, "refine.*train_loss.*observables"),
    ],
)
def test_bad_settings_get_one_sentence(changes, said):
    with pytest.raises(ValueError, match=said) as caught:
        experiment(**changes)
    assert "\n" not in str(caught.value)


@given(steps=st.integers(1, 2000), data=st.data(), spacing=st.sampled_from(["linear", "log"]))
def test_records_start_at_0_end_at_the_last_step_and_increase(steps, data, spacing):
    records = data.draw(st.integers(2, min(steps + 1, 60)))
    sweep = Experiment(
        widths=(4,), learning_rates=(1.0,), data="gaussian-clusters", steps=steps, records=records, spacing=spacing
    )
    at = sweep.record_steps()
    assert at[0] == 0
    assert at[-1] == steps
    assert all(a < b for a, b in pairwise(at))
    assert len(at) == records if spacing == "linear" else len(at) <= records


@pytest.mark.parametrize("rate", [1e-300, 1e300, 10**400, "1e-300", "2^-200"])
def test_numbers_that_float32_makes_0_or_infinity_of_are_refused(rate):
    for name in ("learning_rates", "gamma"):
        if name == "learning_rates" or not isinstance(rate, str):
            with pytest.raises(ValueError, match=name):
                Experiment(**{"widths": (8,), "learning_rates": (1.0,), name: rate})


def test_rates_of_a_parameterization_that_is_not_there_are_refused():
    with pytest.raises(ValueError, match="learning_rates has an entry for 'ntk'"):
        Experiment(widths=(8,), parameterizations="mup", learning_rates={"mup": (1.0,), "ntk": (2.0,)})


def test_what_all_sizes_share_goes_with_new_ones_and_what_one_has_does_not():
    kept = Experiment(widths=(8, 16), learning_rates=(0.5, 1.0), seeds=3)
    assert dataclasses.replace(kept, widths=(4, 64)).seeds == ((4, (0, 1, 2)), (64, (0, 1, 2)))
    apart = Experiment(widths=(8, 16), learning_rates=(0.5, 1.0), seeds={8: 3, 16: 2})
    with pytest.raises(ValueError, match="seeds"):
        dataclasses.replace(apart, widths=(4, 64))
    one = Experiment(widths=8, parameterizations="mup", learning_rates={"mup": (0.5, 1.0)})
    with pytest.raises(ValueError, match="learning_rates"):  # a grid of muP is none of NTK's
        dataclasses.replace(one, parameterizations=("mup", "ntk"))
