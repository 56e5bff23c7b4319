"""The style of all figures, and one function per kind of panel, which draws arrays and tables on given axes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sharplab.core.files import write_whole

if TYPE_CHECKING:
    import pandas as pd

    from sharplab.spectrum.density import SpectralDensity

STYLE: Mapping[Any, Any] = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.4,
}
ERROR_FLOOR = 1e-8  # of relative errors in float32: what is less is drawn there
NAMES: Mapping[str, str] = {"mup": "muP", "ntk": "NTK", "standard": "standard", "mean_field": "mean field"}


@contextmanager
def house_style() -> Iterator[None]:
    """A context in which figures are drawn in this lab's style."""
    with mpl.rc_context(dict(STYLE)):
        yield


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to a file, in the format that its name ends in, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, partial(figure.savefig, format=path.suffix.removeprefix(".") or "png"))


def size_colours(sizes: Sequence[int]) -> dict[int, Any]:
    """One colour per size, dark to light on a perceptual scale that colour-blind readers can order too."""
    ordered = sorted(sizes)
    shades = np.linspace(0.0, 0.85, len(ordered)) if len(ordered) > 1 else [0.4]
    return {size: plt.get_cmap("viridis")(shade) for size, shade in zip(ordered, shades, strict=True)}


def draw_curves(
    ax: Axes, curves: "pd.DataFrame", quantity: str, *, size: str = "width", sizes: Sequence[int] = ()
) -> None:
    """The mean over seeds against the step, one line per size, with a band of one standard deviation.

    `curves` has the columns `size`, seed, step and `quantity`. A size at a step where a seed is missing
    (diverged) is drawn from the seeds that are left. `sizes` are all that the figure has, where it has more.
    """
    colours = size_colours(sizes or curves[size].unique())
    for value, table in curves.groupby(size):
        seeds = table.pivot(index="step", columns="seed", values=quantity).dropna(how="all")
        mean, std = seeds.mean(axis=1), seeds.std(axis=1).fillna(0.0)
        ax.plot(seeds.index, mean, color=colours[value])
        ax.fill_between(seeds.index, mean - std, mean + std, color=colours[value], alpha=0.2, linewidth=0)
    ax.set_xlabel("step")


def draw_threshold(ax: Axes, value: float, label: str) -> None:
    """A dashed horizontal line with its meaning written on it, at the left end."""
    ax.axhline(value, color="0.25", linestyle="--", linewidth=1)
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (0, 2), "textcoords": "offset points"}
    ax.annotate(label, (0.01, value), fontsize=8, color="0.25", **place)


def draw_sweep(
    ax: Axes,
    runs: "pd.DataFrame",
    metric: str,
    optima: Mapping[int, tuple[float, tuple[float, float]]],
    *,
    size: str = "width",
    sizes: Sequence[int] = (),
) -> None:
    """Final loss against learning rate, one line per size; each size's optimum marked with its interval.

    `runs` has the columns `size`, learning_rate, seed and `metric` (not finite where diverged: a learning rate
    at which any seed diverged is left out of the line). `optima` gives (optimum, interval) per size; they are
    drawn as a row of marks under the curves, one level per size. `sizes` are all that the figure has, where it has
    more.
    """
    colours = size_colours(sizes or runs[size].unique())
    lowest = np.inf
    for value, table in runs.groupby(size):
        seeds = table.pivot(index="learning_rate", columns="seed", values=metric)
        stable = np.isfinite(seeds.to_numpy()).sum(axis=1) == seeds.notna().any(axis=0).sum()
        mean, std = seeds[stable].mean(axis=1), seeds[stable].std(axis=1).fillna(0.0)
        ax.plot(mean.index, mean, color=colours[value], marker="o", markersize=2.5)
        ax.fill_between(mean.index, mean - std, mean + std, color=colours[value], alpha=0.2, linewidth=0)
        lowest = min(lowest, mean.min())
    rates = runs["learning_rate"]
    ax.set_xscale("log", base=2)
    ax.set_xlim(rates.min() / 1.2, rates.max() * 1.2)
    for level, (value, (optimum, (low, high))) in enumerate(sorted(optima.items())):
        height = 0.04 + 0.045 * level
        transform = ax.get_xaxis_transform()
        ends = np.clip((low, high), *ax.get_xlim())
        ax.plot(ends, [height, height], color=colours[value], transform=transform, linewidth=2.2, alpha=0.8)
        ax.plot([optimum], [height], color=colours[value], marker="D", markersize=4.5, transform=transform, zorder=3)
    ax.set_xlabel("base learning rate")


def draw_drift(
    ax: Axes,
    optima: Mapping[int, tuple[float, tuple[float, float]]],
    *,
    plateau: float,
    from_size: float | None = None,
    size: str = "width",
    all_sizes: Sequence[int] | None = None,
) -> None:
    """The optimum of each size against the size, with its interval; both axes are logarithmic.

    Shaded is what lies within `plateau` octaves of the largest size's. `from_size` is marked: from there on the optima
    surely lie within. Colours are those of `all_sizes`, where others are shown beside these.
    """
    sizes = sorted(optima)
    colours = size_colours(sizes if all_sizes is None else all_sizes)
    best = [optima[value][0] for value in sizes]
    ax.plot(sizes, best, color="0.6", linewidth=1, zorder=1)
    finite = [end for value in sizes for end in optima[value][1] if 0 < end < np.inf] + best
    bottom, top = min(finite) / 2**plateau, max(finite) * 2**plateau
    for value in sizes:
        optimum, interval = optima[value]
        ax.plot([value, value], np.clip(interval, bottom, top), color=colours[value], linewidth=2.2, alpha=0.8)
        ax.plot([value], [optimum], color=colours[value], marker="D", markersize=5, zorder=3)
    ax.axhspan(best[-1] / 2**plateau, best[-1] * 2**plateau, color="0.9", zorder=0)
    if from_size is not None:
        ax.axvline(from_size, color="0.25", linestyle="--", linewidth=1)
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (3, 3), "textcoords": "offset points"}
        ax.annotate(f"from {from_size:g} on", (from_size, 0.0), fontsize=8, color="0.25", **place)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [f"{value:g}" for value in sizes])
    ax.set_yscale("log", base=2)
    ax.set_ylim(bottom, top)
    ax.minorticks_off()
    ax.set_xlabel(size)
    ax.set_ylabel("optimum (base learning rate)")


def draw_predictions(ax: Axes, table: "pd.DataFrame") -> None:
    """Measured optima against those that the law through the other cells predicts, with the predictions' intervals.

    `table` has the columns optimum, predicted, predicted_low, predicted_high and covered, as of
    `sharplab.LearningRateLaw.table`. On the line both are alike; what lies outside its interval is red.
    """
    known = table[np.isfinite(table["predicted"])]
    for covered, colour in ((True, "#2166ac"), (False, "#b2182b")):
        part = known[known["covered"] == covered]
        bars = np.abs(part[["predicted_low", "predicted_high"]].to_numpy().T - part["predicted"].to_numpy())
        style: dict[str, Any] = {"fmt": "o", "markersize": 4, "elinewidth": 0.9, "capsize": 0}
        ax.errorbar(part["optimum"], part["predicted"], bars, color=colour, **style)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.axline((1, 1), (2, 2), color="0.5", linestyle="--", linewidth=0.9)
    if len(known):
        ends = known[["optimum", "predicted_low", "predicted_high"]].to_numpy()
        ax.set_ylim(ends.min() / 1.2, ends.max() * 1.2)
        ax.set_xlim(known["optimum"].min() / 1.5, known["optimum"].max() * 1.5)
    ax.set_xlabel("measured")
    ax.set_ylabel("predicted from the other cells")


def draw_spread(ax: Axes, steps: np.ndarray, spread: np.ndarray, noise: np.ndarray) -> None:
    """The spread over sizes along training, with the one that seeds alone would give shaded."""
    ax.plot(steps, spread, color="#b2182b", label="over widths")
    ax.fill_between(steps, 0, noise, color="0.7", alpha=0.6, linewidth=0, label="seeds alone")
    ax.set_xlabel("step")


def draw_collapse(ax: Axes, shares: np.ndarray, curves: Mapping[Any, np.ndarray]) -> None:
    """Loss curves in units of their late loss against the share of the run, with bands of one standard deviation.

    `curves` gives log₂ of these losses by size, (seeds, T), as `sharplab.collapse` does.
    """
    colours = size_colours(list(curves))
    for size, octaves in curves.items():
        mean, std = octaves.mean(axis=0), octaves.std(axis=0)
        ax.plot(shares, 2.0**mean, color=colours[size])
        ax.fill_between(shares, 2.0 ** (mean - std), 2.0 ** (mean + std), color=colours[size], alpha=0.2, linewidth=0)
    log_ticks(ax)
    ax.set_xlabel("share of the run")
    ax.set_ylabel("loss / late loss")


def draw_density(ax: Axes, density: "SpectralDensity", exact: np.ndarray | None = None, *, inset: bool = True) -> None:
    """The density of eigenvalues on a logarithmic axis with a band of one standard error, outliers included.

    With `exact` eigenvalues, their density smoothed alike is dashed, and each is a tick at the bottom. Where outliers
    make the bulk a sliver of the axis, an `inset` shows the central 98 % of all eigenvalues on a linear axis.
    """
    nodes, weights = np.asarray(density.nodes, float), np.asarray(density.weights, float)
    ends = (nodes.min(), nodes.max()) if exact is None else (min(nodes.min(), min(exact)), max(nodes.max(), max(exact)))
    margin = 0.04 * (ends[1] - ends[0]) or 1.0
    low, high = ends[0] - margin, ends[1] + margin
    highest = _density_lines(ax, density, exact, low, high, None)
    # One eigenvalue of P, spread over the whole axis, would lie here; nothing of interest is much lower.
    floor = 1 / (density.size * (high - low))
    ax.set_yscale("log")
    ax.set_ylim(floor, 3 * highest)
    ax.set_xlim(low, high)
    ax.set_xlabel("eigenvalue λ")
    ax.set_ylabel("density of eigenvalues")
    first, last = _central_range(nodes.ravel(), weights.ravel(), 0.98)
    if inset and 0 < last - first < 0.25 * (high - low):
        # The outliers are far lower than the bulk, so that the space above them is free.
        part = ax.inset_axes((0.5 if first + last < low + high else 0.1, 0.5, 0.46, 0.46))
        spread = 0.15 * (last - first)
        # Most nodes lie in the bulk, which is resolved to their distance there.
        _density_lines(part, density, exact, first - spread, last + spread, 2 * (last - first) / nodes.shape[1])
        part.set_xlim(first - spread, last + spread)
        part.set_ylim(bottom=0)
        part.set_title("central 98 %", fontsize=7, pad=2)
        part.tick_params(labelsize=7)


def _density_lines(
    ax: Axes, density: "SpectralDensity", exact: np.ndarray | None, low: float, high: float, width: float | None
) -> float:
    grid = np.linspace(low, high, 2000)
    width = float(density.default_width(grid)) if width is None else width
    found, error = (np.asarray(f(grid, width)) for f in (density.density, density.density_stderr))
    ax.plot(grid, found, color="#2166ac", label="Lanczos quadrature", linewidth=1.2)
    ax.fill_between(grid, np.maximum(found - error, 0), found + error, color="#2166ac", alpha=0.25, linewidth=0)
    if exact is not None:
        bumps = np.exp(-(((grid[:, None] - np.asarray(exact)) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
        ax.plot(grid, bumps.mean(axis=1), color="0.15", linestyle="--", linewidth=0.9, label="exact")
        shown = np.asarray(exact)[(exact >= low) & (exact <= high)]
        ax.plot(shown, np.full(len(shown), 0.012), "|", color="0.15", markersize=5, transform=ax.get_xaxis_transform())
    return float(found.max())


def _central_range(nodes: np.ndarray, weights: np.ndarray, share: float) -> tuple[float, float]:
    order = np.argsort(nodes)
    mass = np.cumsum(weights[order]) / weights.sum()
    first, last = np.searchsorted(mass, [(1 - share) / 2, (1 + share) / 2])
    return float(nodes[order][first]), float(nodes[order][min(last, len(nodes) - 1)])


def leave_room_below(ax: Axes, share: float) -> None:
    """Room below the curves: the vertical axis is extended downwards by `share` of its height."""
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log":
        ax.set_ylim(low * (low / high) ** share, high)
    else:
        ax.set_ylim(low - share * (high - low), high)


def size_legend(sizes: Sequence[int], *, size: str = "width") -> list[Line2D]:
    """Handles for a legend of the size colours."""
    return [Line2D([], [], color=c, label=f"{size} {s}", linewidth=2) for s, c in size_colours(sizes).items()]


class _PlainLogLocator(LogLocator):
    """Ticks at 1, 2 and 5 times powers of ten, or evenly spaced where fewer than three of these are in view."""

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        ticks = super().tick_values(vmin, vmax)
        in_view = [tick for tick in ticks if vmin <= tick <= vmax]
        return ticks if len(in_view) >= 3 else MaxNLocator(5).tick_values(vmin, vmax)


def log_ticks(ax: Axes) -> None:
    """A logarithmic vertical axis whose ticks are plain numbers."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(_PlainLogLocator(10, subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def draw_accuracy(ax: Axes, runs: "pd.DataFrame", *, marked: Sequence[str] = ()) -> None:
    """True relative error against the number of products, one line per method: medians over seeds, per budget.

    `runs` has the columns method, seed, budget, products and error. Methods in `marked` show each budget as a point.
    """
    for method, table in runs.groupby("method", sort=False):
        points = table.groupby("budget")[["products", "error"]].median().sort_values("products")
        style: dict[str, Any] = {"marker": "o", "markersize": 4.5, "zorder": 3} if method in marked else {}
        ax.plot(points["products"], points["error"].clip(lower=ERROR_FLOOR), label=method, **style)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(ERROR_FLOOR, 2.0)
    ax.set_xlabel("products with the operator")
    ax.set_ylabel("true relative error |θ − λ|/|λ|")


def draw_tracked(ax: Axes, trajectories: "pd.DataFrame", missed: Sequence[int] = ()) -> None:
    """Eigenvalues along training, one colour per eigenvector, so that crossings show; their stated errors as bars.

    `trajectories` has the columns step, rank, value, stated_error and identity. A vector that is at two neighbouring
    records joins them by a line. The steps in `missed` get a triangle on the horizontal axis.
    """
    order = {step: i for i, step in enumerate(sorted(trajectories["step"].unique()))}
    pairs = plt.get_cmap("tab20")(np.arange(20)).reshape(10, 2, 4)
    palette = np.concatenate([pairs[:, 0], pairs[:, 1]])  # the dark ones first
    for identity, table in trajectories.groupby("identity"):
        colour = palette[int(identity) % len(palette)]
        position = table["step"].map(order)
        for _, stretch in table.groupby((position.diff() != 1).cumsum()):
            columns = (stretch[name] for name in ("step", "value", "stated_error"))
            ax.errorbar(*columns, color=colour, linewidth=1.1, marker=".", markersize=2.5, elinewidth=0.7)
    bottom: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "zorder": 4}
    ax.plot(missed, np.full(len(missed), 0.02), "^", color="0.15", markersize=6, **bottom)
    log_ticks(ax)
    ax.set_xlabel("step")
    ax.set_ylabel("eigenvalue")
