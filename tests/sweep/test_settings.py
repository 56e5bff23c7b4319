"""Each setting is declared once: the declarations are complete, and what derives from them follows."""

from dataclasses import dataclass, fields, replace
from importlib import import_module

import pytest
from fake_training import experiment

from sharplab.commands.presets import PRESETS
from sharplab.commands.setting_options import setting_options
from sharplab.commands.sweep import SweepOptions
from sharplab.core.settings import POSITIVE, TrainingSettings, declarations, documented, setting
from sharplab.records import SETTINGS as COMPARED
from sharplab.sweep import Experiment
from sharplab.sweep.experiment import KEYED_BY, SETTINGS
from sharplab.sweep.plan import tasks
from sharplab.sweep.store.columns import describe
from sharplab.sweep.store.identity import settings
from sharplab.training.task import Run, Task, find_recipe

NAMES = [(name, each) for name, declared in SETTINGS.items() for each in declared.kind.names()]
# Training finds these where it needs them: data sets may have to be downloaded, and spacings are of records alone.
NOT_IN_RECIPES = ("data", "spacing")


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_explained_and_takes_its_default(name):
    declared = SETTINGS[name]
    assert declared.meaning
    assert name in Experiment.__doc__
    value = getattr(experiment(widths=4, parameterizations="mup"), name)
    if name in KEYED_BY:
        ((_, value),) = value
    assert declared.kind.read(name, value) == value


@pytest.mark.parametrize(("setting", "name"), NAMES)
def test_every_name_of_a_table_is_listed_and_can_be_trained(setting, name):
    assert name in SETTINGS[setting].explained()
    sweep = experiment(**{setting: name})
    assert name in (getattr(sweep, setting), *sweep.parameterizations)
    assert sweep.record_steps()[-1] == sweep.steps
    if setting not in NOT_IN_RECIPES:
        assert find_recipe(next(tasks(sweep))).factors()


def test_the_tables_of_names_are_known():
    assert {setting for setting, _ in NAMES} == {
        *("optimizer", "schedule", "loss", "trainable", "data", "augment", "parameterizations", "spacing")
    }


@pytest.mark.parametrize("name", [name for name, declared in SETTINGS.items() if declared.kind.listed])
def test_names_that_are_listed_are_those_of_the_table(name):
    module, _, table = SETTINGS[name].kind.table.partition(":")
    assert SETTINGS[name].kind.listed == tuple(getattr(import_module(module), table))


@pytest.mark.parametrize("over", PRESETS)
@pytest.mark.parametrize("preset", PRESETS["width"])
def test_every_preset_makes_an_experiment_and_gives_what_the_others_give(over, preset):
    assert set(PRESETS[over][preset]) == set(PRESETS["width"]["smoke"])
    assert isinstance(SweepOptions(over=over, preset=preset).experiment(), Experiment)


def test_every_column_of_a_run_has_a_meaning():
    sweep = experiment()
    for name in (*settings(next(tasks(sweep)), Run(1.0, 0)), "observables", "record_steps"):
        assert describe(name).meaning


def test_runs_that_are_compared_agree_in_all_that_defines_them():
    apart = {"optimizer", "parameterization", "learning_rate", "seed"}  # what analyses tell runs apart by
    assert set(COMPARED) == set(settings(next(tasks(experiment())), Run(1.0, 0))) - apart


@documented
@dataclass(frozen=True, kw_only=True)
class WarmedUp(TrainingSettings):
    """With one more: {settings}"""

    warmup: float = setting(POSITIVE, "share of the steps", default=1.0, since=1.0)


def test_a_further_setting_needs_its_declaration_alone():
    declared = declarations(WarmedUp)["warmup"]
    assert list(declared.kind.expand("warmup", "2^-1:2^0")) == [0.5, 1.0]
    assert declared.kind.read("warmup", 1) == 1.0
    assert "warmup: share of the steps." in WarmedUp.__doc__


def test_a_field_that_is_not_declared_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class Forgotten(TrainingSettings):
        warmup: int = 0

    with pytest.raises(TypeError, match="warmup"):
        declarations(Forgotten)


def test_a_task_has_every_shared_setting_and_its_place():
    own = {"width", "depth", "parameterization", "record_steps"}
    assert {field.name for field in fields(Task)} == {field.name for field in fields(TrainingSettings)} | own
    (task,) = tasks(experiment(widths=4, parameterizations="mup", batch_size=7))
    assert task.batch_size == 7
    assert replace(task, batch_size=8).batch_size == 8


def test_every_setting_becomes_an_option_whose_default_is_the_experiments():
    @dataclass(frozen=True)
    class Nothing:
        """No other options."""

    options = setting_options(Nothing, preset=("widths", "learning_rates"))()
    assert set(vars(options)) == set(SETTINGS)
    assert options.widths is None
    assert options.gamma == Experiment(widths=8, learning_rates=1).gamma
