"""The extreme eigenvalues of a batch's Hessian against the batch size, and the law of random matrices for them."""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.special import digamma, stdtrit

from sharplab.analysis.limits import least_between
from sharplab.analysis.trend import Measured
from sharplab.core import tree
from sharplab.core.arguments import checked, count, counts
from sharplab.core.tree import PyTree
from sharplab.curvature import LinearOperator, hessian, precondition
from sharplab.spectrum import eigsh, resample

ENDS = ("largest", "smallest")
LEAST_VARIANCE = 1e-10  # of log λ at a batch size
BELOW = np.log(1e6)  # how far below the batch sizes a threshold is looked for
TRIED, ROUNDS = 200, 5  # thresholds that are tried at once, and how often more finely


@dataclass(frozen=True)
class SpikeLaw:
    """The law of an extreme eigenvalue of the mean of B of N Hessians, as fitted.

    λ(B) = λ + s/(b λ) where λ² > s/b: a spike, which the noise lifts. Else λ(B) = 2√(s/b): the edge of the noise's own
    spectrum, in which the spike is lost. b = B/(1 − B/N) counts that batches are drawn without replacement, and
    s = P σ² for noise of variance σ² in each of P² entries.

    Attributes:
        eigenvalue: λ, of all N examples; that of the smallest is given without its sign.
        noise: s.
        threshold: the batch size at which the two forms meet, b = s/λ²; 0 or inf as an end where the batch sizes do
            not reach so far.
        misfit: the mean square, per degree of freedom, of what the means lie off in units of their noise, about 1 where
            the law holds. Where it is above 1, intervals are wider by its root. NaN of two batch sizes.
        examples: N.
        confidence: of the intervals.
    """

    eigenvalue: Measured
    noise: Measured
    threshold: Measured
    misfit: float
    examples: int
    confidence: float

    def predict(self, batch_sizes: Sequence[float] | np.ndarray) -> np.ndarray:
        """λ(B) at these batch sizes."""
        scale = _effective(np.asarray(batch_sizes, float), self.examples)
        return self.eigenvalue.value * np.exp(_log_lift(np.log(self.noise.value / self.eigenvalue.value**2), scale))

    def __str__(self) -> str:
        return f"λ {self.eigenvalue:.3g}, noise P σ² {self.noise:.3g}, threshold at a batch of {self.threshold:.3g}"


@dataclass(frozen=True)
class BatchSpectra:
    """The extreme eigenvalues of batch Hessians, and the law for either end.

    Attributes:
        table: a row per batch: batch_size, draw, largest, smallest, and the solver's errors as largest_error and
            smallest_error, the largest of all draws of a size.
        examples: N.
        confidence: of the laws' intervals.
    """

    table: pd.DataFrame
    examples: int
    confidence: float = 0.95

    @cached_property
    def largest(self) -> SpikeLaw:
        """The law of the largest eigenvalue."""
        return fit_spike_law(self._values("largest"), self.examples, confidence=self.confidence)

    @cached_property
    def smallest(self) -> SpikeLaw | None:
        """The law of the smallest; None where some are not negative, as for a convex loss."""
        values = {size: -each for size, each in self._values("smallest").items()}
        if not all((each > 0).all() for each in values.values()):
            return None
        return fit_spike_law(values, self.examples, confidence=self.confidence)

    def _values(self, end: str) -> dict[int, np.ndarray]:
        return {int(size): rows[end].to_numpy(float) for size, rows in self.table.groupby("batch_size")}

    def __str__(self) -> str:
        return f"largest: {self.largest}\nsmallest: {self.smallest or 'not negative'}"


@checked(batch_sizes=counts, draws=count)
def batch_spectra(
    loss: Callable[..., jax.Array],
    params: PyTree,
    data: PyTree,
    batch_sizes: Sequence[int],
    *,
    model: Callable[..., Any] | None = None,
    metric: PyTree | None = None,
    draws: int = 8,
    chunk: int | None = None,
    tol: float = 1e-2,
    key: jax.Array | None = None,
    confidence: float = 0.95,
) -> BatchSpectra:
    """The largest and smallest eigenvalue of the Hessian on random batches of each size, and the `SpikeLaw` of each.

    One program per batch size is compiled. The law takes all entries of the Hessian for equally noisy, which those of
    networks are not: see its `misfit`, and what the noise of either end says of the other's.

    Args:
        loss, params, model, chunk: as of `sharplab.hessian`.
        data: all N examples, arrays with a leading axis.
        batch_sizes: two or more, each less than N.
        metric: D like the params, for D^½ H D^½, which stands against 2/η.
        draws: how many batches of each size, 2 or more, each drawn without replacement and independent of the others.
        tol: the solver's relative error.

    Raises:
        ValueError: for fewer than two sizes or draws, a size of N or more, and where the largest eigenvalue of a batch
            is not positive.

    Source: Granziol et al., arXiv 2006.09092.

    >>> spike = jnp.zeros((1, 40, 40)).at[0, 0, 0].set(4.0)
    >>> noise = jax.random.normal(jax.random.key(0), (128, 40, 40))
    >>> def loss(w, hessians):
    ...     return jnp.mean(jax.vmap(lambda h: w @ h @ w / 2)(hessians))
    >>> found = batch_spectra(loss, jnp.zeros(40), spike + (noise + noise.mT) / 2**0.5, [4, 32], draws=4)
    >>> abs(found.largest.eigenvalue.value - 4) < 0.5, abs(found.smallest.noise.value - 40) < 8  # P σ² = 40
    (True, True)
    """
    examples = len(jax.tree.leaves(data)[0])
    sizes = sorted(set(batch_sizes))
    if len(sizes) < 2:
        raise ValueError(f"batch_sizes must be two or more, not {list(batch_sizes)!r}.")
    if sizes[-1] >= examples:
        raise ValueError(f"batch_sizes must be less than the number of examples, {examples}, not {sizes[-1]}.")
    if draws < 2:
        raise ValueError("draws must be 2 or more, to tell a spread from.")
    operator = partial(_operator, loss, tree.floats(params, "params"), model, metric, chunk)
    key = jax.random.key(0) if key is None else key
    rows = []
    for size in sizes:
        keys = jax.random.split(jax.random.fold_in(key, size), draws)
        batches = (_draw(data, each, size) for each in keys)
        found = resample(operator, batches, partial(eigsh, k=2, which="BE", tol=tol))
        errors = dict(zip((f"{end}_error" for end in ENDS), np.asarray(found.solver_error).tolist(), strict=True))
        for i, values in enumerate(np.asarray(found.values).tolist()):
            rows.append({"batch_size": size, "draw": i} | dict(zip(ENDS, values, strict=True)) | errors)
    return BatchSpectra(pd.DataFrame(rows), examples, confidence)


def _operator(
    loss: Callable, params: PyTree, model: Callable | None, metric: PyTree, chunk: int | None, batch: PyTree
) -> LinearOperator:
    op = hessian(loss, params, batch, model=model, chunk=chunk)
    return op if metric is None else precondition(op, jax.tree.map(jnp.sqrt, metric))


def _draw(data: PyTree, key: jax.Array, size: int) -> PyTree:
    rows = jax.random.choice(key, len(jax.tree.leaves(data)[0]), (size,), replace=False)
    return jax.tree.map(lambda x: x[rows], data)


def fit_spike_law(values: dict[int, np.ndarray], examples: int, *, confidence: float = 0.95) -> SpikeLaw:
    """The law through the eigenvalues of several batches of each size, by profile likelihood of their mean logarithms.

    Given the threshold τ, in units of b, log λ(B) is log λ plus what is known: the weighted mean tells λ, and what is
    left is Q(τ). The interval of τ is where Q(τ) − min Q ≤ t²·m; those of λ and of s = τλ² unite, over these τ, what
    lies as near. t is Student's, and m the misfit, or 1 where that is less. Beyond all batch sizes Q is constant: an
    end is open where they reach no further. Sizes weigh by the noise of their means, a power law of the size.
    Intervals cover in 90 to 100 % with two sizes or three, in 95 to 98 % with ten.

    Args:
        values: by batch size, two or more draws each.
        examples: N, more than each batch size.

    Raises:
        ValueError: for fewer than two sizes or draws, or an eigenvalue that is not positive.
    """
    sizes = np.array(sorted(values), float)
    groups = [np.asarray(values[int(size)], float) for size in sizes]
    if len(groups) < 2 or min(map(len, groups)) < 2:
        raise ValueError("values must have two or more batch sizes, with two or more draws each.")
    if not all((group > 0).all() for group in groups):
        raise ValueError("values must be positive eigenvalues: those of the other end have a law of their own.")
    logs = [np.log(group) for group in groups]
    means, scale = np.array([each.mean() for each in logs]), _effective(sizes, examples)
    weights = 1 / _variances(sizes, logs)
    free = len(sizes) - 2
    df = sum(len(each) - 1 for each in logs) - 2  # less the power law's two coefficients
    student = stdtrit(max(df, 1), (1 + confidence) / 2)

    def profile(log_at: Any) -> tuple[np.ndarray, np.ndarray]:
        """log λ and Q at thresholds."""
        rests = means - _log_lift(np.asarray(log_at)[..., None], scale)
        levels = np.average(rests, axis=-1, weights=weights)
        return levels, (rests - levels[..., None]) ** 2 @ weights

    ends = low, high = np.log(scale[0]) - BELOW, np.log(scale[-1])
    for _ in range(ROUNDS):  # each as fine as the interval that the one before has left
        tried = np.linspace(low, high, TRIED)
        levels, squares = profile(tried)
        best = int(np.argmin(squares))
        misfit = float(squares[best] / free) if free else np.nan
        allowed = student**2 * np.nanmax([1.0, misfit]) - (squares - squares[best])
        kept = np.flatnonzero(allowed >= 0)
        first, last = kept[0], kept[-1]
        low, high = tried[max(first - 1, 0)], tried[min(last + 1, TRIED - 1)]
    least = least_between(lambda log_at: profile(log_at)[1], tried, best)
    level, near = profile(least)[0], slice(first, last + 1)
    halves = np.sqrt(allowed[near] / weights.sum())
    at = _stated(least, tried[near], 0)
    eigenvalue = _stated(level, levels[near], halves)
    noise = _stated(2 * level + least, (2 * levels + tried)[near], 2 * halves)
    if tried[first] == ends[0]:  # no batch so small that noise is seen
        noise, at = replace(noise, low=0.0), replace(at, low=0.0)
    if tried[last] == ends[1]:  # none so large that the spike is
        eigenvalue, at = replace(eigenvalue, low=0.0), replace(at, high=np.inf)
    threshold = Measured(*(each / (1 + each / examples) if each < np.inf else np.inf for each in astuple(at)))
    return SpikeLaw(eigenvalue, noise, threshold, misfit, examples, confidence)


def _stated(log: Any, logs: np.ndarray, halves: np.ndarray | float) -> Measured:
    """What this is the logarithm of, and the union of intervals at thresholds that are as near."""
    return Measured(*(float(np.exp(each)) for each in (log, np.min(logs - halves), np.max(logs + halves))))


def _effective(sizes: np.ndarray, examples: int) -> np.ndarray:
    """b = B/(1 − B/N)."""
    return sizes / (1 - sizes / examples)


def _variances(sizes: np.ndarray, logs: Sequence[np.ndarray]) -> np.ndarray:
    """The variance of each size's mean, by a power law of the size: few draws tell each one's own badly."""
    counts, df = (np.array([len(each) - more for each in logs]) for more in (0, 1))
    own = np.array([max(each.var(ddof=1), LEAST_VARIANCE) for each in logs])
    centred = np.log(own) + np.log(df / 2) - digamma(df / 2)  # the mean of the logarithm lies lower
    smooth = np.exp(np.polyval(np.polyfit(np.log(sizes), centred, 1), np.log(sizes)))
    return smooth * np.average(own / smooth, weights=df) / counts


def _log_lift(log_at: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """log λ(B)/λ at b = `scale`, given the logarithm of the b at the threshold."""
    log_ratio = log_at - np.log(scale)
    return np.where(log_ratio < 0, np.log1p(np.exp(np.minimum(log_ratio, 0))), np.log(2) + log_ratio / 2)
