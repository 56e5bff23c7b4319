"""A batch cut along its examples, so that a compiled program holds the activations of one chunk at a time."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from sharplab.core.loops import choose_loop
from sharplab.core.tree import PyTree

Term = Callable[[PyTree, PyTree], PyTree]


@partial(jax.tree_util.register_dataclass, data_fields=["batch"], meta_fields=["chunk"])
@dataclass(frozen=True)
class Chunks:
    """A batch of n examples, read c at a time, and then the n mod c that are left over."""

    batch: PyTree  # a pytree of arrays (n, …)
    chunk: int  # c ≤ n

    @property
    def examples(self) -> int:
        """The number n of examples."""
        return count_examples(self.batch)

    @property
    def head(self) -> PyTree:
        """The first two examples."""
        return jax.tree.map(lambda x: x[:2], self.batch)

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
        first = jax.tree.map(lambda x: jax.ShapeDtypeStruct((self.chunk, *x.shape[1:]), x.dtype), (self.batch, u))
        # XLA's CPU backend runs the gradient of a convolution in a compiled loop tens of times slower.
        unrolled = choose_loop(_run, term, *first) == "python"
        return _ChunkPass(term, (self.batch, u), self.examples, self.chunk, _run.eval_shape(term, *first), unrolled)


@dataclass(frozen=True)
class _ChunkPass:
    """One pass over all chunks."""

    term: Term
    arrays: PyTree
    examples: int
    chunk: int
    structure: PyTree
    unrolled: bool

    def scan(self, combine: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]) -> tuple[PyTree, PyTree]:
        start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.structure)
        firsts = jnp.arange(0, self.examples - self.chunk + 1, self.chunk)

        def step(carry: PyTree, first: jax.Array) -> tuple[PyTree, PyTree]:
            return combine(carry, self._part(carry, first, self.chunk))

        return jax.lax.scan(step, start, firsts, unroll=self.unrolled or 1)

    def rest(self, carry: PyTree) -> PyTree | None:
        left_over = self.examples % self.chunk
        return self._part(carry, jnp.asarray(self.examples - left_over), left_over) if left_over else None

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
            f"{name} must be arrays with one leading axis of examples, not of shapes {shapes}: bind arrays that "
            "belong to no example to the function with jax.tree_util.Partial."
        )
    return lengths.pop() or 0


@jax.jit
def _run(term: Term, batch: PyTree, u: PyTree) -> PyTree:
    """The value term(batch, u), traced once for all chunks of one shape."""
    return term(batch, u)


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
