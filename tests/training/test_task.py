"""Names of a task: own objects by module train exactly as the lab's of the same kind do."""

from dataclasses import replace

import numpy as np
from test_training import TASK as IN_TRAINING

from sharplab.training.task import Run, find_recipe
from sharplab.training.train import train_runs

TASK = replace(IN_TRAINING, model="mlp", steps=4, batch_size=16, probe_size=32, record_steps=(0, 4), schedule="linear")
OWN = replace(
    TASK,
    optimizer="own_objects:make_sgd@2",
    loss="own_objects:cross_entropy",
    data="own_objects:clusters",
    augment="own_objects:unchanged",
    schedule="own_objects:linear@a",
    observables=(*TASK.observables, "own_objects:weight_norm@2"),
)


def test_own_objects_train_as_the_labs_own_do():
    (ours,), (theirs,) = (next(train_runs(task, [Run(0.5, 0)])) for task in (TASK, OWN))
    np.testing.assert_array_equal(ours.curves["train_loss"], theirs.curves["train_loss"])
    for name in TASK.observables:  # curvature of the lab's losses is that of a more precise form
        np.testing.assert_allclose(ours.curves[name], theirs.curves[name], rtol=2e-6)
    assert theirs.curves["weight_norm"].shape == (2,) and set(theirs.curves) - set(ours.curves) == {"weight_norm"}


def test_tasks_of_one_shape_share_a_recipe_though_tags_differ():
    assert find_recipe(OWN) == find_recipe(replace(OWN, record_steps=(0, 2, 4)))
    assert find_recipe(OWN).optimizer.directions is find_recipe(replace(OWN, width=16)).optimizer.directions
