"""The sentences on what verdicts mean: one for each figure and claim, and none that promises more than a rule says."""

from pathlib import Path

import pytest
from made_figures import leave

from sharplab.gallery import collect
from sharplab.gallery.claims import CLAIMS, TESTED_BY
from sharplab.gallery.entries import figure_scripts
from sharplab.gallery.meaning import ANY, MEANINGS, SMOKE, TOPICS, meaning, topic

VERDICTS = ("holds", "fails", "inconclusive")


def test_sentences_are_of_figures_and_claims_and_say_something_else_for_each_verdict():
    assert set(MEANINGS) - set(figure_scripts()) - set(CLAIMS) == set()
    several = {claim for claim in CLAIMS if sum(claim in tested for tested in TESTED_BY.values()) > 1}
    assert several <= set(MEANINGS) and set(TESTED_BY) <= set(MEANINGS)
    for name in MEANINGS:
        said = [meaning(name, verdict) for verdict in VERDICTS]
        assert len(set(said)) == 3 and topic(name) in TOPICS
        assert all(text.endswith(".") and len(text) < 160 for text in said)


def test_a_figure_without_sentences_has_general_ones():
    assert [meaning("mine", verdict) for verdict in VERDICTS] == [ANY.holds, ANY.fails, ANY.inconclusive]
    assert topic("mine") == ""


@pytest.mark.parametrize(("preset", "said"), [("quick", MEANINGS["adam"].fails), ("smoke", SMOKE)])
def test_an_entry_says_it_by_its_verdict_and_nothing_of_a_smoke_run(tmp_path, preset, said):
    leave(tmp_path, "adam", verdict="fails", preset=preset)
    entries = {entry.name: entry.meaning for entry in collect(tmp_path, {"adam": Path(figure_scripts()["adam"])})}
    assert entries["adam"] == said and entries["transfer"] == ""
