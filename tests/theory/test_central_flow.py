"""The central flow on valleys whose walls, flow and variance are known in closed form."""

from itertools import islice

import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.theory import central_flow

RATE, TWO_OVER_RATE = 0.5, 4.0


def matrix_of(y):
    return jnp.array([[y[0], y[2] / jnp.sqrt(2.0)], [y[2] / jnp.sqrt(2.0), y[1]]])


def matrix_valley(w, batch):
    """½ xᵀ Y x − ⟨B, Y⟩: the walls' curvature is Y itself, which descent moves by B − ½ x xᵀ."""
    x, y = w
    return (x @ matrix_of(y) @ x) / 2 - jnp.mean(batch, axis=0) @ y


@pytest.mark.long
@pytest.mark.parametrize(
    "drift",
    [np.array([[0.03, 0.02], [0.02, 0.05]]), np.array([[0.03, 0.04], [0.04, 0.02]])],
    ids=["both stay at the edge", "one direction of both leaves it"],
)
def test_two_eigenvalues_at_the_edge_are_held_by_the_positive_part_of_what_drives_them(float64, drift):
    packed = jnp.array([drift[0, 0], drift[1, 1], np.sqrt(2) * drift[0, 1]])
    start = (jnp.zeros(2), jnp.array([TWO_OVER_RATE, TWO_OVER_RATE, 0.0]))
    first, last = list(islice(central_flow(matrix_valley, start, packed[None], learning_rate=RATE), 9))[::8]
    values, vectors = np.linalg.eigh(drift)
    # d/dt Y = B − ½ X where that does not raise the eigenvalues at the edge: X = 2 B₊.
    held = 2 * (vectors * np.maximum(values, 0)) @ vectors.T
    left = TWO_OVER_RATE * np.eye(2) + 8 * RATE * (vectors * np.minimum(values, 0)) @ vectors.T
    np.testing.assert_allclose(matrix_of(last.params[1]), left, atol=1e-6)
    assert first.loss == pytest.approx(-TWO_OVER_RATE * np.trace(drift))
    assert first.average_loss - first.loss == pytest.approx(np.trace(held) * TWO_OVER_RATE / 2, rel=1e-5)
    assert np.trace(first.covariance) == pytest.approx(np.trace(held), rel=1e-5)


def curved_valley(w, batch):
    """A valley whose curvature in x is 3 + y + z², and which slopes down along y and z."""
    x, y, z = w
    return (3 + y + z**2) * x**2 / 2 - jnp.mean(batch) * (y + 2 * z)


@pytest.mark.long
def test_along_the_edge_it_is_the_average_of_descent_and_gradient_flow_is_not():
    drift, steps = 0.003, 400
    batch = jnp.array([drift])
    start = jnp.array([0.09, 0.99, 0.1])  # about where the oscillation rests
    flow = list(islice(central_flow(curved_valley, start.at[0].set(0), batch, learning_rate=RATE), steps + 1))
    x, y, z = (float(v) for v in start)
    way, losses = [], []
    for _ in range(steps):
        way.append((x, y, z))
        losses.append((3 + y + z**2) * x**2 / 2 - drift * (y + 2 * z))
        slope = (3 + y + z**2) * x, x**2 / 2 - drift, z * x**2 - 2 * drift
        x, y, z = x - RATE * slope[0], y - RATE * slope[1], z - RATE * slope[2]
    late, point = slice(200, 400), flow[300]  # over about three periods
    np.testing.assert_allclose(np.mean([p.params for p in flow[late]], axis=0), np.mean(way[late], axis=0), atol=0.003)
    averaged = np.mean(losses[late])
    assert np.mean([p.average_loss for p in flow[late]]) == pytest.approx(averaged, rel=0.02)
    assert np.mean([p.loss for p in flow[late]]) != pytest.approx(averaged, rel=0.5)
    assert point.sharpness == pytest.approx(TWO_OVER_RATE, rel=1e-3)
    # ∇S = (0, 1, 2z) at x = 0, so that σ² = 2⟨−∇L, ∇S⟩/‖∇S‖².
    z = float(point.params[2])
    assert point.covariance.item() == pytest.approx(2 * drift * (1 + 4 * z) / (1 + 4 * z**2), rel=1e-3)
    free = list(islice(central_flow(curved_valley, start.at[0].set(0), batch, learning_rate=RATE, followed=np.inf), 21))
    np.testing.assert_allclose(free[-1].params, [0, 0.99 + 20 * RATE * drift, 0.1 + 20 * RATE * 2 * drift], rtol=1e-5)
    assert free[-1].average_loss == free[-1].loss and free[-1].covariance.shape == (0, 0)


def test_what_it_cannot_follow_is_refused():
    with pytest.raises(ValueError, match="followed"):
        central_flow(curved_valley, jnp.zeros(3), jnp.ones(1), learning_rate=1.0, followed=2.5)
    with pytest.raises(ValueError, match="substeps"):
        next(central_flow(curved_valley, jnp.zeros(3), jnp.ones(1), learning_rate=4.0))
    with pytest.raises(ValueError, match="not finite at step 0"):
        next(central_flow(curved_valley, jnp.full(3, jnp.nan), jnp.ones(1), learning_rate=1.0))
