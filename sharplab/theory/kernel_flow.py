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
from jax.experimental.ode import odeint

Loss = Callable[[jax.Array, jax.Array], jax.Array]


@partial(jax.jit, static_argnames="loss")
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
        kernel, outputs, targets: as above.
        batches: indices of training examples, shape (steps, batch size), as `sharplab.data.batch_indices` gives them;
            full-batch descent is `jnp.tile(jnp.arange(n), (steps, 1))`.
        learning_rate: of SGD without momentum.
        loss: `loss(outputs, targets)`, a mean over examples.

    >>> from sharplab.losses import squared_error
    >>> kernel, start = jnp.array([[2.0, 1.0]]), jnp.zeros((2, 1))  # one training example, and another that follows
    >>> descend(kernel, start, jnp.ones((1, 1)), jnp.zeros((1, 1), int), learning_rate=0.25, loss=squared_error)
    Array([[0.5 ],
           [0.25]], dtype=float32)
    """
    _check(kernel, outputs, targets)
    slope = jax.grad(loss)

    def step(outputs: jax.Array, rows: jax.Array) -> tuple[jax.Array, None]:
        change = jnp.matmul(kernel[rows].T, slope(outputs[rows], targets[rows]), precision="highest")
        return outputs - learning_rate * change, None

    return jax.lax.scan(step, outputs, batches)[0]


@partial(jax.jit, static_argnames="loss")
def flow(kernel: jax.Array, outputs: jax.Array, targets: jax.Array, times: jax.Array, *, loss: Loss) -> jax.Array:
    """The outputs (T, m, C) of gradient flow df/dt = −K ∂L/∂f on all training examples, for any loss.

    Integrated by an adaptive Runge-Kutta method of order five whose local error is kept below ε^0.6 of the arithmetic's
    ε (3e-10 in double, 7e-5 in single precision). `times` ascend from 0, at which outputs are as given; flow at time t
    is the limit of descent at small learning rates η after t/η steps.
    """
    n = _check(kernel, outputs, targets)

    def velocity(outputs: jax.Array, _: jax.Array, kernel: jax.Array, targets: jax.Array) -> jax.Array:
        return -jnp.matmul(kernel.T, jax.grad(loss)(outputs[:n], targets), precision="highest")

    tolerance = float(jnp.finfo(outputs.dtype).eps) ** 0.6
    start = jnp.concatenate([jnp.zeros(1, times.dtype), times])
    return odeint(velocity, outputs, start, kernel, targets, rtol=tolerance, atol=tolerance)[1:]


@jax.jit
def squared_error_descent(
    kernel: jax.Array, outputs: jax.Array, targets: jax.Array, steps: jax.Array, *, learning_rate: jax.typing.ArrayLike
) -> jax.Array:
    """The outputs (T, m, C) after each number of full-batch steps (T,) on the squared error, in closed form.

    On training examples f_t = y + (I − ηK/n)^t (f₀ − y): each eigenvector of K, of eigenvalue λ, learns by itself at
    the rate ηλ/n, and diverges beyond 2. Others follow as f_t = f₀ − K* K^{-1} (I − (I − ηK/n)^t)(f₀ − y). Targets are
    like the outputs, (n, C), or classes (n,), which are taken as one-hot.
    """

    def learned(rates: jax.Array) -> jax.Array:
        x = learning_rate * rates
        # 1 − (1 − x)^t, without cancellation where x is small.
        small = x < 0.5
        gentle = -jnp.expm1(steps[:, None] * jnp.log1p(-jnp.where(small, x, 0)))
        return jnp.where(small, gentle, 1 - (1 - x) ** steps[:, None])

    return _by_eigenvectors(kernel, outputs, targets, learned)


@jax.jit
def squared_error_flow(kernel: jax.Array, outputs: jax.Array, targets: jax.Array, times: jax.Array) -> jax.Array:
    """The outputs (T, m, C) of gradient flow on the squared error at each of the times (T,), in closed form.

    As `squared_error_descent`, with exp(−tK/n) for (I − ηK/n)^t.
    """
    return _by_eigenvectors(kernel, outputs, targets, lambda rates: -jnp.expm1(-times[:, None] * rates))


def _by_eigenvectors(
    kernel: jax.Array, outputs: jax.Array, targets: jax.Array, learned: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """The outputs at T times, given the share of its way that each eigenvector of K/n has gone: rates (n,) → (T, n)."""
    n = _check(kernel, outputs, targets)
    if jnp.issubdtype(targets.dtype, jnp.integer):
        targets = jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
    with jax.default_matmul_precision("highest"):
        rates, vectors = jnp.linalg.eigh(kernel[:, :n] / n)
        # Below this they are rounding, of either sign; share ÷ rate has a limit at 0 that does not mind.
        rates = jnp.maximum(rates, jnp.finfo(rates.dtype).eps * rates[-1])
        away = (vectors.T @ (outputs[:n] - targets)) * (learned(rates) / rates)[..., None]
        return outputs - (kernel.T @ vectors / n) @ away


def _check(kernel: jax.Array, outputs: jax.Array, targets: jax.Array) -> int:
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
    return n
