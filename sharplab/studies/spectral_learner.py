"""Heavy ball whose learning rate and momentum follow from the extreme eigenvalues of the batch's Hessian."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sharplab.core import tree
from sharplab.core.arguments import checked, count, positive
from sharplab.core.tree import PyTree
from sharplab.curvature import hessian, precondition
from sharplab.spectrum.noise import noise
from sharplab.spectrum.tridiagonal import gauss_rule, tridiagonalize


class SpectralState(NamedTuple):
    """The state of `spectral_learner`.

    Attributes:
        step: how many were made.
        velocity: m ← μ m + g, like the params.
        hyperparams: learning_rate, momentum, and the eigenvalues that they follow from: largest, and smallest with the
            floor; scalars.
        products: products with the Hessian so far.
    """

    step: jax.Array
    velocity: PyTree
    hyperparams: dict[str, jax.Array]
    products: jax.Array


@checked(every=count, products=count, floor=positive, share=positive)
def spectral_learner(
    loss: Callable[..., jax.Array],
    *,
    model: Callable[..., Any] | None = None,
    metric: PyTree | None = None,
    every: int = 32,
    products: int = 8,
    floor: float = 1e-2,
    share: float = 1.0,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Heavy ball with the learning rate and momentum that are optimal for a quadratic of the batch Hessian's spectrum.

    Every so many steps a Lanczos run gives the largest and smallest Ritz value λ₁ and λ_n of the Hessian on the batch.
    Then α = (2/(√λ₁ + √λ_n))², μ = ((√λ₁ − √λ_n)/(√λ₁ + √λ_n))², with λ_n no less than `floor`·λ₁: for a quadratic with
    all eigenvalues between, the error falls by √μ per step, the best for heavy ball. Where λ₁ is not positive or not
    finite, both stay as they were, at first 0. These steps are at the edge of stability: (2 + 2μ)/α = λ₁ + λ_n, so that
    a sharpness that rises by more than λ_n until the next run makes them diverge, and few products give a λ₁ that is
    too small, if anything.

    `update(gradients, state, params, batch=batch)` is made with the batch; it can be jitted.

    Args:
        loss, model: as of `sharplab.hessian`.
        metric: D like the params, for steps −α D m and the spectrum of D^½ H D^½.
        every: steps from one Lanczos run to the next.
        products: with the Hessian, of each of them; its memory is as many vectors.
        floor: in units of λ₁, at most 1; less gives more momentum.
        share: of α that is taken, at most 1; less leaves room for a sharpness that rises until the next Lanczos run.
        seed: of the random vectors at which the runs start.

    Source: Granziol et al., arXiv 2006.09092; the optimum is Polyak's (1964).

    >>> def loss(w, scale):
    ...     return 0.5 * jnp.sum(scale * w**2)
    >>> w, scale = jnp.ones(3), jnp.array([4.0, 2.0, 1.0])
    >>> learner = spectral_learner(loss, products=3)
    >>> updates, state = learner.update(scale * w, learner.init(w), w, batch=scale)
    >>> [round(float(state.hyperparams[name]), 3) for name in ("learning_rate", "momentum", "largest", "smallest")]
    [0.444, 0.111, 4.0, 1.0]
    """
    for name, value in {"floor": floor, "share": share}.items():
        if value > 1:
            raise ValueError(f"{name} must be at most 1, not {value}.")

    def init(params: PyTree) -> SpectralState:
        zero = jnp.zeros((), tree.dtype(params))
        hyperparams = dict.fromkeys(("learning_rate", "momentum", "largest", "smallest"), zero)
        nothing = jnp.zeros((), jnp.int32)
        return SpectralState(nothing, jax.tree.map(jnp.zeros_like, params), hyperparams, nothing)

    def measure(state: SpectralState, params: PyTree, batch: Any) -> dict[str, jax.Array]:
        op = hessian(loss, params, batch, model=model)
        if metric is not None:
            op = precondition(op, jax.tree.map(jnp.sqrt, metric))
        start = noise(jax.random.fold_in(jax.random.key(seed), state.step), 0, op.domain)
        rows = min(products, op.shape[0])
        found = tridiagonalize(op, start, rows)
        values = gauss_rule(found.diagonal, found.off_diagonal, found.filled).nodes
        largest = values.max()
        sound = jnp.isfinite(largest) & (largest > 0)
        high = jnp.where(sound, largest, 1)
        low = jnp.clip(values.min(), floor * high, high)
        rate, momentum = optimal_heavy_ball(high, low)
        new = {"learning_rate": share * rate, "momentum": momentum, "largest": high, "smallest": low}
        return {name: jnp.where(sound, new[name], old).astype(old.dtype) for name, old in state.hyperparams.items()}

    def update(
        updates: PyTree, state: SpectralState, params: PyTree = None, *, batch: Any = None, **extra: Any
    ) -> tuple[PyTree, SpectralState]:
        if params is None or batch is None:
            raise ValueError("update needs params and batch=, whose Hessian is measured.")
        due = state.step % every == 0
        hyperparams = jax.lax.cond(due, measure, lambda state, params, batch: state.hyperparams, state, params, batch)
        velocity = jax.tree.map(lambda m, g: (hyperparams["momentum"] * m + g).astype(m.dtype), state.velocity, updates)
        moved = velocity if metric is None else tree.multiply(metric, velocity)
        steps = jax.tree.map(lambda m: (-hyperparams["learning_rate"] * m).astype(m.dtype), moved)
        made = state.products + jnp.where(due, min(products, tree.size(params)), 0)
        return steps, SpectralState(state.step + 1, velocity, hyperparams, made)

    return optax.GradientTransformationExtraArgs(init, update)


def optimal_heavy_ball(largest: jax.Array, smallest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The learning rate α and momentum μ of heavy ball that are optimal for eigenvalues between these two.

    >>> [round(float(x), 4) for x in optimal_heavy_ball(jnp.array(1.0), jnp.array(0.25))]
    [1.7778, 0.1111]
    """
    high, low = jnp.sqrt(largest), jnp.sqrt(smallest)
    return (2 / (high + low)) ** 2, ((high - low) / (high + low)) ** 2


def spectral_record(state: SpectralState) -> Mapping[str, float]:
    """The row of a state, to stand beside that of a `sharplab.Tracker`.

    Its columns are learning_rate, momentum, largest, smallest, `threshold`, the sharpness at which steps turn unstable,
    (2 + 2μ)/α, and products.
    """
    values = {name: float(value) for name, value in state.hyperparams.items()}
    rate = values["learning_rate"]
    threshold = (2 + 2 * values["momentum"]) / rate if rate else float("inf")
    return values | {"threshold": threshold, "products": int(state.products)}
