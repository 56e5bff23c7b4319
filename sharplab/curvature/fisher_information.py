"""The Fisher information of the model's predictions: exact, by sampling, or empirical."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import index
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core.naming import lookup
from sharplab.core.tree import PyTree
from sharplab.curvature.chunks import count_examples
from sharplab.curvature.factor import LinearMap
from sharplab.curvature.functions import as_partial, objective
from sharplab.curvature.ggn import gauss_newton, linearized
from sharplab.curvature.host_batches import source_of
from sharplab.curvature.operator import LinearOperator
from sharplab.curvature.streaming import Shared, mean_operator
from sharplab.losses import output_hessian

KINDS = {
    "exact": "the expectation over targets of the model's own distribution, in closed form",
    "mc": "the same with `samples` targets drawn for each prediction",
    "empirical": "the targets of the batch in place of the model's",
}


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
) -> LinearOperator:
    """The Fisher matrix F = (1/N) Σ_i E_y[g_i(y) g_i(y)ᵀ], g_i(y) the gradient of loss i at target y; shape (P, P).

    The N predictions are all leading indices of the outputs (…, C): n examples, or n·T for sequences.

    - "exact": y follows the model, softmax(outputs) for `losses.cross_entropy`, a normal distribution of unit variance
      around the outputs for `losses.squared_error`. For both, F equals the Gauss-Newton matrix, which is returned.
    - "mc": y is drawn from these, `samples` per prediction, by keys of the example's number, so that neither chunks
      nor host batches change the draw. Its mean over keys is the exact one.
    - "empirical": y is the batch's target. It is far from the Fisher information where the model fits badly
      (Kunstner et al., arXiv 1905.12558).

    The last two have a factor of one number per draw, R = SᵀJ/√(N·samples), and so a dual of N·samples rows (arrays
    only, no host batches).

    Args:
        model: `model(params, inputs)` → outputs (n, …, C), or (n,) for one number per example.
        loss: `loss(outputs, targets)` → mean over predictions; for "exact" and "mc" one of the two named above.
        batch: (inputs, targets), arrays with a leading example axis, or a source of such pairs (see `hessian`).
        chunk: the number of examples whose activations are in memory at a time; all by default.
        key: of the draws of "mc"; a fixed one by default.

    Raises:
        ValueError: for an unknown kind, a loss without a known likelihood, `samples` below 1, and as `hessian`.

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
        return gauss_newton(model, loss, params, batch, chunk=chunk)
    keys = None
    if kind == "mc":
        if index(samples) < 1:
            raise ValueError(f"samples must be at least 1, not {samples}.")
        keys = jax.random.split(jax.random.key(0) if key is None else key, samples)
        batch = _numbered(batch)
    functions = (as_partial(loss, params), as_partial(model, params), keys)
    return mean_operator(_product, (functions, params), batch, chunk, mean=_mean_loss, root=_root)


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


def _scores(functions: PyTree, outputs: jax.Array, batch: PyTree) -> jax.Array:
    """The gradients of prediction i's loss at draw s in its outputs, shape (S, n, …, C), divided by √S."""
    loss, _, keys = functions
    targets = batch[1][None] if keys is None else _draws(loss, keys, outputs, batch[2])
    predictions = outputs.size // (outputs.shape[-1] if outputs.ndim > 1 else 1)
    gradients = jax.vmap(jax.grad(loss), (None, 0))(outputs, targets)
    return gradients * predictions / len(targets) ** 0.5


def _draws(loss: Callable[..., jax.Array], keys: jax.Array, outputs: jax.Array, numbers: jax.Array) -> jax.Array:
    closed = output_hessian(loss)
    assert closed is not None

    def drawn(key: jax.Array) -> jax.Array:
        example_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
        return jax.vmap(closed.sample)(example_keys, outputs)

    return jax.vmap(drawn)(keys)


def _product(shared: Shared, batch: PyTree) -> LinearMap:
    forward, backward = _root(shared, batch, count_examples(batch))
    return lambda v: backward(forward(v))


def _root(shared: Shared, batch: PyTree, n: int) -> tuple[LinearMap, LinearMap]:
    """The factor (R, Rᵀ), with R v of shape (n, …, S): one number per draw."""
    functions, params = shared
    outputs, jvp, vjp = linearized(functions[1], params, batch[0])
    scores = _scores(functions, outputs, batch)
    per_prediction = (..., None) if outputs.ndim == 1 else ...
    predictions = outputs.size / (1 if outputs.ndim == 1 else outputs.shape[-1])
    scores = scores[per_prediction] * (n * predictions / len(outputs)) ** -0.5
    return (
        lambda v: jnp.einsum("s...c,...c->...s", scores, jvp(v)[per_prediction]),
        lambda w: vjp(jnp.einsum("s...c,...s->...c", scores, w).reshape(outputs.shape)),
    )
