"""Arguments of public functions: each name has one check, which names it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.core import arguments
from sharplab.core.arguments import ARGUMENTS, checked, of, text

WRONG = {
    arguments.count: [0, -1, 1.5, "2", None, True, float("nan"), np.float32(2)],
    arguments.positive: [0, -1, float("nan"), float("inf"), "1", None, True, 1e-300, jnp.zeros(())],
    arguments.finite: [float("nan"), float("-inf"), "1", None, False],
    arguments.share: [0, 1, -1, 2.0, float("nan"), "0.5", None],
    arguments.fraction: [-0.1, 1.1, float("nan"), "0.5", None],
    arguments.below_one: [1, -0.1, float("nan"), "0.5", None],
    arguments.not_negative: [-1, float("inf"), float("nan"), "1", None],
    arguments.function: [5, None, "x"],
    arguments.function_or_name: [5, None],
    arguments.given: [None],
    arguments.pairs: [None, 5, "ab", np.ones((2, 2)), (1, 2, 3), {"x": 1, "y": 2}],
    arguments.counts: [5, None, [0], [1.5], ["8"]],
    arguments.key_or_seed: ["k", None, 1.5, True],
    arguments.several: [5, None, "abc"],
    arguments.number_or_schedule: [-1, 0, "x", None],
    arguments.text: [5, None, b"x"],
    arguments.path: [5, None, b"x"],
    arguments.random_key: [3, "k", None, jnp.zeros(2), np.zeros(2, np.int32)],
}
RIGHT = {
    arguments.count: [1, np.int64(3), jnp.asarray(2)],
    arguments.positive: [1, 0.5, np.float32(2), jnp.asarray(0.5)],
    arguments.finite: [0, -1.5, np.float64(2)],
    arguments.share: [0.5, np.float32(0.95)],
    arguments.fraction: [0, 1, np.float32(0.5)],
    arguments.below_one: [0, 0.9, np.float32(0.5)],
    arguments.not_negative: [0, 1e-8, 5],
    arguments.function: [len, lambda: None],
    arguments.function_or_name: [len, "module:name"],
    arguments.given: [0, np.ones(2)],
    arguments.pairs: [(1, 2), iter([]), [(1, 2)], lambda: iter([])],
    arguments.counts: [[1, 2], (np.int64(8),)],
    arguments.key_or_seed: [0, np.int32(3), jax.random.key(0)],
    arguments.several: [[1], (), iter([1])],
    arguments.number_or_schedule: [0.1, lambda step: 0.1],
    arguments.text: ["x"],
    arguments.path: ["x"],
    arguments.random_key: [jax.random.key(0), jax.random.PRNGKey(0), jax.random.split(jax.random.key(0))],
}


@pytest.mark.parametrize("check", WRONG, ids=lambda check: check.__name__)
def test_a_wrong_value_is_refused_by_the_name_of_its_argument(check):
    for value in WRONG[check]:
        with pytest.raises(ValueError, match=r"^amount "):
            check("amount", value)
    for value in RIGHT[check]:
        check("amount", value)


def test_every_check_of_the_table_is_tested():
    assert set(ARGUMENTS.values()) <= set(WRONG)


@checked(metric=text)
def example(k, *, tol=0.1, key=None, metric="loss", **others):
    """An example."""
    return k, tol, key, metric, others


def test_arguments_are_checked_by_name_however_they_are_given():
    for args, kwargs in (((0,), {}), ((), {"k": 0})):
        with pytest.raises(ValueError, match=r"^k "):
            example(*args, **kwargs)
    with pytest.raises(ValueError, match=r"^tol "):
        example(1, tol=-1)
    with pytest.raises(ValueError, match=r"^metric "):
        example(1, metric=5)


def test_none_passes_where_it_is_the_default_alone():
    assert example(1, key=None) == (1, 0.1, None, "loss", {})
    with pytest.raises(ValueError, match=r"^tol "):
        example(1, tol=None)


def test_arguments_that_are_not_there_are_pythons_own_error():
    with pytest.raises(TypeError, match="k"):
        example()


def test_traced_values_pass():
    assert float(jax.jit(lambda tol: example(1, tol=tol)[1])(0.5)) == 0.5


def test_signature_and_docstring_stay():
    assert list(inspect.signature(example).parameters) == ["k", "tol", "key", "metric", "others"]
    assert example.__doc__ == "An example."


def test_an_object_of_another_class_is_named():
    check = of(dict, "as {'a': 1}")
    check("table", {})
    with pytest.raises(ValueError, match=r"table must be a dict, .*, not 5"):
        check("table", 5)
