"""Self-stabilisation at the edge: how long a sharpness that crossed 2/η stays above it, and comes again.

Along the top eigenvector u, with x = uᵀ(w − w̄) and δ = S − 2/η, descent takes cubic order into account as

    x ← −(1 + η δ) x,   δ ← δ + η (α − β x²/2),   α = −⟨∇L, ∇S⟩,   β = ‖∇S‖²,

α the progressive sharpening, β x²/2 what the oscillation takes off again. It rests at x*² = 2α/β. With z = ln(|x|/x*)
this is z″ = η² α (1 − e^{2z}) for slow changes, a particle in a potential: δ rises and falls alike, and the sharpness
is above 2/η for half of a period. Source: Damian, Nichani, Lee, arXiv 2209.15594.
"""

import math
from typing import Any

import numpy as np

from sharplab.core.arguments import checked, positive

LEAST = 1e-4  # of |ln(x/x*)|: nearer to rest the period is that of small oscillations
NODES = 400


@checked(learning_rate=positive, sharpening=positive, response=positive, displacement=positive)
def stabilisation_time(learning_rate: float, *, sharpening: float, response: float, displacement: float) -> float:
    """The steps for which the sharpness stays above 2/η once it has crossed; the period is twice that.

    Near rest it is π/(η√(2α)), the least; from a small displacement x it grows like 2√(2 ln(x*/x)/α)/η.

    Args:
        learning_rate: η.
        sharpening: α, the rate per time at which the sharpness rises as the loss falls, −⟨∇L, ∇S⟩.
        response: β, ‖∇S‖².
        displacement: |x| from the middle of the valley along the top eigenvector where the sharpness crosses 2/η.

    Raises:
        ValueError: for a displacement of x* or more, at which the sharpness falls, where it should cross upwards.

    >>> round(stabilisation_time(0.5, sharpening=0.02, response=1.0, displacement=0.1999), 2)  # x* = 0.2
    31.42
    >>> round(stabilisation_time(0.5, sharpening=0.02, response=1.0, displacement=0.002), 1)
    51.5
    """
    from scipy.optimize import brentq

    rest = math.sqrt(2 * sharpening / response)
    low = math.log(displacement / rest)
    if low >= 0:
        raise ValueError(f"displacement must be below √(2·sharpening/response) = {rest:.4g}, not {displacement:.4g}.")
    least = math.pi / (learning_rate * math.sqrt(2 * sharpening))
    if low > -LEAST:
        return least

    def kinetic(z: Any) -> Any:  # ½ δ²/α
        return (z - low) - math.exp(2 * low) * np.expm1(2 * (z - low)) / 2

    high = brentq(kinetic, 0.0, math.log(2 + 2 * abs(low)) + 1)
    angles = np.pi * (np.arange(NODES) + 0.5) / NODES
    # z between both ends as a cosine, in which the integrand dz/δ is smooth and even: the midpoint rule is exact.
    z = (high + low) / 2 - (high - low) / 2 * np.cos(angles)
    time = np.pi * np.mean((high - low) / 2 * np.sin(angles) / np.sqrt(kinetic(z)))
    return float(time / (learning_rate * math.sqrt(2 * sharpening)))
