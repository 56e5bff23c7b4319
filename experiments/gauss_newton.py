"""C6: under muP the top of the Hessian is that of its Gauss-Newton part, at every width; under NTK G hardly moves.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457,
section 4: H = G + R, G the Gauss-Newton matrix and R the part that the residuals weigh. Its setting: two-layer linear
network, squared error, random data; ConvNets. Here (quick): the linear network on 1,024 random examples of a ReLU
teacher (16 inputs, 4 outputs), full-batch descent, widths 16 to 1,024; and the ConvNet of Figure 1 on 8,192 images of
Fashion-MNIST, 128 steps of batch 128, widths 8 to 32, with cross-entropy and with squared error. All eigenvalues are in
the metric of the step, D^½HD^½.

Upper rows: loss and largest eigenvalues of H, G and R of the linear network: dots trained, the mean over seeds; lines
the closed dynamics of `sharplab.theory` from the same weights; dashed the closed dynamics of infinite width (under NTK,
where the initial function stays random, the mean and standard deviation of 16 draws). Lowest row: G's share of the
curvature along the top eigenvector v of H, vᵀGv/vᵀHv, muP solid and NTK dotted, of the linear network and of the
ConvNet under two losses; last, how far λmax(G) has grown by the second half of training.

Rule of the verdict, on means over the second half of training, with 95 % intervals from the seeds. "holds" if
  (1) under muP, in each of the three settings, G's share is at least 0.9 at each width, and its slope over widths lies
      within ±0.05 octaves per doubling;
  (2) in the linear network λmax(G) grows by more than ½ octave under muP at each width, and at the largest width moves
      by less than ¼ octave under NTK;
"fails" if an interval contradicts any of these wholly; else "inconclusive".
A first draft also wanted the growth of λmax(G) alike at every width under muP, and falling with width under NTK. It was
dropped on seeing the smoke preset, before any quick run; by the quick numbers it would have said "fails". Both slopes
are in the JSON file.

Cost: about four minutes on two cores. Expected: R holds most of the curvature before training under muP, and G nearly
all of it once features are learned. Narrow linear networks begin with a larger λmax(G), as the largest eigenvalue of
their random Q is about (1 + √(16/N))² times that of infinite width: they grow by less, to the same value.

    make figure-gauss-newton
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, pairwise
from pathlib import Path
from types import MappingProxyType

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import sharplab as sl
from sharplab.analysis.trend import Interval, pooled_noise
from sharplab.data import batch_indices, load_dataset
from sharplab.plotting import NAMES, house_style, size_colours, size_legend
from sharplab.recipe import LaneState, Recipe
from sharplab.report import Finding, Verdict
from sharplab.sweep.plan import tasks
from sharplab.task import Task, find_recipe
from sharplab.theory import LinearCourse, infinite_linear_state, linear_course, linear_state
from sharplab.tree import PyTree

CLAIM = (
    "Under muP the largest Hessian eigenvalue is that of the Gauss-Newton part, to the same degree at every width; "
    "under NTK parameterization a wide network is lazy, and its Gauss-Newton matrix hardly moves."
)
LEAST_SHARE, SHARE_TOLERANCE = 0.9, 0.05  # of G at the top of H; octaves per doubling
LEAST_GROWTH, LAZY_GROWTH = 0.5, 0.25  # octaves of λmax(G)
SOLVED = 1e-3  # relative error of an eigenvalue
DRAWS = 16  # of the function that an infinitely wide NTK network begins with
OPERATORS = ("hessian", "gauss_newton", "residual")

LINEAR = sl.Experiment(
    model="linear_network",
    depths=(2,),
    widths=(16, 64, 256, 1024),
    learning_rates=(0.5,),
    alpha=0.0,
    seeds=4,
    loss="squared_error",
    data="teacher-student",
    steps=64,
    batch_size=1024,
    probe_size=1024,
    records=17,
)
CONVNET = sl.Experiment(
    model="figure1_convnet",
    depths=(2,),
    widths=(8, 16, 32),
    learning_rates={"mup": (1.0,), "ntk": (4.0,)},
    seeds=3,
    steps=128,
    batch_size=128,
    probe_size=512,
    records=9,
)
# Setting → preset → what is trained.
SETTINGS: Mapping[str, Mapping[str, sl.Experiment]] = MappingProxyType(
    {
        "linear network": {
            "smoke": replace(LINEAR, widths=(8,), seeds=2, records=5),
            "quick": LINEAR,
            "paper": replace(LINEAR, widths=(16, 64, 256, 1024, 4096), seeds=8),
        },
        "ConvNet, cross-entropy": {
            "smoke": replace(
                CONVNET, widths=(8,), parameterizations=("mup",), seeds=2, steps=8, records=3, probe_size=64
            ),
            "quick": CONVNET,
            "paper": replace(CONVNET, widths=(64, 256, 1024), seeds=3, steps=2560, records=21, probe_size=1024),
        },
    }
)


def squared(experiment: sl.Experiment) -> sl.Experiment:
    """The same with squared error, whose Gauss-Newton matrix does not shrink as classes become certain."""
    return replace(experiment, loss="squared_error", learning_rates={"mup": (0.5,), "ntk": (2.0,)})


def experiments(preset: str) -> dict[str, sl.Experiment]:
    """What each setting trains."""
    found = {name: presets[preset] for name, presets in SETTINGS.items()}
    return found | {"ConvNet, squared error": squared(found["ConvNet, cross-entropy"])}


def find(preset: str, store: Path) -> Finding:
    """Train and measure (nothing is stored), compute the closed courses, draw, and judge."""
    settings = experiments(preset)
    trained = pd.concat([measure(experiment).assign(setting=name) for name, experiment in settings.items()])
    closed = closed_courses(settings["linear network"])
    linear = trained[trained["setting"] == "linear network"]
    shares = {key: share_of(part) for key, part in trained.groupby(["setting", "parameterization"], sort=False)}
    growths = {name: growth_of(part) for name, part in linear.groupby("parameterization", sort=False)}
    stated = {
        f"{setting}, {NAMES[name]}": numbers(part, shares[setting, name])
        for (setting, name), part in trained.groupby(["setting", "parameterization"], sort=False)
    }
    return Finding(
        draw(trained, closed, shares, growths),
        pd.concat([trained.assign(part="trained"), closed.assign(part="closed", setting="linear network")]),
        CLAIM,
        judge(shares, growths),
        stated
        | {f"growth of G, {NAMES[name]}": with_intervals(found) for name, found in growths.items()}
        | {"closed_dynamics": deviations(linear, closed)},
    )


def measure(experiment: sl.Experiment) -> pd.DataFrame:
    """One row per run and record: loss, G's share of H's top, and largest eigenvalues with their errors."""
    with ThreadPoolExecutor(len(jax.devices())) as pool:
        parts = pool.map(partial(measure_task, experiment), tasks(experiment), cycle(jax.devices()))
        return pd.DataFrame([row for part in parts for row in part])


def measure_task(experiment: sl.Experiment, task: Task, device: jax.Device) -> list[dict[str, float]]:
    """The rows of one width and parameterization, on one device."""
    (rate,) = experiment.rates_of(task.parameterization)
    keys = {"parameterization": task.parameterization, "width": task.width, "learning_rate": rate}
    with jax.default_device(device):
        return [
            keys | {"seed": seed, "step": step} | row
            for seed in experiment.seeds_of(task.width)
            for step, row in follow(task, rate, seed)
        ]


def follow(task: Task, rate: float, seed: int) -> Iterator[tuple[int, dict[str, float]]]:
    """A run, measured at the task's record steps; NaN from where it diverged."""
    recipe, data = find_recipe(task), load_dataset(task.data)
    train = (recipe.prepare(data.train_inputs), jnp.asarray(data.train_targets))
    probe = jax.tree.map(lambda x: x[: task.probe_size], train)
    order = batch_indices(seed, len(train[1]), task.batch_size, 0, task.steps)
    operators = OPERATORS if task.model == "linear_network" else OPERATORS[:1]
    lane = recipe.begin(jnp.asarray(seed))
    vectors = dict.fromkeys(operators, jax.tree.map(lambda w: jnp.zeros((1, *w.shape)), lane.params))
    for step, next_step in pairwise((*task.record_steps, task.steps)):
        row, vectors = spectra(recipe, lane.params, probe, vectors)
        diverged = int(lane.diverged_step) >= 0
        yield step, {name: np.nan if diverged else float(value) for name, value in row.items()}
        if next_step > step:
            lane = advance(recipe, lane, rate, order[step:next_step], train, next_step)


@partial(jax.jit, static_argnums=0)
def advance(recipe: Recipe, lane: LaneState, rate: float, order: jax.Array, train: PyTree, stop: int) -> LaneState:
    """Training up to the step `stop`."""
    return recipe.advance(lane, jnp.asarray(rate), order, train, jnp.asarray(stop))


@partial(jax.jit, static_argnums=0)
def spectra(
    recipe: Recipe, params: PyTree, probe: PyTree, vectors: dict[str, PyTree]
) -> tuple[dict[str, jax.Array], dict[str, PyTree]]:
    """Loss and top eigenvalues in the metric of the operators that `vectors`, where to start from, names."""
    root = jax.tree.map(jnp.sqrt, recipe.metric(params, None))
    H = sl.precondition(sl.hessian(recipe.loss, params, probe, model=recipe.forward), root)
    G = sl.precondition(sl.gauss_newton(recipe.forward, recipe.loss, params, probe), root)
    row = {"loss": recipe.objective(params, probe)}
    found = {}
    for name, op in zip(OPERATORS, (H, G, H - G), strict=True):
        if name in vectors:
            pairs = sl.eigsh(op, tol=SOLVED, start=vectors[name])
            found[name] = pairs.vectors
            row |= {name: pairs.values[0], f"{name}_error": pairs.errors[0], f"{name}_residual": pairs.residuals[0]}
    top = jax.tree.map(lambda v: v[0], found["hessian"])
    row["share"] = sl.directional_sharpness(G, top) / sl.directional_sharpness(H, top)
    return row, found


def closed_courses(experiment: sl.Experiment) -> pd.DataFrame:
    """The closed dynamics from the weights of every run, and those of infinite width."""
    tables = []
    data = load_dataset(experiment.data)
    examples = (data.train_inputs.astype(np.float64), data.train_targets.astype(np.float64))
    for task in tasks(experiment):
        name, rule = task.parameterization, find_recipe(task).rule
        (rate,) = experiment.rates_of(name)
        drawn = {seed: kernels(task, seed) for seed in experiment.seeds_of(task.width)}
        with jax.enable_x64(True):
            states = [(task.width, seed, linear_state(*weights, rule)) for seed, weights in drawn.items()]
            if task.width == experiment.widths[-1]:
                sizes = (examples[0].shape[1], examples[1].shape[1])
                keys = [jax.random.key(seed) for seed in range(DRAWS if name == "ntk" else 1)]
                states += [(np.inf, i, infinite_linear_state(rule, *sizes, key)) for i, key in enumerate(keys)]
            for width, seed, state in states:
                course = linear_course(state, *examples, rate, task.record_steps)
                tables.append(
                    as_table(course).assign(parameterization=name, learning_rate=rate, width=width, seed=seed)
                )
    return pd.concat(tables, ignore_index=True)


def kernels(task: Task, seed: int) -> list[np.ndarray]:
    """The weights that a run of the linear network begins with, layer by layer, in double precision."""
    params = find_recipe(task).init_params(jnp.asarray(seed))
    return [np.asarray(params[layer]["kernel"][...], np.float64) for layer in ("first", "readout")]


def as_table(course: LinearCourse) -> pd.DataFrame:
    """The columns that trained runs have."""
    columns = {"step": course.steps, "loss": course.loss, "hessian": course.hessian}
    columns |= {"gauss_newton": course.gauss_newton[:, 0], "residual": course.residual[:, 0]}
    return pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})


@dataclass(frozen=True)
class Evidence:
    """Of one quantity under one parameterization, means over the second half of training; intervals at 95 %.

    Attributes:
        means: over seeds, per width with its interval.
        slope: per doubling of width, in octaves of the quantity, with its interval.
    """

    means: Mapping[int, tuple[float, Interval]]
    slope: tuple[float, Interval]


def share_of(trained: pd.DataFrame) -> Evidence:
    """G's share of the top of H."""
    return evidence_of(trained, "share", lambda share: share)


def growth_of(trained: pd.DataFrame) -> Evidence:
    """λmax(G) since the start, the means in octaves."""
    start = trained.groupby(["width", "seed"])["gauss_newton"].transform("first")
    return evidence_of(trained.assign(growth=trained["gauss_newton"] / start), "growth", np.log2)


def evidence_of(trained: pd.DataFrame, quantity: str, scale: Callable[[pd.Series], pd.Series]) -> Evidence:
    """From the runs of one parameterization; means are of scale(quantity)."""
    keys = ["parameterization", "width", "learning_rate", "seed"]
    (agreed,) = sl.consistency(sl.Records(trained[keys].drop_duplicates(), trained), quantity).values()
    late = trained[trained["step"] >= trained["step"].max() / 2]
    per_run = scale(late[quantity]).groupby([late["width"], late["seed"]]).mean()
    groups = {int(width): values.to_numpy() for width, values in per_run.groupby("width")}
    noise = pooled_noise(list(groups.values()))
    means = {}
    for width, values in groups.items():
        mean = float(values.mean())
        means[width] = mean, noise.scaled(1 / len(values)).interval(mean, 0.95)
    return Evidence(means, (agreed.slope, agreed.slope_interval))


def judge(shares: Mapping[tuple[str, str], Evidence], growths: Mapping[str, Evidence]) -> Verdict:
    """The rule above: of each quantity, its interval and the range in which the claim wants it."""
    wanted: list[tuple[Interval, Interval]] = []
    for (_, parameterization), share in shares.items():
        if parameterization == "mup":
            wanted += [(interval, (LEAST_SHARE, np.inf)) for _, interval in share.means.values()]
            wanted += [(share.slope[1], (-SHARE_TOLERANCE, SHARE_TOLERANCE))]
    lazy = growths["ntk"].means
    wanted += [(interval, (LEAST_GROWTH, np.inf)) for _, interval in growths["mup"].means.values()]
    wanted += [(lazy[max(lazy)][1], (-LAZY_GROWTH, LAZY_GROWTH))]
    if any(interval[1] < low or interval[0] > high for interval, (low, high) in wanted):
        return "fails"
    met = all(low <= interval[0] and interval[1] <= high for interval, (low, high) in wanted)
    return "holds" if met else "inconclusive"


def numbers(trained: pd.DataFrame, share: Evidence) -> dict:
    """What the JSON file states of one setting and parameterization."""
    start = trained[trained["step"] == 0].groupby("width")["share"].mean()
    solved = [name for name in OPERATORS if trained[name].notna().any()]
    return {
        "learning_rate": float(trained["learning_rate"].iloc[0]),
        "share_of_gauss_newton": with_intervals(share),
        "share_before_training": {str(width): value for width, value in start.items()},
        "largest_error_estimate_over_top_of_hessian": {
            name: (trained[f"{name}_error"] / trained["hessian"]).max() for name in solved
        },
        "diverged_runs": int(trained.groupby(["width", "seed"])["loss"].apply(lambda loss: loss.isna().any()).sum()),
    }


def with_intervals(found: Evidence) -> dict[str, dict]:
    """For the JSON file."""
    per_width = {str(width): {"mean": mean, "interval": interval} for width, (mean, interval) in found.means.items()}
    value, interval = found.slope
    return {"late": per_width, "slope_octaves_per_doubling": {"value": value, "interval": interval}}


def deviations(linear: pd.DataFrame, closed: pd.DataFrame) -> dict:
    """How far runs are from their closed courses, and these from infinite width.

    Of each quantity, the largest difference along a run, relative to the largest value along it; eigenvalues of G and R
    relative to H's.
    """
    keys = ["parameterization", "width", "seed", "step"]
    finite = closed[np.isfinite(closed["width"])].astype({"width": int})
    both = linear.merge(finite, on=keys, suffixes=("", "_closed"))
    assert len(both) == len(linear)
    names = ("loss", *OPERATORS)

    def largest(pairs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
        rows = {}
        for key, run in pairs.groupby(by):
            scales = {name: run["loss_closed" if name == "loss" else "hessian_closed"].max() for name in names}
            rows[key] = {name: (run[name] - run[f"{name}_closed"]).abs().max() / scales[name] for name in names}
        return pd.DataFrame.from_dict(rows, orient="index")

    runs = largest(both, ["parameterization", "width", "seed"])
    mup = closed[closed["parameterization"] == "mup"]
    wide = mup[np.isfinite(mup["width"])].merge(mup[np.isinf(mup["width"])], on="step", suffixes=("", "_closed"))
    distance = largest(wide, ["width", "seed"]).groupby(level=0).mean()
    return {
        "largest_relative_deviation_of_a_run": runs.max().to_dict(),
        "mean_relative_distance_of_mup_from_infinite_width": {
            str(int(width)): row.to_dict() for width, row in distance.iterrows()
        },
    }


TITLES: Mapping[str, str] = MappingProxyType(
    {
        "loss": "loss",
        "hessian": "$\\lambda_{max}(H)$",
        "gauss_newton": "$\\lambda_{max}(G)$",
        "residual": "$\\lambda_{max}(R)$",
    }
)
DASHES: Mapping[str, str] = MappingProxyType({"mup": "-", "ntk": ":"})


def draw(
    trained: pd.DataFrame,
    closed: pd.DataFrame,
    shares: Mapping[tuple[str, str], Evidence],
    growths: Mapping[str, Evidence],
) -> Figure:
    """The linear network's courses in two rows; shares and growth in the third."""
    colours = size_colours(trained["width"].unique())
    linear = trained[trained["setting"] == "linear network"]
    with house_style():
        figure, axes = plt.subplots(3, 4, figsize=(11.0, 7.8))
        for row, name in zip(axes, growths, strict=False):
            for ax, quantity in zip(row, TITLES, strict=True):
                of_name = (table[table["parameterization"] == name] for table in (linear, closed))
                draw_course(ax, *of_name, quantity, colours)
                ax.set_title(f"linear network, {NAMES[name]}: {TITLES[quantity]}")
            row[0].set_ylabel("loss ½ mean$\\,\\|f-y\\|^2$")
            row[1].set_ylabel("effective eigenvalue")
        for columns in (axes[:2, :1], axes[:2, 1:]):
            top = max(ax.get_ylim()[1] for ax in columns.flat)
            for ax in columns.flat:
                ax.set_ylim(0, top)
        settings = [setting for setting, name in shares if name == "mup"]
        for ax, setting in zip(axes[2], settings, strict=False):
            draw_shares(ax, trained[trained["setting"] == setting], colours)
            late = [mean for mean, _ in shares[setting, "mup"].means.values()]
            ax.set_title(f"{setting}:\nmuP late share {min(late):.3f} to {max(late):.3f}")
        axes[2, 0].set_ylabel("G's share of the top of H")
        draw_growth(axes[2, 3], growths, closed)
        known = [
            Line2D([], [], color="0.3", marker="o", linestyle="", markersize=3, label="trained"),
            Line2D([], [], color="0.3", label="closed dynamics"),
            Line2D([], [], color="black", linestyle="--", label="infinite width"),
        ]
        handles = [*size_legend(list(colours)), *known]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1.2)
        plt.close(figure)
    return figure


def draw_course(
    ax: Axes, trained: pd.DataFrame, closed: pd.DataFrame, quantity: str, colours: Mapping[int, tuple]
) -> None:
    """Means over seeds: dots of runs, lines of their closed courses, and infinite width dashed."""
    for width, table in closed.groupby("width"):
        by_step = table.groupby("step")[quantity]
        mean, std = by_step.mean(), by_step.std().fillna(0.0)
        if np.isinf(width):
            ax.plot(mean.index, mean, color="black", linestyle="--", linewidth=1.0, zorder=3)
            ax.fill_between(mean.index, mean - std, mean + std, color="black", alpha=0.1, linewidth=0)
        else:
            ax.plot(mean.index, mean, color=colours[width], linewidth=1.0)
    for width, table in trained.groupby("width"):
        mean = table.groupby("step")[quantity].mean()
        ax.plot(mean.index, mean, color=colours[width], marker="o", markersize=3, linestyle="")
    ax.set_xlabel("step")


def draw_shares(ax: Axes, trained: pd.DataFrame, colours: Mapping[int, tuple]) -> None:
    """G's share along training, means over seeds; muP solid, NTK dotted."""
    for (name, width), table in trained.groupby(["parameterization", "width"]):
        mean = table.groupby("step")["share"].mean()
        ax.plot(mean.index, mean, color=colours[width], linestyle=DASHES[name])
    ax.axhline(LEAST_SHARE, color="0.5", linewidth=0.8)
    ax.set_ylim(0, 1.05)
    ax.set_xlabel("step")
    handles = [Line2D([], [], color="0.3", linestyle=dash, label=NAMES[name]) for name, dash in DASHES.items()]
    ax.legend(handles=handles, loc="lower right")


def draw_growth(ax: Axes, growths: Mapping[str, Evidence], closed: pd.DataFrame) -> None:
    """By how many octaves the top of G has grown, against width; that of infinite width dashed."""
    infinite = closed[np.isinf(closed["width"])]
    for name, colour in zip(growths, ("#2166ac", "#b2182b"), strict=True):
        means = growths[name].means
        values = np.array([value for value, _ in means.values()])
        ends = np.array([interval for _, interval in means.values()]).T
        errors = np.where(np.isfinite(ends), np.abs(ends - values), 0)
        style = {"color": colour, "linestyle": DASHES[name], "marker": "o", "markersize": 4, "linewidth": 1.0}
        ax.errorbar(list(means), values, errors, label=NAMES[name], **style)
        ((limit, _),) = growth_of(infinite[infinite["parameterization"] == name].assign(width=1)).means.values()
        ax.axhline(limit, color=colour, linestyle="--", linewidth=1.0)
    ax.set_xscale("log", base=2)
    ax.set_xlabel("width")
    ax.set_ylabel("octaves, start to second half")
    ax.set_title("linear network: growth of $\\lambda_{max}(G)$,\nand at infinite width (dashed)")
    ax.legend()
