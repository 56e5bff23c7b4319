"""The lowest point of a surface over learning rate and batch size, against the one that was put in."""

import numpy as np
import pytest

from sharplab.analysis.surfaces import WINDOWS, surface_optima

GRID = np.array([(x, b) for x in np.arange(-8, -1, 0.5) for b in np.arange(4, 11, 0.5)])
TRUTH = np.array([-4.8, 7.3])


def loss(third=0.0):
    x, b = (GRID - TRUTH).T
    return 2 + 0.05 * x**2 + 0.03 * b**2 - 0.03 * x * b + third * x**3


def test_a_quadratic_surface_has_its_lowest_point_under_every_window():
    values, variances = surface_optima(GRID, loss())
    np.testing.assert_allclose(values, np.tile(TRUTH, (len(WINDOWS), 1)), atol=1e-6)
    assert (variances < 1e-12).all()


def test_a_lopsided_one_has_it_where_the_cubic_term_is_fitted():
    values, _ = surface_optima(GRID, loss(third=0.004))
    for (_, cubic), found in zip(WINDOWS, values, strict=True):
        assert np.allclose(found, TRUTH, atol=1e-6) == cubic


def test_over_the_learning_rate_alone_it_is_the_lowest_point_of_a_parabola():
    x = np.arange(-8, -1, 0.25)
    values, _ = surface_optima(x[:, None], 2 + 0.05 * (x + 4.8) ** 2)
    np.testing.assert_allclose(values, np.full((len(WINDOWS), 1), -4.8), atol=1e-6)


def test_the_variance_is_that_of_repeated_draws():
    rng = np.random.default_rng(0)
    found = [surface_optima(GRID, loss() + 0.002 * rng.normal(size=len(GRID))) for _ in range(200)]
    values, variances = (np.array(each) for each in zip(*found, strict=True))
    ratio = variances.mean(axis=0) / values.var(axis=0)
    # The windows lie about the best run, which moves with the noise too.
    assert (ratio > 0.6).all() and (ratio < 1.7).all()


def test_where_a_window_holds_too_few_runs_the_mean_of_the_others_stands_for_it():
    """On octaves 1.5 on either side hold nine runs, which is enough for no cubic term and its noise."""
    coarse = (GRID % 1 == 0).all(axis=1)
    values, variances = surface_optima(GRID[coarse], loss(third=0.004)[coarse])
    told = [i for i, window in enumerate(WINDOWS) if window != (1.5, True)]
    np.testing.assert_allclose(values[1], values[told].mean(axis=0))
    np.testing.assert_allclose(variances[1], variances[told].mean(axis=0) + values[told].var(axis=0))


@pytest.mark.parametrize(
    "losses",
    [
        np.full(len(GRID), np.inf),
        loss()[::-1] * 0 + GRID[:, 0],  # lowest at the end
        -loss(),
        np.where(GRID[:, 0] > -6, np.inf, loss()),  # the cliff lies before the lowest point
    ],
    ids=["diverged", "slope", "hill", "cliff"],
)
def test_without_a_lowest_point_inside_there_is_none(losses):
    assert surface_optima(GRID, losses) is None


def test_diverged_runs_are_left_out_of_the_fit():
    losses = np.where(GRID[:, 0] > -4, np.inf, loss())
    values, _ = surface_optima(GRID, losses)
    np.testing.assert_allclose(values, np.tile(TRUTH, (len(WINDOWS), 1)), atol=1e-6)
