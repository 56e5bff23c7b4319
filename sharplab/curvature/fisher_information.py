"""The Fisher information of the model's predictions: exact, by sampling, or empirical."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.arguments import checked, pairs
from sharplab.core.naming import lookup
from sharplab.core.tree import PyTree
from sharplab.curvature.chunks import Examples, count_examples
from sharplab.curvature.factor import LinearMap
from sharplab.curvature.functions import abstract_outputs, as_partial, objective
from sharplab.curvature.ggn import gauss_newton
from sharplab.curvature.host_batches import source_of
from sharplab.curvature.independence import at_once, scattered
from sharplab.curvature.jacobian import linearized
from sharplab.curvature.linear_operator import LinearOperator
from sharplab.curvature.streaming import Shared, Stream, examples_of_loss, mean_operator
from sharplab.losses import output_hessian

KINDS = {
    "exact": "the expectation over targets of the model's own distribution, in closed form",
    "mc": "the same with `samples` targets drawn for each prediction",
    "empirical": "the targets of the batch in place of the model's",
}


@checked(batch=pairs)
def fisher(
    model: Callable[..., Any],
    loss: Callable[..., jax.Array],
    params: PyTree,
    batch: Any,
    *,
    kind: str = "exact",
    chunk: int | None = None,
    key: jax.Array | None = None,
    samples: int = 1,
    weight: Any = None,
) -> LinearOperator:
    """The Fisher matrix F = (1/N) Σ_i E_y[g_i(y) g_i(y)ᵀ], g_i(y) the gradient of loss i at target y; shape (P, P).

    The N predictions are all leading indices of the outputs (…, C) that the loss counts: n examples, or n·T for
    sequences. Where it weighs examples of one prediction each, F = Σ_i ω_i E_y[g_i g_iᵀ]/Σ_i ω_i.

    - "exact": y follows the model, softmax(outputs) for `losses.cross_entropy`, a normal distribution of unit variance
      around the outputs for `losses.squared_error`. For both, F equals the Gauss-Newton matrix, which is returned.
    - "mc": y is drawn from these, `samples` per prediction, by keys of the example's number, so that neither chunks
      nor host batches change the draw. Its mean over keys is the exact one.
    - "empirical": y is the batch's target. It is far from the Fisher information where the model fits badly
      (Kunstner et al., arXiv 1905.12558).

    The last two have a factor of one number per draw, R = SᵀJ/√(N·samples), and so a dual of N·samples rows (arrays
    only, no host batches).

    Args:
        model: `model(params, inputs)` → outputs (n, …, C), or (n,) for one number per example; see `gauss_newton` for
            backward passes written by hand.
        loss: `loss(outputs, targets)` → mean over predictions; for "exact" and "mc" one of the two named above.
        batch: (inputs, targets), arrays with a leading example axis, or a source of such pairs (see `hessian`).
        chunk: the number of examples whose activations are in memory at a time; all by default.
        key: of the draws of "mc"; a fixed one by default.
        weight: what each example counts in the mean that the loss takes, as of `hessian`; with several predictions per
            example, how many of them count. A loss of your own is always checked by it.

    Raises:
        ValueError: for an unknown kind, a loss without a known likelihood, outputs that are no array, `samples` below
            1, and as `hessian`.

    >>> from sharplab.losses import squared_error
    >>> def model(w, x):
    ...     return x @ w[:, None]
    >>> x, y = jnp.array([[1.0, 0.0], [1.0, 2.0]]), jnp.array([[1.0], [3.0]])
    >>> fisher(model, squared_error, jnp.zeros(2), (x, y)).dense().tolist()  # xᵀx / n
    [[1.0, 1.0], [1.0, 2.0]]
    """
    lookup("kind", kind, KINDS)
    if kind != "empirical" and output_hessian(loss) is None:
        raise ValueError(
            f"loss has no known likelihood to take {kind!r} expectations of: pass losses.cross_entropy or "
            "losses.squared_error, or use gauss_newton, or kind='empirical'."
        )
    if kind == "exact":
        return gauss_newton(model, loss, params, batch, chunk=chunk, weight=weight)
    keys = None
    if kind == "mc":
        keys = jax.random.split(jax.random.key(0) if key is None else key, samples)
        batch = _numbered(batch)
    params = tree.floats(params, "params")
    shared = ((as_partial(loss, params), as_partial(model, params), keys), params)
    own = output_hessian(loss) is None
    examples = examples_of_loss(_mean_loss, shared, batch, chunk, weight, each=own)
    if own:
        _check_counts(shared, examples)
    return mean_operator(_product, shared, examples, root=_root, rows=_rows)


def _numbered(batch: Any) -> Any:
    """The batch, or source of batches, with each example's number as a third part."""
    source = source_of(batch)
    if source is not None:
        return partial(_numbered_batches, source)
    return *batch, np.arange(count_examples(batch))


def _numbered_batches(source: Callable[[], Iterable[PyTree]]) -> Iterator[PyTree]:
    first = 0
    for batch in source():
        n = count_examples(batch)
        yield *batch, np.arange(first, first + n)
        first += n


def _mean_loss(functions: PyTree, params: PyTree, batch: PyTree) -> jax.Array:
    loss, model, _ = functions
    return objective((loss, model), params, batch[:2])


def _product(shared: Shared, part: Examples) -> LinearMap:
    forward, backward = _root(shared, part)
    return lambda v: backward(forward(v))


def _root(shared: Shared, part: Examples) -> tuple[LinearMap, LinearMap]:
    """The factor (R, Rᵀ), with R v of shape (n, …, S): one number per draw.

    The gradient s_i of the mean Σ_i ω_i ℓ_i/W in the outputs of prediction i is ω_i/W times that of ℓ_i, which counts
    ω_i/W in F: so R has the rows √(W/ω_i) s_iᵀJ.
    """
    (loss, model, keys), params = shared
    inputs, targets, *numbers = part.batch
    outputs, jvp, vjp = linearized(lambda w: model(w, inputs), params)
    _require_array(outputs)
    if keys is None:
        scores = jax.grad(loss)(outputs, targets)[None]
    else:
        scores = jax.vmap(jax.grad(loss), (None, 0))(outputs, _draws(loss, keys, outputs, targets, *numbers))
        scores = scores / len(scores) ** 0.5
    vector = (..., None) if outputs.ndim == 1 else ...
    scores = tree.multiply(_roots(loss, outputs, targets, part), scores[vector])
    return (
        lambda v: jnp.einsum("s...c,...c->...s", scores, jvp(v)[vector]),
        lambda w: vjp(jnp.einsum("s...c,...s->...c", scores, w).reshape(outputs.shape)),
    )


def _rows(shared: Shared, part: Examples) -> jax.ShapeDtypeStruct:
    """The shape and type of R v."""
    (_, model, keys), params = shared
    outputs = abstract_outputs(model, params, part.batch[0])
    _require_array(outputs)
    draws = 1 if keys is None else len(keys)
    return jax.ShapeDtypeStruct((*outputs.shape[: max(outputs.ndim - 1, 1)], draws), outputs.dtype)


def _roots(loss: Callable[..., Any], outputs: jax.Array, targets: PyTree, part: Examples) -> Any:
    """√(W/ω_i) of all predictions, one number or of shape (1, n, …, 1); 0 where ω_i is."""
    closed = output_hessian(loss)
    predictions = _per_example(outputs) * len(outputs)
    if closed is not None:
        closed.check(outputs, targets)
        counted = closed.counted(targets)
        return predictions**0.5 if counted is None else jnp.sqrt(jnp.asarray(counted.sum(), jnp.result_type(float)))
    if part.weight is None:
        return predictions**0.5
    if predictions > len(outputs):  # of which those that count have the weight 1, and those that do not s_i = 0
        return jnp.sqrt(part.total)
    own = part.weight.reshape(1, -1, *[1] * max(outputs.ndim - 1, 1))
    return jnp.where(own > 0, jnp.sqrt(part.total / jnp.where(own > 0, own, 1)), 0)


def _draws(
    loss: Callable[..., jax.Array], keys: jax.Array, outputs: jax.Array, targets: jax.Array, numbers: jax.Array
) -> jax.Array:
    """Targets drawn from the model's own distribution, shape (S, n, …), but for those that do not count."""
    closed = output_hessian(loss)
    assert closed is not None
    counted = closed.counted(targets)

    def drawn(key: jax.Array) -> jax.Array:
        example_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
        own = jax.vmap(closed.sample)(example_keys, outputs)
        return own if counted is None else jnp.where(counted, own.astype(targets.dtype), targets)

    return jax.vmap(drawn)(keys)


def _per_example(outputs: Any) -> int:
    """The number of predictions of one example."""
    return prod(outputs.shape[1:-1])


def _require_array(outputs: Any) -> None:
    if not hasattr(outputs, "ndim"):
        raise ValueError(
            f"model must return one array (n, …, C) for fisher, not {jax.tree.structure(outputs)}: for several heads, "
            "use gauss_newton with a loss of your own."
        )


def _check_counts(shared: Shared, examples: Stream) -> None:
    """Raise a ValueError where the loss does not count the predictions of examples that have several as it should.

    It counts those whose outputs it depends on. Nothing is computed of the model.
    """
    part = examples if isinstance(examples, Examples) else examples.part
    if tree.is_traced((shared, examples)) or _per_example(_rows(shared, part)) == 1:
        return
    with at_once():
        term = Partial(_miscounted, shared)
        wrong = _apply(term, examples) if isinstance(examples, Examples) else examples.concatenate(term)
        if wrong.any():
            i = int(jnp.argmax(wrong))
            raise ValueError(
                f"the loss does not count the predictions of example {i} as weight= tells, or all of them where it "
                "tells nothing: for the empirical Fisher weight must be the number of predictions that count, of each "
                "example."
            )


def _miscounted(shared: Shared, part: Examples, _: None) -> jax.Array:
    (loss, model, _), params = shared
    inputs, targets = part.batch
    outputs = abstract_outputs(model, params, inputs)
    slopes = jax.grad(loss)((scattered(outputs) + 2) / 4, targets)  # numbers that a loss of probabilities takes, too
    counted = (jnp.isfinite(slopes) & (slopes != 0)).any(-1).reshape(len(slopes), -1).sum(1)
    return counted.astype(jnp.result_type(float)) != (_per_example(outputs) if part.weight is None else part.weight)


@jax.jit
def _apply(term: Partial, part: Examples) -> jax.Array:
    return term(part, None)
