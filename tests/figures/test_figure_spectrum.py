"""The pieces of the figure `spectrum`: its methods, its truth, and the rule of its verdict."""

import jax
import numpy as np
import pandas as pd
import pytest
from jax.experimental.sparse.linalg import lobpcg_standard
from made_figures import script as load
from problems import matrix_operator, symmetric

import sharplab as sl

script = load("spectrum")
SMOKE = script.PRESETS["smoke"]
EIGENVALUES = np.sort(np.concatenate([np.linspace(-0.1, 0.1, 78), 0.8 ** np.arange(10)]))[::-1]
BUDGETS = script.Budgets(tolerances=(1e-1, 1e-5), depth=60, powers=(4, 200), blocks=(1, 20))


@pytest.fixture(scope="module")
def op():
    return matrix_operator(symmetric(EIGENVALUES).astype(np.float32))


@pytest.fixture(scope="module")
def moment():
    """The smallest network of the figure, trained."""
    *_, (step, last) = script.train(SMOKE, 1, [0, SMOKE.steps])
    assert step == SMOKE.steps
    return last


@pytest.mark.long
@pytest.mark.parametrize("rank", [1, 10])
@pytest.mark.parametrize("method", [name for name in script.METHODS if name != "Lanczos, plain"])
def test_every_method_finds_the_eigenvalue_of_its_rank(op, method, rank):
    runs = list(script.METHODS[method](op, rank, 0, BUDGETS))
    assert runs[-1][2] == pytest.approx(EIGENVALUES[rank - 1], rel=1e-3)
    assert runs[-1][1] >= runs[0][1] >= rank


def test_plain_lanczos_takes_copies_of_the_first_eigenvalue_for_later_ones(op):
    plain, sound = (
        [value for _, _, value in script.METHODS[name](op, 10, 0, BUDGETS)]
        for name in ("Lanczos, plain", "Lanczos, reorthogonalised")
    )
    assert plain[0] == pytest.approx(sound[0], abs=1e-5)
    assert plain[-1] > 1.1 * sound[-1]


@pytest.mark.long
def test_the_products_stated_for_lobpcg_are_those_that_it_makes():
    A, columns = symmetric(np.arange(1.0, 61.0)).astype(np.float32), []

    def product(V):
        columns.append(V.shape[1])
        return A @ V

    with jax.disable_jit():
        lobpcg_standard(product, np.eye(60, 2, dtype=np.float32), 3, tol=0.0)
    stated = [
        products for _, products, _ in script.METHODS["LOBPCG"](matrix_operator(A), 2, 0, script.Budgets(blocks=(3,)))
    ]
    assert stated == [sum(columns[1:])]  # the first one only looks at the type


@pytest.mark.long
def test_truth_agrees_with_the_float32_operators_and_shares_their_trace(moment):
    for name in script.OPERATORS:
        op, truth = moment.operator(name), moment.truth(name)
        dense = np.asarray(op.dense(), float)
        assert truth.complete and truth.values.dtype == np.float64
        assert truth.values[0] == pytest.approx(np.linalg.eigvalsh(dense)[-1], rel=1e-4)
        assert truth.values.sum() == pytest.approx(np.trace(dense), rel=1e-4)


@pytest.mark.long
def test_truth_of_a_large_operator_is_its_upper_end(moment, monkeypatch):
    everything = moment.truth("hessian")
    monkeypatch.setattr(script, "DENSE_LIMIT", 10)
    largest = moment.truth("hessian")
    assert not largest.complete
    np.testing.assert_allclose(largest.values, everything.values[: script.PARTIAL_TRUTH], rtol=1e-9)


def test_shrinking_averages_over_blocks():
    images = np.arange(16.0).reshape(1, 4, 4, 1)
    assert script.shrunk(images, 2).ravel().tolist() == [2.5, 4.5, 10.5, 12.5]


def trajectory(**changes):
    """Forty records of one eigenvalue per operator that keep every promise, but for `changes` in the first rows."""
    rows = {"value": 1.0, "exact": 1.01, "stated_error": 0.02, "residual": 0.2, "to_nearest_exact": 0.01, "rank": 1}
    table = pd.DataFrame([{"operator": name, "products": 5, **rows} for name in script.OPERATORS for _ in range(40)])
    for column, (count, value) in changes.items():
        table.loc[: count - 1, column] = value
    return table


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "holds"),
        ({"stated_error": (2, 0.001)}, "holds"),  # 38 of 40
        ({"stated_error": (4, 0.001)}, "inconclusive"),
        ({"stated_error": (12, 0.001)}, "fails"),
        ({"to_nearest_exact": (1, 0.3)}, "fails"),
    ],
)
def test_the_verdict_follows_its_rule(changes, verdict):
    assert script.judge(trajectory(**changes)) == verdict


def test_crossings_count_pairs_that_change_places():
    orders = [(0, 1, 2), (1, 0, 2), (1, 0, 2), (2, 1, 7)]  # 0 and 1 cross; then 2 passes 1 while 0 is lost
    rows = [(step, rank, one) for step, order in enumerate(orders) for rank, one in enumerate(order, 1)]
    assert script.crossings(pd.DataFrame(rows, columns=["step", "rank", "identity"])) == 2


def test_an_oracle_stops_where_the_error_stays_small():
    rows = [("a", 1, 0, 4, 1e-4), ("a", 1, 0, 8, 1e-2), ("a", 1, 0, 16, 1e-5), ("b", 1, 0, 4, 1e-1)]
    accuracy = pd.DataFrame(rows, columns=["method", "rank", "seed", "products", "error"])
    assert script.products_needed(accuracy) == {"a": {"rank_1": 16.0}, "b": {"rank_1": np.inf}}


def test_moments_are_those_of_the_exact_spectrum_up_to_their_errors(op):
    found = script.moments(sl.spectral_density(op, probes=16), script.Truth(EIGENVALUES, True))
    for p in (1, 2, 3):
        one = found[f"p_{p}"]
        assert one["exact"] == pytest.approx((EIGENVALUES**p).mean())
        assert abs(one["value"] - one["exact"]) < 4 * one["stderr"]


@pytest.mark.slow
def test_the_whole_figure(tmp_path):
    finding = script.find("smoke", tmp_path)
    assert set(finding.table["part"]) == {"density", "exact", "accuracy", "course"}
    assert all(one["beyond_residual"] == 0 for one in finding.numbers["records"].values())
