"""Small problems that several tests share: recipes, training moments with their dense Hessians, a user's model."""

from collections.abc import Callable
from functools import cache, partial, wraps
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from sharplab.curvature import LinearOperator
from sharplab.losses import LOSSES
from sharplab.models import MODELS
from sharplab.optimizers import OPTIMIZERS, Optimizer
from sharplab.scaling import DepthRule, Parameterization, Rule, parameterization
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe, RunState
from sharplab.training.sources import ByRule

CLASSES = 3
SHAPES = {"residual_mlp": (5,), "figure1_convnet": (32, 32, 1)}


def make_recipe(
    model: str,
    width: int,
    scaling: str | Parameterization = "mup",
    *,
    base_width: int = 4,
    gamma: float = 1.0,
    loss: str = "cross_entropy",
    optimizer: Optimizer = OPTIMIZERS["sgd"],
    observables: tuple[str, ...] = (),
) -> Recipe:
    """A recipe for one of the lab's models on inputs of `SHAPES`, depth 2."""
    if isinstance(scaling, str):
        scaling = parameterization(scaling)
    depth = DepthRule(2, alpha=0.5 if model == "residual_mlp" else 0.0)
    rule = Rule(scaling, width, base_width, gamma, depth)
    return Recipe(
        Network(ByRule(MODELS[model], rule, SHAPES[model], CLASSES)),
        loss=LOSSES[loss],
        optimizer=optimizer,
        observables=observables,
    )


def make_batch(model: str, examples: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian inputs in the model's shape and random classes, float32 and int32."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((examples, *SHAPES[model])).astype(np.float32)
    return inputs, rng.integers(0, CLASSES, examples).astype(np.int32)


def promoting(function: Callable) -> Callable:
    """The function as its writer runs it, where arrays of different ranks are joined as numpy does."""

    @wraps(function)
    def allowed(*args, **named):
        with jax.numpy_rank_promotion("allow"):
            return function(*args, **named)

    return allowed


def cast(tree, dtype):
    """Every floating leaf in `dtype`."""
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def dense_hessian(recipe: Recipe) -> Callable:
    """(flat params, batch) → the Hessian of the recipe's objective by `jax.hessian`, which knows no operator."""

    def objective(flat, unravel, batch):
        return recipe.objective(unravel(flat), batch)

    @jax.jit
    def dense(params, batch):
        flat, unravel = ravel_pytree(params)
        return jax.hessian(objective)(flat, unravel, batch)

    return dense


class Moment(NamedTuple):
    """A point of a training run with the spectrum of its Hessian."""

    params: object  # float32
    batch: tuple  # float32 inputs that the model has prepared, targets
    eigenvalues: np.ndarray  # ascending, of the float64 Hessian at these parameters


@cache
def moments(model: str) -> tuple[Moment, ...]:
    """Moments of two runs: one from the usual start, one whose Hessian begins with a negative largest eigenvalue.

    In the second the targets lie where the network's outputs already point, and the outputs are small against
    them: the residual part of the Hessian dominates, and is negative along the directions that grow all layers.
    """
    with jax.enable_x64(False):  # whatever the test that comes first
        recipe, trajectory = moments_recipe(model), _trajectory(model)
    with jax.enable_x64(True):
        dense = dense_hessian(recipe)
        return tuple(
            Moment(params, batch, np.linalg.eigvalsh(dense(cast(params, np.float64), cast(batch, np.float64))))
            for params, batch in trajectory
        )


def _trajectory(model: str) -> list[tuple[object, tuple]]:
    """(params, batch) along both runs."""
    recipe = moments_recipe(model)
    images, classes = make_batch(model, examples=24 if model == "residual_mlp" else 12)
    inputs = recipe.prepare(images)
    step, forward = jax.jit(recipe.step), jax.jit(recipe.forward)
    begin = jax.jit(recipe.begin)
    usual, negative = begin(0), begin(4 if model == "residual_mlp" else 0)
    if model == "residual_mlp":
        runs = [
            (usual, (inputs, jnp.eye(CLASSES)[classes]), 0.1, (0, 1, 3, 10, 40, 150)),
            (negative, (inputs, 30 * forward(negative.params, inputs)), 1e-3, (0, 1, 3, 6)),
        ]
    else:
        negative = negative._replace(params=jax.tree.map(lambda w: 0.3 * w, negative.params))
        favoured = forward(negative.params, inputs).argmax(-1)
        runs = [
            (usual, (inputs, classes), 1.0, (0, 1, 3, 10, 40, 150)),
            (negative, (inputs, favoured), 0.2, (0, 2, 6, 12)),
        ]
    return [
        (params, batch)
        for run, batch, learning_rate, steps in runs
        for params in _params_at(step, run, batch, learning_rate, steps)
    ]


@cache
def moments_recipe(model: str) -> Recipe:
    """The recipe that `moments` trains."""
    if model == "residual_mlp":
        return make_recipe(model, 8, loss="squared_error")
    return make_recipe(model, 6)


def _params_at(step: Callable, run: RunState, batch: tuple, learning_rate: float, steps: tuple[int, ...]) -> list:
    found = []
    for i in range(steps[-1] + 1):
        if i in steps:
            found.append(run.params)
        run = step(run, learning_rate, batch)
    return found


def symmetric(eigenvalues: np.ndarray, seed: int = 0) -> np.ndarray:
    """A dense symmetric matrix with these eigenvalues and random eigenvectors, float64."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2))[0]
    return (Q * eigenvalues) @ Q.T


def matrix_operator(A: np.ndarray, domain: object | None = None) -> LinearOperator:
    """A dense matrix as an operator on `domain`, a flat vector unless told."""
    A = jnp.asarray(A)
    return LinearOperator(_matrix_product, A, jnp.zeros(len(A), A.dtype) if domain is None else domain)


def _matrix_product(A: jax.Array) -> Callable:
    return partial(_apply, A)


def _apply(A, v):
    flat, unravel = ravel_pytree(v)
    return unravel(A @ flat)
