"""Laws of the optimal learning rate in several sizes at once: log η = a + Σ b log size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from sharplab.analysis.grids import check_runs, final_losses, grid_of, refuse_repeats
from sharplab.analysis.mixed_law import MixedLaw
from sharplab.analysis.seed_optima import COMMON, edges_of, find_optima, in_curves
from sharplab.analysis.single_seeds import single_seed_valleys
from sharplab.analysis.surfaces import surface_optima
from sharplab.analysis.trend import Measured
from sharplab.core.arguments import checked, positive, several, text
from sharplab.core.statistics import Interval
from sharplab.records import Records, join_rates, some_records


class CellOptima(NamedTuple):
    """The optima of all cells, in log₂, under each choice of a window."""

    values: np.ndarray  # (windows, cells)
    variances: np.ndarray  # (windows, cells)
    doubts: np.ndarray  # variances from the unknown shape of the valleys, (cells,)
    repeated: bool  # whether the variances are from several seeds: those of one say nothing of another's optimum


class LeftOut(NamedTuple):
    """A cell, and what the law through the others predicts for its measured optimum."""

    measured: Measured
    predicted: Measured

    @property
    def covered(self) -> bool:
        """Whether the measured optimum lies in the interval of the prediction."""
        return self.predicted.low <= self.measured.value <= self.predicted.high


@dataclass(frozen=True)
class LearningRateLaw:
    """The law log(optimum) = a + Σ b log(size) through the cells of a sweep, a cell being a network of given sizes.

    Attributes:
        quantity: of which this is the law, "learning_rate" or what was tuned along.
        sizes: the sizes of each cell, by column.
        at_edge: the sizes of the cells that were left out, whose losses are not lowest inside their grid.
        left_out: per cell, its optimum and what the law through the other cells predicts for it; nan where these do
            not tell.
        tuned: the laws of what was tuned along, by column.
        confidence: of all intervals.
    """

    quantity: str
    metric: str
    sizes: tuple[Mapping[str, float], ...]
    at_edge: tuple[Mapping[str, float], ...]
    fits: tuple[MixedLaw, ...]
    doubt: float
    left_out: tuple[LeftOut, ...]
    tuned: Mapping[str, "LearningRateLaw"]
    confidence: float

    @property
    def over(self) -> tuple[str, ...]:
        """The columns of the sizes."""
        return tuple(self.sizes[0])

    @property
    def exponents(self) -> dict[str, float]:
        """The exponent b of each size."""
        return {column: one.value for column, one in self._exponents().items()}

    @property
    def intervals(self) -> dict[str, Interval]:
        """The interval of each exponent."""
        return {column: one.interval for column, one in self._exponents().items()}

    @property
    def between(self) -> float:
        """The standard deviation of cells about the law beyond the noise of each, in octaves."""
        return float(np.sqrt(np.mean([fit.between for fit in self.fits])))

    @property
    def share_covered(self) -> float:
        """The share of the cells left out in turn whose optimum lies in the interval predicted for it."""
        told = [one.covered for one in self.left_out if np.isfinite(one.predicted.value)]
        return float(np.mean(told)) if told else float("nan")

    def predict(self, **sizes: float) -> tuple[float, Interval]:
        """The optimum of a network of these sizes, one number for each column of `over`, with its interval.

        Raises:
            ValueError: for other columns, or sizes that are not positive.
        """
        if sizes.keys() != set(self.over):
            raise ValueError(f"over: the law takes {', '.join(self.over)}, not {', '.join(sizes) or 'nothing'}.")
        for column, size in sizes.items():
            positive(column, size)
        found = _power(_combined(self.fits, _row(self.sizes, sizes), self.confidence, more=self.doubt))
        return found.value, found.interval

    def table(self) -> pd.DataFrame:
        """A row per cell: its sizes, its optimum, and the one predicted from the other cells, with their intervals."""
        return pd.DataFrame(
            {**sizes} | one.measured.columns("optimum") | one.predicted.columns("predicted") | {"covered": one.covered}
            for sizes, one in zip(self.sizes, self.left_out, strict=True)
        )

    def __str__(self) -> str:
        powers = " · ".join(f"{column}^{value:.3g}" for column, value in self.exponents.items())
        lines = [f"best {self.quantity} ∝ {powers}, from {len(self.sizes)} cells; {self.confidence:.0%} intervals:"]
        lines += [f"  {column}: {one:+.3f}" for column, one in self._exponents().items()]
        told = [one for one in self.left_out if np.isfinite(one.predicted.value)]
        if told:
            factor = 2 ** np.median([np.log2(one.predicted.high / one.predicted.low) / 2 for one in told])
            lines.append(
                f"  each cell predicted from the others: {sum(one.covered for one in told)} of {len(told)} lie in the "
                f"interval, half of which are within a factor of {factor:.2f}"
            )
        lines.append(f"  cells scatter about the law by {self.between:.2f} octaves beyond their noise")
        if self.at_edge:
            bare = "; ".join(", ".join(f"{name} {size:g}" for name, size in sizes.items()) for sizes in self.at_edge)
            lines.append(f"  left out, without a best inside their grid: {bare}")
        return "\n".join([*lines, *map(str, self.tuned.values())])

    def _exponents(self) -> dict[str, Measured]:
        rows = np.eye(len(self.over) + 1)[1:]
        return {
            column: _combined(self.fits, row, self.confidence, new=False)
            for column, row in zip(self.over, rows, strict=True)
        }


def _columns(name: str, value: Any) -> None:
    if not isinstance(value, str):
        several(name, value)
        for column in value:
            text(name, column)


@checked(records=some_records, over=_columns, tuned=_columns, metric=text)
def learning_rate_law(
    records: Records,
    *,
    over: str | Sequence[str] = ("width", "tokens"),
    tuned: str | Sequence[str] = (),
    metric: str = "eval_loss",
    confidence: float = 0.95,
) -> LearningRateLaw:
    """The law of the optimal learning rate in several sizes, log η = a + Σ b log size, as of width and tokens.

    A cell has the runs of the same sizes `over`. Each has its optimum: with several seeds the mean of their own, as in
    `transfer`; with one seed everywhere that of its valley. The law goes through the cells' optima, each weighted by
    its noise and by the scatter of cells about the law (`sharplab.analysis.mixed_law`), with Student's t of as many
    degrees of freedom as cells beyond the coefficients. Cells whose best lies at an end of their grid are left out.

    With columns `tuned` along, as the batch size, a cell's optimum is over these too, on a surface through the runs
    near the best (`sharplab.analysis.surfaces`). The fits' windows then differ by more than each one's interval says:
    the law is their mean, and its variance the mean of theirs plus the variance between them.

    Prediction intervals are for the optimum of another cell, so that the scatter of cells is in them; those of cells
    that were left out in turn have the measured cell's own noise besides. Coverage: tests/analysis/test_rate_laws.py.

    Raises:
        ValueError: for a missing column, mixed settings, sizes that do not vary or vary together, and too few cells.

    >>> rates, widths, tokens = (a.ravel() for a in np.meshgrid(2.0 ** np.arange(-14, 0), [64, 128, 256], [1e9, 4e9]))
    >>> best = 2.0**-6 * (widths / 64) ** -0.5 * (tokens / 1e9) ** 0.25
    >>> table = {"width": widths, "tokens": tokens, "learning_rate": rates, "seed": 0}
    >>> law = learning_rate_law(Records(pd.DataFrame(table | {"eval_loss": 2 + 0.05 * np.log2(rates / best) ** 2})))
    >>> {name: round(exponent, 3) for name, exponent in law.exponents.items()}
    {'width': -0.5, 'tokens': 0.25}
    """
    sizes_of, along = ((given,) if isinstance(given, str) else tuple(given) for given in (over, tuned))
    columns = sizes_of + along
    if not sizes_of or len(set(columns)) < len(columns) or "learning_rate" in columns:
        raise ValueError(f"over and tuned must be different columns of sizes, not {sizes_of} and {along}.")
    check_runs(records.runs, columns, metric, also=("parameterization", "optimizer"))
    runs = join_rates(records.runs)
    refuse_repeats("the table", runs, columns)  # of joined rates too: one run of the two would be lost
    sizes, parts = [], []
    for values, part in runs.groupby(list(sizes_of)):
        sizes.append(dict(zip(sizes_of, map(_plain, values), strict=True)))
        parts.append(part)
    inside, optima = _surfaces(parts, along, metric) if along else _valleys(parts, metric)
    at_edge = tuple(each for each, kept in zip(sizes, inside, strict=True) if not kept)
    kept = tuple(each for each, kept in zip(sizes, inside, strict=True) if kept)
    _check_design(kept, len(sizes))
    laws = {
        name: _law(name, kept, found, at_edge=at_edge, metric=metric, confidence=confidence)
        for name, found in zip(("learning_rate", *along), optima, strict=True)
    }
    return replace(laws.pop("learning_rate"), tuned=laws)


def _plain(size: Any) -> float:
    return int(size) if float(size).is_integer() else float(size)


def _valleys(parts: Sequence[pd.DataFrame], metric: str) -> tuple[list[bool], list[CellOptima]]:
    """Which cells have their optimum inside the grid, and the optima of these over the learning rate."""
    grids = [in_curves(grid_of(part, metric)) for part in parts]
    inside = [bool(np.isfinite(grid.medians).any()) and not any(edges_of(grid)) for grid in grids]
    grids = [grid for grid, kept in zip(grids, inside, strict=True) if kept]
    if not grids:
        return inside, []
    alone = all(grid.values.shape[1] == 1 for grid in grids)
    if alone:
        values, variances, doubts = single_seed_valleys(grids)
    else:
        found = find_optima(grids)
        values, variances, doubts = np.array([(one.value, one.noise.variance, one.doubt) for one in found]).T
    return inside, [CellOptima(values[None], variances[None], doubts, not alone)]


def _surfaces(
    parts: Sequence[pd.DataFrame], along: tuple[str, ...], metric: str
) -> tuple[list[bool], list[CellOptima]]:
    """The same over the learning rate and what is tuned along, under each window; optima of each of these."""
    columns = ["learning_rate", *along]
    found = [surface_optima(np.log2(part[columns].to_numpy(float)), final_losses(part, metric)) for part in parts]
    told = [each for each in found if each is not None]
    optima = []
    for i in range(len(columns) if told else 0):
        values, variances = (np.array([each[which][:, i] for each in told]).T for which in (0, 1))
        optima.append(CellOptima(values, variances, np.zeros(len(told)), False))
    return [each is not None for each in found], optima


def _check_design(sizes: Sequence[Mapping[str, float]], cells: int) -> None:
    """Refuse cells that do not tell the exponents of their sizes and the scatter about the law."""
    columns = list(sizes[0]) if sizes else []
    for column in columns:
        if len({each[column] for each in sizes}) < 2:
            raise ValueError(
                f"over: {column} is {sizes[0][column]:g} in all cells, which tells no exponent: leave it out."
            )
    if len(sizes) > len(columns) and np.linalg.matrix_rank(_design(sizes)) <= len(columns):
        raise ValueError(f"over: {', '.join(columns)} vary together in all cells: give fewer of them, or more sizes.")
    if not sizes or len(sizes) < len(columns) + 2:
        raise ValueError(
            f"over: {len(sizes)} of {cells} cells have a best learning rate inside their grid, and a law needs two "
            "more than it has exponents: give more sizes, or extend the grids of the others."
        )


def _row(sizes: Sequence[Mapping[str, float]], at: Mapping[str, float]) -> np.ndarray:
    """The row of a design at some sizes, whose logarithms are taken from their means over the cells."""
    return np.array([1.0, *(np.log2(at[name]) - np.mean(np.log2([s[name] for s in sizes])) for name in sizes[0])])


def _design(sizes: Sequence[Mapping[str, float]]) -> np.ndarray:
    return np.array([_row(sizes, each) for each in sizes])


def _law(
    quantity: str,
    sizes: tuple[Mapping[str, float], ...],
    optima: CellOptima,
    *,
    at_edge: tuple[Mapping[str, float], ...],
    metric: str,
    confidence: float,
) -> LearningRateLaw:
    design = _design(sizes)
    # What all valleys have in common of the doubt about their shape moves the law, not the cells about it.
    variances, common = optima.variances + (1 - COMMON) * optima.doubts, COMMON * float(np.mean(optima.doubts))
    windows = list(zip(optima.values, variances, strict=True))
    fits = tuple(MixedLaw.through(design, *window) for window in windows)
    between = np.array([0.0 if optima.repeated else fit.between for fit in fits])
    left_out = []
    for i, row in enumerate(design):
        values, others = optima.values[:, i], np.arange(len(design)) != i
        measured = _mixture(values, variances[:, i] + common + between, fits[0].df, confidence)
        predicted = Measured(np.nan, -np.inf, np.inf)
        if others.sum() > len(row) == np.linalg.matrix_rank(design[others]):
            laws = [MixedLaw.through(design[others], y[others], v[others]) for y, v in windows]
            at, of_cells = np.array([law.at(row) for law in laws]).T
            # A window that moves all optima alike moves the measured one too.
            distance = _mixture(at - values, of_cells + variances[:, i], laws[0].df, confidence)
            predicted = Measured(*(measured.value + end for end in (distance.value, distance.low, distance.high)))
        left_out.append(LeftOut(_power(measured), _power(predicted)))
    return LearningRateLaw(
        quantity=quantity,
        metric=metric,
        sizes=sizes,
        at_edge=at_edge,
        fits=fits,
        doubt=common,
        left_out=tuple(left_out),
        tuned={},
        confidence=confidence,
    )


def _combined(
    fits: Sequence[MixedLaw], row: np.ndarray, confidence: float, *, new: bool = True, more: float = 0.0
) -> Measured:
    """The law at a row, of a new cell or of the law itself, averaged over the windows."""
    values, variances = np.array([fit.at(row) for fit in fits]).T
    if not new:
        variances = variances - [fit.between for fit in fits]
    return _mixture(values, variances + more, fits[0].df, confidence)


def _mixture(values: np.ndarray, variances: np.ndarray, df: float, confidence: float) -> Measured:
    """The mean over equally likely choices; its variance is the mean of theirs and the one between them."""
    value, variance = float(np.mean(values)), float(np.mean(variances) + np.var(values))
    half = float(stats.t.ppf((1 + confidence) / 2, df) * np.sqrt(variance))
    return Measured(value, value - half, value + half)


def _power(log: Measured) -> Measured:
    """The learning rate of which this is log₂; inf where that is beyond all floats."""
    with np.errstate(over="ignore"):
        return Measured(*np.exp2([log.value, log.low, log.high]).tolist())
