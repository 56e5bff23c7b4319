"""The learning rate that small networks suggest for a large one, with its evidence: as a table, a text and a figure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sharplab.analysis import Consistency, Transfer
from sharplab.core.statistics import Interval
from sharplab.records import Records

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Suggestion:
    """The base learning rate for a width that was not trained: made by `suggest_learning_rate`.

    Give it to `sharplab.mup(build, base=base, width=width, optimizer=…).optimizer(learning_rate)`.

    Attributes:
        learning_rate: the suggestion; where `conclusive` is False, the best guess there is, or nan.
        interval: of the optimum at this width; (0, inf) where it is not known.
        width, base: for which width, and at which learning rates are quoted.
        steps, batch_size: of the runs: a longer training or another batch may want another learning rate.
        transfer: the optimum and the end of stability at each width trained.
        regret, regret_interval: how much higher the loss is at the suggestion than at the optimum, expected and from 0
            to the worst case (`sharplab.studies.suggest_lr.extrapolation.predicted_regret`), in units of the metric.
        edge_distance: by how many octaves the suggestion lies below the end of stability at the largest width trained,
            the lower end of that one's interval; where no run diverged, below the largest learning rate trained.
        capped: whether it was brought down to that end.
        extrapolated: what the trend of the optima reads at `width`; nan where there is none.
        sharpness: whether the effective sharpness, in units of the optimizer's threshold, follows one trajectory at
            every width; None with `sharpness_missing` the reason.
        records: the runs, and as curves the sharpness along training at the suggestion.
        reasons: why it is not conclusive, and what to do.
        left_out: what the budget did not allow.
    """

    learning_rate: float
    interval: Interval
    width: int
    base: int
    optimizer: str
    metric: str
    steps: int
    batch_size: int
    transfer: Transfer
    regret: float
    regret_interval: Interval
    edge_distance: float
    capped: bool
    extrapolated: float
    sharpness: Consistency | None
    sharpness_missing: str
    records: Records
    reasons: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def conclusive(self) -> bool:
        """Whether there is an interval."""
        return not self.reasons

    def table(self) -> pd.DataFrame:
        """One row per width trained: optimum and edge with intervals, and the late sharpness in units of the threshold.

        `sharpness` is the mean over seeds of the second half of training, `sharpness_error` the largest error of the
        eigenvalues in it; NaN where it is not known.
        """
        columns = [f"{what}{end}" for what in ("optimum", "edge") for end in ("", "_low", "_high")]
        table = self.transfer.table().set_index("width")[columns].assign(sharpness=np.nan, sharpness_error=np.nan)
        curves = self.records.curves
        if curves is not None:
            late = curves[curves["step"] >= curves["step"].max() / 2].groupby("width")
            per_unit = curves["share"].div(curves["sharpness"]).median()
            table["sharpness"] = late["share"].mean()
            table["sharpness_error"] = late["sharpness_error"].max() * per_unit
        return table.reset_index()

    def draw(self) -> "Figure":
        """The sweeps, the optimum over width with the extrapolation, and the sharpness along training."""
        from sharplab.studies.suggest_lr.drawing import Mark, draw_suggestion

        if self.conclusive:
            says = f"base learning rate {self.learning_rate:.3g} for width {self.width}"
        else:
            says = f"no learning rate can be told for width {self.width} yet"
        return draw_suggestion(
            self.records,
            self.transfer,
            Mark(self.width, self.learning_rate, self.interval),
            self.extrapolated,
            sharpness=self.sharpness or self.sharpness_missing,
            trained=f"after {self.steps} steps of batch {self.batch_size}",
            title=f"{self.optimizer}: {says}",
        )

    def __str__(self) -> str:
        parts = (_headline(self), *_indented(self.reasons), _training(self), *_indented(self.left_out), _shift(self))
        return "\n".join([*parts, *_regret(self), _stability(self), _sharpness(self)])


def _indented(lines: tuple[str, ...]) -> list[str]:
    return [f"  {line}" for line in lines]


def _headline(found: Suggestion) -> str:
    at = f"width {found.width}, {found.optimizer}, quoted at base {found.base}"
    if not found.conclusive:
        return f"inconclusive: base learning rate perhaps {found.learning_rate:.3g} for {at}"
    low, high = found.interval
    interval = f"[{low:.3g}, {high:.3g}] ({found.transfer.confidence:.0%})"
    return f"base learning rate {found.learning_rate:.3g} {interval} for {at}"


def _training(found: Suggestion) -> str:
    runs, widths = found.records.runs, ", ".join(map(str, found.transfer.sizes))
    return (
        f"  trained: {len(runs)} runs at widths {widths}, {runs['seed'].nunique()} seeds each, {found.steps} "
        f"steps of batch {found.batch_size}; a longer training or another batch may want another learning rate"
    )


def _shift(found: Suggestion) -> str:
    low, high = found.transfer.shift_interval
    shift = found.transfer.shift
    return f"  the optimum moves by {shift:+.2f} octaves per doubling of width [{low:+.2f}, {high:+.2f}]"


def _regret(found: Suggestion) -> list[str]:
    if not found.conclusive:
        return []
    loss, worst = found.metric.replace("_", " "), found.regret_interval[1]
    return [f"  predicted regret in {loss}: {_rise(found.regret)}; at worst {_rise(worst)}"]


def _rise(regret: float) -> str:
    if np.isinf(regret):
        return "runs may diverge, or lie where none was trained: take the lower end of the interval to be safe"
    return "unknown, for the optimum may lie where none was trained" if np.isnan(regret) else f"{regret:.2g}"


def _stability(found: Suggestion) -> str:
    largest, distance = found.transfer.sizes[-1], found.edge_distance
    capped = "; brought down to that" if found.capped else ""
    if np.isinf(found.transfer.edge_interval[-1][1]):
        return f"  no run diverged at width {largest} up to {distance:.1f} octaves above{capped}"
    return f"  stability ends {distance:.1f} octaves above, at width {largest}{capped}"


def _sharpness(found: Suggestion) -> str:
    if found.sharpness is None:
        return f"  effective sharpness: absent, {found.sharpness_missing}"
    shares = ", ".join(f"{row.sharpness:.2g} at {row.width}" for row in found.table().itertuples())
    low, high = found.sharpness.slope_interval
    return (
        f"  late sharpness in units of the threshold: {shares}; {found.sharpness.slope:+.2f} octaves per doubling "
        f"[{low:+.2f}, {high:+.2f}], {found.sharpness.verdict}"
    )
