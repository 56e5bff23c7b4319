"""Dozens of programs on tiny arrays: compiling them is what takes time, and optimising doubles it."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Less optimisation where it does not pay, as in the tests of other small programs."""
    optimised = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", optimised)
