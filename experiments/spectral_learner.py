"""A learning rate and momentum set on the fly from the batch Hessian's spectrum, against tuned heavy ball.

Paper: Granziol, Zohren and Roberts, Learning Rates as a Function of Batch Size, arXiv 2006.09092, whose learner takes
the extreme Ritz values λ₁ and λ_n of a short Lanczos run for those of a quadratic, and steps as is optimal for it: α =
(2/(√λ₁ + √λ_n))², μ = ((√λ₁ − √λ_n)/(√λ₁ + √λ_n))², on a floor for λ_n. Here (quick): the Figure-1 ConvNet of width 16
under muP on 8,192 images of Fashion-MNIST, 400 steps of batch 128; the learner (`sharplab.studies.spectral_learner`)
makes 6 products with the Hessian of the step's own batch every 16 steps, in the metric of SGD, with a floor of 0.01
λ₁. Beside it heavy ball with β = 0.9 and plain SGD, the learning rate of each tuned on the same seeds to a factor of
√2.

A product counts as two gradients. Left: the train loss on the probe against gradient evaluations, those of the spectra
included, mean over seeds. Middle: the learning rate of the learner, and of the others. Right: its momentum.

Rule of the verdict: the target of a seed is the higher of the last losses of the learner and of heavy ball; the
speed-up is heavy ball's evaluations to the target over the learner's, one at least, its 95 % interval a t interval of
log₂ over seeds; it is 0 if the learner ends above its start for any. "holds" if the interval lies above 1; "fails" if
it lies below; else "inconclusive". The same is stated for SGD, and for a half and a quarter of the learning rate,
which were added when the whole one was seen to diverge: not judged.

Cost: about two minutes on two cores. Expected: that the largest stable step of a fresh spectrum is near what tuning
finds, and that the spectra then cost more than it gains. Found at full (ten seeds, 1,600 steps): the whole rate leaves
the network at chance, a half of it as a rule; a quarter learns, and reaches its last loss at 0.12 [0.07, 0.22] of tuned
heavy ball's pace.

    make figure-spectral-learner
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from autolrs import CONVNET, best_rate, steps_to, trains
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.analysis.trend import Measured
from sharplab.core.evidence import measured
from sharplab.core.statistics import mean_interval
from sharplab.data import batch_indices
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import house_style, log_ticks
from sharplab.studies.spectral_learner import spectral_learner, spectral_record
from sharplab.sweep.plan import tasks
from sharplab.training.layout import DeviceLayout
from sharplab.training.programs import place_arrays
from sharplab.training.task import find_recipe

CLAIM = (
    "Heavy ball with learning rate and momentum from the batch Hessian's spectrum reaches the loss of tuned heavy ball "
    "in fewer gradient evaluations, those for the spectra included."
)
GRADIENTS_PER_PRODUCT = 2
SHARES = (1.0, 0.5, 0.25)
TUNED: Mapping[str, str] = {"momentum": "heavy ball, tuned", "sgd": "SGD, tuned"}


def learner_name(share: float) -> str:
    """What the learner of a share of the learning rate is called."""
    return "from the spectrum" + ("" if share == 1 else f", {share:g} α")


JUDGED = learner_name(SHARES[0])
COLOURS: Mapping[str, str] = {
    TUNED["momentum"]: "#2166ac",
    TUNED["sgd"]: "#999999",
    JUDGED: "#b2182b",
    learner_name(SHARES[1]): "#d6604d",
    learner_name(SHARES[2]): "#f4a582",
}


@dataclass(frozen=True)
class Setting:
    """The tuned runs but for the optimizer, and how often the learner measures the spectrum."""

    sweep: sl.Experiment
    every: int = 16
    products: int = 6


QUICK = Setting(replace(CONVNET.sweep, learning_rates=(0.25, 0.5, 1.0)))
PRESETS: Mapping[str, Setting] = {
    "smoke": Setting(
        replace(
            QUICK.sweep,
            model="mlp",
            depths=(1,),
            widths=(4,),
            base_width=4,
            data="gaussian-clusters",
            seeds=2,
            steps=16,
            batch_size=8,
            probe_size=16,
            records=9,
            refine=False,
        ),
        every=8,
        products=4,
    ),
    "quick": QUICK,
    "full": replace(QUICK, sweep=replace(QUICK.sweep, seeds=10, steps=1600, records=101)),
    "paper": replace(
        QUICK, sweep=replace(QUICK.sweep, widths=(256,), seeds=5, data="cifar-10", steps=19_550, records=196)
    ),
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, and those of the learner, draw the figure, and judge the claim."""
    setting = PRESETS[preset]
    curves = pd.concat([tuned(setting, store), measured("learned", lambda: learned(setting))], ignore_index=True)
    gains = {
        f"{name} over {other}": speed_up(curves, name, other)
        for name in map(learner_name, SHARES)
        for other in TUNED.values()
    }
    verdict = judge(gains[f"{JUDGED} over {TUNED['momentum']}"])
    last = curves[curves["step"] == curves["step"].max()].groupby("learner", sort=False)
    return Finding(
        draw(curves, gains, verdict),
        curves,
        CLAIM,
        verdict,
        {
            "speed_up": {name: {"value": gain.value, "interval": gain.interval} for name, gain in gains.items()},
            "last_loss": last["train_loss"].mean().to_dict(),
            "evaluations": last["evaluations"].mean().to_dict(),
            "last_learning_rate": last["learning_rate"].mean().to_dict(),
            "seeds": int(curves["seed"].nunique()),
        },
    )


def tuned(setting: Setting, store: Path) -> pd.DataFrame:
    """The curves of the tuned optimizers: learner, seed, step, train_loss, learning_rate, momentum and evaluations."""
    parts = []
    for optimizer, name in TUNED.items():
        rates = [rate * (1 if optimizer == "momentum" else 4) for rate in setting.sweep.rates_of("mup")]
        records = sl.run(replace(setting.sweep, optimizer=optimizer, learning_rates=tuple(rates)), store)
        best = best_rate(records.runs)
        curves = records.select(learning_rate=best).curves[["seed", "step", "train_loss", "learning_rate"]]
        momentum = 0.9 if optimizer == "momentum" else 0.0
        parts.append(curves.assign(learner=name, momentum=momentum, evaluations=curves["step"]))
    return pd.concat(parts, ignore_index=True)


def learned(setting: Setting) -> pd.DataFrame:
    """The curves of the learner, one for each share of the learning rate and seed."""
    task = next(iter(tasks(replace(setting.sweep, optimizer="sgd"))))
    recipe = find_recipe(task)
    arrays = place_arrays(recipe, DeviceLayout((jax.devices()[0],), 1), task)
    loss = jax.jit(recipe.objective)
    rows = []
    for share in SHARES:
        learner = spectral_learner(
            recipe.loss,
            model=recipe.forward,
            metric=recipe.metric(recipe.init_params(0), None),
            every=setting.every,
            products=setting.products,
            share=share,
        )

        @jax.jit
        def step(params, state, batch, learner=learner):
            updates, state = learner.update(jax.grad(recipe.objective)(params, batch), state, params, batch=batch)
            return jax.tree.map(lambda w, u: w + u, params, updates), state

        for seed in setting.sweep.seeds_of(task.width):
            params = recipe.init_params(seed)
            state = learner.init(params)
            order = batch_indices(seed, len(arrays.train[1]), task.batch_size, 0, task.steps)
            for at in range(task.steps + 1):
                if at in task.record_steps:
                    found = spectral_record(state)
                    keys = {"learner": learner_name(share), "seed": seed, "step": at}
                    cost = {"evaluations": at + GRADIENTS_PER_PRODUCT * found["products"]}
                    rows.append(keys | {"train_loss": float(loss(params, arrays.probe))} | found | cost)
                if at < task.steps:
                    batch = jax.tree.map(lambda x, chosen=order[at]: x[chosen], arrays.train)
                    params, state = step(params, state, batch)
    return pd.DataFrame(rows)


def speed_up(curves: pd.DataFrame, name: str, other: str) -> Measured:
    """How many times as many gradient evaluations `other` takes to the target as `name`; interval over seeds."""
    logs = []
    for _, table in curves[curves["learner"].isin([name, other])].groupby("seed"):
        runs = {each: run.sort_values("step") for each, run in table.groupby("learner")}
        if not trains(runs[name]):
            logs.append(-np.inf)
            continue
        target = max(run["train_loss"].iloc[-1] for run in runs.values())
        own, theirs = (steps_to(runs[each].assign(step=runs[each]["evaluations"]), target) for each in (name, other))
        logs.append(float(np.log2(max(theirs, 1.0) / max(own, 1.0))))
    mean, ends = mean_interval(logs, 0.95)
    return Measured(*(float(2.0**x) for x in (mean, *ends)))


def judge(gain: Measured) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    if gain.value == 0 or gain.high < 1:
        return "fails"
    return "holds" if gain.low > 1 else "inconclusive"


TITLES: Mapping[Verdict, str] = {
    "holds": "Learning rate and momentum from the spectrum cost less than tuned heavy ball, spectra included",
    "fails": "Learning rate and momentum from the spectrum cost more than tuned heavy ball, spectra included",
    "inconclusive": "Learning rate and momentum from the spectrum may cost less than tuned heavy ball or more",
}


def draw(curves: pd.DataFrame, gains: Mapping[str, Measured], verdict: Verdict) -> Figure:
    """The figure: losses against gradient evaluations, learning rates, momenta."""
    with house_style():
        figure, axes = plt.subplots(1, 3, figsize=(10.2, 3.9), width_ratios=(1.4, 1, 1))
        for name, colour in COLOURS.items():
            table = curves[curves["learner"] == name]
            mean = table.groupby("step")[["evaluations", "train_loss"]].mean()
            axes[0].plot(mean["evaluations"], mean["train_loss"], color=colour, label=name)
            later = table[table["step"] > 0]
            for ax, column in zip(axes[1:], ("learning_rate", "momentum"), strict=True):
                for _, run in later.groupby("seed"):
                    ax.plot(run["step"], run[column], color=colour, linewidth=1, alpha=0.7)
        log_ticks(axes[0])
        axes[0].set_xlabel("gradient evaluations, spectra included")
        axes[0].set_ylabel("train loss (nats)")
        gain = gains[f"{JUDGED} over {TUNED['momentum']}"]
        axes[0].set_title(f"speed-up of the whole α over heavy ball: {gain:.2f}")
        axes[0].legend()
        log_ticks(axes[1])
        axes[1].set_ylabel("base learning rate")
        axes[2].set_ylabel("momentum")
        axes[2].set_ylim(-0.03, 1)
        for ax in axes[1:]:
            ax.set_xlabel("step")
        figure.suptitle(TITLES[verdict], fontsize=10)
        plt.close(figure)
    return figure
