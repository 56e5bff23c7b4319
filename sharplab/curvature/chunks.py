"""A batch cut along its examples, so that a compiled program holds the activations of one chunk at a time."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from sharplab.core.loops import choose_loop
from sharplab.core.tree import PyTree

Term = Callable[["Examples", PyTree], PyTree]


@partial(jax.tree_util.register_dataclass, data_fields=["batch", "weight"], meta_fields=[])
@dataclass(frozen=True)
class Examples:
    """A batch, and how much each of its n examples weighs in a mean."""

    batch: PyTree  # a pytree of arrays (n, …)
    weight: jax.Array | None = None  # (n,); None where all weigh alike

    @property
    def number(self) -> int:
        """The number n of examples."""
        return count_examples(self.batch)

    @property
    def total(self) -> int | jax.Array:
        """What they weigh together: their number where all weigh alike."""
        return self.number if self.weight is None else self.weight.sum()


@partial(jax.tree_util.register_dataclass, data_fields=["examples"], meta_fields=["chunk"])
@dataclass(frozen=True)
class Chunks:
    """Examples, of which c are read at a time, and then the n mod c that are left over."""

    examples: Examples
    chunk: int  # c ≤ n

    @property
    def number(self) -> int:
        """The number n of examples."""
        return self.examples.number

    @property
    def total(self) -> int | jax.Array:
        """What all examples weigh together."""
        return self.examples.total

    @property
    def part(self) -> Examples:
        """The shapes and types of one chunk."""
        return _leading(self.chunk, self.examples)

    def sum(self, term: Term, u: PyTree = None) -> PyTree:
        """The sum Σ_b term(chunk_b, u_b), with u cut along its first axis as the examples are."""
        chunks = self._chunk_pass(term, u)
        total, _ = chunks.scan(lambda total, part: (jax.tree.map(jnp.add, total, part), None))
        rest = chunks.rest(total)
        return total if rest is None else jax.tree.map(jnp.add, total, rest)

    def concatenate(self, term: Term) -> PyTree:
        """The values term(chunk_b, None), concatenated along their first axis."""
        chunks = self._chunk_pass(term, None)
        last, parts = chunks.scan(lambda _, part: (part, part))
        joined = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), parts)
        rest = chunks.rest(last)
        return joined if rest is None else jax.tree.map(lambda *x: jnp.concatenate(x), joined, rest)

    def _chunk_pass(self, term: Term, u: PyTree) -> "_ChunkPass":
        first = _leading(self.chunk, (self.examples, u))
        # XLA's CPU backend runs the gradient of a convolution in a compiled loop tens of times slower.
        unrolled = choose_loop(_run, term, *first) == "python"
        return _ChunkPass(term, (self.examples, u), self.number, self.chunk, _run.eval_shape(term, *first), unrolled)


@dataclass(frozen=True)
class _ChunkPass:
    """One pass over all chunks."""

    term: Term
    arrays: PyTree
    number: int
    chunk: int
    structure: PyTree
    unrolled: bool

    def scan(self, combine: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]) -> tuple[PyTree, PyTree]:
        start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.structure)
        firsts = jnp.arange(0, self.number - self.chunk + 1, self.chunk)

        def step(carry: PyTree, first: jax.Array) -> tuple[PyTree, PyTree]:
            return combine(carry, self._part(carry, first, self.chunk))

        return jax.lax.scan(step, start, firsts, unroll=self.unrolled or 1)

    def rest(self, carry: PyTree) -> PyTree | None:
        left_over = self.number % self.chunk
        return self._part(carry, jnp.asarray(self.number - left_over), left_over) if left_over else None

    def _part(self, carry: PyTree, first: jax.Array, size: int) -> PyTree:
        if self.unrolled:
            first = first + _zero_after(jax.lax.stop_gradient(carry)).astype(first.dtype)
        return _run(self.term, *jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, size), self.arrays))


def count_examples(batch: PyTree, name: str = "batch") -> int:
    """The length of the leading axis that all leaves share.

    Raises:
        ValueError: if they do not share one.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(batch)]
    lengths = {shape[0] if shape else None for shape in shapes}
    if len(lengths) != 1 or None in lengths:
        raise ValueError(
            f"{name} must be arrays with one leading axis of examples, not of shapes {shapes}, where chunks, host "
            "batches or a weight are used: bind arrays that belong to no example to the function with "
            "jax.tree_util.Partial."
        )
    return lengths.pop() or 0


def _leading(length: int, arrays: PyTree) -> PyTree:
    """The shapes and types of arrays whose first axis has another length."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((length, *x.shape[1:]), x.dtype), arrays)


@jax.jit
def _run(term: Term, part: Examples, u: PyTree) -> PyTree:
    """The value term(part, u), traced once for all chunks of one shape."""
    return term(part, u)


@jax.custom_batching.custom_vmap
def _zero_after(carry: PyTree) -> jax.Array:
    """The value False with a data dependence on `carry`, so that a chunk whose offset it is added to waits for that.

    Otherwise XLA's CPU scheduler computes unrolled chunks side by side, with all their activations in memory. The
    barrier keeps the comparison from being simplified; alone it does not suffice, as it is removed before scheduling.
    """
    leaves = jax.lax.optimization_barrier([leaf for leaf in jax.tree.leaves(carry) if leaf.size])
    return jax.tree.reduce(operator.add, [leaf.ravel()[0].astype(jnp.float32) for leaf in leaves]) > jnp.inf


@_zero_after.def_vmap
def _zero_after_all(axis_size: int, batched: PyTree, carry: PyTree) -> tuple[jax.Array, bool]:
    """The same offset for all vectors of a vmap, so that they share the forward pass of the chunk."""
    return _zero_after(carry), False
