"""The schedule at whose end an annealing law has its least loss."""

from collections.abc import Callable

import numpy as np
from scipy import optimize

from sharplab.studies.annealing_terms import LAWS

KNOTS = 128
DECAYS = (0.05, 0.1, 0.2, 0.4, 0.7)  # of warm-up-stable-decay
FOLLOWED = 3  # of the schedules to begin at, the best
LEAST = 1e-6  # of the peak: descent goes in the logarithm


def best_schedule(law: str, logs: np.ndarray, steps: int, peak: float) -> np.ndarray:
    """The learning rates, (steps,), from `peak` on and never rising, of the least last loss.

    Between knots rates are linear; what is sought are the falls of their logarithm, none below 0.
    """
    known = sorted((peak * shape for shape in _shapes(steps)), key=lambda rates: last_loss(law, logs, rates)[0])
    if steps == 1:
        return known[0]
    knots = _knots(steps)
    rates_of, back = _between(knots, steps)

    def loss(falls: np.ndarray) -> tuple[float, np.ndarray]:
        values = peak * np.exp(-np.concatenate(([0.0], np.cumsum(falls))))
        value, slope = last_loss(law, logs, rates_of(values))
        return value, -np.cumsum((back(slope) * values)[:0:-1])[::-1]

    found = known[:1]
    for rates in known[:FOLLOWED]:
        falls = -np.diff(np.log(np.maximum(rates[knots] / peak, LEAST)))
        bounds = [(0.0, -np.log(LEAST))] * len(falls)
        done = optimize.minimize(loss, falls, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
        rates = rates_of(peak * np.exp(-np.concatenate(([0.0], np.cumsum(done.x)))))
        found.append(np.minimum.accumulate(rates))  # rounding is no rise
    return min(found, key=lambda rates: last_loss(law, logs, rates)[0])


def _knots(steps: int) -> np.ndarray:
    """Steps between which rates are linear: all of a short run, else half of them denser towards the end."""
    last = steps - 1
    if steps <= KNOTS:
        return np.arange(steps)
    places = (np.linspace(0, last, KNOTS // 2), last - np.geomspace(1, last, KNOTS // 2))
    return np.unique(np.concatenate(places).round().astype(int))


def _shapes(steps: int) -> list[np.ndarray]:
    """Schedules from 1 that fall to 0 and to a tenth."""
    past = np.arange(steps) / steps
    falling = [1 - past, (1 + np.cos(np.pi * past)) / 2]
    falling += [np.minimum(1, (1 - past) / decay) for decay in DECAYS]
    return [np.ones(steps), *falling, *(0.1 + 0.9 * shape for shape in falling)]


def _between(knots: np.ndarray, steps: int) -> tuple[Callable, Callable]:
    """Linear interpolation of values at knots, and its transpose."""
    left = np.minimum(np.searchsorted(knots, np.arange(steps), side="right") - 1, len(knots) - 2)
    share = (np.arange(steps) - knots[left]) / (knots[left + 1] - knots[left])

    def rates(values: np.ndarray) -> np.ndarray:
        return values[left] - share * (values[left] - values[left + 1])

    def back(slopes: np.ndarray) -> np.ndarray:
        many = len(knots)
        return np.bincount(left, (1 - share) * slopes, many) + np.bincount(left + 1, share * slopes, many)

    return rates, back


def last_loss(law: str, logs: np.ndarray, rates: np.ndarray) -> tuple[float, np.ndarray]:
    """The last loss of a run with these rates, (T,), and its derivatives by each of them."""
    floor, size, exponent, gain = np.exp(logs[:4])
    since = np.cumsum(rates[::-1])[::-1]  # from each step to the last
    power = size * since[0] ** -exponent
    drops = -np.diff(rates, prepend=0.0)
    term = LAWS[law].slopes(logs[4:], np.arange(len(rates), 0.0, -1), since, rates)
    slope = term.value - np.cumsum(drops * term.by_since) - drops * term.by_rate
    slope[:-1] -= term.value[1:]
    return float(floor + power - gain * drops @ term.value), gain * slope - exponent * power / since[0]
