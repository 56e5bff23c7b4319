"""What is asked of every library alike: eigenvalues at its own stopping rule, and as an oracle would stop it.

Nothing here knows jax or PyTorch, of which a contestant's process holds one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np

Setting = float | int | None


class OutOfTime(Exception):
    """A contestant has used up the seconds of one solve."""


class Meter:
    """Counts products, and ends a solve that takes longer than `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begin()

    def begin(self) -> None:
        """Start from zero."""
        self.products, self._deadline = 0, perf_counter() + self.seconds

    def count(self) -> None:
        """One product is about to be made."""
        if perf_counter() > self._deadline:
            raise OutOfTime
        self.products += 1


@dataclass(frozen=True)
class Solution:
    """What a solve answered.

    Attributes:
        values: eigenvalues, the wanted ones first.
        products: how many it made.
        claimed: its own estimates of the values' errors, where it has any.
    """

    values: np.ndarray
    products: int
    claimed: np.ndarray | None = None


@dataclass(frozen=True)
class Contestant:
    """A library's way to the top of a Hessian's spectrum.

    Attributes:
        which: "LA" for the largest eigenvalues, "LM" for the largest by modulus.
        solve: (k, setting, seed) → Solution; the setting is a tolerance or a number of iterations.
        own: tolerance → the setting that it takes for it, all else at its defaults; None if it has no rule.
        settings: (k, seed) → (setting, eigenvalues at it) at rising cost, for the oracle to choose from; None if
            the oracle has no part in it.
        product: make one product alone.
        gauss_newton: the same with the Gauss-Newton matrix, where it has one.
        compiles: whether a solve's first call compiles.
    """

    which: str
    solve: Callable[[int, Setting, int], Solution]
    own: Callable[[float], Setting] | None
    settings: Callable[[int, int], Iterable[tuple[Setting, np.ndarray]]] | None
    product: Callable[[], Any]
    gauss_newton: Callable[[], Any] | None = None
    compiles: bool = False


def relative_error(values: Sequence[float] | np.ndarray, truth: Sequence[float] | np.ndarray) -> float:
    """The largest of |θ_i − λ_i|/|λ_i| over all of `truth`; inf where there are too few values."""
    values, truth = np.asarray(values, float), np.asarray(truth, float)
    if len(values) < len(truth):
        return float("inf")
    return float(np.max(np.abs(values[: len(truth)] - truth) / np.abs(truth)))


def wanted_first(values: np.ndarray, which: str, k: int) -> np.ndarray:
    """The k wanted of all Ritz values."""
    return values[np.argsort(-(np.abs(values) if which == "LM" else values))][:k]


@dataclass(frozen=True)
class Terms:
    """On what terms contestants meet.

    Attributes:
        tolerances: true relative errors to reach, from loose to tight.
        starts: solves per row, each from a random start of its own.
        patience: seconds for the solves of a row, or the oracle's searches, after which no further start is made.
    """

    tolerances: tuple[float, ...]
    starts: int
    patience: float


def own_rows(contestant: Contestant, truth: Sequence[float], terms: Terms) -> Iterator[dict[str, Any]]:
    """Per tolerance: products, seconds and true errors of solves that the contestant ends itself."""
    if contestant.own is None:
        return
    finished = True
    for tol in terms.tolerances:
        settings = [contestant.own(tol)] * terms.starts
        # What was too much at a loose tolerance is not tried at a tighter one.
        row = _solves(contestant, truth, settings, terms.patience) if finished else _UNFINISHED
        finished = row["finished"]
        yield {"stopping": "own", "tol": tol} | row


def oracle_rows(contestant: Contestant, truth: Sequence[float], terms: Terms) -> Iterator[dict[str, Any]]:
    """Per tolerance: the same at the cheapest setting whose true error is within it, searched for per start."""
    if contestant.settings is None:
        return
    found: list[dict[float, Setting]] = []
    began = perf_counter()
    while len(found) < terms.starts and (not found or perf_counter() - began < terms.patience):
        found.append(_cheapest(contestant, truth, terms.tolerances, seed=len(found)))
    for tol in terms.tolerances:
        settings = [cheapest.get(tol) for cheapest in found]
        row = _UNFINISHED if None in settings else _solves(contestant, truth, settings, terms.patience)
        yield {"stopping": "oracle", "tol": tol} | row


_UNFINISHED: Mapping[str, Any] = MappingProxyType({"finished": False})


def _cheapest(
    contestant: Contestant, truth: Sequence[float], tolerances: Sequence[float], seed: int
) -> dict[float, Setting]:
    """By tolerance; those that no setting reached in time are absent."""
    found: dict[float, Setting] = {}
    assert contestant.settings is not None
    try:
        for setting, values in contestant.settings(len(truth), seed):
            error = relative_error(values, truth)
            found |= {tol: setting for tol in tolerances if tol not in found and error <= tol}
            if len(found) == len(tolerances):
                break
    except OutOfTime:
        pass
    return found


def _solves(
    contestant: Contestant, truth: Sequence[float], settings: Sequence[Setting], patience: float
) -> Mapping[str, Any]:
    """One solve per setting, each with a start of its own."""
    k = len(truth)
    seconds: list[float] = []
    solutions: list[Solution] = []
    first_seconds: dict[Setting, float] = {}
    for seed, setting in enumerate(settings):
        try:
            if contestant.compiles and setting not in first_seconds:
                first_seconds[setting] = _timed(contestant, k, setting, seed)[1]
            solution, elapsed = _timed(contestant, k, setting, seed)
        except OutOfTime:
            return _UNFINISHED
        solutions.append(solution)
        seconds.append(elapsed)
        if sum(seconds) > patience:
            break
    claims = [s.claimed for s in solutions if s.claimed is not None]
    return {
        "finished": True,
        "settings": list(settings[: len(solutions)]),
        "products": [s.products for s in solutions],
        "seconds": seconds,
        "first_seconds": list(first_seconds.values()),
        "errors": [relative_error(s.values, truth) for s in solutions],
        "claimed": [float(np.max(claim / np.abs(truth))) for claim in claims],
    }


def _timed(contestant: Contestant, k: int, setting: Setting, seed: int) -> tuple[Solution, float]:
    began = perf_counter()
    solution = contestant.solve(k, setting, seed)
    return solution, perf_counter() - began


def median_seconds(function: Callable[[], Any], repetitions: int = 7) -> float:
    """Of a call that has been made once before."""
    function()
    seconds = []
    for _ in range(repetitions):
        began = perf_counter()
        function()
        seconds.append(perf_counter() - began)
    return float(np.median(seconds))
