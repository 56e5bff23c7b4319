"""What a function reads beside its arguments, when it changes between calls: no compiled program may keep it."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import sharplab as sl
from sharplab.core.reading import MANY
from sharplab.curvature.functions import as_partial

X = jax.random.normal(jax.random.key(1), (12, 4))
W = jnp.arange(1.0, 5.0)
MATRIX = jnp.eye(4)


class Trainer:
    lam = 0.0

    def __init__(self):
        self.scale = jnp.ones(())
        self.steps = 0

    def penalty(self, w):
        return self.lam * jnp.sum(w**2)

    def loss(self, w, batch):
        return self.scale * jnp.mean((batch @ w) ** 2) + self.penalty(w)

    __call__ = loss


class Slots:
    __slots__ = ("lam",)

    def __init__(self):
        self.lam = 1.0


class Schedule:
    def __init__(self):
        self.base = 1.0

    @property
    def lam(self):
        return 2 * self.base


def with_matrix(w, batch):
    return jnp.mean((batch @ (MATRIX @ w)) ** 2)


def of_attribute(name, value, method=True):
    trainer = Trainer()
    return (trainer.loss if method else trainer), lambda: setattr(trainer, name, value)


def of_global():
    def change():
        global MATRIX
        MATRIX = 3 * jnp.eye(4)

    return with_matrix, change


def of_mask(bound=False):
    mask = np.ones(4, np.float32)

    def loss(scale, w, batch):
        return scale * jnp.mean((batch @ (mask * w)) ** 2)

    function = Partial(loss, jnp.ones(())) if bound else lambda w, batch: loss(1.0, w, batch)
    return function, lambda: mask.__setitem__(slice(3), 0)


def of_settings(settings, change, read):
    return (lambda w, batch: jnp.mean((batch @ w) ** 2) + read(settings) * jnp.sum(w**2)), lambda: change(settings)


CHANGES = {
    "array of an object": lambda: of_attribute("scale", jnp.array(5.0)),
    "number of an object, read by a method": lambda: of_attribute("lam", 3.0),
    "number of an object that is called": lambda: of_attribute("lam", 3.0, method=False),
    "global array": of_global,
    "numpy array in place": of_mask,
    "numpy array in place, beside leaves": lambda: of_mask(bound=True),
    "entry of a dict": lambda: of_settings({"lam": 1.0}, lambda d: d.update(lam=9.0), lambda d: d["lam"]),
    "attribute in a slot": lambda: of_settings(
        Slots(), lambda slots: setattr(slots, "lam", 9.0), lambda slots: slots.lam
    ),
    "attribute that a property reads": lambda: of_settings(
        Schedule(), lambda schedule: setattr(schedule, "base", 9.0), lambda schedule: schedule.lam
    ),
    "attribute": lambda: of_settings(
        types.SimpleNamespace(lam=1.0), lambda settings: setattr(settings, "lam", 9.0), lambda settings: settings.lam
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_eigenvalues_are_those_of_what_the_function_reads_now(what):
    function, change = CHANGES[what]()

    def top():
        exact = jnp.linalg.eigvalsh(jax.hessian(lambda w: function(w, X))(W))[-1]
        return float(sl.eigsh(sl.hessian(function, W, X)).values[0]), float(exact)

    before = top()
    change()
    after = top()
    np.testing.assert_allclose([before[0], after[0]], [before[1], after[1]], rtol=1e-3)
    assert abs(after[1] - before[1]) > 0.1


def test_products_are_those_of_the_matrix_as_it_is_now():
    matrix = np.diag([1.0, 2.0]).astype(np.float32)

    def product(v):
        return matrix @ v

    assert float(sl.eigsh(sl.operator(product, jnp.zeros(2))).values[0]) == pytest.approx(2)
    matrix[0, 0] = 5
    assert float(sl.eigsh(sl.operator(product, jnp.zeros(2))).values[0]) == pytest.approx(5)


def test_what_is_read_by_nothing_changes_no_program():
    """Neither a counter of steps beside it, nor the params themselves where a closure holds them too."""
    trainer = Trainer()
    first = as_partial(trainer.loss, W).func
    trainer.steps += 1
    assert as_partial(trainer.loss, W).func == first
    held = {"w": W}

    def loss(w, batch):
        return jnp.mean((batch @ w) ** 2) + 0 * held["w"].size

    first = as_partial(loss, W).func
    held["w"] = W + 1
    assert as_partial(loss, held["w"]).func == first
    assert as_partial(loss, W).func != first


def test_many_states_are_warned_of_by_the_name_of_what_changes():
    trainer = Trainer()
    with pytest.warns(UserWarning, match=r"^lam: read by .*loss.* changed 8 times.*Partial"):
        for i in range(MANY):
            trainer.lam = float(i)
            as_partial(trainer.loss, W)
