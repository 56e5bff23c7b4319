"""Logistic regression with an ever larger learning rate is the perceptron, and separates sooner at a higher loss.

Paper: Tyurin, From Logistic Regression to the Perceptron Algorithm, arXiv 2412.08424. Here (quick): sneakers against
ankle boots, 1,629 images of Fashion-MNIST, in 512 random ReLU features, which separate them; gradient descent and its
normalised variant from 0 at seven learning rates γ, and both perceptrons (`sharplab.theory.separate`), for five draws
of the features. The margin μ is enclosed by non-negative least squares with a certificate.

Upper left: the paper's worst case, steps to separation against the number of examples. Upper middle: the same steps on
the images against γ, mean and range over draws, with the normalised method's bound R²/μ² + 2 log(2n − 1)/(γμ²). Upper
right: the gap between θ/γ of descent and the batch perceptron's θ over its first 8 steps, relative, root mean square.
Lower row, first draw: loss, share of examples on the wrong side, and sharpness × γ/2 along descent, 1 where the
sharpness is 2/γ; dots are where it separates.

Rule of the verdict. With 95 % t intervals over draws: (1) the normalised method never takes more steps than its bound;
(2) log₂ of descent's steps at the smallest γ over those at the largest is above 0 (steps that reach the limit of 8,192
count as that many, which only makes it smaller); (3) so is log₂ of the loss at the largest γ over that at the smallest,
each averaged over the steps that the largest γ takes to separate; (4) the gap to the perceptron at the largest γ is
below 1 %. "holds" if all four are surely so; "fails" if (1) is violated at the margin's lower end, or one of the three
intervals lies wholly on the other side; else "inconclusive". Whether the normalised method is the faster one at large γ
is shown, not judged: the paper says so of the worst case. The gap has no rule on its slope: an example that two
trajectories leave on different sides puts them apart, more with each step, so that it falls in jumps.

Cost: about three minutes on two cores. Expected: all four. Found at full (512 features, twenty draws, γ to 2²³): so,
descent's steps fall by 4.9 octaves [4.8, 4.9], and the gap is at rounding for most draws.

    make figure-perceptron
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.core.evidence import measured
from sharplab.core.statistics import Interval, mean_interval
from sharplab.data import load_dataset
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import draw_threshold, house_style, size_colours
from sharplab.theory.perceptron import (
    METHODS,
    largest_margin,
    separate,
    separating_iterates,
    separation_bound,
    worst_case,
)

CLAIM = (
    "As its learning rate grows, gradient descent on separable logistic regression becomes the batch perceptron, and "
    "separates in fewer steps at a higher loss; normalised, it keeps to its bound."
)
NAMES: Mapping[str, tuple[str, str, str]] = {  # method: what it is called, colour, marker
    "logistic": ("gradient descent", "#b2182b", "o"),
    "normalised_logistic": ("normalised", "#2166ac", "s"),
    "perceptron": ("batch perceptron", "#e08214", "^"),
    "normalised_perceptron": ("normalised perceptron", "#5aae61", "v"),
}
GAP_STEPS, SMALL_GAP = 8, 0.01
WORST_SIZES, WORST_RATE = (10, 30, 100, 300, 1000, 3000), 100.0


class Preset(NamedTuple):
    """The size of the figure: images of the two classes, features, draws, γ, and the limit on steps."""

    examples: int
    features: int
    draws: int
    rates: tuple[float, ...]
    max_steps: int


RATES = tuple(2.0**octave for octave in range(5, 24, 3))
PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(100, 64, 2, (2.0**5, 2.0**14, 2.0**23), 512),
    "quick": Preset(2000, 512, 5, RATES, 8192),
    "full": Preset(2000, 512, 20, RATES, 8192),
    "paper": Preset(2000, 2048, 20, tuple(2.0**octave for octave in range(3, 26)), 65536),
}


def find(preset: str, store: Path) -> Finding:
    """Separate the examples by every method, draw the figure, and judge the claim; nothing is trained by a sweep."""
    size = PRESETS[preset]
    with jax.enable_x64(True):
        steps = measured("steps", lambda: steps_of(size))
        worst = measured("worst_case", worst_steps)
        course = measured("course", lambda: along(size))
    effects = effects_of(steps)
    verdict = judge(steps, effects)
    table = pd.concat(
        [part.assign(part=name) for name, part in (("steps", steps), ("worst case", worst), ("course", course))],
        ignore_index=True,
    )
    return Finding(draw(steps, worst, course, effects), table, CLAIM, verdict, numbers(steps, effects))


def separable_images(size: Preset, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random features of sneakers and ankle boots, (n, D), whose mean square is about 1, and labels ±1."""
    dataset = load_dataset("fashion-mnist-10k")
    chosen = np.isin(dataset.train_targets, (7, 9))
    images = dataset.train_inputs[chosen][: size.examples].reshape(-1, 32 * 32).astype(float)
    labels = np.where(dataset.train_targets[chosen][: size.examples] == 7, 1.0, -1.0)
    images -= images.mean(axis=0)
    images /= np.sqrt((images**2).sum(axis=1).mean())
    directions = np.random.default_rng(seed).normal(size=(images.shape[1], size.features))
    return np.maximum(images @ directions, 0) * np.sqrt(2 / size.features), labels


def steps_of(size: Preset) -> pd.DataFrame:
    """The steps to separation of each draw, method and γ, with margin, bound, and what is compared over γ."""
    rows = []
    for draw in range(size.draws):
        inputs, labels = separable_images(size, draw)
        margin, radius = largest_margin(inputs, labels), float(np.linalg.norm(inputs, axis=1).max())
        limit = separating_iterates(inputs, labels, method="perceptron", steps=GAP_STEPS)[1:]
        of_draw = []
        for method in METHODS:
            for rate in size.rates if method.endswith("logistic") else (1.0,):
                found = separate(inputs, labels, method=method, learning_rate=rate, max_steps=size.max_steps)
                row = {"draw": draw, "method": method, "learning_rate": rate, "steps": found.steps}
                ends = {"bound_low": margin.upper, "bound_high": margin.lower}
                given = {"radius": radius, "examples": len(labels), "learning_rate": rate}
                row |= {name: separation_bound(method, margin=mu, **given) for name, mu in ends.items()}
                of_draw.append(row | {"separated": found.separated, "margin": margin.lower})
        soonest = next(
            r["steps"] for r in of_draw if (r["method"], r["learning_rate"]) == ("logistic", max(size.rates))
        )
        for row in of_draw:
            if row["method"] == "logistic":
                rate = row["learning_rate"]
                iterates = separating_iterates(inputs, labels, learning_rate=rate, steps=max(soonest, GAP_STEPS))
                row["loss"] = float(jnp.mean(losses(iterates[: soonest + 1], inputs, labels)))
                apart = iterates[1 : GAP_STEPS + 1] / rate - limit
                relative = jnp.linalg.norm(apart, axis=1) / jnp.linalg.norm(limit, axis=1)
                row["gap"] = float(jnp.sqrt(jnp.mean(relative**2)))
        rows += of_draw
    return pd.DataFrame(rows)


@jax.jit
def losses(iterates: jax.Array, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    """The logistic loss of each of the iterates (T, D)."""
    return jax.lax.map(lambda theta: logistic(theta, (inputs, labels)), iterates)


def logistic(theta: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The mean of log(1 + e^−m) over margins m."""
    inputs, labels = batch
    return jnp.mean(jax.nn.softplus(-labels * (inputs @ theta)))


def wrong_side(theta: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The share of examples whose margin is not above 0."""
    inputs, labels = batch
    return jnp.mean(labels * (inputs @ theta) <= 0)


def worst_steps() -> pd.DataFrame:
    """The steps of each method in the worst case of each size."""
    rows = []
    for n in WORST_SIZES:
        for method in METHODS:
            rate = WORST_RATE if method.endswith("logistic") else 1.0
            steps = separate(*worst_case(n), method=method, learning_rate=rate).steps
            rows.append({"examples": n, "method": method, "learning_rate": rate, "steps": steps})
    return pd.DataFrame(rows)


def along(size: Preset) -> pd.DataFrame:
    """Loss, share on the wrong side and sharpness along descent at every other γ but the largest, in the first draw."""
    batch = tuple(map(jnp.asarray, separable_images(size, 0)))
    rows = []
    for rate in size.rates[:-1:2]:
        found = separate(*batch, learning_rate=rate, max_steps=size.max_steps)
        iterates = separating_iterates(*batch, learning_rate=rate, steps=found.steps)
        tracker = sl.Tracker(logistic, batch, ["train_loss", "sharpness_raw", wrong_side], learning_rate=rate)
        for step in sorted({0, *np.geomspace(1, found.steps, 25).astype(int)}):
            tracker.record(int(step), iterates[step])
        rows.append(tracker.curves.assign(separated=found.separated))
    return pd.concat(rows, ignore_index=True)


def effects_of(steps: pd.DataFrame) -> dict[str, tuple[float, Interval]]:
    """The three effects that the rule judges and one that it does not, as log₂, with 95 % intervals over draws."""
    plain = steps[steps["method"] == "logistic"]
    by_rate = {
        name: plain.pivot(index="draw", columns="learning_rate", values=name) for name in ("steps", "loss", "gap")
    }
    rates = sorted(plain["learning_rate"].unique())
    smallest, largest = rates[0], rates[-1]
    normalised = steps[steps["method"] == "normalised_logistic"]
    ratio = normalised.pivot(index="draw", columns="learning_rate", values="steps")[largest] / by_rate["steps"][largest]
    values = {
        "fewer_steps": np.log2(by_rate["steps"][smallest] / by_rate["steps"][largest]),
        "higher_loss": np.log2(by_rate["loss"][largest] / by_rate["loss"][smallest]),
        "gap": np.log2(np.maximum(by_rate["gap"][largest], np.finfo(float).eps)),
        "normalised_over_plain_at_largest": np.log2(ratio),
    }
    return {name: mean_interval(np.asarray(value), 0.95) for name, value in values.items()}


def judge(steps: pd.DataFrame, effects: Mapping[str, tuple[float, Interval]]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    normalised = steps[steps["method"] == "normalised_logistic"]
    (fewer, more), (higher, highest) = effects["fewer_steps"][1], effects["higher_loss"][1]
    least_gap, most_gap = effects["gap"][1]
    if (
        (normalised["steps"] > normalised["bound_high"]).any()
        or min(more, highest) < 0
        or least_gap > np.log2(SMALL_GAP)
    ):
        return "fails"
    bounded = normalised["separated"].all() and (normalised["steps"] <= normalised["bound_low"]).all()
    return "holds" if bounded and min(fewer, higher) > 0 and most_gap < np.log2(SMALL_GAP) else "inconclusive"


def numbers(steps: pd.DataFrame, effects: Mapping[str, tuple[float, Interval]]) -> dict:
    """The numbers of the JSON file."""
    mean = steps.groupby(["method", "learning_rate"])["steps"].mean()
    normalised = steps[steps["method"] == "normalised_logistic"]
    return {
        **{f"log2_{name}": {"value": value, "interval": interval} for name, (value, interval) in effects.items()},
        "mean_steps": {name: {f"{rate:g}": mean[name, rate] for rate in mean[name].index} for name in METHODS},
        "largest_share_of_the_normalised_bound": (normalised["steps"] / normalised["bound_low"]).max(),
        "margin": {"mean": steps["margin"].mean(), "smallest": steps["margin"].min(), "largest": steps["margin"].max()},
        "largest_relative_gap_of_the_margin": (1 - np.sqrt(steps["bound_low"] / steps["bound_high"])).max(),
    }


def draw(
    steps: pd.DataFrame, worst: pd.DataFrame, course: pd.DataFrame, effects: Mapping[str, tuple[float, Interval]]
) -> Figure:
    """The figure: steps to separation and the limit above, what happens along descent below."""
    with house_style():
        figure, axes = plt.subplots(2, 3, figsize=(11, 6.4))
        for method, (label, colour, marker) in NAMES.items():
            hollow = {"markerfacecolor": "none", "markersize": 7} if "perceptron" in method else {"markersize": 4}
            style = {"color": colour, "marker": marker, **hollow}
            of_worst = worst[worst["method"] == method]
            axes[0, 0].plot(of_worst["examples"], of_worst["steps"], label=label, **style)
            found = steps[steps["method"] == method].groupby("learning_rate")["steps"].agg(["mean", "min", "max"])
            if len(found) > 1:
                axes[0, 1].plot(found.index, found["mean"], **style)
                axes[0, 1].fill_between(found.index, found["min"], found["max"], color=colour, alpha=0.2, linewidth=0)
            else:
                axes[0, 1].axhline(found["mean"].iloc[0], color=colour, linewidth=1.2, linestyle="-.")
        normalised = steps[steps["method"] == "normalised_logistic"].groupby("learning_rate")["bound_low"].mean()
        axes[0, 1].plot(
            normalised.index, normalised, color=NAMES["normalised_logistic"][1], linestyle="--", linewidth=1
        )
        axes[0, 1].annotate(
            "bound of the normalised",
            (normalised.index[-1], normalised.iloc[-1]),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=NAMES["normalised_logistic"][1],
        )
        axes[0, 0].set(xscale="log", yscale="log", xlabel="examples n", ylabel="steps to separation")
        axes[0, 0].set_title(f"the paper's worst case, γ = {WORST_RATE:g}")
        axes[0, 0].legend()
        axes[0, 1].set(xscale="log", yscale="log", xlabel="learning rate γ", ylabel="steps to separation")
        value, (low, high) = effects["fewer_steps"]
        axes[0, 1].set_title(f"images: steps fall by {value:.1f} [{low:.1f}, {high:.1f}] octaves")
        plain = steps[steps["method"] == "logistic"]
        for _, table in plain.groupby("draw"):
            axes[0, 2].plot(
                table["learning_rate"],
                table["gap"].clip(lower=np.finfo(float).eps),
                color=NAMES["logistic"][1],
                alpha=0.6,
                marker="o",
                markersize=3,
            )
        draw_threshold(axes[0, 2], SMALL_GAP, "1 %")
        axes[0, 2].set(
            xscale="log", yscale="log", xlabel="learning rate γ", ylabel="gap of θ/γ to the batch perceptron"
        )
        value, (low, high) = effects["gap"]
        axes[0, 2].set_title(f"gap at the largest γ: {2**value:.1g} [{2**low:.1g}, {2**high:.1g}]")
        draw_course(axes[1], course)
        plt.close(figure)
    return figure


def draw_course(axes: np.ndarray, course: pd.DataFrame) -> None:
    """Draw loss, share on the wrong side, and sharpness in units of 2/γ against the step, clipped at the frame."""
    colours = size_colours(sorted(course["learning_rate"].unique()))
    columns = {
        "train_loss": ("logistic loss", 1e-2, course["train_loss"]),
        "wrong_side": ("share on the wrong side", 3e-4, course["wrong_side"]),
        "sharpness_raw": ("sharpness × γ/2", 1e-4, course["sharpness_raw"] * course["learning_rate"] / 2),
    }
    for ax, (name, (label, floor, values)) in zip(axes, columns.items(), strict=True):
        for rate, table in course.assign(value=values.clip(lower=floor)).groupby("learning_rate"):
            table = table[table["step"] > 0]
            ax.plot(table["step"], table["value"], color=colours[rate], label=f"γ = {rate:.0f}")
            if table["separated"].all():
                ax.plot(table["step"].iloc[-1:], table["value"].iloc[-1:], "o", color=colours[rate], clip_on=False)
        ax.set(xscale="log", yscale="log", xlabel="step", ylabel=label)
        ax.set_ylim(bottom=floor)
        if name == "sharpness_raw":
            draw_threshold(ax, 1.0, "2/γ")
    axes[1].legend()
