"""Training in output space, as a network trains whose tangent kernel does not move.

To first order in its parameters a network's outputs follow f ← f − η K ∂L/∂f, with K its neural tangent kernel; under
the NTK parameterization K keeps still as the width grows (Jacot et al., arXiv 1806.07572; Lee et al., arXiv
1902.06720), and this is the whole of training. Here K is the kernel of one output, with K ⊗ I_C for all C: each output
follows it by itself, but for what the loss makes them share.

Throughout, `kernel` has shape (n, m): between the n training examples and the m that are followed, of which the first
n are the training examples again. `outputs` (m, C) are those before training; `targets` are as the loss takes them.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def descend(
    kernel: jax.Array,
    outputs: jax.Array,
    targets: jax.Array,
    batches: jax.Array,
    *,
    learning_rate: jax.typing.ArrayLike,
    loss: Loss,
) -> jax.Array:
    """The outputs (m, C) after a step of gradient descent on each batch, exactly as linearised training makes them.

    Args:
        batches: indices of training examples, shape (steps, batch size), as `sharplab.data.batch_indices` gives them;
            full-batch descent is `jnp.tile(jnp.arange(n), (steps, 1))`.
        loss: `loss(outputs, targets)`, a mean over examples.

    Raises:
        ValueError: for shapes that do not belong together, and indices of others than the training examples, where
            they are not traced.

    >>> from sharplab.losses import squared_error
    >>> kernel, start = jnp.array([[2.0, 1.0]]), jnp.zeros((2, 1))  # one training example, and another that follows
    >>> descend(kernel, start, jnp.ones((1, 1)), jnp.zeros((1, 1), int), learning_rate=0.25, loss=squared_error)
    Array([[0.5 ],
           [0.25]], dtype=float32)
    """
    n, m = kernel.shape
    if n > m:
        raise ValueError(
            f"kernel has the shape {kernel.shape}: its rows are the training examples, and its columns begin with them."
        )
    if len(outputs) != m or len(targets) != n:
        raise ValueError(
            f"kernel has the shape {kernel.shape} where there are {len(outputs)} outputs and {len(targets)} targets: "
            f"give outputs of all {m} examples that are followed, and the targets of the {n} of training."
        )
    if not isinstance(batches, jax.core.Tracer):
        rows = np.asarray(batches)
        if not np.issubdtype(rows.dtype, np.integer) or ((rows < 0) | (rows >= n)).any():
            raise ValueError(f"batches must be indices of the {n} training examples, whole numbers from 0 to {n - 1}.")
    return _descend(kernel, outputs, targets, batches, learning_rate, loss)


@partial(jax.jit, static_argnames="loss")
def _descend(
    kernel: jax.Array,
    outputs: jax.Array,
    targets: jax.Array,
    batches: jax.Array,
    learning_rate: jax.typing.ArrayLike,
    loss: Loss,
) -> jax.Array:
    slope = jax.grad(loss)

    def step(outputs: jax.Array, rows: jax.Array) -> tuple[jax.Array, None]:
        change = jnp.matmul(kernel[rows].T, slope(outputs[rows], targets[rows]), precision="highest")
        return outputs - learning_rate * change, None

    return jax.lax.scan(step, outputs, batches)[0]
