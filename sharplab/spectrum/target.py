"""Which eigenpairs are wanted, and how Ritz values are ranked by that."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

SPARE_ROWS = 14  # rows of the basis beyond twice the number of eigenpairs wanted
KEPT_SPARE = 3  # Ritz vectors kept by a restart beyond those wanted


def _both_ends(values: jax.Array, used: jax.Array) -> jax.Array:
    from_below = jnp.cumsum(used) - 1
    from_above = used.sum() - 1 - from_below
    return -jnp.minimum(2 * from_above, 2 * from_below + 1)


# (ascending values, used) → a rank that is highest for what is wanted most
PREFERENCES: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "LA": lambda values, used: values,
    "SA": lambda values, used: -values,
    "LM": lambda values, used: jnp.abs(values),
    "BE": _both_ends,
}


class Target(NamedTuple):
    """The k eigenpairs wanted and the end of the spectrum they are at, hashable: a program is compiled for each."""

    which: str
    k: int
    basis: int | None = None  # the most vectors kept from product to product; None for twice k and some

    def preference(self, values: jax.Array, used: jax.Array) -> jax.Array:
        """How much each of the ascending Ritz values is wanted."""
        return PREFERENCES[self.which](values, used)

    def rows(self, size: int) -> int:
        """The number of rows of the basis, for vectors of `size` entries."""
        ample = 2 * self.k + SPARE_ROWS if self.basis is None else self.basis
        return min(ample, size + 1)

    @property
    def is_tight(self) -> bool:
        """Whether fewer vectors are kept than thick restart asks for."""
        return self.basis is not None and self.basis < 2 * self.k + SPARE_ROWS

    @property
    def kept(self) -> int:
        """The number of Ritz vectors that survive a restart."""
        return self.k + KEPT_SPARE

    def oriented(self, values: jax.Array) -> jax.Array:
        """The values signed so that each searched end of the spectrum is a maximum, shape (ends, …)."""
        ends = {"LA": [values], "SA": [-values], "LM": [jnp.abs(values)], "BE": [values, -values]}
        return jnp.stack(ends[self.which])

    def innermost(self, wanted: jax.Array) -> jax.Array:
        """The oriented value of the innermost of the wanted values, shape (ends,)."""
        oriented = self.oriented(wanted)
        if self.which == "BE":
            at_this_end = (jnp.arange(self.k) % 2)[None] == jnp.arange(2)[:, None]
            oriented = jnp.where(at_this_end, oriented, jnp.inf)
        return oriented.min(axis=1)
