"""The power schedule of a fitted law: at each step the law's learning rate at the tokens so far."""

import numpy as np
import pandas as pd
import pytest

import sharplab as sl
from sharplab.schedules import find_schedule
from sharplab.studies.power_schedules import power_schedule


def made_up(exponent, over=("batch_size", "tokens")):
    """The law of runs whose best learning rate is 2^-6 · batch^½ · (tokens/1000)^exponent."""
    columns = np.meshgrid(2.0 ** np.arange(-16, 4), [2, 4, 8], [1e3, 2e3, 4e3, 8e3])
    rates, batch, tokens = (a.ravel() for a in columns)
    best = 2.0**-6 * np.sqrt(batch) * (tokens / 1e3) ** exponent
    table = {"learning_rate": rates, "batch_size": batch, "tokens": tokens, "seed": 0}
    loss = 2 + 0.05 * np.log2(rates / best) ** 2
    return sl.learning_rate_law(sl.Records(pd.DataFrame(table | {"eval_loss": loss})), over=over)


@pytest.fixture(scope="module")
def law():
    return made_up(-0.5)


def test_it_is_the_law_at_the_tokens_so_far(law):
    tokens, steps = 64e3, 64
    name, peak = power_schedule(law, tokens, least=4e3, batch_size=16, decay=0.25)
    factors = np.asarray([find_schedule(name, steps)(step) for step in range(steps)])
    so_far = np.arange(steps) * tokens / steps
    expected = [law.predict(batch_size=16, tokens=max(n, 4e3))[0] for n in so_far]
    stable = so_far < 0.75 * tokens
    assert np.allclose((peak * factors)[stable], np.array(expected)[stable], rtol=1e-3)
    assert factors[-1] < 0.05


def test_a_law_that_rises_with_the_tokens_is_followed_as_a_constant():
    name, _ = power_schedule(made_up(0.25), 64e3, least=4e3, batch_size=4)
    assert "exponent=0," in name or "exponent=-0," in name


def test_wrong_sizes_are_refused(law):
    with pytest.raises(ValueError, match="batch_size"):
        power_schedule(law, 1e4, least=1e3)
    with pytest.raises(ValueError, match="tokens"):
        power_schedule(law, 0.0, least=1e3, batch_size=4)
    table = pd.DataFrame(
        {"learning_rate": [2.0**i for i in range(-8, 0)] * 4, "seed": 0, "width": np.repeat([8, 16, 32, 64], 8)}
    )
    table["eval_loss"] = 1 + np.log2(table["learning_rate"] * 16) ** 2
    with pytest.raises(ValueError, match="law"):
        power_schedule(sl.learning_rate_law(sl.Records(table), over="width"), 1e4, least=1e3)
