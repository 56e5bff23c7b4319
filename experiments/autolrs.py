"""AutoLRS: does a learning rate searched for stage by stage beat tuned schedules?

Paper: Jin et al., AutoLRS, arXiv 2105.10762, who report 1.2 to 1.5 times fewer steps than hand-tuned schedules;
whether the steps of the search count is not said, and they are as many again. Here (quick): the Figure-1 ConvNet of
width 16 under SGD on 8,192 images of Fashion-MNIST, 400 steps of batch 128, and a decoder of two blocks and width 16
under Adam on the bytes of the King James Bible, 240 steps of batch 16, both under muP, batches alike for all schedules
of a seed. The first stage has 80 steps and trials of 8, the second twice that, and so on, with ten trials each
(`sharplab.studies.autolrs`). Beside it a constant learning rate and a cosine to 0, each tuned on the same seeds to a
factor of √2 by the final train loss.

Left: the train loss on the probe, mean over seeds; dotted: AutoLRS with the steps of its search counted. Middle: the
learning rates. Right: the forecast loss at the end of each stage with its 95 % interval against the loss that came.
Regret: the loss of a stage's last tenth, less the least of nine learning rates over the same range, each trained for
the whole stage from the same checkpoint.

Rule of the verdict: the target of a seed is the highest of the three last losses on the probe, which each schedule
reaches; the speed-up over a schedule is its steps to the target over those of AutoLRS, the search not counted, and its
95 % interval a t interval of log₂ over seeds; it is 0 if AutoLRS ends above its start for any. "holds" if each
interval, for both networks and both schedules, lies above 1; "fails" if one lies wholly below 1; else "inconclusive".
With the search counted it is stated and not judged.

Cost: about ten minutes on two cores. Expected: forecasts of ten times the trial from short noisy losses are too
uncertain to gain on a tuned schedule, and nothing anneals as the cosine does at its end. A first search believed
forecasts however uncertain, and in two of four seeds ended the ConvNet by one of them: quick then had speed-ups of 0.60
over the constant and 0.39 over the cosine (GPT 0.73 and 0.69). That was mended, and so was that a rate at which the
loss grows could be chosen for a wide interval; the rule was not. Found at full (1,120 steps, eight and six seeds):
speed-ups of 0.52 [0.34, 0.81] over the constant and 0.45 [0.31, 0.65] over the cosine, GPT 0.52 [0.38, 0.71] and 0.51
[0.37, 0.71].

    make figure-autolrs
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jax.tree_util import Partial
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.analysis.trend import Measured
from sharplab.core.evidence import measured_parts
from sharplab.core.statistics import mean_interval
from sharplab.core.tree import PyTree
from sharplab.data import batch_indices
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import house_style, log_ticks
from sharplab.studies.autolrs import autolrs, train_lanes
from sharplab.sweep.plan import tasks
from sharplab.training.layout import DeviceLayout
from sharplab.training.programs import place_arrays
from sharplab.training.recipe import Recipe, RunState
from sharplab.training.task import Task, find_recipe

CLAIM = (
    "A learning rate that AutoLRS searches for stage by stage reaches the loss of tuned schedules in fewer steps, "
    "those of the search not counted."
)
SCHEDULES = ("constant", "cosine")
COLOURS: Mapping[str, str] = {"constant": "#999999", "cosine": "#2166ac", "AutoLRS": "#b2182b"}


@dataclass(frozen=True)
class Setting:
    """One network: its tuned runs but for the schedule, and the search."""

    sweep: sl.Experiment
    low: float
    high: float
    trial_steps: int
    oracle: int = 9  # learning rates of a whole stage


CONVNET = Setting(
    sl.Experiment(
        model="figure1_convnet",
        depths=(2,),
        widths=(16,),
        base_width=1,
        parameterizations=("mup",),
        optimizer="sgd",
        learning_rates=(0.5, 1.0, 2.0),
        seeds=4,
        steps=400,
        batch_size=128,
        probe_size=512,
        observables=("train_loss",),
        records=51,
        refine=True,
    ),
    low=2.0**-4,
    high=2.0**3,
    trial_steps=8,
)
GPT = Setting(
    replace(
        CONVNET.sweep,
        model="gpt",
        data="king-james-bytes",
        base_depth=2,
        base_width=16,
        optimizer="adam",
        learning_rates=(2.0**-7, 2.0**-6, 2.0**-5),
        seeds=3,
        steps=240,
        batch_size=16,
        probe_size=64,
        records=31,
    ),
    low=2.0**-10,
    high=2.0**-3,
    trial_steps=8,
)


def longer(setting: Setting, steps: int, seeds: int, trial_steps: int, width: int = 16) -> Setting:
    """The setting with more steps and seeds."""
    more = {"steps": steps, "seeds": seeds, "records": steps // trial_steps + 1, "widths": width}
    sweep = replace(setting.sweep, **more)
    return replace(setting, sweep=sweep, trial_steps=trial_steps)


SMALL = {"seeds": 2, "steps": 60, "records": 11, "probe_size": 16, "batch_size": 4, "widths": (4,), "refine": False}
PRESETS: Mapping[str, Mapping[str, Setting]] = {
    "smoke": {
        "MLP": Setting(
            replace(CONVNET.sweep, **SMALL, model="mlp", base_width=4, data="gaussian-clusters"),
            0.125,
            8.0,
            6,
            oracle=3,
        )
    },
    "quick": {"ConvNet": CONVNET, "GPT": GPT},
    "full": {"ConvNet": longer(CONVNET, 1120, 8, 16), "GPT": longer(GPT, 1120, 6, 16)},
    "paper": {"ConvNet": longer(CONVNET, 31_000, 5, 100, 256), "GPT": longer(GPT, 31_000, 5, 100, 256)},
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, search for learning rates, draw the figure, and judge the claim."""
    settings = PRESETS[preset]
    searched, stages = measured_parts(["curves", "stages"], search_all(settings))
    curves = pd.concat([tuned(settings, store), searched], ignore_index=True)
    gains = {
        name: speed_ups(table, stages[stages["network"] == name])
        for name, table in curves.groupby("network", sort=False)
    }
    verdict = judge([gain for found in gains.values() for (_, counted), gain in found.items() if not counted])
    return Finding(
        draw(curves, stages, gains, verdict),
        pd.concat([curves.assign(part="curves"), stages.assign(part="stages")], ignore_index=True),
        CLAIM,
        verdict,
        {
            name: numbers(gains[name], curves[curves["network"] == name], stages[stages["network"] == name])
            for name in gains
        },
    )


def tuned(settings: Mapping[str, Setting], store: Path) -> pd.DataFrame:
    """The curves of the tuned schedules: columns network, schedule, seed, step, train_loss and learning_rate."""
    parts = []
    for name, setting in settings.items():
        for schedule in SCHEDULES:
            records = sl.run(replace(setting.sweep, schedule=schedule), store)
            best = best_rate(records.runs)
            curves = records.select(learning_rate=best).curves[["seed", "step", "train_loss"]]
            factor = np.ones(len(curves)) if schedule == "constant" else cosine(curves["step"] / setting.sweep.steps)
            parts.append(curves.assign(network=name, schedule=schedule, learning_rate=best * factor, tuned=best))
    return pd.concat(parts, ignore_index=True)


def best_rate(runs: pd.DataFrame) -> float:
    """The learning rate of the least mean final train loss, at which no seed diverged, all seeds trained."""
    losses = runs["train_loss"].where(~runs["diverged"].astype(bool), np.inf).groupby(runs["learning_rate"])
    complete = losses.count() == runs["seed"].nunique()
    return float(losses.mean()[complete].idxmin())


def cosine(share: pd.Series) -> np.ndarray:
    """The factor of the schedule "cosine" at a share of the run."""
    return (1 + np.cos(np.pi * share.to_numpy())) / 2


def _step(recipe: Recipe, run: RunState, learning_rate: jax.Array, batch: PyTree) -> tuple[RunState, jax.Array]:
    after, loss, _ = recipe.update(run, learning_rate, batch)
    return after, loss


@jax.jit
def _loss(recipe: Recipe, run: RunState, batch: PyTree) -> jax.Array:
    return recipe.objective(run.params, batch, run.variables)


def search_all(settings: Mapping[str, Setting]) -> dict[str, Callable[[], list[pd.DataFrame]]]:
    """By network and seed what searches there: the curve, as in `tuned`, and stages beside the best of whole ones."""
    parts = {}
    for name, setting in settings.items():
        task = next(iter(tasks(setting.sweep)))
        for seed in setting.sweep.seeds_of(task.width):
            parts[f"{name}, seed {seed}"] = partial(search_one, name, setting, task, seed)
    return parts


def search_one(name: str, setting: Setting, task: Task, seed: int) -> list[pd.DataFrame]:
    """One part of `search_all`."""
    recipe = find_recipe(task)
    arrays = place_arrays(recipe, DeviceLayout((jax.devices()[0],), 1), task)
    step = Partial(_step, recipe)
    order = jnp.asarray(batch_indices(seed, len(arrays.train[1]), task.batch_size, 0, task.steps))
    states: dict[int, RunState] = {}
    search = partial(autolrs, low=setting.low, high=setting.high, trial_steps=setting.trial_steps)
    found = search(step, recipe.begin(seed), arrays.train, order, observe=states.__setitem__)
    losses = [(at, float(_loss(recipe, state, arrays.probe))) for at, state in states.items()]
    rates = np.append(found.learning_rates, found.learning_rates[-1])
    curve = pd.DataFrame(losses, columns=["step", "train_loss"])
    curve = curve.assign(network=name, schedule="AutoLRS", seed=seed, learning_rate=rates[curve["step"]])
    stages = found.stages.assign(network=name, seed=seed)
    grid = np.geomspace(setting.low, setting.high, setting.oracle)
    for i, stage in stages.iterrows():
        first, length = int(stage["first"]), int(stage["steps"])
        whole = order[first : first + length]
        seen = train_lanes(step, states[first], grid, arrays.train, whole, setting.trial_steps)
        late = np.where(np.isfinite(seen), seen, np.inf)[-(length // 10) :].mean(axis=0)
        stages.loc[i, ["best_loss", "best_rate"]] = late.min(), grid[late.argmin()]
    return [curve, stages]


def speed_ups(curves: pd.DataFrame, stages: pd.DataFrame) -> dict[tuple[str, bool], Measured]:
    """The speed-up of AutoLRS over each schedule, by (schedule, whether the search counts); intervals over seeds."""
    logs: dict[tuple[str, bool], list[float]] = {(name, counted): [] for name in SCHEDULES for counted in (False, True)}
    for seed, table in curves.groupby("seed"):
        runs = {name: run.sort_values("step") for name, run in table.groupby("schedule")}
        if not trains(runs["AutoLRS"]):
            for each in logs.values():
                each.append(-np.inf)
            continue
        target = max(run["train_loss"].iloc[-1] for run in runs.values())
        steps = {name: steps_to(run, target) for name, run in runs.items()}
        for name, counted in logs:
            own = steps["AutoLRS"]
            own += searched_by(own, stages[stages["seed"] == seed]) if counted else 0
            logs[name, counted].append(float(np.log2(steps[name] / own)))
    found = {}
    for key, values in logs.items():
        mean, ends = mean_interval(values, 0.95)
        found[key] = Measured(*(float(2.0**x) for x in (mean, *ends)))
    return found


def steps_to(run: pd.DataFrame, target: float) -> float:
    """The step at which the line through a run's losses first reaches the target."""
    losses, steps = run["train_loss"].to_numpy(), run["step"].to_numpy(float)
    first = int(np.argmax(losses <= target))
    if first == 0:
        return float(steps[0]) if losses[0] <= target else np.inf
    share = (losses[first - 1] - target) / (losses[first - 1] - losses[first])
    return float(steps[first - 1] + share * (steps[first] - steps[first - 1]))


def trains(run: pd.DataFrame) -> bool:
    """Whether a run ends below the loss it began with."""
    return bool(run["train_loss"].iloc[-1] < run["train_loss"].iloc[0])


def searched_by(step: float, stages: pd.DataFrame) -> float:
    """The steps of all searches that a run has made by a step."""
    return float(stages.loc[stages["first"] < step, "search_steps"].sum())


def judge(gains: list[Measured]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    if any(gain.value == 0 or gain.high < 1 for gain in gains):
        return "fails"
    return "holds" if all(gain.low > 1 for gain in gains) else "inconclusive"


def numbers(gains: Mapping[tuple[str, bool], Measured], curves: pd.DataFrame, stages: pd.DataFrame) -> dict:
    """The numbers of the JSON file on one network."""
    last = curves[curves["step"] == curves["step"].max()].groupby("schedule")["train_loss"].mean()
    regret, (low, high) = mean_interval((stages["loss"] - stages["best_loss"]).to_numpy(), 0.95)
    off = stages["forecast"] - stages["loss"]
    covered = (stages["forecast_low"] <= stages["loss"]) & (stages["loss"] <= stages["forecast_high"])
    return {
        "speed_up": {
            f"over {name}" + (", search counted" if counted else ""): {"value": gain.value, "interval": gain.interval}
            for (name, counted), gain in gains.items()
        },
        "last_loss": last.to_dict(),
        "tuned_learning_rate": curves.dropna(subset="tuned").groupby("schedule")["tuned"].first().to_dict(),
        "regret_of_a_stage": {"value": regret, "interval": (low, high)},
        "forecast_error": {"median": off.median(), "median_absolute": off.abs().median(), "covered": covered.mean()},
        "stages": len(stages),
        "seeds": int(curves["seed"].nunique()),
    }


TITLES: Mapping[Verdict, str] = {
    "holds": "AutoLRS reaches the loss of tuned schedules in fewer steps, its search not counted",
    "fails": "AutoLRS takes more steps than a tuned schedule, even if its search is not counted",
    "inconclusive": "AutoLRS may take fewer steps than tuned schedules or more, its search not counted",
}


def draw(
    curves: pd.DataFrame,
    stages: pd.DataFrame,
    gains: Mapping[str, Mapping[tuple[str, bool], Measured]],
    verdict: Verdict,
) -> Figure:
    """The figure, a row per network: losses, learning rates, forecasts."""
    with house_style():
        figure, axes = plt.subplots(len(gains), 3, figsize=(10.2, 3.0 * len(gains) + 0.6), squeeze=False)
        for row, (name, found) in zip(axes, gains.items(), strict=True):
            table, own = (each[each["network"] == name] for each in (curves, stages))
            draw_losses(row[0], table, own)
            over = "\n".join(f"over {each} {found[each, False]:.2f}" for each in SCHEDULES)
            row[0].set_title(f"{name}: speed-up\n{over}")
            draw_rates(row[1], table)
            row[1].set_title(
                "search counted: {:.2f} and {:.2f}".format(*(found[each, True].value for each in SCHEDULES))
            )
            draw_forecasts(row[2], own)
            row[2].set_title(f"regret of a stage: {(own['loss'] - own['best_loss']).mean():+.3f}")
        axes[0, 0].legend()
        figure.suptitle(TITLES[verdict], fontsize=10)
        plt.close(figure)
    return figure


def draw_losses(ax: Axes, curves: pd.DataFrame, stages: pd.DataFrame) -> None:
    """The mean losses over seeds, and those of AutoLRS again with its search counted."""
    for name, colour in COLOURS.items():
        mean = curves[curves["schedule"] == name].groupby("step")["train_loss"].mean()
        ax.plot(mean.index, mean, color=colour, label=name)
        if name == "AutoLRS":
            one = stages[stages["seed"] == stages["seed"].min()]
            ax.plot([at + searched_by(at, one) for at in mean.index], mean, ":", color=colour, linewidth=1)
    log_ticks(ax)
    ax.set_xlabel("step")
    ax.set_ylabel("train loss (nats)")


def draw_rates(ax: Axes, curves: pd.DataFrame) -> None:
    """The learning rates of each seed along training."""
    for name, colour in COLOURS.items():
        for _, run in curves[curves["schedule"] == name].groupby("seed"):
            rates = run["learning_rate"].where(run["learning_rate"] > run["learning_rate"].max() / 256)
            style = "steps-post" if name == "AutoLRS" else "default"
            ax.plot(run["step"], rates, color=colour, linewidth=1.1, alpha=0.8, drawstyle=style)
    ax.set_yscale("log", base=2)
    ax.set_xlabel("step")
    ax.set_ylabel("base learning rate")


def draw_forecasts(ax: Axes, stages: pd.DataFrame) -> None:
    """The forecasts of the chosen learning rates with their intervals, against what came; dashed: both alike."""
    bottom, top = 0.6 * stages["loss"].min(), 1.6 * stages["loss"].max()
    ends = stages[["forecast_low", "forecast_high"]].clip(bottom, top).to_numpy().T
    at = stages["forecast"].clip(bottom, top).to_numpy()
    ax.errorbar(stages["loss"], at, np.abs(ends - at), fmt="o", color="#b2182b", markersize=3.5, elinewidth=0.8)
    ax.axline((bottom, bottom), (top, top), color="0.5", linestyle="--", linewidth=0.9)
    ax.set_xlim(0.95 * stages["loss"].min(), 1.05 * stages["loss"].max())
    ax.set_ylim(bottom, top)
    ax.set_xlabel("loss at the end of a stage")
    ax.set_ylabel("its forecast")
