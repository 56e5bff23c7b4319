"""Newton steps regularised by the gradient's norm: does a Gauss-Newton matrix do for the exact Hessian?

Paper: Semenov, Jaggi and Doikov, Gradient-Normalized Smoothness for Optimization with Approximate Hessians, arXiv
2506.13710, with code epfml/grad-norm-smooth: x⁺ = x − (H + (‖g‖/γ) I)⁻¹ g, accepted if f falls by ‖g⁺‖²γ/(8‖g‖), upon
which γ doubles, and halves if not. On LogSumExp the weighted Gauss-Newton matrix is said to take nearly as many
iterations as the exact Hessian. Here (quick), with the settings of that code where it has them: LogSumExp of 1,000
terms in as many variables, μ = 1, in the norm of the data (as there), and 300 in the Euclidean one; the power norm
‖A x − b‖⁴/4, 100 equations in 200 variables, against its Fisher term; the Rosenbrock function from near (−2, 2) against
its Gauss-Newton matrix; logistic regression (500 examples, 50 inputs) and a network (64-16-10, tanh, 512 images of
Fashion-MNIST at 8 × 8) against Gauss-Newton and the empirical Fisher. Six draws of each; in double precision; systems
by conjugate gradients on the lab's operators to a relative residual of 10⁻³. Iterations are accepted steps, as in the
paper; each rejected trial costs a system too. Methods stop at f − f* ≤ 10⁻⁸, the network's at 0.5 nats.

First panels, first draw: f − f* against iterations, beside gradient descent (the best of thirteen constant learning
rates around 1/λ of the start, or backtracking), L-BFGS (optax) and Newton's method in a trust region (SciPy). Then, of
the first draw, gradients and products with the Hessian until there (line searches count as gradients; hollow: not
there); iterations of each approximation over those of the exact Hessian, all draws, with 95 % intervals; and γ beside
2/λmax along the run. A radius is no learning rate, so that γ/‖g‖ is drawn too, the learning rate of the regularisation
alone; with H = 0 the method is descent of that rate, which the test of acceptance holds near the edge.

Rule of the verdict, on log₂ of the iterations with the weighted Gauss-Newton matrix over those with the exact Hessian
on LogSumExp, mean over draws with a 95 % t interval, in either norm: "holds" if both intervals lie within a factor of
1.2; "fails" if one lies wholly outside; else "inconclusive". A run that reaches its limit counts as the iterations it
made. The other problems are shown, not judged: on logistic regression the Gauss-Newton matrix is the Hessian. By the
same rule a first run of ten draws failed too; it cut systems off at 200 products, which in the Euclidean norm with
1,000 terms doubled the exact Hessian's iterations.

Cost: about two minutes on two cores. Expected: two to three times as many iterations, as in a trial of other draws.
Found at full (thirty draws): 2.3 times as many [2.2, 2.4] in both norms.

    make figure-smoothness
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from smoothness_problems import PROBLEMS, Curvature, Problem, regularisation_alone
from smoothness_rivals import rivals

import sharplab as sl
from sharplab.analysis.trend import Measured, lies_outside, lies_within
from sharplab.core.evidence import measured
from sharplab.core.statistics import mean_interval
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import house_style

CLAIM = (
    "On LogSumExp, Newton's method regularised by the gradient's norm takes nearly as many iterations with the "
    "weighted Gauss-Newton matrix as with the exact Hessian."
)
JUDGED = ("LogSumExp, norm of the data", "LogSumExp, Euclidean norm")
FOLLOWED = ("LogSumExp, norm of the data", "network")  # whose γ is drawn
TOLERANCE = float(np.log2(1.2))
STYLE: Mapping[str, tuple[str, str, str]] = {  # what a method is called, its colour and line
    "exact": ("regularised, exact Hessian", "#000000", "-"),
    "gauss_newton": ("regularised, Gauss-Newton", "#d55e00", "-"),
    "fisher": ("regularised, Fisher", "#009e73", "-"),
    "newton": ("Newton, trust region", "#0072b2", "--"),
    "lbfgs": ("L-BFGS", "#cc79a7", "--"),
    "backtracking": ("descent, backtracking", "#e69f00", ":"),
    "constant": ("descent, best constant rate", "#56b4e9", ":"),
}
RATES: Mapping[str, tuple[str, str]] = {  # what is beside 2/λ, by curvature: label and colour
    "exact": ("exact Hessian", "#000000"),
    "gauss_newton": ("Gauss-Newton", "#d55e00"),
    "none": ("H = 0", "#56b4e9"),
}
SIZES = dict(zip(PROBLEMS, (1000, 300, 100, 100, 2, 500, 512), strict=True))


@dataclass(frozen=True)
class Preset:
    """Sizes of the problems by name, how often each is drawn, and the most trials of a run."""

    sizes: Mapping[str, int]
    draws: int
    limit: int = 640


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(dict.fromkeys(JUDGED, 30), 3, limit=192),
    "quick": Preset(SIZES, 6),
    "full": Preset(SIZES, 30, limit=1280),
    "paper": Preset(SIZES | {JUDGED[1]: 1000}, 100, limit=1280),
}


def find(preset: str, store: Path) -> Finding:
    """Minimise, draw the figure, and judge the claim."""
    settings = PRESETS[preset]
    with jax.enable_x64(True):
        paths = measured("paths", lambda: pd.concat(minimised(settings), ignore_index=True))
        radii = measured("radii", lambda: pd.concat(followed(settings), ignore_index=True))
    counts = counted(paths)
    ratios = ratios_of(counts)
    numbers = {
        "iterations_over_those_of_the_exact_hessian": {
            f"{name}, {method}": {"ratio": 2**of.value, "interval": (2**of.low, 2**of.high)}
            for (name, method), of in ratios.items()
        },
        "until_there_first_draw": {
            name: {
                str(row.method): [row.step, row.gradients, row.products, bool(row.there)] for row in rows.itertuples()
            }
            for name, rows in counts[counts["draw"] == 0].groupby("problem", sort=False)
        },
        "learning_rate_of_descent_over_2_over_sharpness": {  # median over the second half of the run with H = 0
            name: float((rows["rate"] * rows["sharpness"] / 2)[len(rows) // 2 :].median())
            for name, rows in radii[radii["method"] == "none"].groupby("problem", sort=False)
        },
        "rejected_share": {
            name: float(of.mean()) for name, of in counts[counts["method"] == "exact"].groupby("problem")["rejected"]
        },
    }
    return Finding(draw(paths, counts, ratios, radii), counts, CLAIM, judge(ratios), numbers)


def problems(settings: Preset, names: Iterable[str], draws: int) -> Iterator[tuple[str, int, Problem]]:
    """The name, number and problem of each draw, the same whatever else is drawn."""
    for name in (name for name in names if name in settings.sizes):
        for seed in range(draws):
            random = np.random.default_rng([list(PROBLEMS).index(name), seed])
            yield name, seed, PROBLEMS[name][0](random, settings.sizes[name])


def minimised(settings: Preset) -> Iterator[pd.DataFrame]:
    """Each method on each problem: f − f* along the run of the first draw, and the last row of the others."""
    for name, seed, problem in problems(settings, PROBLEMS, settings.draws):
        of_methods: dict[str, Curvature] = {"exact": "hessian", **PROBLEMS[name][1]}
        for method, curvature in of_methods.items():
            rows = rows_of(problem, curvature, settings.limit)
            rows = rows if seed == 0 else rows[-1:]
            yield rows.assign(problem=name, draw=seed, method=method, there=rows["gap"] <= problem.accuracy)
        for method, rows in rivals(problem, settings.limit) if seed == 0 else ():
            yield rows.assign(problem=name, draw=seed, method=method, there=rows["gap"] <= problem.accuracy)


def rows_of(problem: Problem, curvature: Curvature, limit: int) -> pd.DataFrame:
    """A row per trial until f − f* is small: accepted steps, products and gradients so far."""
    parts = list(problem.paths(curvature, limit=limit))
    values = np.concatenate([*(part.values[:-1] for part in parts), parts[-1].values[-1:]])
    accepted, products = (
        np.concatenate([[0], *(getattr(p, of) for p in parts)]).cumsum() for of in ("accepted", "products")
    )
    trials = np.arange(len(values))
    gap = values - problem.lowest
    rows = {"step": accepted, "gap": gap, "products": products, "gradients": trials + 1, "rejected": trials - accepted}
    there = np.flatnonzero(gap <= problem.accuracy)
    return pd.DataFrame(rows)[: there[0] + 1 if len(there) else None]


def followed(settings: Preset) -> Iterator[pd.DataFrame]:
    """γ, γ/‖g‖ and 2/λmax of the Hessian at each accepted point of the first draws."""
    for name, _, problem in problems(settings, FOLLOWED, 1):
        curvatures = {
            "exact": "hessian",
            "gauss_newton": PROBLEMS[name][1]["gauss_newton"],
            "none": regularisation_alone,
        }
        for method, curvature in curvatures.items():
            rows: list[dict[str, Any]] = []
            for path in problem.paths(curvature, limit=settings.limit // 4, each=1):
                if not path.steps:
                    continue
                op = sl.hessian(problem.loss, path.params, problem.batch, model=problem.model)
                top = sl.eigsh(op, tol=1e-2)
                radius = {"gamma": path.gammas[0], "rate": path.gammas[0] / path.gradient_norms[0]}
                rows.append(radius | {"sharpness": float(top.values[0]), "error": float(top.errors[0])})
            yield pd.DataFrame(rows).rename_axis("step").reset_index().assign(problem=name, method=method)


def counted(paths: pd.DataFrame) -> pd.DataFrame:
    """Of each run, what it took until there, or in all."""
    counts = paths.groupby(["problem", "draw", "method"], sort=False).tail(1)
    return counts[["problem", "draw", "method", "step", "gradients", "products", "rejected", "gap", "there"]].assign(
        rejected=counts["rejected"] / (counts["gradients"] - 1)
    )


def ratios_of(counts: pd.DataFrame) -> dict[tuple[str, str], Measured]:
    """By problem and approximation, log₂ of its iterations over the exact Hessian's: mean over draws, 95 % interval."""
    found = {}
    for name, rows in counts.groupby("problem", sort=False):
        steps = octaves(rows)
        for method in steps:
            mean, (low, high) = mean_interval(steps[method], 0.95)
            found[str(name), str(method)] = Measured(mean, low, high)
    return found


def octaves(counts: pd.DataFrame) -> pd.DataFrame:
    """Of one problem, log₂ of iterations over the exact Hessian's: a row per draw, a column per approximation."""
    steps = counts.pivot(index="draw", columns="method", values="step")
    approximate = [method for method in ("gauss_newton", "fisher") if method in steps]
    return np.log2(steps[approximate].div(steps["exact"], axis=0))


def judge(ratios: Mapping[tuple[str, str], Measured]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    intervals = [ratios[name, "gauss_newton"].interval for name in JUDGED]
    if any(lies_outside(interval, TOLERANCE) for interval in intervals):
        return "fails"
    return "holds" if all(lies_within(interval, TOLERANCE) for interval in intervals) else "inconclusive"


def draw(
    paths: pd.DataFrame, counts: pd.DataFrame, ratios: Mapping[tuple[str, str], Measured], radii: pd.DataFrame
) -> Figure:
    """The figure: runs of each problem, then what they took, the ratios, and γ beside 2/λ."""
    names = list(paths["problem"].unique())
    beside = list(radii["problem"].unique())
    rows = -(-(len(names) + 2 + len(beside)) // 4)
    with house_style():
        figure, axes = plt.subplots(rows, 4, figsize=(14.0, 3.3 * rows + 0.6))
        panels = iter(axes.flat)
        for name in names:
            draw_paths(next(panels), name, paths[(paths["problem"] == name) & (paths["draw"] == 0)])
        draw_work(next(panels), names, counts[counts["draw"] == 0])
        draw_ratios(next(panels), counts, ratios)
        for name in beside:
            draw_radii(next(panels), name, radii[radii["problem"] == name])
        for unused in panels:
            unused.remove()
        lines = [Line2D([], [], color=colour, linestyle=style, label=label) for label, colour, style in STYLE.values()]
        figure.legend(handles=lines, loc="outside upper center", ncols=4)
        plt.close(figure)
    return figure


def draw_paths(ax: Axes, name: str, paths: pd.DataFrame) -> None:
    """f − f* against iterations, a line per method, with a dot where it is there."""
    for method, rows in paths.groupby("method", sort=False):
        _, colour, style = STYLE[str(method)]
        steps = rows.drop_duplicates("step")
        ax.plot(steps["step"] + 1, steps["gap"], color=colour, linestyle=style)
        if rows["there"].iloc[-1]:
            ax.plot(steps["step"].iloc[-1] + 1, steps["gap"].iloc[-1], "o", color=colour, markersize=4)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_title(name)
    ax.set_xlabel("iterations (accepted steps) + 1")
    ax.set_ylabel("train loss (nats)" if name == "network" else "f − f*")


def draw_work(ax: Axes, names: list[str], counts: pd.DataFrame) -> None:
    """Gradients and products until there, a row per problem; hollow where it was not reached."""
    for place, name in enumerate(names):
        for row in counts[counts["problem"] == name].itertuples():
            colour = STYLE[str(row.method)][1]
            filled = colour if row.there else "white"
            ax.plot(
                row.gradients + row.products, place, "o", color=colour, markerfacecolor=filled, markersize=5, alpha=0.9
            )
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    _name_rows(ax, names)
    ax.set_xlabel("gradients + products until there")
    ax.set_title("work, first draw (hollow: not there)")


def draw_ratios(ax: Axes, counts: pd.DataFrame, ratios: Mapping[tuple[str, str], Measured]) -> None:
    """Iterations of each approximation over the exact Hessian's, draws as dots, the mean with its interval."""
    for place, ((name, method), of) in enumerate(ratios.items()):
        colour = STYLE[method][1]
        draws = 2 ** octaves(counts[counts["problem"] == name])[method]
        ax.plot(draws, np.full(len(draws), place + 0.25), ".", color=colour, alpha=0.4, markersize=4)
        ax.plot([2**of.low, 2**of.high], [place] * 2, color=colour, linewidth=2)
        ax.plot(2**of.value, place, "D", color=colour, markersize=4.5)
    ax.axvspan(2**-TOLERANCE, 2**TOLERANCE, color="0.88", zorder=0)
    ax.set_xscale("log", base=2)
    ticks = [2.0**k for k in range(-1, 6)]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    _name_rows(ax, [name for name, _ in ratios])
    ax.set_xlabel("iterations over the exact Hessian's")
    one, other = (ratios[name, "gauss_newton"].value for name in JUDGED)
    ax.set_title(f"LogSumExp: {2**one:.1f} and {2**other:.1f} times as many")


def _name_rows(ax: Axes, names: list[str]) -> None:
    ax.set_yticks(range(len(names)), [name.replace(", ", ",\n") for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)


def draw_radii(ax: Axes, name: str, radii: pd.DataFrame) -> None:
    """γ dotted, γ/‖g‖ drawn through, and 2/λmax dashed, along the accepted steps."""
    for method, rows in radii.groupby("method", sort=False):
        label, colour = RATES[str(method)]
        step = rows["step"] + 1
        ax.plot(step, rows["rate"], color=colour, label=label)
        ax.plot(step, rows["gamma"], color=colour, linestyle=":", linewidth=1)
        ax.plot(step, 2 / rows["sharpness"], color=colour, linestyle="--", linewidth=1)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_title(name)
    ax.set_xlabel("iterations (accepted steps)")
    ax.set_ylabel("— γ/‖g‖   ··· γ   - - 2/λmax")
    ax.legend()
