"""The optimum of one network over the learning rate and what is tuned along with it, such as the batch size.

A quadratic surface in the logarithms is fitted to the runs near the best one, as in Step Law (arXiv 2503.04715), with a
cubic term of the learning rate or without. How wide the window is, and whether the cubic term is there, moves optima by
more than the noise of the losses says: so each choice has its optimum, and laws through them are averaged.
"""

from itertools import product

import numpy as np

from sharplab.analysis.valley import bounded

WINDOWS = tuple(product((1.5, 2.0, 2.5), (False, True)))  # octaves about the best run, and whether with a cubic term
FEWEST_DF = 3  # runs beyond the coefficients, that tell the noise
NEWTON_STEPS, LONGEST_STEP = 50, 0.5


def surface_optima(points: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The optima under each of `WINDOWS` and their variances from the losses' noise, (windows, q) each.

    Where a window tells no optimum, the mean of the others stands for it. None where half of them or more do not.

    Args:
        points: log₂ of the learning rate, and of what is tuned along, (n, q).
        losses: inf where diverged, (n,).
    """
    found = [_optimum(points, losses, reach, cubic) for reach, cubic in WINDOWS]
    told = [each for each in found if each is not None]
    if len(told) <= len(WINDOWS) / 2:
        return None
    values, variances = (np.array(each) for each in zip(*told, strict=True))
    stand_in = values.mean(axis=0), variances.mean(axis=0) + values.var(axis=0)
    values, variances = (np.array(each) for each in zip(*(each or stand_in for each in found), strict=True))
    return values, variances


def _optimum(points: np.ndarray, losses: np.ndarray, reach: float, cubic: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """The lowest point of the surface among the points that it is fitted to, and its variances; None without one."""
    best = int(np.argmin(losses))
    if not np.isfinite(losses[best]):
        return None
    near = (np.abs(points - points[best]) <= reach + 1e-6).all(axis=1) & (losses <= bounded(losses[best]))
    z, y = points[near] - points[best], losses[near]
    q = z.shape[1]
    pairs = [(i, j) for i in range(q) for j in range(i, q)]
    columns = [np.ones(len(z)), *z.T, *(z[:, i] * z[:, j] for i, j in pairs)] + [z[:, 0] ** 3] * cubic
    design = np.stack(columns, axis=1)
    df = len(z) - design.shape[1]
    if df < FEWEST_DF or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    coefficients = np.linalg.lstsq(design, y)[0]
    noise = float(np.sum((y - design @ coefficients) ** 2)) / df
    linear, quadratic = coefficients[1 : q + 1], np.zeros((q, q))
    for (i, j), coefficient in zip(pairs, coefficients[q + 1 :], strict=False):
        quadratic[i, j] = quadratic[j, i] = coefficient * (2 if i == j else 1)
    third = coefficients[-1] if cubic else 0.0
    lowest = np.zeros(q)
    for _ in range(NEWTON_STEPS):
        hessian = quadratic.copy()
        hessian[0, 0] += 6 * third * lowest[0]
        if np.linalg.eigvalsh(hessian)[0] <= 0:
            return None
        slope = linear + quadratic @ lowest
        slope[0] += 3 * third * lowest[0] ** 2
        step = np.linalg.solve(hessian, slope)
        if np.abs(step).max() < 1e-12:
            break
        lowest = lowest - np.clip(step, -LONGEST_STEP, LONGEST_STEP)
    if not ((z.min(axis=0) <= lowest) & (lowest <= z.max(axis=0))).all():
        return None
    # What a coefficient adds to the slope at the lowest point, (q, coefficients).
    added = np.zeros((q, design.shape[1]))
    added[:, 1 : q + 1] = np.eye(q)
    for k, (i, j) in enumerate(pairs):
        added[i, q + 1 + k] += lowest[j]
        added[j, q + 1 + k] += lowest[i]
    if cubic:
        added[0, -1] = 3 * lowest[0] ** 2
    moved = np.linalg.solve(hessian, added)
    covariance = moved @ np.linalg.inv(design.T @ design) @ moved.T * noise
    return points[best] + lowest, np.diag(covariance)
