"""Laws with scatter beyond the noise, against closed forms."""

import numpy as np
import pytest

from sharplab.analysis.mixed_law import MixedLaw


def drawn(scatter, own, cells=12, seed=0):
    rng = np.random.default_rng(seed)
    design = np.column_stack([np.ones(cells), rng.normal(size=(cells, 2))])
    return design, design @ [1.0, -0.5, 0.25] + np.hypot(scatter, own) * rng.normal(size=cells)


@pytest.mark.parametrize("own", [0.0, 0.05, 0.3, 3.0])
def test_with_equal_noise_it_is_least_squares_with_the_scatter_less_the_noise(own):
    """Then REML has the closed form τ² = max(0, RSS/(n − p) − s²), and the coefficients are those of least squares."""
    design, values = drawn(0.3, own)
    law = MixedLaw.through(design, values, np.full(len(values), own**2))
    coefficients, (squares,), *_ = np.linalg.lstsq(design, values)
    scatter = squares / (len(values) - 3)
    np.testing.assert_allclose(law.coefficients, coefficients, rtol=1e-9)
    assert law.between == pytest.approx(max(0.0, scatter - own**2), rel=1e-5, abs=1e-9)
    # Where the noise says more than the scatter, the noise counts; else the scatter.
    expected = max(scatter, own**2) * np.linalg.inv(design.T @ design)
    np.testing.assert_allclose(law.covariance, expected, rtol=1e-4)
    assert law.df == len(values) - 3


def test_the_scatter_between_cells_maximises_the_restricted_likelihood():
    design, values = drawn(0.3, 0.1)
    own = np.random.default_rng(1).uniform(0.001, 0.1, len(values))
    law = MixedLaw.through(design, values, own)

    def likelihood(between):
        v = np.diag(own + between)
        precision = np.linalg.inv(v)
        information = design.T @ precision @ design
        projected = precision - precision @ design @ np.linalg.solve(information, design.T @ precision)
        return -(np.linalg.slogdet(v)[1] + np.linalg.slogdet(information)[1] + values @ projected @ values) / 2

    assert law.between > 0
    assert likelihood(law.between) >= max(likelihood(law.between * factor) for factor in (0.5, 0.99, 1.01, 2.0))


def test_a_value_of_much_noise_weighs_little():
    law = MixedLaw.through(np.ones((3, 1)), np.array([0.0, 0.001, 1.0]), np.array([1e-6, 1e-6, 1.0]))
    assert law.coefficients[0] == pytest.approx(0.0005, abs=1e-4)


def test_a_new_value_scatters_as_the_others_do():
    design, values = drawn(0.3, 0.0)
    law = MixedLaw.through(design, values, np.zeros(len(values)))
    row = np.array([1.0, 2.0, 0.5])
    value, variance = law.at(row)
    assert value == pytest.approx(row @ law.coefficients)
    assert variance == pytest.approx(row @ law.covariance @ row + law.between)
