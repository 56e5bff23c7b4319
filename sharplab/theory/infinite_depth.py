"""The neural tangent kernel of infinitely wide networks at any depth, and the classifier that it becomes.

On the unit sphere both kernels of a multilayer perceptron are functions of the cosine t alone. With c the dual of its
activation, E φ(u)φ(v) for normal u, v of variance 1 and covariance t, normalised so that c(1) = 1,

    t₀ = t,   K₀ = t,   t_{l+1} = c(t_l),   K_{l+1} = c′(t_l) K_l + t_{l+1}.

Write A = c′(0) and B = c′(1). Deep networks are one of three classifiers (Radhakrishnan, Belkin, Uhler, arXiv
2204.14126). If c(0) = 0 and B > 1 > A > 0, K/(l Aˡ) tends to a kernel that is singular as distance^−α, with
α = −2 ln A/ln B, at depths far above distance^−2; the classifier is consistent if α is the sphere's dimension. If
A = 0, it is the nearest neighbour; and where t tends to 1 at every t, as for ReLU, all count alike: a majority vote.

Duals are given by the coefficients p₀, p₁, … ≥ 0 of c(t) = Σ p_k t^k, whose sum is 1: each is the dual of an
activation, Σ √p_k h_k of normalised Hermite polynomials. Kernels are kept as logarithms: at depth l they differ by
factors of Bˡ/Aˡ.
"""

from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import expit, logit

from sharplab.core.arguments import checked, count

Dual = Sequence[float] | Literal["relu"]
Layers = tuple[jax.Array, jax.Array, jax.Array, jax.Array]  # how many, and 1 − t, ln t and K/t of the last
OPTIMAL: dict[int, tuple[float, ...]] = {1: (0, 0.5, 0, 0, 0, 0, 0, 0.5), 2: (0, 0.5, 0, 0.5)}
"""Sphere's dimension → the coefficients of a dual whose α it is."""

DIRECT, LEAST_GAP = 1000, 1e-24  # layers of ReLU without interpolation; examples that are nearer than that are one
MANY, NODES = 2**16, 2**14  # gaps of coefficients without interpolation; between as many it is


class Slopes(NamedTuple):
    """What of a dual tells the classifier: A = c′(0), B = c′(1), and α, NaN where the kernel is not singular."""

    at_0: float
    at_1: float
    alpha: float


class Regression(NamedTuple):
    """Kernels as logarithms, each less that of an example with itself: 0 on the diagonal."""

    train: np.ndarray  # (n, n)
    test: np.ndarray  # (m, n)


def dual_slopes(dual: Dual) -> Slopes:
    """The slopes of a dual at 0 and 1, and the exponent α of its deep kernel's singularity.

    >>> [dual_slopes(OPTIMAL[d]).alpha for d in (1, 2)]
    [1.0, 2.0]
    """
    p = _coefficients(dual)
    if p is None:
        return Slopes(0.5, 1.0, float("nan"))
    A, B = float(p[1]) if len(p) > 1 else 0.0, float(np.arange(len(p)) @ p)
    singular = p[0] == 0 and 0 < A < 1 < B
    return Slopes(A, B, float(-2 * np.log(A) / np.log(B)) if singular else float("nan"))


def cosine_gaps(inputs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The gaps 1 − t of the cosines between the rows (n, D) and (m, D), shape (n, m), to full relative accuracy.

    They are half the squared distances on the unit sphere: t itself would be rounded where the kernel is largest.

    >>> float(cosine_gaps(np.array([[1.0, 0.0]]), np.array([[1.0, 1e-9]]))[0, 0])
    5e-19
    """
    given = (np.asarray(x, float) for x in (inputs, others))  # first of all: squares of half a float overflow
    rows, columns = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in given)
    return np.stack([((row - columns) ** 2).sum(axis=1) / 2 for row in rows])


@checked(depth=count)
def deep_log_kernel(gaps: np.ndarray, dual: Dual, depth: int) -> np.ndarray:
    """The logarithm of K at `depth` hidden layers, of examples whose cosines are 1 − `gaps`.

    1 − t is iterated where t is near 1, then ln t, and K/t. Once every t is so small that c is its lowest term, the
    remaining layers are summed in closed form, so that a depth of 10⁹ costs a few hundred iterations. Of more than
    65,536 gaps the kernel is interpolated between 16,384, unless A = 0, to a relative error of 10⁻¹⁰. "relu" has no
    such end: its kernel is computed layer by layer, beyond 1,000 layers at 1,024 gaps, once per depth, and interpolated
    to 10⁻⁹. In float64.

    Args:
        gaps: 1 − t in [0, 1], of any shape, as of `cosine_gaps`: of examples whose entries are not negative.
        dual: coefficients of c, or "relu".

    Raises:
        ValueError: for gaps or a dual that are none.

    >>> gaps = np.array([1e-4, 1e-4 / 4**2])  # a fourth of the distance
    >>> near, nearer = deep_log_kernel(gaps, OPTIMAL[1], depth=10**9)
    >>> round(float(np.exp(nearer - near)), 2)  # distance^-1
    4.0
    """
    p = _coefficients(dual)
    gaps = np.asarray(gaps, float)
    if not ((gaps >= 0) & (gaps <= 1 + 1e-12)).all():
        raise ValueError("gaps must lie between 0 and 1: give examples of which no pair has a negative cosine.")
    if p is None:
        if depth > DIRECT:
            return _relu_spline(depth)(np.log(np.clip(gaps, LEAST_GAP, 1)))
        with jax.enable_x64(True):
            return np.log(np.asarray(_relu_kernel(jnp.asarray(gaps), depth)))
    inside = (gaps > 0) & (gaps < 1)  # at either end c leaves t where it is
    logs = _polynomial_logs(np.where(inside, gaps, 0.5).ravel(), p, depth)
    B = dual_slopes(dual).at_1
    same = np.log(depth + 1) if B == 1 else (depth + 1) * np.log(B) + np.log1p(-(B ** -(depth + 1.0))) - np.log(B - 1)
    return np.where(inside, logs.reshape(gaps.shape), np.where(gaps == 0, same, -np.inf))


def deep_kernels(inputs: np.ndarray, others: np.ndarray, dual: Dual, depth: int) -> Regression:
    """The kernels at a depth between n training examples (n, D) and of m others (m, D) with these.

    Rows are put on the unit sphere first. Errors are those of `deep_log_kernel`.
    """
    train, test = cosine_gaps(inputs, inputs), cosine_gaps(others, inputs)
    np.fill_diagonal(train, 0.0)
    # All at once, as one program; the last is of an example with itself.
    logs = deep_log_kernel(np.concatenate([train.ravel(), test.ravel(), [0.0]]), dual, depth)
    relative = logs[:-1] - logs[-1]
    return Regression(relative[: train.size].reshape(train.shape), relative[train.size :].reshape(test.shape))


def deep_classify(kernels: Regression, labels: np.ndarray) -> np.ndarray:
    """The signs (m,) of ridgeless kernel regression on labels ±1 (n,).

    Each row of kernels is divided by its largest, so that it keeps its sign where all of it would underflow.

    >>> circle = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> kernels = deep_kernels(circle, np.array([[0.9, 0.1]]), (0, 0, 1), depth=50)  # t²: the nearest neighbour
    >>> deep_classify(kernels, np.array([1.0, -1.0, -1.0]))
    array([1.])
    """
    weights = np.linalg.solve(np.exp(kernels.train), np.asarray(labels, float))
    largest = kernels.test.max(axis=1, keepdims=True)
    if not np.isfinite(largest).all():
        raise ValueError("kernels vanish at this depth, where A = 0: take a smaller one, or the nearest neighbour.")
    return np.sign(np.exp(kernels.test - largest) @ weights)


def _coefficients(dual: Dual) -> np.ndarray | None:
    """The coefficients of a dual, None for ReLU."""
    if isinstance(dual, str):
        if dual != "relu":
            raise ValueError(f"dual must be coefficients or 'relu', not {dual!r}.")
        return None
    p = np.asarray(dual, float)
    if p.ndim != 1 or not (p >= 0).all() or abs(p.sum() - 1) > 1e-12 or p[0] != 0:
        raise ValueError("dual must be coefficients p₀ = 0, p₁, … of powers, none negative, whose sum is 1.")
    return p


def _polynomial_logs(gaps: np.ndarray, p: np.ndarray, depth: int) -> np.ndarray:
    """ln K of gaps above 0 and below 1, (n,)."""
    if gaps.size > MANY and p[1] > 0:
        # Smooth in ln(gap/t) at either end. Where A = 0 a few layers are all.
        low, high = gaps.min(), gaps.max()
        nodes = np.unique(np.clip(expit(np.linspace(logit(low), logit(high), NODES)), low, high))
        if len(nodes) > 1:
            logs: np.ndarray = CubicSpline(logit(nodes), _polynomial_logs(nodes, p, depth))(logit(gaps))
            return logs
    powers = np.flatnonzero(p)
    with jax.enable_x64(True):
        kernel = _polynomial_kernel(jnp.asarray(gaps), jnp.asarray(p[powers]), jnp.asarray(powers), depth)
    return np.asarray(kernel)


@jax.jit
def _polynomial_kernel(gaps: jax.Array, p: jax.Array, powers: jax.Array, depth: jax.Array) -> jax.Array:
    """ln K = ln t + ln R, where R = K/t goes as R ← e(t) R + 1 with e = t c′/c; all p are above 0, powers ascend."""
    lowest = powers[0]
    k, p_k = powers[None, :], p[None, :]
    tiny = -40.0  # ln t from which on t is nothing beside 1, and c its lowest term

    def unfinished(state: Layers) -> jax.Array:
        layer, _, log_t, _ = state
        return (layer < depth) & jnp.any(log_t > tiny)

    def advance(state: Layers) -> Layers:
        layer, gap, log_t, ratio = state
        terms = p_k * jnp.exp((k - lowest) * log_t[:, None])  # of c(t)/t^lowest
        scaled = jnp.sum(terms, axis=1)
        elasticity = jnp.sum(k * terms, axis=1) / scaled
        near = -jnp.sum(p_k * jnp.expm1(k * jnp.log1p(-gap)[:, None]), axis=1)
        log_far = lowest * log_t + jnp.log(scaled)
        is_near = gap < 0.5
        gap = jnp.where(is_near, near, -jnp.expm1(log_far))
        log_t = jnp.where(is_near, jnp.log1p(-near), log_far)
        return layer + 1, gap, log_t, elasticity * ratio + 1

    start = (jnp.zeros((), depth.dtype), gaps, jnp.log1p(-gaps), jnp.ones_like(gaps))
    layer, _, log_t, ratio = jax.lax.while_loop(unfinished, advance, start)
    left = (depth - layer).astype(log_t.dtype)
    # t ← p_q t^q and R ← q R + 1 for the layers that are left.
    log_p, q = jnp.log(p[0]), lowest.astype(log_t.dtype)
    fixed = log_p / jnp.where(q > 1, q - 1, 1)
    growth = jnp.exp(left * jnp.log(q))
    later_t = jnp.where(q > 1, growth * (log_t + fixed) - fixed, log_t + left * log_p)
    log_ratio = jnp.where(
        q > 1,
        left * jnp.log(q) + jnp.log(ratio + (1 - 1 / growth) / jnp.where(q > 1, q - 1, 1)),
        jnp.log(ratio + left),
    )
    return later_t + log_ratio


@cache
def _relu_spline(depth: int) -> CubicSpline:
    """ln K of ReLU against ln gap."""
    with jax.enable_x64(True):
        nodes = np.geomspace(LEAST_GAP, 1, 1024)
        return CubicSpline(np.log(nodes), np.log(_relu_kernel(jnp.asarray(nodes), depth)))


@jax.jit
def _relu_kernel(gaps: jax.Array, depth: jax.Array) -> jax.Array:
    """The recursion for √2 relu, whose dual is (sin θ + (π − θ) cos θ)/π at the angle θ."""

    def advance(_: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        gap, kernel = state
        angle = 2 * jnp.arcsin(jnp.sqrt(gap / 2))
        # sin θ − θ cos θ; its series where the difference would cancel.
        series = angle**3 * (1 / 3 - angle**2 * (1 / 30 - angle**2 / 840))
        apart = jnp.where(angle < 0.05, series, jnp.sin(angle) - angle * jnp.cos(angle))
        gap = gap - apart / jnp.pi
        return gap, kernel * (1 - angle / jnp.pi) + 1 - gap

    return jax.lax.fori_loop(0, depth, advance, (gaps, 1 - gaps))[1]
