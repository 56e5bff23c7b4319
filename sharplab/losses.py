"""Losses: the mean over predictions, with inputs and outputs as the operators of `sharplab.curvature` expect.

Both are negative log-likelihoods, up to a constant: of a categorical, and of a normal distribution of unit variance.
Their second derivatives in the outputs are known in closed form.

**What outputs and targets may look like.** Outputs (n, …, C) are a row of C numbers for each prediction: one per
example or, with further axes between, several; all count alike. Outputs (n,) are n predictions of one number.

- `cross_entropy` takes integer targets (n, …), the class of each prediction, from 0 to C − 1.
- `squared_error` takes numbers, floats or integers, shaped like the outputs. Where a prediction is one number, both may
  have a last axis of length 1 or not: (n, …) and (n, …, 1). Where it is C > 1 numbers, integers (n, …) are classes,
  each standing for its one-hot row.

Anything else is a ValueError, whoever takes it: nothing is broadcast. Classes are compared with C where their values
can be seen, which is outside of `jit`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

Map = Callable[[jax.Array], jax.Array]


def cross_entropy(outputs: jax.Array, targets: jax.Array, ignore: int | None = None) -> jax.Array:
    """Mean over predictions of the softmax cross-entropy −log softmax(outputs)[target], in nats.

    Args:
        outputs: logits, shape (n, …, C).
        targets: class indices, integers of shape (n, …).
        ignore: a target, such as −100, whose predictions are left out of the mean; none by default. Bind it with
            `functools.partial(cross_entropy, ignore=-100)`: operators know that form as they know the loss itself.

    Raises:
        ValueError: for other shapes; outside of `jit` also for targets that are neither classes nor `ignore`, and
            where all are to be ignored. Under `jit` the mean over no prediction is 0.

    >>> float(cross_entropy(jnp.zeros((3, 4)), jnp.arange(3))) == float(jnp.log(4.0))
    True
    >>> outputs, targets = jnp.array([[0.0, 0.0], [9.0, 0.0]]), jnp.array([1, -100])
    >>> float(cross_entropy(outputs, targets, ignore=-100)) == float(jnp.log(2.0))
    True
    """
    return _cross_entropy(optax.softmax_cross_entropy_with_integer_labels, outputs, targets, ignore)


def _cross_entropy(
    of_each: Callable[[jax.Array, jax.Array], jax.Array], outputs: jax.Array, targets: jax.Array, ignore: int | None
) -> jax.Array:
    check_targets(cross_entropy, outputs, targets, ignore)
    outputs, targets = jnp.asarray(outputs), jnp.asarray(targets)
    if ignore is None:
        return of_each(outputs, targets).mean()
    counted = targets != ignore
    if not isinstance(counted, Tracer) and not counted.any():
        raise ValueError(f"targets are all {ignore}, which ignore= leaves out: give some that count.")
    losses = of_each(outputs, jnp.where(counted, targets, 0))
    wide = jnp.promote_types(losses.dtype, jnp.float32)  # in which whole numbers stay exact
    total = jnp.sum(jnp.where(counted, losses, 0), dtype=wide)
    return (total / jnp.maximum(jnp.sum(counted), 1).astype(wide)).astype(losses.dtype)


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Half the mean over predictions of the squared error summed over outputs, ½·mean‖f − y‖².

    Args:
        outputs: shape (n, …, C), or (n,) for one number per example.
        targets: numbers shaped like `outputs`, or class indices without the last axis, which are taken as one-hot; the
            rule is at the head of this module.

    Raises:
        ValueError: for other shapes; outside of `jit` also for targets that are no classes.

    >>> float(squared_error(jnp.zeros((2, 3)), jnp.array([0, 2])))
    0.5
    >>> float(squared_error(jnp.zeros((2, 1)), jnp.array([1.0, 3.0])))
    2.5
    """
    check_targets(squared_error, outputs, targets)
    outputs, targets = jnp.asarray(outputs), jnp.asarray(targets)
    if _are_classes(squared_error, outputs, targets):
        targets = jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
    elif outputs.ndim < 2 or targets.shape != outputs.shape:
        outputs, targets = (x.reshape(-1, 1) for x in (outputs, targets))
    if jnp.issubdtype(targets.dtype, jnp.integer):
        targets = targets.astype(outputs.dtype)
    return 0.5 * jnp.sum((outputs - targets) ** 2, axis=-1).mean()


LOSSES: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "cross_entropy": cross_entropy,
    "squared_error": squared_error,
}


@dataclass(frozen=True)
class OutputHessian:
    """The Hessian H of one prediction's loss in its outputs f, for all predictions of outputs (…, C) at once.

    It does not depend on the target, and is the Fisher information of the likelihood.
    """

    loss: Callable[..., jax.Array]
    product: Callable[[jax.Array], Map]  # outputs → (u → H u)
    root: Callable[[jax.Array], tuple[Map, Map]]  # outputs → (u → Bᵀ u, w → B w), with H = B Bᵀ
    sample: Callable[[jax.Array, jax.Array], jax.Array]  # (key, outputs) → targets drawn from the likelihood
    precise: Callable[[jax.Array, jax.Array, Any], jax.Array]  # the loss, its derivatives good to their last digits
    ignore: Any = None  # as of `cross_entropy`

    def value(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """The loss as it is differentiated twice: small where the network is sure, and right there too."""
        return self.precise(outputs, targets, self.ignore)

    def check(self, outputs: Any, targets: Any) -> None:
        """Raise a ValueError for outputs and targets that the loss does not take."""
        check_targets(self.loss, outputs, targets, self.ignore)

    def counted(self, targets: Any) -> Any:
        """Which predictions count, shaped like class indices; None where all do."""
        return None if self.ignore is None else targets != self.ignore

    def weight(self, targets: Any) -> Any:
        """How many predictions of each example count, shape (n,); None where all do."""
        counted = self.counted(targets if isinstance(targets, Tracer) else np.asarray(targets))
        return None if counted is None else counted.sum(tuple(range(1, counted.ndim))).astype(jnp.result_type(float))


def output_hessian(loss: Any) -> OutputHessian | None:
    """The closed form that belongs to `loss`, None where there is none.

    `loss` may be wrapped in a `Partial`, and have `ignore` bound by one or by a `functools.partial`.

    >>> output_hessian(squared_error).product(jnp.zeros((1, 2)))(jnp.array([[3.0, 4.0]])).tolist()
    [[3.0, 4.0]]
    >>> from functools import partial
    >>> output_hessian(partial(cross_entropy, ignore=-100)).counted(jnp.array([2, -100])).tolist()
    [True, False]
    >>> output_hessian(lambda outputs, targets: outputs.mean()) is None
    True
    """
    bound: dict[str, Any] = {}
    while hasattr(loss, "keywords"):  # as partials of either kind have, also where one wraps the other
        if loss.args:
            return None
        bound, loss = loss.keywords | bound, loss.func
    closed = next((closed for closed in _OUTPUT_HESSIANS if loss is closed.loss), None)
    if closed is None or bound.keys() - ({"ignore"} if loss is cross_entropy else set()):
        return None
    ignore = bound.get("ignore")
    return closed if ignore is None else replace(closed, ignore=ignore)


def check_targets(loss: Callable[..., Any], outputs: Any, targets: Any, ignore: Any = None) -> None:
    """Raise a ValueError for outputs and targets that a loss of this module does not take.

    `outputs` may be a `jax.ShapeDtypeStruct`. Classes are compared with C where the values of `targets` can be seen.
    """
    name = f"losses.{loss.__name__}"
    for argument, value in (("outputs", outputs), ("targets", targets)):
        if not hasattr(value, "dtype"):
            raise ValueError(
                f"{argument} of {name} must be one array, not {jax.tree.structure(value)}: for several heads, or masks "
                "beside targets, write a loss of your own."
            )
    classes = _are_classes(loss, outputs, targets)
    if not classes and (loss is cross_entropy or not _are_numbers(outputs, targets)):
        numbers = "" if loss is cross_entropy else "numbers shaped like them, or "
        raise ValueError(
            f"{name} takes outputs (n, …, C) and targets that are {numbers}classes, integers (n, …); not outputs "
            f"{outputs.shape} with targets {targets.shape} of type {targets.dtype}: reshape or convert one of them."
        )
    if classes and not isinstance(targets, Tracer) and not isinstance(ignore, Tracer):
        _check_classes(np.asarray(targets), outputs.shape[-1], ignore)


def _check_classes(targets: np.ndarray, classes: int, ignore: int | None) -> None:
    if ignore is not None:
        targets = targets[targets != ignore]
    if targets.size and not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError(
            f"targets must be classes from 0 to {classes - 1}, one for each of the outputs, and are from "
            f"{targets.min()} to {targets.max()}: where one value marks predictions that do not count, as −100 does, "
            "the loss is functools.partial(losses.cross_entropy, ignore=value)."
        )


def _are_classes(loss: Callable[..., Any], outputs: Any, targets: Any) -> bool:
    """Whether targets are class indices."""
    several = len(outputs.shape) > 0 and (outputs.shape[-1] > 1 or loss is cross_entropy)
    return several and targets.shape == outputs.shape[:-1] and jnp.issubdtype(targets.dtype, jnp.integer)


def _are_numbers(outputs: Any, targets: Any) -> bool:
    """Whether targets are one number for each output."""
    shapes = {outputs.shape}
    if outputs.shape[-1:] == (1,):
        shapes.add(outputs.shape[:-1])
    if len(outputs.shape) == 1:
        shapes.add((*outputs.shape, 1))
    return targets.shape in shapes


def _first_largest(outputs: jax.Array) -> jax.Array:
    """Where the first of the largest outputs of each prediction stands, as a mask."""
    return jax.nn.one_hot(jnp.argmax(outputs, -1), outputs.shape[-1], dtype=bool)


def _precise_cross_entropy(outputs: jax.Array, targets: jax.Array, ignore: int | None) -> jax.Array:
    return _cross_entropy(_surprise, outputs, targets, ignore)


@jax.custom_jvp
def _surprise(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """−ln p of the target, f_m − f_y + ln(1 + Σ exp(f_k − f_m)) over k ≠ m, the first of the largest outputs.

    Nothing is subtracted from 1, here and in its derivatives: p may round to 1, but what it lacks does not.
    """
    below = outputs - jnp.max(outputs, -1, keepdims=True)
    others = jnp.where(_first_largest(outputs), 0, jnp.exp(below))
    return jnp.log1p(jnp.sum(others, -1)) - jnp.take_along_axis(below, targets[..., None], -1)[..., 0]


@jax.custom_jvp
def _excess(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The derivative p − e_y in the outputs."""
    p, own = jax.nn.softmax(outputs), jax.nn.one_hot(targets, outputs.shape[-1], dtype=bool)
    return jnp.where(own, -jnp.sum(jnp.where(own, 0, p), -1, keepdims=True), p)


@_surprise.defjvp
def _surprise_along(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, Any]) -> tuple:
    return _surprise(*primals), jnp.sum(_excess(*primals) * tangents[0], -1)


@_excess.defjvp
def _excess_along(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, Any]) -> tuple:
    return _excess(*primals), _softmax_product(primals[0])(tangents[0])


def _precise_squared_error(outputs: jax.Array, targets: jax.Array, ignore: None) -> jax.Array:
    return squared_error(outputs, targets)


def _softmax_product(outputs: jax.Array) -> Map:
    p, largest = jax.nn.softmax(outputs), jnp.argmax(outputs, -1, keepdims=True)

    def product(u: jax.Array) -> jax.Array:
        # H 1 = 0: less its entry at the largest p, so that there 1 − p is the sum of the others.
        u = u - jnp.take_along_axis(u, largest, -1)
        return p * (u - jnp.sum(p * u, -1, keepdims=True))

    return product


def _softmax_root(outputs: jax.Array) -> tuple[Map, Map]:
    """B = diag(√p) − p√pᵀ: BBᵀ = diag(p) − ppᵀ − ppᵀ + (Σp) ppᵀ = diag(p) − ppᵀ; with 1 − p as in the product."""
    root, here = jnp.exp(0.5 * jax.nn.log_softmax(outputs)), _first_largest(outputs)
    p = root**2
    lacks = jnp.sum(jnp.where(here, 0, p), -1, keepdims=True)  # 1 − p of the largest

    def transposed(u: jax.Array) -> jax.Array:
        u = u - jnp.sum(jnp.where(here, u, 0), -1, keepdims=True)
        return root * (u - jnp.sum(p * u, -1, keepdims=True))

    def product(w: jax.Array) -> jax.Array:
        others = jnp.sum(jnp.where(here, 0, root * w), -1, keepdims=True)
        top = jnp.sum(jnp.where(here, root * w, 0), -1, keepdims=True)
        return root * jnp.where(here, w * lacks - root * others, w - root * (others + top))

    return transposed, product


def _identity(outputs: jax.Array) -> Map:
    return lambda u: u


def _identity_root(outputs: jax.Array) -> tuple[Map, Map]:
    return _identity(outputs), _identity(outputs)


def _sample_classes(key: jax.Array, outputs: jax.Array) -> jax.Array:
    return jax.random.categorical(key, outputs)


def _sample_normal(key: jax.Array, outputs: jax.Array) -> jax.Array:
    return outputs + jax.random.normal(key, outputs.shape, outputs.dtype)


_OUTPUT_HESSIANS = (
    OutputHessian(cross_entropy, _softmax_product, _softmax_root, _sample_classes, _precise_cross_entropy),
    OutputHessian(squared_error, _identity, _identity_root, _sample_normal, _precise_squared_error),
)
