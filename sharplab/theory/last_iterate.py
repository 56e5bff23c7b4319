"""What convex theory guarantees of the last point of a run, from its learning rates alone."""

from typing import Any, NamedTuple

import numpy as np

from sharplab.core.arguments import checked, positive


class LastIterate(NamedTuple):
    """A bound of f(x_T) − min f, and what the learning rates had best been multiplied by."""

    bound: float  # of the learning rates as they are
    best_factor: float  # by which all of them are multiplied where the bound is least
    best_bound: float  # with that


@checked(distance=positive)
def last_iterate_bound(learning_rates: Any, *, distance: float = 1.0, gradient_norms: Any = 1.0) -> LastIterate:
    """The bound on the loss of the last point of subgradient descent on a convex function, over its minimum.

    With rates η₁…η_T from x₁, D the distance to a minimum and G_t the norms of the gradients, it is half of
    (D² + Σ η²G²)/Σ η + Σ_{k<T} η_k/Σ_{t>k} η_t · Σ_{t≥k} η_t²G_t²/Σ_{t≥k} η_t (arXiv 2310.07831, 2501.18965), also in
    expectation. Multiplying all rates by γ divides the term of D² by γ and multiplies the others by it.

    Args:
        learning_rates: (T,); x_T is the point from which the last step is made whose rate is above 0.
        distance: D.
        gradient_norms: G, one number or (T,).

    Raises:
        ValueError: for what are no rates or norms.

    >>> found = last_iterate_bound([0.5] * 4)  # D²/(2ηT) + ηG²/2 + (η/2)G²·(1 + 1/2 + 1/3)
    >>> round(found.bound, 6)
    0.958333
    """
    rates, norms = _given("learning_rates", learning_rates), _given("gradient_norms", gradient_norms)
    if rates.ndim != 1 or not rates.any():
        raise ValueError("learning_rates must be one number from 0 on for each step, not all of them 0.")
    if norms.shape not in ((), rates.shape):
        raise ValueError(f"gradient_norms must be one number or as many as learning_rates, not {norms.shape}.")
    squares = rates**2 * norms**2
    until = np.flatnonzero(rates)[-1] + 1
    left = np.cumsum(rates[:until][::-1])[::-1]  # the sum from each step on
    noise = np.cumsum(squares[:until][::-1])[::-1] / left
    far = distance**2 / (2 * left[0])
    near = (noise[0] + np.sum(rates[: until - 1] / left[1:] * noise[:-1])) / 2
    with np.errstate(divide="ignore"):
        factor = np.sqrt(far / near)
    return LastIterate(float(far + near), float(factor), float(2 * np.sqrt(far * near)))


def _given(name: str, values: Any) -> np.ndarray:
    try:
        given = np.asarray(values, float)
    except (TypeError, ValueError):
        given = np.array(np.nan)
    if not ((given >= 0) & (given < np.inf)).all():
        raise ValueError(f"{name} must be finite numbers from 0 on.")
    return given
