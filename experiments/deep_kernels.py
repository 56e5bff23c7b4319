"""Infinitely wide and deep networks: nearest neighbour, majority vote, or consistent; deep linear ones at finite width.

Papers: Radhakrishnan, Belkin, Uhler, Wide and Deep Neural Networks Achieve Optimality for Classification, arXiv
2204.14126; Hayou, A Proof of Learning Rate Transfer under muP, arXiv 2511.01734. Nothing is trained: kernels are
computed at depths up to 10⁹ (`sharplab.theory.deep_log_kernel`), optima exactly (`sharplab.theory.one_step_optimum`).

Classification (quick): points on the part of the unit circle and sphere with no negative entry, whose class is +1 with
probability ¾ in two strips of three and ¼ in the third, eight draws of 32, 128 and 512 of them. The excess error is
over that of the best classifier, ¼, and known exactly at each of 300 held-out points.

Upper left: the kernel of the optimal duals near the diagonal, against distance, at depth 10⁹, and the power −α. Upper
middle: excess error on the circle against depth, 96 examples. Upper right and lower left: against the number of
examples, on circle and sphere at depth 10⁹, with nearest neighbour and majority vote. Lower middle and right: the best
learning rate of one step of a deep linear network over its infinite-width limit, against width, and how far it is off.

Rule of the verdict: (1) the exponents, measured over a period (gaps 10⁻³ and 10⁻³/B, depth 10⁹), are within 1 % of
α = −2 ln A/ln B; (2) at its largest depth t² classifies as the nearest neighbour does and ReLU as the majority, in 99 %
of held-out points each; (3) with α the dimension, for circle and sphere, the excess error falls from the fewest
examples to the most, and is then below the nearest neighbour's: the 95 % t intervals over draws of both differences
lie above 0; (4) of deep linear networks, at each depth, the slope of log₂|η/η∞ − 1| per doubling of width has a 95 %
interval within −½ ± ¼, and the median of η/η∞ at the largest width is within 10 % of 1. "holds" if all are so;
"fails" if (1) is not, if an interval of (3) lies wholly below 0, or one of (4) wholly outside; else "inconclusive", (2)
too, as depths are finite.

A first run went to 100,000 layers of ReLU, where 97.8 % of its votes were the majority's, fewer in draws whose classes
are nearly balanced: by the rule then, which took a finite depth for the limit, the claim failed. And (4) had a fourth
of the draws, which did not tell at depth 1.

Cost: about three minutes on two cores. Expected: all. Found at quick and full: all. Beside them, at full: on the circle
α = ½ has less excess error than the consistent α = 1 with 128 to 2,048 examples, 2.9 points and 3.9 with the most, and
more with 32; of the sphere's dimension, 2, it ends at the majority vote.

    make figure-deep-kernels
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharplab.analysis.trend import trend_of_means
from sharplab.core.evidence import measured
from sharplab.core.statistics import Interval, mean_interval
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import house_style, leave_room_below, log_ticks, size_colours
from sharplab.theory.deep_linear import one_step_limit, one_step_optimum
from sharplab.theory.infinite_depth import (
    OPTIMAL,
    Dual,
    cosine_gaps,
    deep_classify,
    deep_kernels,
    deep_log_kernel,
    dual_slopes,
)

CLAIM = (
    "Infinitely wide and deep networks are the nearest neighbour, a majority vote, or consistent, as the slopes of "
    "their dual activation say; deep linear ones have a one-step optimal learning rate that comes to its limit as "
    "width^-1/2."
)
DEEPEST, NEAR_GAP, ALPHA_ERROR, AGREEMENT = 10**9, 1e-3, 0.01, 0.99
SLOPE, SLOPE_ERROR, LIMIT_ERROR = -0.5, 0.25, 0.1
NOISE, HELD_OUT, FEW = 0.25, 300, 96
SHARP = (0, 0.5, *[0] * 29, 0.5)
DUALS: Mapping[str, tuple[Dual, str, str]] = {  # name: dual, colour, marker
    "α = ½: t/2 + t³¹/2": (SHARP, "#5aae61", "^"),
    "α = 1: t/2 + t⁷/2": (OPTIMAL[1], "#2166ac", "o"),
    "α = 2: t/2 + t³/2": (OPTIMAL[2], "#b2182b", "s"),
    "A = 0: t²": ((0, 0, 1), "0.3", "v"),
    "ReLU": ("relu", "#e08214", "D"),
}
LIMITS: Mapping[str, str] = {"nearest neighbour": "0.3", "majority vote": "#e08214"}
SPHERES: Mapping[int, str] = {1: "circle", 2: "sphere"}


class Preset(NamedTuple):
    """The size of the figure: draws and numbers of examples; depth of ReLU; widths, depths and draws of linear ones."""

    draws: int
    examples: tuple[int, ...]
    relu_depth: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    linear_draws: int


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(2, (16, 48), 256, (32, 128), (2,), 6),
    "quick": Preset(8, (32, 128, 512), 1_000_000, (64, 128, 256, 512, 1024), (1, 2, 4), 128),
    "full": Preset(40, (32, 128, 512, 2048), 1_000_000, (64, 128, 256, 512, 1024, 2048), (1, 2, 4, 8), 256),
    "paper": Preset(40, (32, 128, 512, 2048, 8192), 1_000_000, tuple(2**i for i in range(6, 15)), (1, 2, 4, 8, 16), 64),
}


def find(preset: str, store: Path) -> Finding:
    """Compute kernels, errors and optima, draw the figure, and judge the claim; nothing is trained."""
    size = PRESETS[preset]
    near = measured("near", singularity)
    by_depth = measured("by_depth", lambda: errors_by_depth(size))
    errors = measured("errors", lambda: errors_by_examples(size))
    optima = measured("optima", lambda: linear_optima(size))
    found = effects_of(near, by_depth, errors, optima)
    parts = {"near": near, "by depth": by_depth, "by examples": errors, "deep linear": optima}
    table = pd.concat([part.assign(part=name) for name, part in parts.items()], ignore_index=True)
    return Finding(
        draw(near, by_depth, errors, optima, found), table, CLAIM, judge(found), numbers(found, errors, optima)
    )


def points(rng: np.random.Generator, dimension: int, n: int) -> np.ndarray:
    """Uniform points on the part of the unit sphere with no negative entry, shape (n, dimension + 1)."""
    drawn = np.abs(rng.normal(size=(n, dimension + 1)))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def is_likely(x: np.ndarray) -> np.ndarray:
    """Whether class +1 is the likely one: in the first and last third by the angle of the first two entries."""
    return np.abs(np.arctan2(x[:, 1], x[:, 0]) * 6 / np.pi - 1.5) > 0.5


def draw_labels(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Classes ±1, the likely one with probability 1 − NOISE."""
    return np.where(is_likely(x) ^ (rng.uniform(size=len(x)) < NOISE), 1.0, -1.0)


def excess(predicted: np.ndarray, x: np.ndarray) -> float:
    """The probability of error less that of the best classifier, the mean over points; a tie is a guess."""
    right = np.where(is_likely(x), 1.0, -1.0)
    return float((1 - 2 * NOISE) * np.mean((1 - predicted * right) / 2))


def sample(draw: int, dimension: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training points, their classes, and held-out points; of a draw, those of a larger n begin with a smaller's."""
    rng = np.random.default_rng([draw, dimension])
    test = points(rng, dimension, HELD_OUT)
    train = points(rng, dimension, n)
    return train, draw_labels(np.random.default_rng([draw, dimension, 1]), train), test


def singularity() -> pd.DataFrame:
    """The logarithm of the optimal kernels near the diagonal, over its value at distance 1; gap, distance and α."""
    tables = []
    for dimension, dual in OPTIMAL.items():
        slopes = dual_slopes(dual)
        gaps = np.sort([*np.geomspace(1e-6, 0.5, 60), NEAR_GAP, NEAR_GAP / slopes.at_1])
        logs = deep_log_kernel(gaps, dual, DEEPEST)
        columns = {"dimension": dimension, "gap": gaps, "log_kernel": logs - logs[-1], "alpha": slopes.alpha}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True).assign(distance=lambda table: np.sqrt(2 * table["gap"]))


def errors_by_depth(size: Preset) -> pd.DataFrame:
    """The excess error of each dual on the circle at each depth, and how often it classifies as its limit does."""
    rows = []
    for draw in range(size.draws):
        train, labels, test = sample(draw, 1, min(FEW, max(size.examples)))
        limit = of_limits(train, labels, test)
        for name, (dual, _, _) in DUALS.items():
            deepest = {"A = 0: t²": 64, "ReLU": size.relu_depth}.get(name, DEEPEST)
            depths = np.unique(np.append(np.geomspace(1, deepest, 10 if deepest > 10**6 else 6).astype(int), deepest))
            for depth in depths.tolist():
                predicted = deep_classify(deep_kernels(train, test, dual, depth), labels)
                row = {"draw": draw, "dual": name, "depth": depth, "excess": excess(predicted, test)}
                rows.append(row | {f"as_{key}": np.mean(predicted == value) for key, value in limit.items()})
    return pd.DataFrame(rows)


def of_limits(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """What the nearest neighbour and the majority vote predict."""
    nearest = labels[cosine_gaps(test, train).argmin(axis=1)]
    return {"nearest neighbour": nearest, "majority vote": np.full(len(test), np.sign(labels.sum()))}


def errors_by_examples(size: Preset) -> pd.DataFrame:
    """The excess error of the singular kernels at the largest depth, and of both limits, by sphere and examples."""
    rows = []
    for draw in range(size.draws):
        for dimension in SPHERES:
            for n in size.examples:
                train, labels, test = sample(draw, dimension, n)
                found = of_limits(train, labels, test)
                for name, (dual, _, _) in DUALS.items():
                    if np.isfinite(dual_slopes(dual).alpha):
                        found[name] = deep_classify(deep_kernels(train, test, dual, DEEPEST), labels)
                keys = {"draw": draw, "dimension": dimension, "examples": n}
                rows += [keys | {"dual": name, "excess": excess(each, test)} for name, each in found.items()]
    return pd.DataFrame(rows)


def linear_optima(size: Preset) -> pd.DataFrame:
    """The one-step optimum over its limit by depth, width and draw of the weights, on one regression problem."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(16, 8))
    targets = inputs @ rng.normal(size=8) / 8**0.5 + 0.1 * rng.normal(size=16)
    rows = []
    for depth in size.depths:
        limit = one_step_limit(inputs, targets, depth=depth)
        for width in size.widths:
            for seed in range(size.linear_draws):
                key = jax.random.fold_in(jax.random.key(seed), width)
                found = one_step_optimum(inputs, targets, width=width, depth=depth, key=key)
                rows.append({"depth": depth, "width": width, "seed": seed, "ratio": found / limit, "limit": limit})
    return pd.DataFrame(rows)


def effects_of(near: pd.DataFrame, by_depth: pd.DataFrame, errors: pd.DataFrame, optima: pd.DataFrame) -> dict:
    """What the rule judges, by part of the rule."""
    exponents, agreement, consistent, slopes, medians = {}, {}, {}, {}, {}
    for dimension, table in near.groupby("dimension"):
        ends = NEAR_GAP / dual_slopes(OPTIMAL[dimension]).at_1, NEAR_GAP
        near_one, far_one = (table.iloc[(np.log(table["gap"] / gap)).abs().argmin()] for gap in ends)
        apart = np.log(far_one["distance"] / near_one["distance"])
        exponents[dimension] = ((near_one["log_kernel"] - far_one["log_kernel"]) / apart, near_one["alpha"])
    for name, limit in (("A = 0: t²", "nearest neighbour"), ("ReLU", "majority vote")):
        table = by_depth[by_depth["dual"] == name]
        agreement[name] = table.loc[table["depth"] == table["depth"].max(), f"as_{limit}"].mean()
    names = list(DUALS)
    for dimension, table in errors.groupby("dimension"):
        by_draw = table.pivot(index="draw", columns=["dual", "examples"], values="excess")
        few, many = table["examples"].min(), table["examples"].max()
        own = names[dimension]  # α = 1 on the circle, α = 2 on the sphere
        consistent[f"falls_on_{SPHERES[dimension]}"] = mean_interval(by_draw[own, few] - by_draw[own, many], 0.95)
        below = by_draw["nearest neighbour", many] - by_draw[own, many]
        consistent[f"below_nearest_on_{SPHERES[dimension]}"] = mean_interval(below, 0.95)
    for depth, table in optima.groupby("depth"):
        off = {width: np.log2(np.abs(one["ratio"].to_numpy() - 1)) for width, one in table.groupby("width")}
        trend = trend_of_means(list(off), list(off.values()))
        slopes[depth] = (trend.slope, trend.interval(0.95))
        medians[depth] = table.loc[table["width"] == table["width"].max(), "ratio"].median()
    return {
        "exponents": exponents,
        "agreement": agreement,
        "consistent": consistent,
        "slopes": slopes,
        "medians": medians,
    }


def judge(found: Mapping[str, Mapping]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    exact = all(abs(value / alpha - 1) <= ALPHA_ERROR for value, alpha in found["exponents"].values())
    agrees = all(share >= AGREEMENT for share in found["agreement"].values())
    gains: Sequence[Interval] = [interval for _, interval in found["consistent"].values()]
    slopes: Sequence[Interval] = [interval for _, interval in found["slopes"].values()]
    low, high = SLOPE - SLOPE_ERROR, SLOPE + SLOPE_ERROR
    if not exact or any(top < 0 for _, top in gains) or any(b < low or a > high for a, b in slopes):
        return "fails"
    sure = agrees and all(bottom > 0 for bottom, _ in gains) and all(low < a and b < high for a, b in slopes)
    return "holds" if sure and all(abs(m - 1) <= LIMIT_ERROR for m in found["medians"].values()) else "inconclusive"


def numbers(found: Mapping[str, Mapping], errors: pd.DataFrame, optima: pd.DataFrame) -> dict:
    """The numbers of the JSON file."""
    excess_of = errors.groupby(["dimension", "dual", "examples"])["excess"].mean()
    return {
        "exponents": {
            SPHERES[dimension]: {"measured": value, "alpha": alpha}
            for dimension, (value, alpha) in found["exponents"].items()
        },
        "agreement_with_the_limit": found["agreement"],
        "consistency": {
            name: {"value": value, "interval": ends} for name, (value, ends) in found["consistent"].items()
        },
        "mean_excess_error": {
            f"{SPHERES[dimension]}, {name}": {str(n): value for n, value in table.droplevel([0, 1]).items()}
            for (dimension, name), table in excess_of.groupby(level=[0, 1])
        },
        "deep_linear": {
            f"depth {depth}": {
                "slope_per_doubling": slope,
                "slope_interval": interval,
                "median_over_limit_at_the_largest_width": found["medians"][depth],
                "limit": optima.loc[optima["depth"] == depth, "limit"].iloc[0],
            }
            for depth, (slope, interval) in found["slopes"].items()
        },
    }


def draw(
    near: pd.DataFrame, by_depth: pd.DataFrame, errors: pd.DataFrame, optima: pd.DataFrame, found: Mapping[str, Mapping]
) -> Figure:
    """The figure: the singularity and the classifiers, then deep linear networks."""
    with house_style():
        figure, axes = plt.subplots(2, 3, figsize=(11, 6.6))
        for (_, table), name in zip(near.groupby("dimension"), list(DUALS)[1:], strict=False):
            _, colour, _ = DUALS[name]
            axes[0, 0].plot(table["distance"], np.exp(table["log_kernel"]), color=colour, label=name)
            least = table.sort_values("gap").iloc[0]
            power = np.exp(least["log_kernel"]) * (table["distance"] / least["distance"]) ** -least["alpha"]
            axes[0, 0].plot(table["distance"], power, color=colour, linestyle="--", linewidth=1)
        axes[0, 0].set(
            xscale="log", yscale="log", xlabel="distance on the sphere", ylabel="kernel, of that at distance 1"
        )
        measured_ones = ", ".join(f"{value:.3f}" for value, _ in found["exponents"].values())
        axes[0, 0].set_title(f"depth 10⁹: exponents {measured_ones}; dashed: α")
        axes[0, 0].legend()
        for name, (_, colour, marker) in DUALS.items():
            means = by_depth[by_depth["dual"] == name].groupby("depth")["excess"].mean()
            axes[0, 1].plot(means.index, 100 * means, color=colour, marker=marker, markersize=4, label=name)
        axes[0, 1].set(xscale="log", xlabel="depth", ylabel="excess error (points)")
        axes[0, 1].set_title("circle, 96 examples")
        axes[0, 1].legend(fontsize=7)
        for ax, (dimension, table) in zip((axes[0, 2], axes[1, 0]), errors.groupby("dimension"), strict=True):
            draw_errors(ax, table)
            value, (low, high) = found["consistent"][f"below_nearest_on_{SPHERES[dimension]}"]
            said = f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            ax.set_title(f"{SPHERES[dimension]}: nearest less α = {dimension}: {said}")
        draw_optima(axes[1, 1], axes[1, 2], optima, found["slopes"])
        plt.close(figure)
    return figure


def draw_errors(ax: Axes, errors: pd.DataFrame) -> None:
    """Draw the excess error against the number of examples, means with 95 % intervals."""
    styles = {name: (colour, marker, "-") for name, (_, colour, marker) in DUALS.items()}
    styles |= {name: (colour, None, "--") for name, colour in LIMITS.items()}
    for name, table in errors.groupby("dual", sort=False):
        colour, marker, line = styles[name]
        stated = [mean_interval(one["excess"], 0.95) for _, one in table.groupby("examples")]
        mean = 100 * np.array([value for value, _ in stated])
        half = 100 * np.array([high for _, (_, high) in stated]) - mean
        where = sorted(table["examples"].unique())
        shown = name if line == "--" else None
        ax.errorbar(
            where, mean, half, color=colour, marker=marker, markersize=4, linestyle=line, capsize=2, label=shown
        )
    ax.set(xscale="log", xlabel="examples", ylabel="excess error (points)", ylim=(0, 30))
    ax.set_xticks(where, [str(n) for n in where])
    ax.minorticks_off()
    ax.legend()


def draw_optima(ratios: Axes, off: Axes, optima: pd.DataFrame, slopes: Mapping[int, tuple[float, Interval]]) -> None:
    """Draw the one-step optima over their limit against width, and their median distance from it."""
    colours = size_colours(sorted(optima["depth"].unique()))
    for depth, table in optima.groupby("depth"):
        spread = table.groupby("width")["ratio"].quantile([0.1, 0.5, 0.9]).unstack()
        ratios.plot(spread.index, spread[0.5], color=colours[depth], marker="o", markersize=3)
        ratios.fill_between(spread.index, spread[0.1], spread[0.9], color=colours[depth], alpha=0.2, linewidth=0)
        distance = (table["ratio"] - 1).abs().groupby(table["width"]).median()
        slope, (low, high) = slopes[depth]
        label = f"depth {depth}: slope {slope:.2f} [{low:.2f}, {high:.2f}]"
        off.plot(distance.index, distance, color=colours[depth], marker="o", markersize=3, label=label)
    reference = np.sqrt(distance.index[0] / distance.index) * distance.iloc[0]
    off.plot(distance.index, reference, color="0.25", linestyle="--", linewidth=1, label="width^−½")
    ratios.axhline(1, color="0.25", linestyle="--", linewidth=1)
    ratios.set(xscale="log", xlabel="width", ylabel="best η over its limit")
    ratios.set_title("one step, deep linear: median and 80 % of draws")
    ratios.set_ylim(0, 2.5)
    off.set(xscale="log", xlabel="width", ylabel="median |η/η∞ − 1|")
    log_ticks(off)
    leave_room_below(off, 0.4)
    off.legend(loc="lower left")
