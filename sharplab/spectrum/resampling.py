"""The spread of a spectral quantity over probe batches, apart from the solver's error."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import jax
import jax.numpy as jnp

from sharplab.core.arguments import checked
from sharplab.core.tree import PyTree
from sharplab.curvature.linear_operator import LinearOperator
from sharplab.spectrum.eigenpairs import Eigenpairs
from sharplab.spectrum.estimate import Estimate


@dataclass(frozen=True)
class Resampled:
    """The estimates of one quantity on several batches.

    Attributes:
        values: the estimates, with a leading axis of batches.
        solver_error: the largest of the solver's errors over batches, shaped like one estimate; 0 where the estimator
            gives none.
    """

    values: PyTree
    solver_error: PyTree

    @property
    def mean(self) -> PyTree:
        """The mean over batches."""
        return jax.tree.map(lambda x: x.mean(0), self.values)

    @property
    def std(self) -> PyTree:
        """The standard deviation over batches: the sampling error of one batch's estimate."""
        return jax.tree.map(lambda x: x.std(0, ddof=1), self.values)

    @property
    def stderr(self) -> PyTree:
        """The standard error of `mean`, if the batches are independent."""
        return jax.tree.map(lambda x: x.std(0, ddof=1) / sqrt(len(x)), self.values)


@checked()
def resample(
    make_operator: Callable[[PyTree], LinearOperator],
    batches: Iterable[PyTree],
    estimator: Callable[[LinearOperator], Any],
) -> Resampled:
    """The estimates estimator(make_operator(batch)) of several batches, with their spread.

    A solver's error says how well an eigenvalue of this batch's matrix is known. The sampling error of the batch,
    which is usually far greater, is told by the spread over batches.

    Args:
        make_operator: batch → operator, of the same functions each time, so that one program serves all batches.
        batches: independent batches of one size, read one at a time.
        estimator: operator → `Eigenpairs` (its values are taken), `Estimate`, or numbers (an array or a pytree).

    Raises:
        ValueError: if there are fewer than two batches.

    >>> def make_operator(batch):
    ...     return LinearOperator(lambda d: lambda v: d * v, batch, jnp.zeros(2))
    >>> found = resample(make_operator, jnp.array([[1.0, 0.0], [3.0, 0.0]]), lambda op: op.dense()[0, 0])
    >>> found.values.tolist(), float(found.mean), round(float(found.std), 4), float(found.stderr)
    ([1.0, 3.0], 2.0, 1.4142, 1.0)
    """
    found = [_value_and_error(estimator(make_operator(batch))) for batch in batches]
    if len(found) < 2:
        raise ValueError(f"batches must hold at least 2 batches, to tell a spread from, not {len(found)}.")
    values, errors = (jax.tree.map(lambda *x: jnp.stack(x), *column) for column in zip(*found, strict=True))
    return Resampled(values, jax.tree.map(lambda x: x.max(0), errors))


def _value_and_error(result: Any) -> tuple[PyTree, PyTree]:
    if isinstance(result, Eigenpairs):
        return result.values, result.errors
    if isinstance(result, Estimate):
        return result.value, result.stderr
    values = jax.tree.map(jnp.asarray, result)
    return values, jax.tree.map(jnp.zeros_like, values)
