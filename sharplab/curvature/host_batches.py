"""Batches that are read from the host again for every product, for examples beyond the device's memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature.chunks import Chunks, Examples, count_examples
from sharplab.curvature.independence import linked
from sharplab.curvature.weights import require_weight

Source = Callable[[], Iterable[PyTree]]


def source_of(batch: Any) -> Source | None:
    """The function that returns the batches anew at each call, or None where `batch` is a pytree of arrays.

    Sources are: a function without arguments that returns an iterator; an object that can be iterated again and
    again, such as a data loader; a list of batches, each a container; an iterator, which is read once and kept in
    the host's memory.
    """
    if isinstance(batch, list) and all(isinstance(part, tuple | list | dict) for part in batch):
        return partial(iter, batch)
    if not jax.tree_util.all_leaves([batch]) or hasattr(batch, "shape"):
        return None
    if hasattr(batch, "__next__"):
        return partial(iter, [on_host(part) for part in batch])
    if hasattr(batch, "__iter__"):
        return partial(iter, batch)
    return batch if callable(batch) else None


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class HostBatches:
    """Examples in batches from a source."""

    source: Callable[[], Iterator[Examples]]  # their batches, anew at each call
    counts: tuple[int, ...]  # the number of examples of each batch
    total: float  # what all examples weigh together
    part: Examples  # the first example
    chunk: int | None  # how many examples' activations are in device memory at a time; None for a batch's

    @property
    def number(self) -> int:
        """The number of examples in all batches."""
        return sum(self.counts)

    def sum(self, term: Partial, u: PyTree = None) -> PyTree:
        """The sum Σ_b term(batch_b, u_b), with u cut along its first axis as the examples are."""
        total = None
        for part in self._terms(term, u):
            # At most one batch waits for the device while another is computed.
            total = part if total is None else _add(jax.block_until_ready(total), part)
        return total

    def concatenate(self, term: Partial) -> PyTree:
        """The values term(batch_b, None), concatenated along their first axis."""
        parts = list(self._terms(term, None, joined=True))
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

    def _terms(self, term: Partial, u: PyTree, joined: bool = False) -> Iterator[PyTree]:
        if tree.is_traced((term, u)):
            raise ValueError(
                "an operator of host batches cannot run under jit, vmap or grad: call it outside of them, or give "
                "batch as arrays, with chunk= to bound the memory."
            )
        first = 0
        for count, part in self._read():
            if count:
                u_part = jax.tree.map(lambda x, i=first, n=count: x[i : i + n], u)
                yield _apply(term, part, u_part, self.chunk, joined)
            first += count

    def _read(self) -> Iterator[tuple[int, Examples]]:
        counts = []
        for part in self.source():
            counts.append(part.number)
            if tuple(counts) != self.counts[: len(counts)]:
                break
            yield counts[-1], part
        if tuple(counts) != self.counts:
            raise ValueError(
                f"batch gave {self.counts} examples at first and {tuple(counts)} now: it must give the same batches "
                "each time it is read; a function must return a new iterator at each call."
            )


def read_host_batches(
    source: Callable[[], Iterator[Examples]],
    chunk: int | None,
    name: str,
    check: Callable[[Examples, int | None], None],
) -> HostBatches:
    """The batches of a source, which is read once to count their examples, and to check them.

    Raises:
        ValueError: if there are no examples, or none that weighs anything.
    """
    counts: list[int] = []
    total, first = 0.0, None
    look = linked(lambda part: check(part, chunk or counts[0] + 1))
    for part in source():
        number = count_examples(part.batch, name)
        counts.append(number)
        if number:
            total += float(part.total)
            first = jax.tree.map(lambda x: x[:1], part) if first is None else first
            look(part)
    if first is None:
        raise ValueError(f"{name} is a source without examples: give at least one.")
    require_weight(total)
    return HostBatches(source, tuple(counts), total, first, chunk)


def on_host(batch: PyTree) -> PyTree:
    """The batch with what are no arrays as numpy's."""
    return jax.tree.map(lambda x: x if isinstance(x, jax.Array) else np.asarray(x), batch)


@partial(jax.jit, static_argnames=("chunk", "joined"))
def _apply(term: Partial, part: Examples, u: PyTree, chunk: int | None, joined: bool) -> PyTree:
    if chunk is None or chunk >= part.number:
        return term(part, u)
    chunks = Chunks(part, chunk)
    return chunks.concatenate(term) if joined else chunks.sum(term, u)


@jax.jit
def _add(total: PyTree, part: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, total, part)
