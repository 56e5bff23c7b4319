"""The arithmetic of a training run, counted and not timed: the same number on every machine."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from sharplab.core.jaxprs import product_flops
from sharplab.data import load_dataset
from sharplab.training.recipe import Recipe
from sharplab.training.task import Task, find_recipe

PASSES = 3  # a gradient costs two forward passes beside the one of the loss


@lru_cache(maxsize=256)
def training_flops(task: Task) -> int:
    """The floating-point operations of a run's training: three forward passes of a batch per step.

    Those of matrix products and convolutions are counted, two per multiplication, as in the usual 6 · parameters ·
    tokens of a transformer (Kaplan et al., arXiv 2001.08361). Records and what optimizers do beside are left out, and a
    run that diverges counts as one that does not. A step without products counts as one operation.
    """
    recipe, dataset = find_recipe(task), load_dataset(task.data)

    def one_batch(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((task.batch_size, *x.shape[1:]), jnp.asarray(x[:1]).dtype)

    inputs, targets = jax.tree.map(one_batch, (dataset.train_inputs, dataset.train_targets))
    network = recipe.network.abstract
    batch = jax.eval_shape(recipe.prepare, inputs), targets
    loss = jax.make_jaxpr(Recipe.training_loss)(recipe, network.params, network.variables, batch)
    return task.steps * max(PASSES * product_flops(loss), 1)
