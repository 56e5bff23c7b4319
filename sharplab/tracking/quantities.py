"""The observables of the table as functions of one point of a run, and the operators whose spectra are recorded.

What each of them means stands in `sharplab.tracking.observables`, which names them as text.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from sharplab import curvature
from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature import LinearOperator
from sharplab.curvature.critical import find_critical
from sharplab.curvature.directional import forms_along
from sharplab.curvature.functions import objective
from sharplab.curvature.streaming import examples_of_loss
from sharplab.losses import output_hessian
from sharplab.spectrum.estimate import mean_of
from sharplab.spectrum.products import each
from sharplab.spectrum.stochastic import unchecked_trace
from sharplab.tracking.context import Context, Objective
from sharplab.tracking.noise_scale import noise_scale

NOISE_BATCHES = 16  # whose gradients are compared
TRACE_MATVECS = 30  # of a recorded trace, whose standard error is then of some per cent

Row = dict[str, jax.Array]


def _in_metric(op: LinearOperator, context: Context) -> LinearOperator:
    """D^½ A D^½, or A without a metric."""
    return op if context.root is None else curvature.precondition(op, context.root)


def raw_hessian(context: Context) -> LinearOperator:
    """The Hessian H of the loss on the probe batch."""
    loss, params, probe, model = context.loss, context.params, context.probe, context.model
    return curvature.hessian(loss, params, probe, model=model, chunk=context.chunk, weight=context.weight)


def hessian(context: Context) -> LinearOperator:
    """D^½ H D^½, D the metric of the optimizer, or H without one."""
    return _in_metric(raw_hessian(context), context)


def gauss_newton(context: Context) -> LinearOperator:
    """D^½ G D^½, G the Gauss-Newton matrix on the probe batch."""
    loss, params, probe, model = context.loss, context.params, context.probe, context.model
    assert model is not None
    op = curvature.gauss_newton(model, loss, params, probe, chunk=context.chunk, weight=context.weight)
    return _in_metric(op, context)


def kernel(context: Context) -> LinearOperator:
    """J D Jᵀ/n, the empirical NTK of the n probe examples."""
    assert context.model is not None
    inputs = context.probe[0]
    kernel = curvature.ntk(context.model, context.params, inputs, scale=context.metric, chunk=context.chunk)
    return kernel / len(jax.tree.leaves(inputs)[0])


def _gradient_in_metric(context: Context) -> PyTree:
    """D^½ g."""
    g = tree.wide(context.gradient)
    return g if context.root is None else tree.multiply(context.root, g)


def train_loss(context: Context) -> Row:
    """The mean loss on the probe batch."""
    return {"train_loss": context.objective(context.params, context.probe)}


def eval_loss(context: Context) -> Row:
    """The mean loss on the held-out examples."""
    return _evaluated("eval_loss", context)


def eval_accuracy(context: Context) -> Row:
    """The share of held-out examples whose largest output is the target; none for a regression."""
    return _evaluated("eval_accuracy", context)


def _evaluated(name: str, context: Context) -> Row:
    """A column of the evaluation: none where it has none, as the accuracy of a regression."""
    return {name: context.evaluation[name]} if name in context.evaluation else {}


def gradient_norm(context: Context) -> Row:
    """‖D^½ g‖, g the gradient on the probe batch."""
    scaled, unit = tree.in_own_unit(_gradient_in_metric(context))
    return {"gradient_norm": unit * tree.norm(scaled)}


def directional_sharpness(context: Context) -> Row:
    """gᵀD H D g / gᵀD g: the curvature along the step."""
    return {"directional_sharpness": curvature.directional_sharpness(hessian(context), _gradient_in_metric(context))}


def _batches(probe: PyTree, size: int, count: int) -> PyTree:
    """So many batches of so many of the probe's examples, with leading axes (count, size).

    They are drawn, without putting back and always the same: neighbours in the probe may be alike, as sorted ones are.
    """
    drawn = np.random.default_rng(0).permutation(len(jax.tree.leaves(probe)[0]))[: size * count]
    return jax.tree.map(lambda x: x[drawn].reshape(count, size, *x.shape[1:]), probe)


def batch_sharpness(context: Context) -> Row:
    """The mean over batches of `chunk` of the probe's examples, as many as it has, and its standard error."""
    number = len(jax.tree.leaves(context.probe)[0])
    size = min(context.chunk or number, number)
    batches = _batches(context.probe, size, number // size)

    def one(i: jax.Array) -> jax.Array:
        batch = jax.tree.map(lambda x: x[i], batches)
        return _sharpness_of_batch(context.objective, context.params, batch, context.metric)

    mean, stderr = mean_of(each(one, jnp.arange(number // size), context.loop))
    return {"batch_sharpness": mean, "batch_sharpness_error": stderr}


def update_sharpness(context: Context) -> Row:
    """ΔᵀHΔ / (−gᵀΔ), Δ the optimizer's update; NaN where it does not descend."""
    return {"update_sharpness": _along_update(context, raw_hessian(context))}


def midpoint_sharpness(context: Context) -> Row:
    """ΔᵀH′Δ / (−gᵀΔ), H′ at w + ½ηΔ: how the slope along the step changes over it, but for terms of η²."""
    assert context.learning_rate is not None
    halfway = tree.moved(context.params, context.learning_rate / 2, context.update)
    return {"midpoint_sharpness": _along_update(context, raw_hessian(replace(context, params=halfway)))}


def _along_update(context: Context, op: LinearOperator) -> jax.Array:
    curved, slope = forms_along(context.gradient, context.update, op)
    descent = -slope
    return jnp.where(descent > 0, curved / jnp.where(descent > 0, descent, 1), jnp.nan)


def gradient_noise_scale(context: Context) -> Row:
    """The noise scale of gradients in the metric, of the probe cut into batches, and its standard error."""
    number = len(jax.tree.leaves(context.probe)[0])
    count = min(NOISE_BATCHES, number)
    size = number // count
    batches = _batches(context.probe, size, count)

    def one(i: jax.Array) -> PyTree:
        return context.objective.gradient(context.params, jax.tree.map(lambda x: x[i], batches))

    gradients = each(one, jnp.arange(count), context.loop)
    found = noise_scale(_inner_products(gradients, context.root), size)
    value, stderr = (jnp.where(_all_count(context, batches), x, jnp.nan) for x in found)
    return {"gradient_noise_scale": value, "gradient_noise_scale_error": stderr}


def _all_count(context: Context, batches: PyTree) -> jax.Array | bool:
    """Whether each batch has a prediction that counts: the gradient of one without is 0 and tells nothing."""
    closed = None if context.model is None else output_hessian(context.loss)
    counted = None if closed is None else closed.counted(batches[1])
    return True if counted is None else counted.reshape(len(counted), -1).any(axis=1).all()


@jax.jit
def _inner_products(gradients: PyTree, root: PyTree) -> jax.Array:
    """g_aᵀ D g_b of stacked gradients."""
    rows = jax.vmap(lambda g: tree.ravel(tree.wide(g) if root is None else tree.multiply(root, tree.wide(g))))(
        gradients
    )
    return jnp.matmul(rows, rows.T, precision="highest")


@jax.jit
def _sharpness_of_batch(of: Objective, params: PyTree, batch: PyTree, D: PyTree) -> jax.Array:
    """gᵀD H D g / gᵀD g of one batch."""
    with jax.default_matmul_precision("highest"):
        g, curve = jax.linearize(jax.grad(lambda w: objective((of.loss, of.model), w, batch)), params)
        step = tree.wide(g) if D is None else tree.multiply(D, tree.wide(g))
        curved, slope = forms_along(g, step, lambda v: curve(tree.cast(v, params)))
        return curved / slope


def critical_sharpness(context: Context) -> Row:
    """2/η_c along the optimizer's update, looked for from that of the record before, and its error."""
    functions = (context.objective.loss, context.objective.model)
    shared = (functions, context.params)
    examples = examples_of_loss(objective, shared, context.probe, context.chunk, context.weight)
    last = context.last["critical_sharpness"]
    start = jnp.where(last > 0, 2 / jnp.where(last > 0, last, 1), 1)
    found = find_critical(shared, examples, context.update, start, loop=context.loop)
    return {"critical_sharpness": found.value, "critical_sharpness_error": found.error}


def hessian_trace(context: Context) -> Row:
    """tr(D^½ H D^½), and its standard error."""
    key = jax.random.fold_in(context.key, 1)
    estimate = unchecked_trace(hessian(context), key, TRACE_MATVECS, context.loop)
    return {"hessian_trace": estimate.value, "hessian_trace_error": estimate.stderr}


@partial(jax.jit, static_argnums=0)
def of_params(function: Callable[..., jax.Array], params: PyTree, batch: PyTree) -> jax.Array:
    """The value function(params, batch) of anyone's own observable, as one program."""
    return function(params, batch)
