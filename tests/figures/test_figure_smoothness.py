"""The figure of regularised Newton steps: its problems' curvatures, what a run took, and the rule."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

from sharplab.analysis.trend import Measured

script = load("smoothness")
problems = sys.modules["smoothness_problems"]  # which the script imports from beside it


@pytest.mark.long
@pytest.mark.usefixtures("float64")
def test_curvatures_leave_out_what_they_say():
    """The weighted Gauss-Newton matrix is H + g gᵀ, the Fisher term H − ‖u‖² AᵀA; the minimum of LogSumExp is at 0."""
    rng = np.random.default_rng(0)
    problem = problems.log_sum_exp(rng, 5, of_data=True)

    def of(problem, x):
        f = jax.value_and_grad(lambda y: problem.loss(problem.model(y, problem.batch[0]), None))
        return *f(x), jax.hessian(lambda y: f(y)[0])(x)

    _, gradient, hessian = of(problem, x := jnp.asarray(rng.normal(size=5)))
    weighted = problems.weighted_gauss_newton(x, problem.batch).dense()
    np.testing.assert_allclose(weighted, hessian + jnp.outer(gradient, gradient), atol=1e-12)
    lowest, gradient, _ = of(problem, jnp.zeros(5))
    assert lowest == pytest.approx(problem.lowest) and jnp.linalg.norm(gradient) < 1e-12

    problem = problems.power_norm(rng, 3, of_data=False)
    _, _, hessian = of(problem, x := jnp.asarray(rng.normal(size=6)))
    rows, u = problem.batch[0][0], problems.affine(x, problem.batch[0])
    np.testing.assert_allclose(
        problems.fisher_term(x, problem.batch).dense(), hessian - (u @ u) * rows.T @ rows, atol=1e-10
    )


@pytest.mark.usefixtures("float64")
def test_the_norm_of_the_data_is_a_change_of_coordinates():
    starts = [problems.log_sum_exp(np.random.default_rng(0), 5, of_data=of_data) for of_data in (True, False)]
    values = [problem.loss(problem.model(problem.params, problem.batch[0]), None) for problem in starts]
    assert values[0] == pytest.approx(float(values[1]))


def test_a_row_counts_until_the_run_is_there():
    problem = problems.Problem(problems._sum_of_squares, problems.affine, np.ones(2), None, 0.0, accuracy=1e-3)
    problem = problems.replace(problem, batch=((np.eye(2), np.zeros(2)), np.zeros(2)))
    rows = script.rows_of(problem, "hessian", 64)
    assert rows["gap"].iloc[-1] <= 1e-3 < rows["gap"].iloc[-2]
    assert rows["gradients"].tolist() == list(range(1, len(rows) + 1))
    assert (rows["step"] + rows["rejected"] == rows["gradients"] - 1).all()
    assert rows["products"].iloc[-1] == len(rows) - 1  # one of 2I + σI each


def counts(exact, approximate):
    parts = [
        pd.DataFrame({"problem": "one", "draw": range(len(steps)), "method": method, "step": steps})
        for method, steps in (("exact", exact), ("gauss_newton", approximate))
    ]
    return pd.concat(parts)


def test_ratios_are_of_the_same_draw():
    found = script.ratios_of(counts([8, 16, 32], [16, 32, 128]))["one", "gauss_newton"]
    assert found.value == pytest.approx(4 / 3)
    assert found.high - found.value == pytest.approx(4.3027 / 3, rel=1e-4)  # Student's t of three: s/√n = 1/3


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ((-0.1, 0.2), (0.0, 0.25), "holds"),
        ((-0.1, 0.2), (0.1, 0.5), "inconclusive"),
        ((-0.1, 0.2), (0.5, 1.5), "fails"),
        ((-1.5, -0.5), (-0.1, 0.2), "fails"),
        ((float("-inf"), float("inf")), (0.0, 0.1), "inconclusive"),
    ],
)
def test_rule(one, other, verdict):
    ratios = {(name, "gauss_newton"): Measured(0.0, *of) for name, of in zip(script.JUDGED, (one, other), strict=True)}
    assert script.judge(ratios) == verdict
