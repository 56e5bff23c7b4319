"""Functions as parts of programs: fresh ones are counted, and none is kept alive."""

import functools
import gc
import warnings
import weakref
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest
from jax.tree_util import Partial

from sharplab.curvature import hessian
from sharplab.curvature.functions import MANY, as_partial, reference

W, X = jnp.ones(2), jnp.ones((3, 2))


def loss(w, x):
    return jnp.mean((x @ w) ** 2)


def shifted(shift, w, x):
    return loss(w, x) + shift


@dataclass(frozen=True)
class Task:
    """Equal tasks have equal methods."""

    name: str

    def loss(self, w, x):
        return loss(w, x)


FRESH = {
    "lambda": lambda: lambda w, x: loss(w, x),
    "partial": lambda: functools.partial(shifted, 1.0),
    "jit": lambda: jax.jit(lambda w, x: 2 * loss(w, x)),
}


@pytest.mark.parametrize("kind", FRESH)
def test_many_fresh_functions_of_one_place_are_warned_of_once(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(MANY - 1):
            hessian(FRESH[kind](), W, X)
    with pytest.warns(UserWarning, match="function objects") as found:
        hessian(FRESH[kind](), W, X)
    assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2 * MANY):
            hessian(FRESH[kind](), W, X)


def test_functions_that_live_on_and_new_sizes_are_not_warned_of():
    task, bound = Task("a"), Partial(shifted, jnp.ones(()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in range(MANY + 2):
            hessian(loss, W, X)
            hessian(Task("a").loss, W, X)
            hessian(task.loss, W, X)
            hessian(bound, W, X)
            hessian(lambda w, x: 3 * loss(w, x), jnp.ones(size + 1), jnp.ones((3, size + 1)))
    assert as_partial(bound, W) is bound


def test_functions_are_not_kept_alive():
    def passing(w, x):
        return loss(w, x)

    alive = weakref.ref(passing)
    as_partial(passing, W)
    del passing
    gc.collect()
    assert alive() is None


def test_references_of_equal_methods_are_equal():
    first, second, other = Task("a"), Task("a"), Task("b")
    references = [reference(task.loss, lambda _: None) for task in (first, second, other)]
    assert references[0] == references[1] != references[2]
    assert hash(references[0]) == hash(references[1])
