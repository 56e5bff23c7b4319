"""The loss of a run from its whole learning-rate schedule, by laws that are fitted on a few runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import optimize, stats

from sharplab.core.arguments import checked, count, positive
from sharplab.core.naming import lookup
from sharplab.core.statistics import Interval
from sharplab.studies.annealing_terms import LAWS, Schedule, View, views
from sharplab.studies.best_schedules import best_schedule

HUBER = 1e-3  # of residuals of the logarithm, from where they count linearly
EXPONENTS = (0.25, 0.5, 1.0)  # α to begin at
LINEAR = (0, 1, 3)  # of the parameters: those that the loss is linear in
TRIED = 4  # starts, those of the least squares, that are followed
FEW = 128  # points of each run that the starts are followed on

Run = tuple[Schedule, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class AnnealingLaw:
    """The law L = L₀ + A·S^−α − C·S₂ or its multi-power form, with S the sum of all learning rates so far.

    Attributes:
        law: "momentum" or "multi_power".
        parameters: by name: L0, A, alpha, then C and lambda ("momentum"), or B, C, beta and gamma ("multi_power").
        intervals: of each parameter, without bound where the runs do not tell.
        confidence: of the intervals.
    """

    law: str
    parameters: Mapping[str, float]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    confidence: float = 0.95

    def __post_init__(self) -> None:
        names = lookup("law", self.law, LAWS).names
        given = self.parameters
        if not isinstance(given, Mapping) or set(given) != set(names):
            raise ValueError(f"parameters must be a dict of {', '.join(names)}, not {given!r}.")
        if not (_numbers("parameters", list(given.values())) > 0).all() or given.get("lambda", 0) >= 1:
            raise ValueError(f"parameters must be positive, and lambda below 1, not {given!r}.")

    @classmethod
    @checked()
    def fit(cls, runs: Any, law: str = "momentum", *, confidence: float = 0.95) -> "AnnealingLaw":
        """The law through the losses of several runs, with intervals of its parameters.

        - "momentum": L₀ + A·S^−α − C·S₂, S₂ = Σ m_i, m_i = λ m_{i−1} + η_{i−1} − η_i (arXiv 2408.11029);
        - "multi_power": L₀ + A·S^−α − B Σ_k (η_{k−1} − η_k) G(η_k^−γ S_k), G(x) = 1 − (1 + Cx)^−β, S_k the sum from
          step k on (arXiv 2503.12811).

        The Huber loss (1e-3) of the logarithms is minimised from several starts. All parameters are positive. Where
        rates rise, η_{k−1} − η_k is negative; before the first step the rate is 0. Losses of the warm-up are not
        fitted. Intervals are those of the linearised law, for noise that may be correlated within a run, not between
        runs (tests/studies/test_annealing.py): correlated over several losses, they cover a little less than they say.

        Args:
            runs: of each run (learning_rates, steps, losses): the learning rate of each of its T steps, and losses (n,)
                after so many `steps` (n,). Some rates must fall, at different times or speeds.
            law: "momentum" or "multi_power".
            confidence: of the intervals.

        Raises:
            ValueError: for an unknown law, and for what are no runs or fewer losses than parameters.
        """
        form = lookup("law", law, LAWS)
        given = _read(runs)
        points = sum(len(steps) for _, steps, _ in given)
        if points <= len(form.names):
            raise ValueError(f"runs must have more than {len(form.names)} losses after their warm-up, not {points}.")
        few = [(run, steps[i], losses[i]) for run, steps, losses in given for i in [_spread(len(steps))]]
        rough = _Fit(law, few)
        tried = sorted((rough.cost(start), tuple(start)) for start in rough.starts())[:TRIED]
        best = min((rough.solve(np.array(start)) for _, start in tried), key=lambda found: found.cost)
        whole = _Fit(law, given)
        logs = whole.solve(best.x).x
        half = whole.half_widths(logs, confidence)
        with np.errstate(over="ignore"):
            low, value, high = (_named(law, end) for end in (logs - half, logs, logs + half))
        for i in LINEAR:  # these may be 0, which is infinitely far in their logarithm
            low[form.names[i]] = max(value[form.names[i]] * (1 - half[i]), 0.0)
        intervals = {name: (low[name], high[name]) for name in value}
        return cls(law, value, intervals, confidence)

    def predict(self, learning_rates: Any, steps: Any = None) -> np.ndarray:
        """The losses of a run with these learning rates, (T,), after so many `steps` of it, (n,), or after each step.

        Within 1e-4 of the law for long schedules, whose drops are merged where rates fall or rise for long. Where they
        go up and down all the time, the time is that of the square of the steps: for 30,000, half a minute for all.

        Raises:
            ValueError: for what are no learning rates, and steps that the run does not have.
        """
        schedule = _schedule(learning_rates)
        wanted = np.arange(1, len(schedule.rates) + 1) if steps is None else _steps(steps, schedule, least=1)
        order = np.argsort(wanted, kind="stable")
        losses = np.empty(len(wanted))
        losses[order] = np.concatenate(
            [_law(self.law, self._logs(), view)[0] for view in views(schedule, wanted[order])]
        )
        return losses

    @checked(steps=count, peak=positive)
    def best_schedule(self, steps: int, peak: float) -> np.ndarray:
        """The learning rates, (steps,), that begin at `peak`, never rise, and end at the law's least loss.

        Found by descent from several schedules, so that none of them is better under the law: constant, linear, cosine,
        and warm-up-stable-decay with several lengths of the decay.
        """
        return best_schedule(self.law, self._logs(), steps, peak)

    def _logs(self) -> np.ndarray:
        values = np.array([self.parameters[name] for name in LAWS[self.law].names])
        return np.concatenate([np.log(values[:4]), LAWS[self.law].shape(values[4:])])


def _schedule(learning_rates: Any) -> Schedule:
    rates = _numbers("learning_rates", learning_rates)
    if not len(rates) or not (rates >= 0).all() or not rates.any():
        raise ValueError("learning_rates must be finite numbers from 0 on, not all 0, one for each step.")
    return Schedule(rates)


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        given = np.asarray(values, float)
    except (TypeError, ValueError):
        given = np.full(1, np.nan)
    if given.ndim != 1 or not np.isfinite(given).all():
        raise ValueError(
            f"{name} must be a list of finite numbers, not {type(values).__name__} like {str(values)[:40]}."
        )
    return given


def _steps(values: Any, schedule: Schedule, least: int) -> np.ndarray:
    steps = _numbers("steps", values)
    last = len(schedule.rates)
    if not len(steps) or (steps != np.round(steps)).any() or steps.min() < least or steps.max() > last:
        raise ValueError(f"steps must be whole numbers from {least} to {last}, the number of learning_rates.")
    return steps.astype(int)


def _read(runs: Any) -> list[Run]:
    if isinstance(runs, str | Mapping) or not isinstance(runs, Sequence) or not len(runs):
        raise ValueError("runs must be a list of (learning_rates, steps, losses), one for each run.")
    read = []
    for run in runs:
        if not isinstance(run, Sequence) or len(run) != 3:
            raise ValueError("runs must be a list of (learning_rates, steps, losses), one for each run.")
        schedule = _schedule(run[0])
        steps, losses = _steps(run[1], schedule, least=0), _numbers("losses", run[2])
        if len(losses) != len(steps) or not (losses > 0).all():
            raise ValueError("losses of runs must be positive, one for each of their steps.")
        order = np.argsort(steps, kind="stable")
        order = order[steps[order] > schedule.warmup]
        if len(order):
            read.append((schedule, steps[order], losses[order]))
    return read


def _spread(points: int) -> np.ndarray:
    return np.unique(np.linspace(0, points - 1, min(points, FEW)).astype(int))


def _named(law: str, logs: np.ndarray) -> dict[str, float]:
    """Parameters by name from their logarithms and the shape."""
    values = np.concatenate([np.exp(logs[:4]), LAWS[law].parameters(logs[4:])])
    return dict(zip(LAWS[law].names, values.tolist(), strict=True))


def _law(law: str, logs: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """The losses of a law, (n,), and their derivatives by the logarithms of its parameters, (n, p)."""
    floor, size, exponent, gain = np.exp(logs[:4])
    power = size * view.sums**-exponent
    term, by_shape = LAWS[law].term(logs[4:], view)
    slopes = [np.full_like(power, floor), power, -exponent * np.log(view.sums) * power, -gain * term]
    return floor + power - gain * term, np.column_stack([*slopes, -gain * by_shape])


class _Fit:
    """Least squares of one law on given runs."""

    def __init__(self, law: str, runs: Sequence[Run]) -> None:
        self.law = law
        self.longest = max((run for run, _, _ in runs), key=lambda run: len(run.rates))
        self.views = [view for run, steps, _ in runs for view in views(run, steps)]
        self.losses = np.concatenate([losses for _, _, losses in runs])
        self.lengths = [len(steps) for _, steps, _ in runs]

    def starts(self) -> list[np.ndarray]:
        """Points to begin at: for each shape and α, the best of what enters linearly."""
        found, sums = [], np.concatenate([view.sums for view in self.views])
        for shape in LAWS[self.law].starts(self.longest):
            term = np.concatenate([LAWS[self.law].term(shape, view)[0] for view in self.views])
            for exponent in EXPONENTS:
                columns = np.column_stack([np.ones_like(sums), sums**-exponent, -term])
                sizes = np.abs(columns).max(axis=0) + np.finfo(float).tiny
                floor, size, gain = optimize.nnls(columns / sizes, self.losses)[0]
                least = 1e-3 * float(self.losses.min())
                linear = np.maximum([floor, size, gain], least) / sizes
                found.append(np.log([*linear[:2], exponent, linear[2], *np.exp(shape)]))
        return found

    def residuals(self, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the logarithm, (n,), and their derivatives, (n, p)."""
        values, slopes = zip(*(_law(self.law, logs, view) for view in self.views), strict=True)
        least = 1e-3 * self.losses.min()  # the logarithm of what a bad step makes negative
        losses = np.maximum(np.concatenate(values), least)
        return np.log(losses / self.losses), np.concatenate(slopes) / losses[:, None]

    def cost(self, logs: np.ndarray) -> float:
        """The sum of the Huber loss."""
        z = (self.residuals(logs)[0] / HUBER) ** 2
        return float(np.where(z < 1, z, 2 * np.sqrt(z) - 1).sum())

    def solve(self, start: np.ndarray) -> optimize.OptimizeResult:
        """The minimum near a start."""
        value, slope = _remembering(self.residuals)
        with np.errstate(over="ignore", invalid="ignore"):  # a step that leads there is taken back
            return optimize.least_squares(
                value, start, slope, (start - 25, start + 25), loss="huber", f_scale=HUBER, x_scale="jac", max_nfev=200
            )

    def half_widths(self, logs: np.ndarray, confidence: float) -> np.ndarray:
        """Of the intervals of the logarithms, from the slopes and the residuals; inf where they do not tell."""
        residuals, slopes = self.residuals(logs)
        pull = np.clip(residuals, -HUBER, HUBER)
        together = _correlated(np.split(pull, np.cumsum(self.lengths)[:-1]))
        spare = len(residuals) / together - len(logs)
        if spare < 1:
            return np.full(len(logs), np.inf)
        # The share of residuals within HUBER, from as many near 0 as tell.
        near = max(HUBER, 0.5 * float(np.median(abs(residuals))))
        linear = max(int(np.sum(abs(residuals) <= near)), 1) / len(residuals) * HUBER / near
        variance = np.sum(pull**2) / spare / linear**2
        lengths = np.linalg.norm(slopes, axis=0) + np.finfo(float).tiny
        _, singular, rows = np.linalg.svd(slopes / lengths, full_matrices=False)
        with np.errstate(divide="ignore", over="ignore"):
            singular = np.where(singular > 1e-10 * singular[0], singular, 1e-150)
            errors = np.sqrt(variance) * np.linalg.norm(rows / singular[:, None], axis=0) / lengths
        return stats.t.ppf((1 + confidence) / 2, spare) * errors


def _remembering(function: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> tuple[Callable, Callable]:
    """The two parts of a function, the second of which is asked for where the first was."""
    last: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def both(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if x.tobytes() not in last:
            last.clear()
            last[x.tobytes()] = function(x)
        return last[x.tobytes()]

    return lambda x: both(x)[0], lambda x: both(x)[1]


def _correlated(series: Sequence[np.ndarray]) -> float:
    """How many successive values tell as much as one: 1 + 2Σρ, over a window of five times that (Sokal), at least 1."""
    variance = sum(float(values @ values) for values in series)
    time, lag = 1.0, 1
    while variance and lag <= 5 * time and lag < max(map(len, series)):
        time += 2 * sum(float(values[lag:] @ values[:-lag]) for values in series if len(values) > lag) / variance
        lag += 1
    return max(time, 1.0)
