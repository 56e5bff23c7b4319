"""What lower learning rates take off the loss: the terms of two laws, and how they change with their parameters."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MERGED = 1024  # drops of a schedule that has more are merged within this many parts of it
ALIKE = 0.01  # of the logarithms of rates, within which drops to them are merged
TOGETHER = 2**19  # drops of all steps seen at once, which bounds the memory


@dataclass(frozen=True)
class Schedule:
    """The learning rates of a run, (T,)."""

    rates: np.ndarray

    @property
    def warmup(self) -> int:
        """How many steps come before the first maximum that the rates rise to."""
        falls = np.flatnonzero(np.diff(self.rates) < 0)
        return int(np.argmax(self.rates[: falls[0] + 1] if len(falls) else self.rates))

    def sums(self) -> np.ndarray:
        """Of the learning rates before each step and after the last, (T + 1,)."""
        return np.concatenate(([0.0], np.cumsum(self.rates)))

    def drops(self) -> np.ndarray:
        """By how much each step's rate is below the one before, (T,), negative where rates rise; from 0 at first."""
        return -np.diff(self.rates, prepend=0.0)


class View(NamedTuple):
    """What a loss at some steps depends on: the sum of rates, (n,), and the drops before, all others (K,)."""

    steps: np.ndarray
    sums: np.ndarray
    drops: np.ndarray
    at: np.ndarray  # the step of each drop
    before: np.ndarray  # the sum of the rates until there
    rates: np.ndarray  # after it

    @property
    def ages(self) -> np.ndarray:
        """Steps since each drop, (n, K), 0 before it."""
        return np.maximum(self.steps[:, None] - self.at, 0.0)

    @property
    def since(self) -> np.ndarray:
        """The sum of the rates since each drop, (n, K), 0 before it."""
        return np.maximum(self.sums[:, None] - self.before, 0.0)


def views(schedule: Schedule, steps: np.ndarray) -> Iterator[View]:
    """The schedule as seen after so many of its steps, as many at a time as memory allows.

    Drops are seen as one at their mean step, where that changes little: as far as they follow each other with one sign,
    lie in the same of `MERGED` parts of the schedule, lead to rates within `ALIKE` of each other, and no step of the
    view separates them. Those of rates that go up and down are all seen. So is every drop of a schedule with fewer.
    """
    sums, drops = schedule.sums(), schedule.drops()
    at = np.flatnonzero(drops)
    columns = (drops[at], at.astype(float), sums[at], schedule.rates[at])
    firsts = _firsts(at, columns[0], columns[-1], len(schedule.rates))
    together = max(TOGETHER // (len(firsts) + 1), 1)
    for i in range(0, len(steps), together):
        some = steps[i : i + together]
        seen = int(np.searchsorted(at, some.max()))
        cuts = np.union1d(firsts, np.searchsorted(at, some))
        yield View(some, sums[some], *_merged(cuts[cuts < seen], *(column[:seen] for column in columns)))


def _firsts(at: np.ndarray, drops: np.ndarray, rates: np.ndarray, steps: int) -> np.ndarray:
    """The indices of the drops that are not merged with the one before."""
    if len(at) <= MERGED:
        return np.arange(len(at))
    alike = np.stack([at * MERGED // steps, np.sign(drops), np.floor(np.log(_above_zero(rates)) / ALIKE)])
    return np.append(0, 1 + np.flatnonzero(np.diff(alike).any(axis=0)))


def _merged(firsts: np.ndarray, drops: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """The sum of the drops from each first to the next, and the means of the others, weighted by the drops' sizes."""
    if len(firsts) == len(drops):
        return (drops, *others)
    sizes = np.add.reduceat(abs(drops), firsts)
    return (
        np.add.reduceat(drops, firsts),
        *(np.add.reduceat(abs(drops) * other, firsts) / sizes for other in others),
    )


class Slopes(NamedTuple):
    """A term per unit of drop, and its derivatives by the sum of rates since the drop and by the rate after it."""

    value: np.ndarray
    by_since: np.ndarray
    by_rate: np.ndarray


class Momentum:
    """S₂ = Σ m, m_i = λ m_{i−1} + η_{i−1} − η_i (Tissue et al., arXiv 2408.11029), with λ = e^{−1/τ}.

    A drop of the rate has taken its size times (1 − λ^age)/(1 − λ) off the loss. The shape is log τ.
    """

    names = ("L0", "A", "alpha", "C", "lambda")

    @staticmethod
    def starts(schedule: Schedule) -> list[np.ndarray]:
        """Shapes to begin at: memories of fractions of the run."""
        return [np.log([len(schedule.rates) / parts]) for parts in (300, 60, 12)]

    @staticmethod
    def term(shape: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
        """S₂, (n,), and its derivatives by the shape, (n, 1)."""
        rate = np.exp(-shape[0])
        forgotten = np.exp(-rate * view.ages)
        one = -np.expm1(-rate)
        value = (1 - forgotten) @ view.drops / one
        slope = value * rate * np.exp(-rate) / one - (rate * view.ages * forgotten) @ view.drops / one
        return value, slope[:, None]

    @staticmethod
    def slopes(shape: np.ndarray, ages: np.ndarray, since: np.ndarray, rates: np.ndarray) -> Slopes:
        """The term of one drop each."""
        rate = np.exp(-shape[0])
        none = np.zeros(len(ages))
        return Slopes(np.expm1(-rate * ages) / np.expm1(-rate), none, none)

    @staticmethod
    def parameters(shape: np.ndarray) -> np.ndarray:
        """λ, as a number above 0 and below 1."""
        return np.clip(np.exp(-np.exp(-shape)), np.finfo(float).tiny, 1 - np.finfo(float).epsneg)

    @staticmethod
    def shape(parameters: np.ndarray) -> np.ndarray:
        """The shape of λ."""
        return -np.log(-np.log(parameters))


class MultiPower:
    """Σ (η_{k−1} − η_k) G(η_k^−γ S_k), G(x) = 1 − (1 + Cx)^−β (Luo et al., arXiv 2503.12811).

    S_k is the sum of the rates since the drop at step k. The shape is log C, log β, log γ.
    """

    names = ("L0", "A", "alpha", "B", "C", "beta", "gamma")

    @staticmethod
    def starts(schedule: Schedule) -> list[np.ndarray]:
        """Shapes to begin at: much of a drop's effect is there after a fraction of the run at the largest rate."""
        peak, total = schedule.rates.max(), schedule.rates.sum()
        return [np.log([parts * peak**0.5 / total, beta, 0.5]) for parts in (2000, 100) for beta in (0.4, 1.0)]

    @staticmethod
    def term(shape: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
        """The sum over drops, (n,), and its derivatives by the shape, (n, 3)."""
        _, beta, gamma = np.exp(shape)
        logs = np.log(_above_zero(view.rates))
        x = np.minimum(view.since * np.exp(shape[0] - gamma * logs), 1e30)
        grown = np.log1p(x)
        left = np.exp(-beta * grown)
        by_scale = beta * left * x / (1 + x)
        slopes = (by_scale @ view.drops, beta * (grown * left) @ view.drops, -gamma * by_scale @ (logs * view.drops))
        return (1 - left) @ view.drops, np.stack(slopes, axis=1)

    @staticmethod
    def slopes(shape: np.ndarray, ages: np.ndarray, since: np.ndarray, rates: np.ndarray) -> Slopes:
        """The term of one drop each."""
        scale, beta, gamma = np.exp(shape)
        rates = _above_zero(rates)
        per_since = scale * rates**-gamma
        left = (1 + per_since * since) ** -beta
        by_since = beta * per_since * left / (1 + per_since * since)
        return Slopes(1 - left, by_since, -gamma * by_since * since / rates)

    @staticmethod
    def parameters(shape: np.ndarray) -> np.ndarray:
        """C, β and γ."""
        return np.exp(shape)

    @staticmethod
    def shape(parameters: np.ndarray) -> np.ndarray:
        """The shape of C, β and γ."""
        return np.log(parameters)


def _above_zero(rates: np.ndarray) -> np.ndarray:
    """Rates of 0 have a limit: the drop to them acts at once if any rate follows, and not at all if none does."""
    return np.maximum(rates, 1e-30)


LAWS: dict[str, type[Momentum] | type[MultiPower]] = {"momentum": Momentum, "multi_power": MultiPower}
