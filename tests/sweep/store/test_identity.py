"""What makes two runs the same run."""

import dataclasses

import pytest
from fake_training import experiment

from sharplab.sweep import plan
from sharplab.sweep.store import identity
from sharplab.training.task import Run

TASK = next(plan.tasks(experiment()))
RUN = Run(0.5, 3)
SAME_SCIENCE = {"observables": ("train_loss", "sharpness"), "record_steps": (0, 8)}
OTHER_SCIENCE = {
    "model": "figure1_convnet",
    "width": 16,
    "depth": 5,
    "parameterization": "ntk",
    "base_width": 2,
    "alpha": 1.0,
    "gamma": 2.0,
    "optimizer": "adam",
    "loss": "squared_error",
    "data": "fashion-mnist-10k",
    "steps": 9,
    "batch_size": 64,
    "probe_size": 512,
    "base_depth": 2,
    "trainable": "readout",
    "augment": "crop_and_flip",
    "schedule": "linear",
}


def test_every_field_of_a_task_is_either_science_or_observation():
    fields = {field.name for field in dataclasses.fields(TASK)}
    assert fields == set(SAME_SCIENCE) | set(OTHER_SCIENCE)


@pytest.mark.parametrize("name", OTHER_SCIENCE)
def test_another_setting_is_another_run(name):
    changed = dataclasses.replace(TASK, **{name: OTHER_SCIENCE[name]})
    assert identity.run_id(changed, RUN) != identity.run_id(TASK, RUN)


@pytest.mark.parametrize("run", [Run(0.5, 4), Run(0.5 + 1e-12, 3)])
def test_another_run_is_another_run(run):
    assert identity.run_id(TASK, run) != identity.run_id(TASK, RUN)


@pytest.mark.parametrize("name", SAME_SCIENCE)
def test_how_a_run_is_observed_is_no_part_of_it(name):
    changed = dataclasses.replace(TASK, **{name: SAME_SCIENCE[name]})
    assert identity.run_id(changed, RUN) == identity.run_id(TASK, RUN)


def test_a_changed_data_set_is_another_run(monkeypatch):
    before = identity.run_id(TASK, RUN)
    changed = dataclasses.replace(identity.load_dataset(TASK.data), checksum="another")
    monkeypatch.setattr(identity, "load_dataset", lambda name: changed)
    assert identity.run_id.__wrapped__(TASK, RUN) != before


def test_a_later_setting_at_its_default_changes_no_identity(monkeypatch):
    monkeypatch.setattr(identity, "LATER_SETTINGS", {"warmup": 0})
    later = dataclasses.make_dataclass("LaterTask", [("warmup", int, 0)], bases=(type(TASK),), frozen=True)
    shared = {field.name: getattr(TASK, field.name) for field in dataclasses.fields(TASK)}
    assert identity.run_id(later(**shared, warmup=0), RUN) == identity.run_id.__wrapped__(TASK, RUN)
    assert identity.run_id(later(**shared, warmup=5), RUN) != identity.run_id.__wrapped__(TASK, RUN)


def test_identities_stay_what_stores_on_disk_hold():
    # If this fails, every store that people have is trained anew: declare `since` of the setting that came later.
    assert identity.run_id(TASK, RUN) == "9878481ae948bc66"
