"""The law of random matrices for a batch's Hessian, and the largest stable learning rate that is derived from it.

Paper: Granziol, Zohren and Roberts, Learning Rates as a Function of Batch Size, arXiv 2006.09092. A batch's Hessian is
that of all N examples plus noise, equal in all P² entries. Then its largest eigenvalue follows the spike law λ(B) = λ
+ s/(bλ) while λ² > s/b, and 2√(s/b) at smaller batches, with s = Pσ² and b = B/(1 − B/N); its smallest follows the
same law with the same s. The paper concludes that the largest stable learning rate is proportional to B under SGD
until the noise no longer counts, and to √B under Adam. Here (quick): a residual MLP of two blocks and width 64 under
muP on 8,192 images of Fashion-MNIST, before training and after 256 steps of SGD on batches of 128.

Left: the largest and smallest eigenvalue in the metric of SGD, 8 batches of each size
(`sharplab.studies.batch_spectra`), with the law fitted to each end, and the threshold of the largest after training.
Middle and right: the largest learning rate at which a run of 128 steps ends below its first loss, found by bisection
to a quarter of an octave (`sharplab.studies.stable_rates`), mean of 3 seeds with 95 % intervals, for SGD beside
2/λ(B). Shaded: the gradient noise scale before and after training (arXiv 1812.06162), in the same metric.

Rule of the verdict, on four parts with 95 % intervals, after training where spectra are meant: (1) the law: log₂ of
the noise s that the largest eigenvalues tell, less that of the smallest, which theory says is 0, tolerance ±1; (2) the
slope of log η against log B under SGD at batches up to the threshold of the law of the largest, theory 1, tolerance
±0.25; (3) the same from there on, theory 0; (4) under Adam over all batches, theory ½. A part holds if its interval
lies within the tolerance of the theory's value, and fails if it lies wholly outside. "holds" if all four do; "fails"
if any fails; else "inconclusive".

Cost: about five minutes on two cores. Expected: as in a trial at six batch sizes and without learning rates, each end
follows the law with a noise of its own, so that (1) fails, and the threshold of the largest lies at a few examples;
what the rates do was not tried. As an upper limit, 2/λ(B) itself rises with a slope between 0 and ½ only. Found at
full, 16 batches of each of 13 sizes, after training: the noise that the largest eigenvalues tell is 2^6.0 [5.6, 6.3]
times that of the smallest, so that (1) fails; the slope under SGD is +0.71 [0.49, 0.92] up to the threshold at three
examples and +0.13 [0.08, 0.18] beyond it, under Adam +0.50 [0.37, 0.64]. Both hold; (2) is of two batch sizes and open.

    make figure-batch-spectra
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import sharplab as sl
from sharplab.analysis.trend import Measured, lies_outside, lies_within
from sharplab.core.evidence import measured
from sharplab.data import batch_indices, load_dataset
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import house_style
from sharplab.studies.batch_spectra import ENDS, BatchSpectra, SpikeLaw, batch_spectra
from sharplab.studies.stable_rates import StableRates, largest_stable_rates
from sharplab.sweep.plan import tasks
from sharplab.training.task import find_recipe

CLAIM = (
    "The extreme eigenvalues of a batch's Hessian follow the spike law of one noise, and the largest stable learning "
    "rate is proportional to the batch size under SGD up to the law's threshold and constant beyond, "
    "and proportional to its root under Adam."
)
THEORY: Mapping[str, tuple[str, float, float]] = {  # part: what it is, the value that theory says, tolerance
    "noise_of_both_ends": ("log₂ of the noise of the largest less that of the smallest", 0.0, 1.0),
    "sgd_below": ("slope under SGD up to the threshold", 1.0, 0.25),
    "sgd_above": ("slope under SGD from the threshold on", 0.0, 0.25),
    "adam": ("slope under Adam", 0.5, 0.25),
}
COLOURS: Mapping[str, str] = {"before": "#92c5de", "after": "#2166ac"}


@dataclass(frozen=True)
class Setting:
    """One preset: the run whose Hessian is measured, and the grids of learning rates of each optimizer."""

    trained: sl.Experiment
    spectrum_sizes: tuple[int, ...]
    rate_sizes: tuple[int, ...]
    steps: int  # of the runs that look for the largest stable learning rate
    seeds: int
    draws: int = 8
    grids: tuple[tuple[str, tuple[float, ...]], ...] = (("sgd", (0.5, 8.0)), ("adam", (2.0**-7, 2.0**-3)))

    def searches(self, optimizer: str, rates: tuple[float, ...]) -> list[sl.Experiment]:
        """The experiments from which the search for an optimizer's largest stable learning rates begins."""
        one = replace(
            self.trained,
            optimizer=optimizer,
            learning_rates=rates,
            seeds=self.seeds,
            steps=self.steps,
            observables=("train_loss",),
            probe_size=min(1024, self.trained.probe_size),
        )
        return [replace(one, batch_size=size) for size in self.rate_sizes]


def powers(low: int, high: int, step: int = 1) -> tuple[int, ...]:
    """The powers of two 2^low … 2^high, every so many of them."""
    return tuple(2**i for i in range(low, high + 1, step))


QUICK = Setting(
    sl.Experiment(
        model="residual_mlp",
        depths=(2,),
        widths=(64,),
        base_width=64,
        parameterizations=("mup",),
        optimizer="sgd",
        learning_rates=(0.5,),
        seeds=1,
        steps=256,
        batch_size=128,
        probe_size=4096,
        observables=("train_loss", "gradient_noise_scale"),
        records=2,
    ),
    powers(0, 12, 2),
    powers(0, 8),
    steps=128,
    seeds=3,
)
SMALL = replace(
    QUICK.trained, model="mlp", widths=(4,), seeds=1, depths=(1,), base_width=4, steps=8, batch_size=8, probe_size=64
)
PRESETS: Mapping[str, Setting] = {
    "smoke": replace(
        QUICK,
        trained=replace(SMALL, data="gaussian-clusters"),
        spectrum_sizes=(4, 64),
        rate_sizes=(4, 16),
        steps=4,
        seeds=2,
        draws=3,
        grids=(("sgd", (8.0, 32.0)), ("adam", (0.125, 0.5))),
    ),
    "quick": QUICK,
    "full": replace(QUICK, spectrum_sizes=powers(0, 12), rate_sizes=powers(0, 10), steps=256, seeds=6, draws=16),
    "paper": replace(
        QUICK,
        trained=replace(
            QUICK.trained, model="figure1_convnet", widths=(256,), seeds=1, base_width=1, data="cifar-10", steps=3910
        ),
        rate_sizes=powers(0, 12),
        steps=3910,
        seeds=5,
    ),
}


def find(preset: str, store: Path) -> Finding:
    """Measure spectra, train the runs that the store lacks, draw the figure, and judge the claim."""
    setting = PRESETS[preset]
    table = measured("spectra", lambda: measure(setting))
    spectra = {
        point: BatchSpectra(rows, int(rows["examples"].iloc[0])) for point, rows in table.groupby("point", sort=False)
    }
    curves = sl.run(setting.trained, store).curves.sort_values("step")
    scales = dict(zip(spectra, curves[["gradient_noise_scale", "gradient_noise_scale_error"]].to_numpy(), strict=True))
    rates = {name: largest_stable_rates(setting.searches(name, grid), store) for name, grid in setting.grids}
    parts = parts_of(spectra["after"], rates)
    verdicts = {name: judge_part(name, part) for name, part in parts.items()}
    verdict = judge(verdicts)
    shown = [rates[name].table().assign(part=f"largest stable learning rate, {name}") for name in rates]
    return Finding(
        draw(spectra, scales, rates, parts, verdict),
        pd.concat([table.assign(part="eigenvalues"), *shown], ignore_index=True),
        CLAIM,
        verdict,
        {
            "parts": {
                name: {
                    "is": THEORY[name][0],
                    "value": part.value,
                    "interval": part.interval,
                    "theory": THEORY[name][1],
                    "verdict": verdicts[name],
                }
                for name, part in parts.items()
            },
            "laws": {
                f"{end}, {point} training": law_numbers(getattr(found, end))
                for point, found in spectra.items()
                for end in ENDS
                if getattr(found, end) is not None
            },
            "gradient_noise_scale": {
                point: {"value": value, "standard_error": error} for point, (value, error) in scales.items()
            },
        },
    )


def measure(setting: Setting) -> pd.DataFrame:
    """The extreme eigenvalues before and after training, a row per batch, with N as `examples`."""
    task = next(iter(tasks(setting.trained)))
    recipe, data = find_recipe(task), load_dataset(task.data)
    inputs, targets = recipe.prepare(data.train_inputs), jnp.asarray(data.train_targets)
    order = batch_indices(0, len(targets), task.batch_size, 0, task.steps)
    step, rate = jax.jit(recipe.step), setting.trained.rates_of("mup")[0]
    run = recipe.begin(0)
    tables = []
    for point in ("before", "after"):
        if point == "after":
            for rows in order:
                run = step(run, rate, (inputs[rows], targets[rows]))
        found = batch_spectra(
            recipe.loss,
            run.params,
            (inputs, targets),
            setting.spectrum_sizes,
            model=recipe.forward,
            metric=recipe.metric(run.params, run.opt_state),
            draws=setting.draws,
        )
        tables.append(found.table.assign(point=point, examples=len(targets)))
    return pd.concat(tables, ignore_index=True)


def parts_of(spectra: BatchSpectra, rates: Mapping[str, StableRates]) -> dict[str, Measured]:
    """The four measured values that the rule judges."""
    threshold = spectra.largest.threshold.value
    sizes = rates["sgd"].brackets["batch_size"].unique()
    return {
        "noise_of_both_ends": noise_ratio(spectra.largest, spectra.smallest),
        "sgd_below": rates["sgd"].slope(sizes[sizes <= threshold]),
        "sgd_above": rates["sgd"].slope(sizes[sizes >= threshold]),
        "adam": rates["adam"].slope(),
    }


def noise_ratio(largest: SpikeLaw, smallest: SpikeLaw | None) -> Measured:
    """log₂ of the noise of the largest eigenvalues' law less that of the smallest; unknown without the latter."""
    if smallest is None:
        return Measured(np.nan, -np.inf, np.inf)
    with np.errstate(divide="ignore"):
        logs = [Measured(*map(float, np.log2([s.value, s.low, s.high]))) for s in (largest.noise, smallest.noise)]
    return logs[0].less(logs[1])


def judge_part(name: str, part: Measured) -> Verdict:
    """The verdict on one part, by the rule in the docstring of this module."""
    _, expected, tolerance = THEORY[name]
    off = part.low - expected, part.high - expected
    return "holds" if lies_within(off, tolerance) else "fails" if lies_outside(off, tolerance) else "inconclusive"


def judge(verdicts: Mapping[str, Verdict]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    if "fails" in verdicts.values():
        return "fails"
    return "holds" if set(verdicts.values()) == {"holds"} else "inconclusive"


def law_numbers(law: SpikeLaw) -> dict:
    """The numbers of the JSON file on a law."""
    named = {"eigenvalue": law.eigenvalue, "noise": law.noise, "threshold_batch_size": law.threshold}
    stated = {name: {"value": one.value, "interval": one.interval} for name, one in named.items()}
    return {**stated, "misfit": law.misfit}


TITLES: Mapping[Verdict, str] = {
    "holds": "Batch Hessians and the largest stable learning rates follow the law of random matrices",
    "fails": "What the law of random matrices says fails for {}",
    "inconclusive": "Batch Hessians and learning rates may follow the law of random matrices",
}
NAMES: Mapping[str, str] = {
    "noise_of_both_ends": "one noise at both ends",
    "sgd_below": "SGD at small batches",
    "sgd_above": "SGD at large batches",
    "adam": "Adam",
}


def draw(
    spectra: Mapping[str, BatchSpectra],
    scales: Mapping[str, np.ndarray],
    rates: Mapping[str, StableRates],
    parts: Mapping[str, Measured],
    verdict: Verdict,
) -> Figure:
    """The figure: eigenvalues against batch size, and the largest stable learning rates of both optimizers."""
    with house_style():
        figure, (left, *others) = plt.subplots(1, 3, figsize=(10.2, 3.9))
        for point, found in spectra.items():
            draw_spectra(left, found, point)
        threshold = spectra["after"].largest.threshold
        left.set_ylabel("extreme eigenvalues |λ(B)|")
        left.set_title(f"noise s: 2^{parts['noise_of_both_ends']:.1f} times\nas large at the top as at the bottom")
        left.legend(loc="upper right", fontsize=7)
        labels = {"sgd": ("SGD", ("sgd_below", "sgd_above")), "adam": ("Adam", ("adam",))}
        for ax, (name, (label, slopes)) in zip(others, labels.items(), strict=True):
            table = rates[name].table()
            draw_rates(ax, table)
            if name == "sgd":
                sizes = np.geomspace(table["batch_size"].min(), table["batch_size"].max(), 200)
                for point, found in spectra.items():
                    limit = 2 / found.largest.predict(sizes)
                    ax.plot(sizes, limit, color=COLOURS[point], label=f"2/λ(B), {point} training")
            guide(ax, table, 1.0 if name == "sgd" else 0.5)
            ax.legend(loc="lower right", fontsize=7)
            ax.set_title(f"{label}, slopes:\n" + "; ".join(f"{parts[slope]:+.2f}" for slope in slopes))
            ax.set_ylabel("largest stable base learning rate")
        for ax in (left, *others):
            for point, (value, error) in scales.items():
                if value > error:
                    ax.axvspan(value - error, value + error, color=COLOURS[point], alpha=0.3, linewidth=0, zorder=0)
            ax.axvline(threshold.value, color="0.25", linestyle=":", linewidth=1)
            ax.set_xscale("log", base=2)
            ax.set_yscale("log", base=2)
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.set_xlabel("batch size B")
        failed = [NAMES[name] for name, part in parts.items() if judge_part(name, part) == "fails"]
        figure.suptitle(TITLES[verdict].format(", ".join(failed)), fontsize=10)
        note = "dotted: threshold of the largest's law after training; shaded: gradient noise scale ± standard error"
        figure.supxlabel(note, fontsize=8)
        plt.close(figure)
    return figure


def draw_spectra(ax: Axes, found: BatchSpectra, point: str) -> None:
    """Every batch's eigenvalues, and the law of each end."""
    sizes = np.geomspace(found.table["batch_size"].min(), found.table["batch_size"].max(), 200)
    for end, sign, marker, line in zip(ENDS, (1, -1), "^v", ("-", "--"), strict=True):
        label, law = f"{end}, {point} training", getattr(found, end)
        values = sign * found.table[end]
        style = {"color": COLOURS[point], "markersize": 3, "alpha": 0.6}
        ax.plot(found.table["batch_size"], values.where(values > 0), marker, label=label, **style)
        if law is not None:
            ax.plot(sizes, law.predict(sizes), line, color=COLOURS[point], linewidth=1.2)


def draw_rates(ax: Axes, table: pd.DataFrame) -> None:
    """The largest stable learning rate of each batch size with its interval; what is not bounded ends at the axis."""
    ends = table[["edge_low", "edge_high"]].clip(table["edge"].min() / 16, table["edge"].max() * 16)
    bars = np.abs(ends.to_numpy().T - table["edge"].to_numpy())
    ax.errorbar(table["batch_size"], table["edge"], bars, fmt="o", color="#b2182b", markersize=4, elinewidth=1)


def guide(ax: Axes, table: pd.DataFrame, slope: float) -> None:
    """The line that theory says, through the smallest batch's learning rate, as high as there are any."""
    sizes = np.geomspace(table["batch_size"].min(), table["batch_size"].max(), 200)
    line = table["edge"].iloc[0] * (sizes / sizes[0]) ** slope
    line = np.where(line <= 1.5 * table["edge_high"].max(), line, np.nan)
    ax.plot(sizes, line, color="0.4", linestyle="--", linewidth=1, label=f"slope {slope:g}")
