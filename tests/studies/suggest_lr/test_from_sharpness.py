"""The learning rate from a sharpness, of a network whose sharpness is known at every step and learning rate."""

import numpy as np
import pandas as pd
import pytest
from small_models import BASE, SPECTRUM, Averaged, averaged_data

from sharplab.analysis.trust_region import RateRule
from sharplab.studies.suggest_lr.from_sharpness import (
    BACK,
    SETTLED,
    SharpnessSuggestion,
    learning_rate_from_sharpness,
)
from sharplab.studies.suggest_lr.rate_rules import rate_rules
from sharplab.studies.suggest_lr.settings import StudySettings

READING = 2 * BASE / SPECTRUM.max()  # 2/λ of the one linear model that `Averaged` is at every width
SETTINGS = {"base": BASE, "width": 16, "loss": "squared_error", "batch_size": 8, "steps": 80}


def suggested(**changed):
    return learning_rate_from_sharpness(Averaged, averaged_data(), **SETTINGS | {"optimizer": "sgd"} | changed)


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudySettings, "usual_rate", 16 * READING)  # at which 1 − ηλ is −31
        return suggested()


def test_the_suggestion_is_the_rule_at_the_known_sharpness(found):
    rule, below = rate_rules()["early"]["sgd"], rate_rules()["recorded_rate"]["sgd"].offset
    np.testing.assert_allclose(found.tries["reading"].iloc[1:], READING, rtol=2e-3)
    assert found.learning_rate == pytest.approx(READING * 2**rule.offset, rel=2e-3)
    assert found.interval == pytest.approx(rule.interval(READING), rel=2e-3)
    # The last try is as far below the optimum as those that the rule is of.
    assert abs(np.log2(found.learning_rate / found.tries["learning_rate"].iloc[-1]) - below) <= SETTLED
    assert found.settled and found.rule == rule
    assert f"base {BASE}" in str(found) and "after 8 of 80 steps" in str(found)


def test_a_learning_rate_that_diverges_is_lowered(found):
    assert np.isnan(found.tries["reading"].iloc[0])
    assert found.tries["learning_rate"].iloc[1] == found.tries["learning_rate"].iloc[0] / BACK


def made_up(error, fixed_error, *, rate=1.0, settled=True):
    tries = pd.DataFrame([{"learning_rate": 0.25, "sharpness": 2.0, "reading": rate}])
    rules = (RateRule(0.0, each, 0.5, 4, 20) for each in (error, fixed_error))
    return SharpnessSuggestion(rate, (rate / 2, rate * 2), 64, 8, "adam", 100, 16, tries, settled, *rules)


def test_it_says_where_a_sharpness_does_not_tell():
    assert made_up(0.5, 1.0).conclusive and not str(made_up(0.5, 1.0)).startswith("inconclusive")
    (reason,) = made_up(1.2, 1.0).reasons
    assert "does not tell the learning rate of adam" in reason and str(made_up(1.2, 1.0)).startswith("inconclusive")
    assert "moves with the learning rate" in made_up(0.5, 1.0, settled=False).reasons[0]
    assert "diverged" in made_up(0.5, 1.0, rate=np.nan).reasons[0] and "stability" not in str(
        made_up(1, 2, rate=np.nan)
    )


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"optimizer": "lamb"}, "optimizer .*sgd.*'lamb'"),
        ({"steps": 9}, "steps"),
        ({"seeds": 0}, "seeds"),
        ({"width": "x"}, "width"),
    ],
)
def test_bad_input_names_the_argument(changed, says):
    with pytest.raises(ValueError, match=says):
        suggested(**changed)
