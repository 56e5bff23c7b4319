"""Uses of what ARCHITECTURE.md adds: run in a tree that has it, prints {example: "" or its traceback} as JSON."""

import json
import sys
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import sharplab as sl

SMALL = {"parameterizations": "mup", "data": "gaussian-clusters", "steps": 2, "records": 2, "probe_size": 64}


def figure():
    # First, as a command chooses its devices before jax has done anything.
    from sharplab.__main__ import main

    sys.argv = ["sharplab", "figure", "wider", "--preset=smoke", "--folder=made"]
    try:
        main()
    except SystemExit as ended:
        assert ended.code == 0
    stated = json.loads(Path("made/wider.json").read_text())
    assert stated["verdict"] in ("holds", "fails", "inconclusive")
    assert np.isfinite(stated["numbers"]["train_loss"]).all()
    assert Path("made/wider.png").stat().st_size > 1000


def trained(**settings):
    """The train losses at the beginning and after 2 steps of one small run."""
    experiment = sl.Experiment(widths=8, seeds=1, **SMALL | settings)
    losses = sl.run(experiment, "runs").curves["train_loss"]
    assert len(losses) == 2 and np.isfinite(losses).all()
    return tuple(losses)


def model():
    before, after = trained(model="quadratic_network", learning_rates=0.125)
    assert after < before


def optimizer():
    before, after = trained(model="mlp", optimizer="signsgd", learning_rates=2.0**-6)
    assert after < before
    for checks in (sl.optimizers.lion, sl.optimizers.muon):  # its neighbours are decorated as before
        try:
            checks(b1=2.0)
        except ValueError as refused:
            assert "b1" in str(refused)
        else:
            raise AssertionError(checks)


def operator():
    from sharplab.curvature import hessian_residual

    def network(w, x):
        return jnp.tanh(x @ w[:2])[:, None] * w[2]

    params, x, y = jnp.array([0.3, -0.5, 0.8]), jnp.array([[1.0, 0.5], [-1.0, 2.0]]), jnp.array([[1.0], [-0.5]])
    by_output = jax.hessian(lambda w: network(w, x))(params)  # (2, 1, 3, 3)
    dense = jnp.mean((network(params, x) - y)[..., None, None] * by_output, axis=(0, 1))
    assert np.abs(dense).max() > 0.1
    assert np.allclose(hessian_residual(network, sl.losses.squared_error, params, (x, y)).dense(), dense, atol=1e-6)


def observable():
    tracker = sl.Tracker(lambda w, batch: jnp.mean(batch @ w["a"]) + w["b"], jnp.eye(2), ["parameter_norm"])
    assert tracker.record(0, {"a": jnp.array([2.0, 3.0]), "b": jnp.array(6.0)}) == {"step": 0, "parameter_norm": 7.0}


def study():
    from sharplab.studies import rate_tolerance

    runs = pd.DataFrame({"width": 8, "learning_rate": [0.5, 1.0, 2.0, 4.0], "train_loss": [1.05, 1.0, 1.08, 2.0]})
    found = rate_tolerance(sl.Records(runs.assign(parameterization="mup", seed=0)))
    assert found.to_dict() == {("mup", 8): 2.0}


EXAMPLES = {each.__name__: each for each in (figure, model, optimizer, operator, observable, study)}


def main():
    assert Path.cwd() in Path(sl.__file__).parents
    outcomes = dict.fromkeys(EXAMPLES, "")
    for name, example in EXAMPLES.items():
        try:
            example()
        except Exception:
            outcomes[name] = traceback.format_exc()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
