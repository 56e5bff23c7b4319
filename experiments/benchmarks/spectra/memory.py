"""The largest eigenvalue of an untrained GPT's Hessian, and the memory that it took."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from harness import peak_memory

import sharplab as sl
from sharplab.core import tree
from spectra.problems import Problem


def solve(network: list[int], basis: int | None, tolerance: float) -> dict[str, Any]:
    """One solve: its answer, products and memory."""
    width, depth, heads = network
    problem = Problem(
        "memory", "gpt", width, depth, examples=4, steps=0, heads=heads, vocabulary=256, length=64, positions=64
    )
    params = nnx.split(problem.build(nnx.Rngs(0)))[1]
    op = sl.hessian(problem.objective, params, problem.prepare(problem.raw(problem.examples, seed=0)))
    before = peak_memory()
    found = sl.eigsh(op, tol=tolerance, basis=basis)
    peak = peak_memory()
    size = tree.size(params)
    program = jax.jit(lambda op: sl.eigsh(op, tol=tolerance, basis=basis)).lower(op).compile()
    return {
        "parameters": size,
        "value": float(found.values[0]),
        "estimate": float(found.errors[0] / jnp.abs(found.values[0])),
        "products": int(found.matvecs),
        "converged": bool(found.converged[0]),
        "vectors": program.memory_analysis().temp_size_in_bytes / (size * tree.dtype(params).itemsize),
        "before_bytes": before,
        "peak_bytes": peak,
    }
