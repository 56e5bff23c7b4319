"""The benchmark measures what it says: right truths, the fewest products, the same network everywhere."""

from dataclasses import asdict, replace
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from spectra import problems
from spectra.contest import Terms, own_rows, relative_error
from spectra.contestant import Contestant, Meter, OutOfTime, Solution, arpack
from spectra.problems import PROBLEMS
from spectra.report import headline, picture, tables
from spectra.truth import both_orders, extreme_eigenvalues, oracle_products, random_start
from spectrum import solve_limit

from sharplab.core import tree
from sharplab.curvature import LinearOperator

TERMS = Terms(tolerances=(1e-1, 1e-2, 1e-3), starts=2, patience=60.0)


def diagonal_operator(diagonal):
    return LinearOperator(lambda d: lambda v: d * v, jnp.asarray(diagonal), jnp.zeros(len(diagonal)))


def halving(**changes):
    """Finds 1 with an error that halves at each of its iterations; its own rule trusts that error twice as far."""

    def solve(k, tol, seed):
        steps = int(np.ceil(-np.log2(tol))) - 1
        return Solution(np.array([1 - 0.5**steps]), steps)

    return replace(Contestant(which="LA", solve=solve), **changes)


def test_relative_error_is_of_the_worst_value_and_infinite_where_one_is_missing():
    assert relative_error([2.0, 1.1], [2.0, 1.0]) == pytest.approx(0.1)
    assert relative_error([2.0], [2.0, 1.0]) == np.inf


def test_own_rule_is_reported_with_the_error_it_really_has():
    rows = list(own_rows(halving(), [1.0], TERMS))
    assert all(min(row["errors"]) > row["tol"] for row in rows)


def test_contestant_that_takes_too_long_is_not_asked_for_more():
    asked = []

    def solve(k, tol, seed):
        asked.append(tol)
        raise OutOfTime

    rows = list(own_rows(halving(solve=solve), [1.0], TERMS))
    assert [row["finished"] for row in rows] == [False] * 3
    assert asked == [TERMS.tolerances[0]]


def test_peer_may_take_thrice_as_long_as_sharplab_did():
    rows = [{"finished": True, "seconds": seconds} for seconds in ([1.0, 44.5], [35.0])] + [{"finished": False}]
    assert solve_limit(TERMS, {"rows": rows}) == 3 * 44.5
    assert solve_limit(TERMS, {"rows": rows[1:2]}) == 3 * 35
    for ours in ({}, {"failed": "no memory"}, {"rows": rows[2:]}, {"rows": [{"finished": True, "seconds": [1.0]}]}):
        assert solve_limit(TERMS, ours) == TERMS.patience


def test_meter_ends_a_solve_after_its_seconds():
    meter = Meter(seconds=-1.0)
    with pytest.raises(OutOfTime):
        meter.count()


def test_truth_of_a_known_spectrum_in_both_orders(float64):
    diagonal = np.concatenate([[5.0, 4.0, 3.0, -4.5], np.linspace(-1, 1, 60)])
    found = both_orders(diagonal_operator(diagonal), 3)
    np.testing.assert_allclose(found["LA"][0], [5, 4, 3], rtol=1e-12)
    np.testing.assert_allclose(found["LM"][0], [5, -4.5, 4], rtol=1e-12)
    assert max(found["LA"][1]) < 1e-7


def test_orders_agree_where_no_negative_eigenvalue_is_large(float64):
    found = both_orders(diagonal_operator(np.linspace(-0.5, 3, 80)), 2)
    np.testing.assert_allclose(found["LM"][0], found["LA"][0])


def test_plain_lanczos_needs_as_many_products_as_there_are_distinct_eigenvalues():
    diagonal = np.repeat([4.0, 2.0, 1.0], 50).astype(np.float32)
    op = diagonal_operator(diagonal)
    needed = oracle_products(op, {1: [4.0], 3: [4.0, 2.0, 1.0]}, [1e-5], random_start(op, 0), most=10)
    assert needed == {1: {1e-5: 3}, 3: {1e-5: 3}}


def test_more_than_the_most_products_is_none():
    op = diagonal_operator(np.linspace(0, 1, 200))
    needed = oracle_products(op, {1: [1.0]}, [1e-6], random_start(op, 0), most=4)
    assert needed == {1: {1e-6: None}}


def test_a_start_of_few_eigenvectors_needs_as_many_products():
    op, start = diagonal_operator(np.linspace(0, 1, 200)), np.zeros(200, np.float32)
    start[[-1, -2, -3]] = 1
    assert oracle_products(op, {2: [1.0, 198 / 199]}, [1e-5], start, most=10) == {2: {1e-5: 3}}


def test_arpack_counts_its_products():
    op = diagonal_operator(np.linspace(0, 1, 200).astype(np.float32) ** 8).to_scipy()
    meter, made = Meter(60.0), []
    counted = type(op)(op.shape, matvec=lambda v: (meter.count(), made.append(1), op @ v)[-1], dtype=op.dtype)
    solution = arpack(counted, meter, 2, 1e-3, seed=0)
    assert solution.products == len(made) < 200
    assert relative_error(solution.values, [1.0, (198 / 199) ** 8]) < 1e-3


@pytest.fixture(scope="module", params=["mlp-17k", "gpt-26k", "convnet"])
def made(request, tmp_path_factory):
    """A small problem of each kind and its file."""
    known = PROBLEMS[request.param]
    small = {"steps": 2, "examples": 4, "batch": 4, "width": min(known.width, 16)}
    problem = replace(known, **small, depth=1 if known.kind == "gpt" else known.depth)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problems, "CACHE", tmp_path_factory.mktemp("problems"))
        path = problems.write(problem)
        yield problem, path


def test_file_gives_back_the_weights_and_the_gradient(made):
    problem, path = made
    params, batch = problems.load(problem)
    loss, gradient = jax.jit(jax.value_and_grad(problem.objective))(params, batch)
    with np.load(path) as arrays:
        assert float(loss) == pytest.approx(float(arrays["loss"]), rel=1e-5)
        for name, leaf in tree.named_leaves(gradient).items():
            np.testing.assert_allclose(leaf, arrays[f"gradient/{name}"], rtol=1e-3, atol=1e-5)


def test_other_definition_has_another_file():
    problem = PROBLEMS["mlp-1M"]
    assert problem.path != replace(problem, steps=301).path


def test_sizes_are_those_that_the_names_say():
    sizes = {name: problem.parameters for name, problem in PROBLEMS.items()}
    for name, size in ((name, size) for name, size in sizes.items() if name.endswith("M")):
        assert size == pytest.approx(1e6 * float(name.rpartition("-")[2].removesuffix("M")), rel=0.06)


def test_network_in_pytorch_has_the_same_loss_and_gradient(made):
    pytest.importorskip("torch", reason="the optional extra 'peers' is not installed")
    from spectra import networks

    problem, path = made
    setup = networks.load(asdict(problem), str(path))  # refuses one that differs
    assert sum(p.numel() for p in setup.model.parameters()) == problem.parameters


def test_markov_text_follows_one_chain():
    first, again, other = (problems.markov_text(16, 40, 30, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    followers = {token: set() for token in range(16)}
    for before, after in zip(first[:, :-1].ravel(), first[:, 1:].ravel(), strict=True):
        followers[before].add(after)
    assert all(len(after) <= 8 for after in followers.values())


def solves(k, tol, products, seconds, error):
    names = {"products": [products], "seconds": [seconds], "errors": [error]}
    return {"k": k, "tol": tol, "stopping": "own", "finished": True} | names


def test_headline_takes_the_fastest_peer_whose_error_is_within_the_tolerance():
    peers = {
        "sharplab": {"rows": [solves(1, 1e-3, 12, 1.0, 1e-4)]},
        "scipy": {"rows": [solves(1, 1e-3, 21, 3.0, 1e-7)]},
        "pyhessian": {"rows": [solves(1, 1e-3, 9, 0.5, 1e-2)]},
        "curvlinops": {"failed": "not installed"},
    }
    found = {"net": {"parameters": 9, "oracle": {"1": {"0.001": [9, 10, 11]}}, "contestants": peers}}
    assert headline(found) == {
        "net, top 1": {"products_over_oracle": 1.2, "best_peer": "scipy", "seconds_of_best_peer": 3.0}
    }
    contest = {"contest": found}
    assert len(list(tables(contest))) == 3  # the contest, who did not take part, the headline
    assert len(picture(contest).axes) == 1


def test_panels_of_the_picture_do_not_overlap():
    peers = {
        peer: {"rows": [solves(k, 1e-3, 9, seconds, error) for k in (1, 10)]}
        for peer, seconds, error in (("sharplab", 0.21, 1e-8), ("scipy", 0.32, 1e-7))
    }
    problem = {"oracle": {"1": {"0.001": [9]}, "10": {"0.001": [9]}}, "contestants": peers}
    names = [f"network-{i}" for i in range(6)]
    cost = {kind: {"over_gradient": {"median": 1.0}} for kind in ("hessian", "gauss_newton")}
    found = {"contest": dict.fromkeys(names, problem), "costs": dict.fromkeys(names, cost)}
    drawn = picture(found)
    drawn.canvas.draw()
    boxes = [ax.get_tightbbox() for ax in drawn.axes if ax.axison]
    assert len(boxes) == 13
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_records_have_a_row_each():
    cost = {"value": 3.0, "calls": 4, "over_gradient": {"median": 1.5}}
    (made,) = tables({"records": {"net": {"critical sharpness, next": cost, "λmax to 1 %, next": cost}}})
    network, kind, *numbers = (list(column.cells) for column in made.columns)
    assert network == ["net", "net"] and kind == ["critical sharpness, next", "λmax to 1 %, next"]
    assert numbers == [["3", "3"], ["4", "4"], ["1.5", "1.5"]]  # value, calls, cost in gradients


def test_extreme_eigenvalues_are_in_order(float64):
    values, _ = extreme_eigenvalues(diagonal_operator(np.linspace(-3, 2, 90)), 3, "LM")
    assert list(np.abs(values)) == sorted(np.abs(values), reverse=True)
