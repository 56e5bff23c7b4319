"""Factors R of positive semi-definite operators A = RᵀR, which share their non-zero spectrum with RRᵀ."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.tree import PyTree

LinearMap = Callable[[PyTree], PyTree]


@dataclass(frozen=True)
class Structure:
    """Tree structure, shapes and types of a pytree of arrays, without its values: hashable, so static under `jit`."""

    leaves: tuple[jax.ShapeDtypeStruct, ...]
    treedef: Any

    @classmethod
    def of(cls, example: PyTree, leading: int | None = None) -> "Structure":
        """The structure of `example`; with `leading`, its leaves' first axis has that length instead."""
        leaves, treedef = jax.tree.flatten(example)
        shapes = [leaf.shape if leading is None else (leading, *leaf.shape[1:]) for leaf in leaves]
        return cls(
            tuple(jax.ShapeDtypeStruct(shape, leaf.dtype) for shape, leaf in zip(shapes, leaves, strict=True)), treedef
        )

    @property
    def abstract(self) -> PyTree:
        """The pytree with a `jax.ShapeDtypeStruct` at each leaf."""
        return jax.tree.unflatten(self.treedef, self.leaves)

    @property
    def wide(self) -> "Structure":
        """The same with all leaves in the type `tree.dtype`, as of `tree.wide`."""
        common = tree.dtype(self.leaves)
        return Structure(tuple(jax.ShapeDtypeStruct(leaf.shape, common) for leaf in self.leaves), self.treedef)

    def zeros(self) -> PyTree:
        """Zeros in this structure."""
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.abstract)


@partial(jax.tree_util.register_dataclass, data_fields=["args"], meta_fields=["prepare", "out_structure"])
@dataclass(frozen=True)
class Factor:
    """A factor R of an operator A = RᵀR.

    Attributes:
        prepare: args → (R, Rᵀ), two linear functions on pytrees.
        args: a pytree of all arrays that they depend on.
        out_structure: the structure of R v.
    """

    prepare: Callable[[PyTree], tuple[LinearMap, LinearMap]]
    args: PyTree
    out_structure: Structure

    @property
    def range(self) -> PyTree:
        """The shapes and types of R v, a pytree of `jax.ShapeDtypeStruct`; its `tree.size` is that of the dual."""
        return self.out_structure.abstract

    def maps(self) -> tuple[LinearMap, LinearMap]:
        """The maps (R, Rᵀ), with the shared work done now."""
        with jax.default_matmul_precision("highest"):
            forward, backward = self.prepare(self.args)
        return at_highest_precision(forward), at_highest_precision(backward)


def at_highest_precision(function: LinearMap) -> LinearMap:
    """The function with its matrix products in full float32: an accelerator's default loses three to four digits."""

    def precise(v: PyTree) -> PyTree:
        with jax.default_matmul_precision("highest"):
            return function(v)

    return precise


def scaled_factor(args: PyTree) -> tuple[LinearMap, LinearMap]:
    """The maps (R S, S Rᵀ) of `args` (factor, s), s a pytree of the diagonal entries of S."""
    factor, scale = args
    forward, backward = factor.maps()
    return lambda v: forward(tree.multiply(scale, v)), lambda u: tree.multiply(scale, backward(u))


def transposed_factor(factor: Factor) -> tuple[LinearMap, LinearMap]:
    """The maps (Rᵀ, R), which factor R Rᵀ."""
    forward, backward = factor.maps()
    return backward, forward
