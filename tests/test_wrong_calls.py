"""Wrong calls of public functions: one sentence that names the argument, whichever function it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx

import sharplab as sl

NAN, INF = float("nan"), float("inf")
PARAMS = {"a": jnp.ones(3), "b": jnp.ones((3, 2))}
X, Y = np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32)
A = sl.LinearOperator(lambda d: lambda v: d * v, jnp.arange(1.0, 6.0), jnp.zeros(5))
CLASSES = np.arange(16) % 3
EXAMPLES = (np.ones((16, 4), np.float32), CLASSES)


def model(w, x):
    return jnp.tanh(x * w["a"]) @ w["b"]


def whole(w, batch):
    return sl.losses.squared_error(model(w, batch[0]), batch[1])


class Net(nnx.Module):
    def __init__(self, width, rngs):
        self.hidden, self.readout = nnx.Linear(4, width, rngs=rngs), nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.readout(nnx.relu(self.hidden(x)))


def build(width, rngs):
    return Net(width, rngs)


def runs():
    rates, widths, seeds = (a.ravel() for a in np.meshgrid(2.0 ** np.arange(-3, 4), [16, 32], range(2)))
    table = {"width": widths, "learning_rate": rates, "seed": seeds, "eval_loss": 1 + np.log2(rates) ** 2 + seeds / 9}
    return pd.DataFrame(table)


def curves():
    steps = np.arange(0, 65, 8)
    return pd.DataFrame({"width": 8, "learning_rate": 1.0, "seed": 0, "step": steps, "sharpness": 2.0 + steps})


RECORDS = sl.Records(runs())
WITH_CURVES = sl.Records(runs(), curves())
FOUND = sl.transfer(RECORDS)["runs"]
LAW = {"records": RECORDS, "over": "width"}


def tracker(**given):
    given = {"loss": whole, "batch": (X, Y), "observables": ["train_loss"]} | given
    return sl.Tracker(given.pop("loss"), given.pop("batch"), given.pop("observables"), **given)


def experiment(**given):
    return sl.Experiment(**{"widths": (8,), "learning_rates": (1.0,), "model": "mlp"} | given)


SQUARED, CROSS = sl.losses.squared_error, sl.losses.cross_entropy
COUNTS = (0, -1, 1.5, "2")
OPERATOR = {"op": A}
LOSS = {"loss": whole, "params": PARAMS, "batch": (X, Y)}
MODEL = {"model": model, "loss": SQUARED, "params": PARAMS, "batch": (X, Y)}
CHECK = {"build": build, "widths": (8, 16), "batch": EXAMPLES, "loss": CROSS}
SUGGEST = {"build": build, "base": 8, "width": 32, "data": EXAMPLES, "loss": CROSS}
DECIDE = {"experiment": experiment(widths=(8, 16)), "store": "x"}
BAD_PARAMS = (None, "x", {}, {"a": jnp.ones(3, int)}, {"a": jax.random.key(0)})
NO_FUNCTION = (5, None, "x")
WRONG = [
    (sl.eigsh, OPERATOR, {"op": (5, None, np.eye(3)), "k": (*COUNTS, None, 9), "which": ("XX", None)}),
    (sl.eigsh, OPERATOR, {"tol": (NAN, -1, 0, INF, "x"), "max_matvecs": COUNTS, "key": (3, "k")}),
    (sl.eigsh, OPERATOR, {"start": ("x", jnp.ones(3), {"a": jnp.ones(5)}, jnp.ones((2, 2, 5)), np.array(["a"]))}),
    (sl.trace, OPERATOR, {"op": (5, None), "method": ("zz", 3), "matvecs": (*COUNTS, None), "key": (3,)}),
    (sl.diagonal, OPERATOR, {"op": (5,), "matvecs": (*COUNTS, None)}),
    (sl.spectral_density, OPERATOR, {"op": (5,), "steps": (*COUNTS, None), "probes": (*COUNTS, None)}),
    (sl.logdet, OPERATOR | {"shift": 1.0}, {"op": (5,), "shift": ("x", NAN, None), "steps": COUNTS}),
    (sl.effective_dimension, OPERATOR | {"shift": 1.0}, {"op": (5,), "shift": ("x", NAN)}),
    (sl.hessian, LOSS, {"loss": NO_FUNCTION, "params": BAD_PARAMS, "model": (5, "x"), "chunk": COUNTS}),
    (sl.hessian, LOSS, {"method": ("zz", None, 3)}),
    (sl.hessian, LOSS, {"batch": (None, (X[:0], Y[:0])), "weight": (np.ones(3), -np.ones(4), "x")}),
    (sl.gauss_newton, MODEL, {"model": NO_FUNCTION, "loss": NO_FUNCTION, "params": BAD_PARAMS, "chunk": COUNTS}),
    (sl.gauss_newton, MODEL, {"batch": (None, 5, X, (X,), (X[:0], Y[:0]))}),
    (sl.fisher, MODEL, {"kind": ("zz", None), "loss": (5, whole), "batch": (None, 5)}),
    (sl.fisher, MODEL | {"kind": "mc"}, {"samples": (*COUNTS, None), "key": (3, "k")}),
    (sl.ntk, {"model": model, "params": PARAMS, "inputs": X}, {"model": NO_FUNCTION, "params": BAD_PARAMS}),
    (sl.ntk, {"model": model, "params": PARAMS, "inputs": X}, {"inputs": (None, X[:0]), "chunk": COUNTS}),
    (sl.ntk, {"model": model, "params": PARAMS, "inputs": X}, {"scale": (-1, {"a": 1.0}, {"a": -1.0, "b": 1.0})}),
    (sl.precondition, OPERATOR | {"scale": jnp.ones(5)}, {"op": (5,), "scale": ("x", jnp.ones(3), None, {"a": 1})}),
    (sl.block, OPERATOR | {"select": str}, {"op": (5,), "select": (5, None, lambda path: False)}),
    (sl.operator, {"matvec": abs, "like": Y}, {"matvec": (*NO_FUNCTION, jnp.sum), "like": BAD_PARAMS}),
    (sl.directional_sharpness, OPERATOR | {"g": jnp.ones(5)}, {"op": (5, None)}),
    (sl.critical_sharpness, LOSS | {"update": PARAMS}, {"loss": NO_FUNCTION, "params": BAD_PARAMS, "chunk": COUNTS}),
    (sl.critical_sharpness, LOSS | {"update": PARAMS}, {"update": BAD_PARAMS, "other": (whole, (whole,), (5, X))}),
    (sl.critical_sharpness, LOSS | {"update": PARAMS}, {"tol": (0, 1, NAN, "x", None), "start": (0, -1, NAN, "x")}),
    (tracker, {}, {"loss": NO_FUNCTION, "observables": (["zz"], [5], None, "train_loss"), "model": (5,)}),
    (tracker, {}, {"metric": (5,), "learning_rate": ("x", NAN, -1), "chunk": COUNTS, "key": (3,), "batch": (None,)}),
    (tracker, {}, {"update": (5, "x")}),
    (tracker().record, {"step": 0, "params": PARAMS}, {"step": ("x", None, NAN), "params": BAD_PARAMS, "state": (5,)}),
    (sl.mup, {"build": build, "base": 8, "width": 16}, {"build": (*NO_FUNCTION, lambda w: 1, lambda width, rngs: 5)}),
    (sl.mup, {"build": build, "base": 8, "width": 16}, {"base": (*COUNTS, None), "width": (*COUNTS, None)}),
    (sl.mup, {"build": build, "base": 8, "width": 16}, {"optimizer": ("zz", 5, None)}),
    (sl.mup(build, base=8, width=16).optimizer, {"learning_rate": 0.1}, {"learning_rate": (-1, 0, NAN, INF, 1e-300)}),
    (sl.mup(build, base=8, width=16).optimizer, {"learning_rate": 0.1}, {"b1": (2.0, -1), "eps": (-1, NAN)}),
    (sl.mup(build, base=8, width=16).init, {"key": 0}, {"key": ("x", None, 1.5)}),
    (sl.parameterization, {"name": "mup"}, {"name": ("zz", 5, None)}),
    (sl.parameterization("mup").shift, {"theta": 0.5}, {"theta": ("x", NAN, None)}),
    *(
        (check, CHECK, {"build": NO_FUNCTION, "loss": NO_FUNCTION, "batch": (None, 5, (X,)), "optimizer": ("zz", 5)})
        for check in (sl.coordinate_check, sl.inspect_optimizer, sl.wider_is_better)
    ),
    (sl.coordinate_check, CHECK, {"widths": ((), (8,), ("x", "y"), (0, 8), None), "steps": COUNTS, "seeds": COUNTS}),
    (experiment, {}, {"widths": ((), 0, "x", None), "steps": (*COUNTS, None), "records": (0, 1, 1000, None)}),
    (experiment, {}, {"learning_rates": ((), 0, NAN, 1e-300, {"zz": 1.0}), "gamma": (0, -1, NAN, INF, 1e-300, None)}),
    (experiment, {}, {"model": ("zz", 5, None, "nosuch:build"), "optimizer": ("zz", 5), "schedule": ("zz", 5)}),
    (experiment, {}, {"loss": ("zz", 5), "data": ("zz", 5), "augment": ("zz",), "spacing": ("zz", 5), "alpha": (NAN,)}),
    (experiment, {}, {"parameterizations": ("zz", 5, ()), "observables": ("zz", 5, ()), "trainable": ("zz",)}),
    (sl.run, {"experiments": experiment(), "store": "x"}, {"experiments": ((), None, 5, "x"), "store": (None, 5)}),
    (sl.load, {"store": "x"}, {"store": (None, 5, "/nosuch", "/dev/null")}),
    (sl.Records, {"runs": runs()}, {"runs": (None, 5, "x", [1], runs().iloc[:0]), "curves": (5, "x", runs())}),
    (sl.read_sweep, {"path": "x.csv"}, {"path": (None, 5, "/nosuch.csv", "/dev/null", "x.pkl", ".")}),
    (sl.learning_rate_law, LAW, {"records": (None, 5, runs()), "over": ("zz", 5, None, (), [3], "learning_rate")}),
    (sl.learning_rate_law, LAW, {"tuned": ("zz", 5, None, "width"), "metric": ("zz", 5), "confidence": (0, 2, "x")}),
    (RECORDS.select, {}, {"width": (999, "x"), "nosuch": (1,)}),
    (sl.transfer, {"records": RECORDS}, {"records": (None, 5, runs()), "over": ("zz", 5, None), "metric": ("zz", 5)}),
    (sl.transfer, {"records": RECORDS}, {"tolerance": (0, -1, NAN, "x", None), "confidence": (0, 1, NAN, "x", None)}),
    (
        sl.usefulness,
        {"records": RECORDS},
        {"records": (None, 5), "over": ("zz", 5), "metric": ("zz", 5), "confidence": (0, 1)},
    ),
    (sl.collapse, {"records": WITH_CURVES, "metric": "sharpness"}, {"records": (None, RECORDS), "metric": ("zz", 5)}),
    (sl.collapse, {"records": WITH_CURVES, "metric": "sharpness"}, {"over": ("zz", 5), "confidence": (0, 1, NAN)}),
    (sl.consistency, {"records": WITH_CURVES, "quantity": "sharpness"}, {"records": (None, 5), "quantity": ("zz", 5)}),
    (sl.stability, {"records": WITH_CURVES}, {"records": (None, 5), "confidence": (0, 2)}),
    (sl.power_law, {"x": [1, 2], "y": [1, 2]}, {"x": ([1], [], None), "y": ([1], None), "confidence": (0, 1)}),
    (sl.shift_difference, {"a": FOUND, "b": FOUND}, {"a": (5, None), "b": (5,), "confidence": (0, 2, "x")}),
    (sl.suggest_learning_rate, SUGGEST, {"build": (5, None), "base": COUNTS, "width": COUNTS, "loss": (5,)}),
    (sl.learning_rate_from_sharpness, SUGGEST, {"build": (5, None), "optimizer": ("adm", 5, None), "steps": COUNTS}),
    (
        sl.decide,
        DECIDE,
        {"experiment": (None, 5, [experiment()]), "store": (None, 5), "over": ("zz", 5, None, "depth")},
    ),
    (sl.decide, DECIDE, {"metric": ("zz", 5, None), "tolerance": (0, -1, NAN, "x", None), "seeds": (*COUNTS, None)}),
    (sl.decide, DECIDE, {"flops": (0, -1, NAN, "x", None), "confidence": (0, 1, NAN, "x", None)}),
    (sl.suggest_learning_rate, SUGGEST, {"data": (5, None, (X,)), "steps": COUNTS, "minutes": ("x", -1, 0)}),
    (sl.resample, {"make_operator": len, "batches": [1, 2], "estimator": len}, {"batches": ([], None, 5)}),
    (sl.resample, {"make_operator": len, "batches": [1, 2], "estimator": len}, {"estimator": NO_FUNCTION}),
    (CROSS, {"outputs": Y, "targets": CLASSES[:4] % 2}, {"outputs": (None, 5, "x"), "targets": (None, Y, CLASSES[:3])}),
    (CROSS, {"outputs": Y, "targets": CLASSES[:4] % 2}, {"targets": (CLASSES[:4] - 1, CLASSES[:4] + 5)}),
    (SQUARED, {"outputs": Y, "targets": Y}, {"outputs": (None, 5), "targets": (None, Y[:, 0], Y[:3], Y[:, :1])}),
]
ANNEALED = sl.AnnealingLaw("momentum", {"L0": 2.0, "A": 1.0, "alpha": 0.5, "C": 0.3, "lambda": 0.9})
RATES = np.full(20, 0.1)
TOURNAMENT = {
    "records": sl.Records(pd.concat([runs().assign(schedule=name, seed=k) for name in "ab" for k in range(3)])),
    "cells": ("width",),
    "metric": "eval_loss",
}
DECAYING = [(RATES, range(1, 21), np.linspace(3, 2, 20))]
WRONG += [
    (sl.AnnealingLaw.fit, {"runs": DECAYING}, {"runs": (None, 5, [], [RATES], DECAYING * 0), "law": ("zz", 5, None)}),
    (sl.AnnealingLaw.fit, {"runs": DECAYING}, {"confidence": (0, 1, NAN), "runs": ([(RATES, [1, 2], [2.0, 1.0])],)}),
    (ANNEALED.predict, {"learning_rates": RATES}, {"learning_rates": (None, 5, "x", [], [0.0], [-1.0], [NAN])}),
    (ANNEALED.predict, {"learning_rates": RATES}, {"steps": ([0], [21], [1.5], "x", [], [[1]])}),
    (ANNEALED.best_schedule, {"steps": 8, "peak": 0.1}, {"steps": (*COUNTS, None), "peak": (0, -1, NAN, INF, "x")}),
    *(
        (make, {"steps": 8}, {"steps": (*COUNTS, None), "peak": (0, -1, NAN, INF, "x")})
        for make in (
            sl.schedules.wsd,
            sl.schedules.rex,
            sl.schedules.power,
            sl.schedules.inverse_sqrt,
            sl.schedules.points,
        )
    ),
    (sl.schedules.wsd, {"steps": 8}, {"warmup": (-0.1, 1.1, NAN, "x", None), "decay": (-0.1, 2, None)}),
    (sl.schedules.power, {"steps": 8}, {"flat": (-1, 2), "exponent": (1, NAN, "x"), "last": (0, 1, -1, None)}),
    (sl.schedules.points, {"steps": 8}, {"values": (None, 5, "x", [1.0], [0.0, 0.0], [1.0, -1.0], [1.0, NAN])}),
    (sl.schedules.points_name, {"values": [1.0, 0.0]}, {"values": (None, "x", [0.0, 0.0])}),
    (sl.rank_schedules, TOURNAMENT, {"records": (None, 5, runs()), "cells": ((), ("zz",), None), "metric": ("zz", 5)}),
    (sl.lr_free_methods, {}, {"schedule": (None, 5, "x")}),
    (
        sl.performance_profile,
        {"times": {"a": [[1.0]]}, "taus": (1, 2)},
        {"times": (None, 5, {}, {"a": [1.0]}, {"a": [[-1.0]]}, {"a": "x"}), "taus": (None, 5, "x", (2, 1), (NAN, 2))},
    ),
    (sl.refine_schedule, {"experiment": experiment()}, {"experiment": (None, 5), "rounds": (*COUNTS, None)}),
    (sl.refined_schedule, {"norms": [2.0, 1.0]}, {"norms": (None, 5, "x", [1.0], [1.0, 0.0], [1.0, NAN], [[1.0]])}),
    (sl.refined_schedule, {"norms": [2.0, 1.0]}, {"norm": ("l3", 5, None), "smoothing": (-1, 2), "peak": (0, NAN)}),
    (
        sl.theory.last_iterate_bound,
        {"learning_rates": [1.0, 0.5]},
        {
            "learning_rates": (None, 5, "x", [], [0.0], [-1.0], [NAN]),
            "distance": (0, -1, NAN, INF),
            "gradient_norms": (None, "x", [1.0], [-1.0, 1.0], NAN),
        },
    ),
    (experiment, {}, {"schedule": ("wsd(", "wsd(x=1)", "wsd(decay=2)", "wsd(decay=x)", "rex(decay=1)", "zz(a=1)")}),
    (
        sl.AnnealingLaw,
        {"law": "momentum"},
        {"parameters": (ANNEALED.parameters | {"A": NAN}, ANNEALED.parameters | {"lambda": 1.0})},
    ),
    (sl.AnnealingLaw, {"law": "momentum", "parameters": {}}, {"law": ("zz", 5), "parameters": (None, {}, {"L0": 1.0})}),
]
# Where the sentence calls the argument by what it names.
CALLED = {
    "name": "parameterization",
    "parameterizations": "parameterization",
    "observables": "observable",
    "over": "column|over",
    "tuned": "column|tuned",
    "metric": "column|curves|metric",
    "quantity": "curves|quantity",
    "batch": "batch|targets",
    "x": "x|power law",
    "y": "y|power law",
    "data": "data|batch_size",
}


@pytest.mark.parametrize(
    ("call", "right", "argument", "value"),
    [
        pytest.param(call, right, argument, value, id=f"{getattr(call, '__name__', call)}-{argument}-{i}")
        for call, right, wrong in WRONG
        for argument, values in wrong.items()
        for i, value in enumerate(values)
    ],
)
def test_a_wrong_argument_is_named(call, right, argument, value):
    with pytest.raises(ValueError, match=CALLED.get(argument, argument)):
        call(**right | {argument: value})
