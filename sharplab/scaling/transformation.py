"""Optax optimizers with a learning rate, a decay and a gradient's unit of its own for every parameter."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from sharplab.core.tree import PyTree, is_traced, named_leaves
from sharplab.optimizers import Optimizer, preconditioner_of
from sharplab.scaling.rule import Number

Indices = tuple[int, ...]


@dataclass(frozen=True)
class Factors:
    """The factors by which an optimizer's steps differ from those at the base, in the order of `shapes`.

    Attributes:
        shapes: the shapes of the parameters that these are for, by path.
        learning_rates: what updates are multiplied by.
        decays: what a decoupled weight decay is multiplied by, beside that.
        gradients: what gradients are divided by.
        made_for: the width, in words, for errors.
    """

    shapes: Mapping[str, tuple[int, ...]]
    learning_rates: tuple[float, ...]
    decays: tuple[float, ...]
    gradients: tuple[float, ...]
    made_for: str

    def check(self, tree: PyTree) -> None:
        """Check that a tree holds parameters, or some of them, of the shapes that these factors are for.

        Raises:
            ValueError: naming the first that is not.
        """
        _check_shapes(tree, self.shapes, self.made_for)

    def each(self, function: Callable[..., Any], numbers: jax.Array, tree: PyTree) -> PyTree:
        """The tree of `function(number, leaf)`, each leaf in its own type."""
        index = {path: i for i, path in enumerate(self.shapes)}

        def apply(path: str, leaf: jax.Array) -> jax.Array:
            wide = np.promote_types(leaf.dtype, np.float32)
            return function(numbers[index[path]].astype(wide), leaf.astype(wide)).astype(leaf.dtype)

        return by_path(apply, tree)


def _check_shapes(tree: PyTree, shapes: Mapping[str, tuple[int, ...]], made_for: str) -> None:
    for path, leaf in named_leaves(tree).items():
        if path not in shapes:
            raise ValueError(f"this scaling is for {made_for}, without parameter {path!r}: make one anew.")
        if tuple(leaf.shape) != shapes[path]:
            raise ValueError(
                f"this scaling is for {made_for}, whose {path!r} has shape {shapes[path]}, not {tuple(leaf.shape)}: "
                "make one for the width of this model."
            )


def resize(module: nnx.Module, parameters: Mapping[str, tuple[tuple[int, ...], Number]], made_for: str) -> None:
    """Multiply each parameter of a module, as it was drawn, by a factor: by path, its shape and its factor.

    Raises:
        ValueError: if the module has other parameters, or of other shapes.
    """
    state = nnx.state(module, nnx.Param)
    _check_shapes(state, {path: shape for path, (shape, _) in parameters.items()}, made_for)

    def resized(path: str, w: jax.Array) -> jax.Array:
        _, factor = parameters[path]
        return w if isinstance(factor, float) and factor == 1 else (factor * w).astype(w.dtype)

    nnx.update(module, by_path(resized, state))


class ScaledState(NamedTuple):
    """The state of a scaled optimizer and its factors, so that a checkpoint carries the scaling."""

    inner: PyTree
    learning_rates: jax.Array  # 0 for parameters that it was not given
    decays: jax.Array
    gradients: jax.Array


def _numbers(factors: Factors, given: Collection[str]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The factors as they are in the state of an optimizer that is given these parameters."""
    rates = [rate if path in given else 0.0 for path, rate in zip(factors.shapes, factors.learning_rates, strict=True)]
    learning_rates, decays, gradients = (
        jnp.asarray(n, dtype=float) for n in (rates, factors.decays, factors.gradients)
    )
    return learning_rates, decays, gradients


def scaled(transformation: optax.GradientTransformation, factors: Factors) -> optax.GradientTransformationExtraArgs:
    """The transformation with updates f · u(g/s, d w), u the updates of `transformation` and f, d, s the factors.

    u = −η (direction(g) + λ w), as AdamW's, becomes −η (f direction(g/s) + f d λ w). The factors are those of the
    state, so that a run restored from a checkpoint continues with the ones it began with.
    """
    inner = optax.with_extra_args_support(transformation)

    def init(params: PyTree) -> ScaledState:
        factors.check(params)
        return ScaledState(inner.init(params), *_numbers(factors, named_leaves(params)))

    def update(updates: PyTree, state: ScaledState, params: PyTree = None, **extra: Any) -> tuple[PyTree, ScaledState]:
        factors.check(updates)
        gradients = factors.each(lambda s, g: g / s, state.gradients, updates)
        weights = None if params is None else factors.each(jnp.multiply, state.decays, params)
        steps, after = inner.update(gradients, state.inner, weights, **extra)
        return factors.each(jnp.multiply, state.learning_rates, steps), state._replace(inner=after)

    return optax.GradientTransformationExtraArgs(init, update)


def scaled_optimizer(
    optimizer: Optimizer,
    learning_rate: float | optax.Schedule,
    factors: Factors,
    kinds: Mapping[str, str],
    matrices: Mapping[str, tuple[Indices, Indices]],
) -> optax.GradientTransformationExtraArgs:
    """The scaled steps −η (factor · direction + decay · w) of one of the library's optimizers.

    Args:
        kinds: the kind of each parameter's direction, by path.
        matrices: the fan-in and fan-out axes of each hidden parameter, by path.
    """
    directions = {
        kind: as_matrices(direction, matrices) if kind == "spectral" else direction
        for kind, direction in optimizer.directions.items()
    }
    direction = replace(optimizer, directions=directions).direction(
        lambda params: by_path(lambda path, _: kinds[path], params)
    )
    decay = optax.add_decayed_weights(optimizer.decay) if optimizer.decay else optax.identity()
    return scaled(optax.chain(direction, decay, optax.scale_by_learning_rate(learning_rate)), factors)


def metric_of(optimizer: Optimizer, factors: Factors, params: PyTree, opt_state: PyTree) -> PyTree:
    """D of the steps −η D g, up to momentum, of a scaled optimizer: like the parameters, 0 for those it was not given.

    Raises:
        ValueError: for an optimizer whose steps no diagonal makes of gradients, and for a state of several.
    """
    states = [s for s in jax.tree.leaves(opt_state, is_leaf=_is_scaled_state) if _is_scaled_state(s)]
    if len(states) > 1:
        raise ValueError(f"opt_state holds {len(states)} scaled optimizers: give the state of one at a time.")
    state = nnx.as_pure(states[0] if states else ScaledState(opt_state, *_numbers(factors, factors.shapes)))
    inverse = preconditioner_of(optimizer, state.inner)
    per_path = inverse if isinstance(inverse, float) else named_leaves(inverse)
    rates = state.learning_rates if is_traced(state.learning_rates) else state.learning_rates.tolist()
    steps = {path: rate / s for path, rate, s in zip(factors.shapes, rates, factors.gradients, strict=True)}

    def of(path: str, _: Any) -> Any:
        step = steps[path]
        if isinstance(per_path, float):
            return step * per_path
        if path not in per_path:
            return 0.0
        return per_path[path] * (step if isinstance(step, float) else step.astype(per_path[path].dtype))

    return by_path(of, params)


def _is_scaled_state(node: Any) -> bool:
    return isinstance(node, ScaledState)


def as_matrices(
    transformation: optax.GradientTransformation, axes: Mapping[str, tuple[Indices, Indices]]
) -> optax.GradientTransformation:
    """The transformation of kernels, with several axes of fan-in and fan-out, that one of matrices makes.

    The matrices have the axes fan-in, fan-out and further ones in parallel. `axes` holds the fan-in and the fan-out
    axes of each parameter, by path.
    """

    def order(path: str, ndim: int) -> Indices:
        ins, outs = axes[path]
        return (*ins, *outs, *(i for i in range(ndim) if i not in (*ins, *outs)))

    def flat(path: str, x: jax.Array) -> jax.Array:
        ins, outs = axes[path]
        ordered = x.transpose(order(path, x.ndim))
        return ordered.reshape(
            prod(ordered.shape[: len(ins)]),
            prod(ordered.shape[len(ins) : len(ins) + len(outs)]),
            *ordered.shape[len(ins) + len(outs) :],
        )

    def init(params: PyTree) -> PyTree:
        return transformation.init(by_path(flat, params))

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        like = named_leaves(updates)

        def unflat(path: str, x: jax.Array) -> jax.Array:
            ordered = order(path, like[path].ndim)
            shape = tuple(like[path].shape[i] for i in ordered)
            return x.reshape(shape).transpose(sorted(range(len(ordered)), key=ordered.__getitem__))

        weights = None if params is None else by_path(flat, params)
        steps, state = transformation.update(by_path(flat, updates), state, weights)
        return by_path(unflat, steps), state

    return optax.GradientTransformation(init, update)


def by_path(function: Callable[[str, Any], Any], tree: PyTree) -> PyTree:
    """The tree of `function(path, leaf)`."""
    leaves = [function(path, leaf) for path, leaf in named_leaves(tree).items()]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)
