"""How large the program of a solve is: the product once in its loop, few eigenproblems, and no programs beside it."""

import logging

import jax
import jax.numpy as jnp
import pytest
from jax.extend import core as jex_core

from sharplab.curvature import hessian
from sharplab.spectrum import eigsh, extremal
from sharplab.tracking import Tracker

MARK = "marked_product"


@jax.jit
def marked_product(x):
    return jnp.tanh(x)


def jaxprs(value):
    if isinstance(value, jex_core.ClosedJaxpr):
        value = value.jaxpr
    if isinstance(value, jex_core.Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from jaxprs(entry)


def equations(jaxpr):
    """All equations of a jaxpr and of those within, each as often as it is written there."""
    for equation in jaxpr.eqns:
        yield equation
        for parameter in equation.params.values():
            for inner in jaxprs(parameter):
                yield from equations(inner)


def counted(function, *args):
    """The number of marked products, small eigenproblems and random generators in the program of a function."""
    found = list(equations(jax.make_jaxpr(function)(*args).jaxpr))
    names = [equation.primitive.name for equation in found]
    marks = sum(equation.params.get("name") == MARK for equation in found)
    return marks, names.count("eigh"), names.count("random_bits")


def product(v):
    return jax.tree.map(lambda leaf: 2 * marked_product(leaf), v)


@pytest.mark.parametrize(("k", "eigenproblems"), [(1, 1), (3, 2)])
def test_a_solve_holds_its_product_once_and_few_eigenproblems(k, eigenproblems):
    vector = {"w": jnp.ones((20, 3))}
    marks, eighs, generators = counted(lambda v: eigsh(product, k, start=v).values, vector)
    assert (marks, eighs, generators) == (1, eigenproblems, 0)


def loss(w, batch):
    x, y = batch
    return 0.5 * jnp.mean((marked_product(x @ w["first"]) @ w["second"] - y) ** 2)


def network(width):
    params = {"first": jnp.full((4, width), 0.3), "second": jnp.full((width, 1), 0.2)}
    return params, (jnp.eye(4), jnp.ones((4, 1)))


@pytest.fixture
def compiled(caplog):
    """The names of the programs compiled since, outside of those that were before."""
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        yield lambda: [
            record.getMessage().split("jit(")[1].split(")")[0]
            for record in caplog.records
            if record.getMessage().startswith("Finished XLA compilation")
        ]


def test_a_first_solve_compiles_little_beside_its_program(compiled):
    jax.block_until_ready(jax.random.key(0))
    params, batch = network(17)
    before = len(compiled())
    eigsh(hessian(loss, params, batch), 2)
    programs = compiled()[before:]
    assert programs.count("_run") == 1
    assert len(programs) <= 4, programs


def test_few_vectors_are_made_when_what_compiling_freed_is_given_back(compiled, monkeypatch):
    params, batch = network(21)
    before, programs = len(compiled()), []
    monkeypatch.setattr(extremal, "give_back_freed", lambda: programs.append(compiled()[before:]))
    eigsh(hessian(loss, *network(20)), basis=4)
    assert not programs  # these vectors are small
    monkeypatch.setattr(extremal, "LARGE", 0)
    eigsh(hessian(loss, params, batch), basis=4)
    assert [names.count("_run_tight") for names in programs] == [2]  # those of both networks
    assert compiled()[before:].count("_run_tight") == 2


def test_a_first_record_compiles_one_program(compiled):
    params, batch = network(19)
    tracker = Tracker(loss, batch, ("train_loss", "sharpness_raw"))
    before = len(compiled())
    tracker.record(0, params)
    programs = compiled()[before:]
    assert programs.count("_observe") == 1
    assert len(programs) <= 4, programs
    before = len(compiled())
    tracker.record(1, params)
    assert compiled()[before:] == []
