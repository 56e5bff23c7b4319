"""Benign oscillation: where training oscillates, a weak feature is learned that a smaller learning rate leaves.

Paper: Lu, Wu, Yang, Zou, Benign Oscillation of Stochastic Gradient Descent with Large Learning Rates, arXiv 2310.17074,
of a two-layer network on patches. Here, full-batch gradient descent on squared error throughout:

- two signals of squared norms 1 and 0.04 (`sharplab.theory.two_signals`), whose threshold and limit are exact;
- two patches: the weak feature ±u in one patch of every example; in the other the strong feature ±v in four examples of
  five, else noise, large enough that it is memorised. 2 × 8 neurons of squared ReLU, 40 examples; held out, only the
  weak feature tells the class. Threshold η* = 8/(0.8 ‖v‖²), where the sharpness of what ‖v‖ alone explains is 2/η;
- Fashion-MNIST with coin flips for classes and a strong and a weak feature planted (`experiments/planted.py`): MLP of
  one hidden layer of 64 under muP, 128 training images, other ones in each of eight draws, learning rates 1 to 6.

In the latter two each learning rate η takes as many steps as make the same training time: 16,000 at η*/2, and 8,000/η.

Upper row: the two signals along training and against η; held-out accuracy in two patches against η/η*. Lower row,
planted images: held-out accuracy against η, each draw thin; sharpness × η/2 and train loss against η · step.

Rule of the verdict: (1) the two signals end within 0.01 of the limit (V − 1/(2η))/(V − U) for the three η above the
threshold, and below 0.02 for the two below; (2) in two patches the held-out accuracy at 1.25 η* less that at η*/2, and
(3) in planted images that at the largest η at which all draws are fitted, with a train loss of at most 0.01 at the end,
less that at the smallest, each with a 95 % t interval over seeds or draws, is above 2 points. "holds" if (1) is so and
both intervals lie wholly above 2 points; "fails" if (1) is not, or an interval lies wholly below; else "inconclusive".
An interval is open where a compared run is not fitted, and (3)'s where the larger η is not at the edge of stability:
sharpness × η/2 above 0.9, the mean over the second half of training.

A first rule compared η = 6 with 1 on draws 0 to 5, and was inconclusive: one draw of six did not recover from its first
steps at η = 6, where the others gained 6 points. So the rule was changed, and the draws here are others, 6 to 13.

Cost: about three minutes on two cores. Expected: (1) and (2); (3) if η = 5 is large enough, as η = 4 was not. Found at
quick: (3) is surely above 0 and not surely above 2 points, 2.1 [0.5, 3.7]: more draws would not tell, as the effect is
of the size of the least that counts; at η = 6 it is larger where training recovers from its first steps. At full, with
24 draws and η = 5.5 between: 4.4 points [3.5, 5.2].

    make figure-oscillation
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.core.evidence import measured, measured_parts
from sharplab.core.statistics import OPEN, Interval, mean_interval
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import draw_threshold, house_style, size_colours
from sharplab.theory.benign_oscillation import two_signals, weak_signal_limit

CLAIM = (
    "With a learning rate so large that training oscillates, a network learns a weak feature that smaller learning "
    "rates leave for a strong one and for memorised noise."
)
LEAST, FITTED, AT_EDGE = 0.02, 0.01, 0.9  # of accuracy, of train loss, of sharpness in units of 2/η
TOY_RATES, TOY_STEPS, TOY_ERROR, TOY_UNLEARNED = (0.2, 0.4, 0.55, 0.7, 1.0), 4000, 0.01, 0.02
TOY_THRESHOLD = 0.5
FEATURES, NEURONS, STRONG, WEAK, SHARE, NOISE, INIT = 64, 8, 4.0, 0.2, 0.8, 1.0, 0.05
EXAMPLES, FRESH = 40, 1000
THRESHOLD = NEURONS / (SHARE * STRONG)
MULTIPLES = (0.25, 0.5, 0.8, 0.95, 1.1, 1.25, 1.4)
COMPARED = (0.5, 1.25)


class Preset(NamedTuple):
    """The size of the figure: seeds in two patches, their steps at η*/2; draws, rates and training time of images."""

    seeds: int
    steps: int
    draws: range
    rates: tuple[float, ...]
    time: float


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(2, 200, range(6, 8), (2.0, 5.0), 60.0),
    "quick": Preset(10, 16_000, range(6, 14), (1.0, 3.0, 4.0, 5.0, 6.0), 8000.0),
    "full": Preset(40, 16_000, range(6, 30), (1.0, 2.0, 3.0, 4.0, 4.5, 5.0, 5.5, 6.0), 8000.0),
    "paper": Preset(40, 64_000, range(6, 40), (0.5, 1.0, 2.0, 3.0, 4.0, 4.5, 5.0, 5.5, 6.0), 32_000.0),
}
IMAGES = sl.Experiment(
    model="mlp",
    depths=(1,),
    widths=(64,),
    base_width=64,
    parameterizations=("mup",),
    loss="squared_error",
    batch_size=128,
    probe_size=128,
    records=17,
    observables=("train_loss", "eval_accuracy", "sharpness"),
    learning_rates=(1.0,),
    seeds=1,
)


def find(preset: str, store: Path) -> Finding:
    """Train what the store lacks, draw the figure, and judge the claim."""
    size = PRESETS[preset]
    toy = measured("two_signals", toy_runs)
    (patches,) = measured_parts(["two_patches"], patch_runs(size))
    images = pd.concat([image_curves(draw, rate, size.time, store) for draw in size.draws for rate in size.rates])
    effects = {"two_patches": gain(patches, "multiple", COMPARED), "planted_images": gain_of_images(images)}
    verdict = judge(toy, effects)
    parts = {"two signals": toy, "two patches": patches, "planted images": images}
    table = pd.concat([part.assign(part=name) for name, part in parts.items()], ignore_index=True)
    return Finding(draw(toy, patches, images, effects), table, CLAIM, verdict, numbers(toy, patches, images, effects))


def toy_runs() -> pd.DataFrame:
    """Two signals at each learning rate: the weak one's share and the sharpness along training, and the limit."""
    rows = []
    shown = np.unique(np.geomspace(1, TOY_STEPS, 150).astype(int))
    for rate in TOY_RATES:
        run = two_signals(rate, steps=TOY_STEPS)
        columns = {"weak_squared": run.weak**2, "loss": run.loss, "sharpness": run.sharpness}
        along = pd.DataFrame({name: np.asarray(values)[shown] for name, values in columns.items()})
        rows.append(along.assign(step=shown, learning_rate=rate, limit=weak_signal_limit(rate)))
    return pd.concat(rows, ignore_index=True)


def patch_examples(key: jax.Array, n: int, share: float) -> tuple[jax.Array, jax.Array]:
    """Examples of two patches (n, 2, D) and classes ±1 (n,), of which a share has the strong feature."""
    signs = jnp.where(jnp.arange(n) % 2 == 0, 1.0, -1.0)
    noise = NOISE * jax.random.normal(key, (n, FEATURES)).at[:, :2].set(0.0)
    strong = signs[:, None] * jnp.sqrt(STRONG) * jax.nn.one_hot(jnp.zeros(n, int), FEATURES)
    weak = signs[:, None] * jnp.sqrt(WEAK) * jax.nn.one_hot(jnp.ones(n, int), FEATURES)
    has = (jnp.arange(n) < share * n)[:, None]
    return jnp.stack([weak, jnp.where(has, strong, noise)], axis=1), signs


def patch_outputs(weights: jax.Array, inputs: jax.Array) -> jax.Array:
    """Σ_r relu(w₊ᵣ·x_p)² less Σ_r relu(w₋ᵣ·x_p)², over patches p and neurons r, by their number; weights (2, m, D)."""
    active = jnp.einsum("srd,npd->nspr", weights, inputs, precision="highest")
    plus, minus = (jnp.square(jax.nn.relu(active)).sum(axis=2).mean(axis=2)).T
    return plus - minus


def patch_loss(weights: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Half the mean squared error."""
    inputs, signs = batch
    return jnp.mean((patch_outputs(weights, inputs) - signs) ** 2) / 2


@jax.jit
def train_patches(seed: jax.Array, rate: jax.Array, steps: jax.Array) -> dict[str, jax.Array]:
    """The end of a run: train loss, held-out accuracy, the weak feature's largest activation, and the weights."""
    of_train, of_test, of_weights = jax.random.split(jax.random.key(seed), 3)
    batch, fresh = patch_examples(of_train, EXAMPLES, SHARE), patch_examples(of_test, FRESH, 0.0)
    start = INIT * jax.random.normal(of_weights, (2, NEURONS, FEATURES))
    descend = partial(jax.grad(patch_loss), batch=batch)
    weights = jax.lax.fori_loop(0, steps, lambda _, now: now - rate * descend(now), start)
    right = jnp.sign(patch_outputs(weights, fresh[0])) == fresh[1]
    learned = jnp.abs(weights[..., 1]).max() * jnp.sqrt(WEAK)
    return {"train_loss": patch_loss(weights, batch), "accuracy": jnp.mean(right), "weak": learned, "weights": weights}


def patch_runs(size: Preset) -> dict[str, Callable[[], list[pd.DataFrame]]]:
    """By multiple of η* what trains on two patches there: a row per seed, with the sharpness at the end."""
    return {f"{multiple} η*": partial(patch_runs_at, size, multiple) for multiple in MULTIPLES}


def patch_runs_at(size: Preset, multiple: float) -> list[pd.DataFrame]:
    """One part of `patch_runs`."""
    rate = multiple * THRESHOLD
    steps = round(size.steps * 0.5 / multiple)
    found = jax.vmap(train_patches, (0, None, None))(jnp.arange(size.seeds), rate, steps)
    weights = found.pop("weights")
    keys = [jax.random.split(jax.random.key(seed), 3)[0] for seed in range(size.seeds)]
    pairs = [
        sl.eigsh(sl.hessian(patch_loss, one, patch_examples(key, EXAMPLES, SHARE)))
        for one, key in zip(weights, keys, strict=True)
    ]
    found |= {
        "sharpness": [pair.values[0] for pair in pairs],
        "sharpness_error": [pair.errors[0] for pair in pairs],
    }
    table = pd.DataFrame({name: np.asarray(values, float) for name, values in found.items()})
    keys_of_run = {"seed": range(size.seeds), "multiple": multiple, "learning_rate": rate, "step": steps}
    return [table.assign(**keys_of_run, diverged=~np.isfinite(table["train_loss"]))]


def image_curves(draw: int, rate: float, time: float, store: Path) -> pd.DataFrame:
    """The curves of one run on planted images, whose steps are the training time over the learning rate."""
    steps = round(time / rate)
    more = {"learning_rates": (rate,), "steps": steps, "records": min(IMAGES.records, steps + 1)}
    curves = sl.run(replace(IMAGES, data=f"planted:draw_{draw}@1", **more), store).curves
    columns = ["step", "train_loss", "eval_accuracy", "sharpness", "sharpness_error"]
    named = curves[columns].rename(columns={"eval_accuracy": "accuracy"})
    return named.assign(seed=draw, learning_rate=rate, time=curves["step"] * rate)


def last_of(images: pd.DataFrame) -> pd.DataFrame:
    """The last record of each run."""
    last = images.sort_values("step").groupby(["learning_rate", "seed"], as_index=False).last()
    return last.assign(diverged=~np.isfinite(last["train_loss"]))


def gain(ends: pd.DataFrame, by: str, compared: tuple[float, float]) -> tuple[float, Interval]:
    """The held-out accuracy at the larger less that at the smaller learning rate, with its 95 % interval."""
    small, large = (ends[ends[by] == value].sort_values("seed") for value in compared)
    gains = large["accuracy"].to_numpy() - small["accuracy"].to_numpy()
    fitted = all((~one["diverged"] & (one["train_loss"] <= FITTED)).all() for one in (small, large))
    return mean_interval(gains, 0.95) if fitted else (float(gains.mean()), OPEN)


def gain_of_images(images: pd.DataFrame) -> tuple[float, Interval]:
    """The gain from the smallest learning rate to the largest that all draws fit; open if not at the edge."""
    ends = last_of(images)
    worst = ends.assign(train_loss=ends["train_loss"].fillna(np.inf)).groupby("learning_rate")["train_loss"].max()
    largest = max(worst.index[worst <= FITTED], default=worst.index.min())
    gained, interval = gain(ends, "learning_rate", (worst.index.min(), largest))
    return gained, interval if late_sharpness(images)[largest] > AT_EDGE else OPEN


def late_sharpness(images: pd.DataFrame) -> pd.Series:
    """The sharpness in units of 2/η by learning rate, the mean over the second half of training and all draws."""
    late = images[images["time"] >= images["time"].max() / 2]
    return (late["sharpness"] * late["learning_rate"] / 2).groupby(late["learning_rate"]).mean()


def judge(toy: pd.DataFrame, effects: Mapping[str, tuple[float, Interval]]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    ends = toy.sort_values("step").groupby("learning_rate").last()
    above = ends.index > TOY_THRESHOLD
    errors = (ends["weak_squared"] - ends["limit"]).abs()
    exact = (errors[above] <= TOY_ERROR).all() and (ends["weak_squared"][~above] < TOY_UNLEARNED).all()
    intervals = [interval for _, interval in effects.values()]
    if not exact or any(high < LEAST for _, high in intervals):
        return "fails"
    return "holds" if all(low > LEAST for low, _ in intervals) else "inconclusive"


def numbers(
    toy: pd.DataFrame, patches: pd.DataFrame, images: pd.DataFrame, effects: Mapping[str, tuple[float, Interval]]
) -> dict:
    """The numbers of the JSON file."""
    ends = toy.sort_values("step").groupby("learning_rate").last()
    of_images = last_of(images).groupby("learning_rate")
    by_multiple = patches.groupby("multiple")
    return {
        "two_signals": {
            f"{rate:g}": {
                "weak_squared": row["weak_squared"],
                "limit": row["limit"],
                "sharpness_times_rate": rate * row["sharpness"],
            }
            for rate, row in ends.iterrows()
        },
        **{f"gain_of_{name}": {"accuracy": value, "interval": interval} for name, (value, interval) in effects.items()},
        "accuracy_in_two_patches": _by(by_multiple["accuracy"].mean()),
        "largest_train_loss_in_two_patches": _by(by_multiple["train_loss"].max()),
        "sharpness_over_threshold_in_two_patches": _by(
            (patches["sharpness"] * patches["learning_rate"] / 2).groupby(patches["multiple"]).mean()
        ),
        "accuracy_in_planted_images": _by(of_images["accuracy"].mean()),
        "largest_train_loss_in_planted_images": _by(of_images["train_loss"].max()),
        "late_sharpness_over_threshold_in_planted_images": _by(late_sharpness(images)),
    }


def _by(values: pd.Series) -> dict[str, float]:
    return {f"{key:g}": value for key, value in values.items()}


def draw(
    toy: pd.DataFrame, patches: pd.DataFrame, images: pd.DataFrame, effects: Mapping[str, tuple[float, Interval]]
) -> Figure:
    """The figure: the exact toy and two patches above, planted images below."""
    with house_style():
        figure, axes = plt.subplots(2, 3, figsize=(11, 6.4))
        draw_toy(axes[0, 0], axes[0, 1], toy)
        draw_ends(axes[0, 2], patches, "multiple", effects["two_patches"], "two patches")
        axes[0, 2].axvline(1.0, color="0.25", linestyle="--", linewidth=1)
        axes[0, 2].set_xlabel("learning rate over its threshold, η/η*")
        draw_ends(axes[1, 0], last_of(images), "learning_rate", effects["planted_images"], "planted images")
        axes[1, 0].set_xlabel("base learning rate η")
        colours = size_colours(sorted(images["learning_rate"].unique()))
        relative = images.assign(relative=images["sharpness"] * images["learning_rate"] / 2)
        for ax, name, label in ((axes[1, 1], "relative", "sharpness × η/2"), (axes[1, 2], "train_loss", "train loss")):
            for rate, table in relative.groupby("learning_rate"):
                mean = table.groupby("time")[name].mean()
                ax.plot(mean.index, mean, color=colours[rate], marker="o", markersize=2.5, label=f"η = {rate:g}")
            ax.set(xlabel="training time, η · step", ylabel=label)
        draw_threshold(axes[1, 1], 1.0, "2/η")
        axes[1, 2].set_yscale("log")
        axes[1, 2].legend()
        plt.close(figure)
    return figure


def draw_toy(along: Axes, against: Axes, toy: pd.DataFrame) -> None:
    """Draw the weak signal along training, and at its end against the learning rate with the limit."""
    colours = size_colours(sorted(toy["learning_rate"].unique()))
    for rate, table in toy.groupby("learning_rate"):
        along.plot(table["step"], table["weak_squared"], color=colours[rate], label=f"η = {rate:g}")
        if rate > TOY_THRESHOLD:
            along.axhline(table["limit"].iloc[0], color=colours[rate], linestyle="--", linewidth=1)
        last = table.iloc[-1]
        against.plot(rate, last["weak_squared"], "o", color=colours[rate], markersize=5, zorder=3)
    along.set(xscale="log", xlabel="step", ylabel="weak signal b²", title="two signals; dashed: the limit")
    along.legend(loc="center left")
    grid = np.linspace(min(toy["learning_rate"]), 1, 200)
    against.plot(grid, [weak_signal_limit(rate) for rate in grid], color="0.25", linestyle="--", linewidth=1)
    against.set(xlabel="learning rate η", ylabel="weak signal b² at the end")
    against.set_title("dashed: max(0, (V − 1/2η)/(V − U))")


def draw_ends(ax: Axes, ends: pd.DataFrame, by: str, effect: tuple[float, Interval], title: str) -> None:
    """Draw held-out accuracy against the learning rate: each seed thin, the mean with a 95 % interval."""
    for _, table in ends.groupby("seed"):
        ax.plot(table[by], 100 * table["accuracy"], color="0.75", linewidth=0.8)
    stated: dict[Any, Any] = {rate: mean_interval(table["accuracy"], 0.95) for rate, table in ends.groupby(by)}
    mean = np.array([value for value, _ in stated.values()])
    bars = np.array([np.clip((value - low, high - value), 0, 1) for value, (low, high) in stated.values()]).T
    ax.errorbar(list(stated), 100 * mean, 100 * bars, color="#2166ac", marker="o", markersize=4, capsize=2)
    ax.axhline(50, color="0.6", linewidth=0.8)
    ax.set_ylabel("held-out accuracy (%)")
    value, (low, high) = effect
    known = f"[{100 * low:.1f}, {100 * high:.1f}]" if np.isfinite([low, high]).all() else "(open)"
    ax.set_title(f"{title}: gain {100 * value:.1f} {known} points")
