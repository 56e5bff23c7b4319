"""Every eigenvalue that a tracker records lies within its residual of an exact one, the largest within its error.

Paper: none's claim but this lab's own, on which its tests of others' stand: the bounds are those of Parlett, The
Symmetric Eigenvalue Problem (1998), §11; the observables those of Noci et al., arXiv 2402.17457.

The spectrum toolkit against the truth, on networks small enough for it: the residual MLP of two blocks (muP, α = ½,
SGD of batch 128 and base learning rate 0.1, 256 steps) on 8,192 images of Fashion-MNIST averaged down to 8×8 pixels.
All operators are in the metric D of the optimizer, H standing for D^½ H D^½; truth is the full spectrum of the dense
matrix in float64 by LAPACK, at the same float32 weights.

Upper left: density of the eigenvalues of H after training (width 30: 4,020 parameters; 512 examples) by
`sharplab.spectral_density`, and the exact one. Upper middle and right, on the same H: true relative error of the first
and the tenth eigenvalue against products, for `sharplab.eigsh` and ARPACK (scipy) where they stop themselves at
tolerances 1e-1 to 1e-6, and for a budget fixed beforehand: Lanczos with full reorthogonalisation (what matfree and
hessian-eigenthings run), without it, deflated power iteration (what PyHessian runs) and LOBPCG (jax.experimental);
medians over three random starts. These are the methods, written here in a few lines each and given the same
products; the libraries themselves are measured by `make bench-spectrum`.
Lower row: the ten largest eigenvalues of Hessian, Gauss-Newton matrix and NTK (÷ n) along training by
`sharplab.Tracker` (width 12: 1,176 parameters; 128 examples; 65 records, each from the vectors of the last), one colour
for one eigenvector; triangles mark records whose audit found a larger eigenvalue than those tracked.

Rule of the verdict, over all records of the lower row: "fails" if any of the ten recorded eigenvalues, of any operator,
is further from every exact one than its residual, or if the largest one misses the exact largest by more than its
stated error so often that the upper end of a 95 % interval (Clopper-Pearson) of the share within lies below 0.95;
"holds" if no residual is violated and that share is 0.95 or more for each operator; else "inconclusive".

Seeds: one network (seed 0), three starts (0 to 2). Cost: about three minutes on two cores, most of it LAPACK's.
Expected: no residual violated; eigsh at 1e-3 within a few products of the shortest Lanczos run that would do. Found at
full (129 records, five starts): of 3,870 recorded eigenvalues none beyond its residual, each of the 387 largest within
its error. Paper preset: the ConvNet of arXiv 2402.17457, Figure 1, at width 64 (38,080 parameters), where truth is the
thirty largest eigenvalues by ARPACK in float64 at machine precision, and the density stands alone.

    make figure-spectrum
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from eigenvalue_methods import METHODS, SELF_STOPPING, Budgets
from matplotlib.figure import Figure
from scipy.sparse.linalg import eigsh as arpack
from scipy.stats import binomtest

import sharplab as sl
from sharplab.core.evidence import measured
from sharplab.core.tree import PyTree
from sharplab.curvature.linear_operator import DENSE_LIMIT
from sharplab.data import batch_indices, load_dataset
from sharplab.gallery.finding import Finding, Verdict
from sharplab.losses import cross_entropy
from sharplab.models import find_model
from sharplab.optimizers import OPTIMIZERS
from sharplab.plotting import draw_accuracy, draw_density, draw_tracked, house_style
from sharplab.scaling import DepthRule, Rule
from sharplab.spectrum.tridiagonal import Rule as QuadratureRule
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe
from sharplab.training.sources import ByRule

CLAIM = (
    "Every eigenvalue recorded along training lies within its residual of an exact one, "
    "and the largest within its stated error of the exact largest in at least 95 % of the records."
)
SHARE = 0.95
TRACKED = 10
PARTIAL_TRUTH = 30
TARGET = 1e-3
OPERATORS: Mapping[str, str] = {"hessian": "Hessian", "gauss_newton": "Gauss-Newton matrix", "ntk": "NTK ÷ n"}


@dataclass(frozen=True)
class Setting:
    """The network, the sizes and the budgets of one preset."""

    model: str = "residual_mlp"
    pixels: int = 8  # per side, of 32
    widths: tuple[int, int] = (30, 12)  # of the upper and of the lower row
    probes: tuple[int, int] = (512, 128)  # examples there
    learning_rate: float = 0.1
    steps: int = 256
    records: int = 65
    starts: int = 3
    budgets: Budgets = field(default_factory=Budgets)


PRESETS: Mapping[str, Setting] = {
    "smoke": Setting(
        widths=(8, 6),
        probes=(64, 16),
        steps=16,
        records=9,
        starts=2,
        budgets=Budgets(tolerances=(1e-1, 1e-3), depth=48, powers=(3, 12), blocks=(1, 4)),
    ),
    "quick": Setting(),
    "full": Setting(records=129, starts=5),
    "paper": Setting(
        model="figure1_convnet", pixels=32, widths=(64, 64), probes=(1024, 256), learning_rate=0.5, steps=1024
    ),
}


@dataclass(frozen=True)
class Truth:
    """Exact eigenvalues, descending: all of them, or the largest ones of an operator too large for that."""

    values: np.ndarray
    complete: bool


@dataclass(frozen=True)
class Snapshot:
    """A network at one step of training, with its probe batch."""

    recipe: Recipe
    params: PyTree
    probe: tuple[jax.Array, jax.Array]

    def operator(self, name: str) -> sl.LinearOperator:
        """The operator of this name in `OPERATORS`, in the optimizer's metric as a tracker measures it."""
        D = self.recipe.metric(self.params, None)
        if name == "ntk":
            return sl.ntk(self.recipe.forward, self.params, self.probe[0], scale=D) / len(self.probe[1])
        if name == "hessian":
            op = sl.hessian(self.recipe.loss, self.params, self.probe, model=self.recipe.forward)
        else:
            op = sl.gauss_newton(self.recipe.forward, self.recipe.loss, self.params, self.probe)
        return sl.precondition(op, jax.tree.map(jnp.sqrt, D))

    def truth(self, name: str) -> Truth:
        """The exact spectrum of the operator of this name, in double precision at these weights."""
        with jax.enable_x64(True):
            exact = replace(self, **{part: _double(getattr(self, part)) for part in ("params", "probe")})
            op = exact.operator(name)
            # A Gauss-Newton matrix and an NTK have the same eigenvalues in the smaller of their two spaces.
            op = op if op.factor is None or op.shape < op.dual().shape else op.dual()
            if op.shape[0] <= DENSE_LIMIT:
                return Truth(np.linalg.eigvalsh(np.asarray(op.dense()))[::-1], True)
            values = arpack(op.to_scipy(), k=PARTIAL_TRUTH, which="LA", return_eigenvectors=False)
            return Truth(np.sort(values)[::-1], False)


def _double(values: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, values)


def find(preset: str, store: Path) -> Finding:
    """Train a small network (nothing is stored), measure its spectra, draw them, and judge the claim."""
    setting = PRESETS[preset]

    @cache
    def last() -> Snapshot:
        return list(train(setting, 0, [setting.steps]))[-1][1]

    density = density_in(measured("density", lambda: density_table(sl.spectral_density(last().operator("hessian")))))
    exact = measured("exact", lambda: pd.DataFrame(vars(last().truth("hessian"))))
    truth = Truth(exact["values"].to_numpy(), bool(exact["complete"].iloc[0]))
    accuracy = measured("accuracy", lambda: measure_accuracy(last().operator("hessian"), truth, setting))
    tracked = measured("tracked", lambda: track(setting))
    missed = {
        name: sorted(part.loc[part["missed"], "step"].unique())
        for name, part in tracked.groupby("operator", sort=False)
    }
    return Finding(
        draw(density, truth, accuracy, tracked, missed),
        table(density, truth, accuracy, tracked),
        CLAIM,
        judge(tracked),
        {
            "records": {name: certainty(part) for name, part in tracked.groupby("operator", sort=False)},
            "crossings": {name: crossings(part) for name, part in tracked.groupby("operator", sort=False)},
            "audits_that_found_more": {name: len(steps) for name, steps in missed.items()},
            "parameters": {"upper_row": density.size, "lower_row": int(tracked["parameters"].iloc[0])},
            "products_to_1e-3": products_needed(accuracy),
            "own_stop_at_1e-3": own_stops(accuracy),
            "density_moments": moments(density, truth),
        },
    )


def train(setting: Setting, row: int, stops: Sequence[int]) -> Iterator[tuple[int, Snapshot]]:
    """The network of a row of panels as it trains, at the steps of `stops`."""
    data = load_dataset("fashion-mnist-10k")
    sgd = OPTIMIZERS["sgd"]
    depth = DepthRule(2, alpha=0.5 if setting.model == "residual_mlp" else 0.0)
    rule = Rule(sl.parameterization("mup"), setting.widths[row], depth=depth)
    shape = (setting.pixels, setting.pixels, 1)
    recipe = Recipe(Network(ByRule(find_model(setting.model), rule, shape, data.classes)), cross_entropy, sgd, ())
    inputs, targets = recipe.prepare(shrunk(data.train_inputs, setting.pixels)), jnp.asarray(data.train_targets)
    count = setting.probes[row]
    probe = (inputs[:count], targets[:count])
    step = jax.jit(recipe.step)
    run = recipe.begin(jnp.asarray(0))
    order = batch_indices(0, len(targets), 128, 0, max(stops))
    for i in range(max(stops) + 1):
        if i in stops:
            yield i, Snapshot(recipe, run.params, probe)
        if i < len(order):
            run = step(run, setting.learning_rate, (inputs[order[i]], targets[order[i]]))


def shrunk(images: np.ndarray, pixels: int) -> np.ndarray:
    """Square images averaged down to `pixels` per side."""
    n, side, _, channels = images.shape
    blocks = images.reshape(n, pixels, side // pixels, pixels, side // pixels, channels)
    return blocks.mean(axis=(2, 4))


def density_table(density: sl.SpectralDensity) -> pd.DataFrame:
    """The rules of a density as a table, a row per probe and node."""
    rules = {"nodes": density.nodes, "weights": density.weights}
    rules |= {"coarser_nodes": density.coarser.nodes, "coarser_weights": density.coarser.weights}
    probes = np.repeat(np.arange(len(density.nodes)), density.nodes.shape[1])
    columns = {name: np.asarray(values).ravel() for name, values in rules.items()}
    return pd.DataFrame({"probe": probes} | columns).assign(matvecs=int(density.matvecs), size=density.size)


def density_in(table: pd.DataFrame) -> sl.SpectralDensity:
    """The density of such a table."""
    nodes, weights, coarser_nodes, coarser_weights = (
        jnp.asarray(table[name].to_numpy().reshape(table["probe"].nunique(), -1))
        for name in ("nodes", "weights", "coarser_nodes", "coarser_weights")
    )
    matvecs, size = (int(table[name].iloc[0]) for name in ("matvecs", "size"))
    return sl.SpectralDensity(nodes, weights, QuadratureRule(coarser_nodes, coarser_weights), jnp.int32(matvecs), size)


def track(setting: Setting) -> pd.DataFrame:
    """The eigenvalues that a tracker records along training, a row each beside the exact ones.

    `missed` says whether an audit found a larger eigenvalue than the tracked ones.
    """
    stops = np.linspace(0, setting.steps, setting.records).round().astype(int).tolist()
    tracker, rows = None, []
    for step, snapshot in train(setting, 1, stops):
        if tracker is None:
            recipe, names = snapshot.recipe, [f"{name}_top{TRACKED}" for name in OPERATORS]
            tracker = sl.Tracker(recipe.loss, snapshot.probe, names, model=recipe.forward, metric=recipe.metric)
        record = tracker.record(step, snapshot.params)
        size = sum(leaf.size for leaf in jax.tree.leaves(snapshot.params))
        for name in OPERATORS:
            exact = snapshot.truth(name).values
            for rank in range(1, TRACKED + 1):
                value, error, residual, identity = (
                    record[f"{name}_{rank}{suffix}"] for suffix in ("", "_error", "_residual", "_identity")
                )
                recorded = {"value": value, "stated_error": error, "residual": residual, "identity": int(identity)}
                beside = {"exact": exact[rank - 1], "to_nearest_exact": np.abs(exact - value).min()}
                sizes = {"products": int(record[f"{name}_matvecs"]), "parameters": size}
                sizes["missed"] = bool(record[f"{name}_missed"])
                rows.append({"operator": name, "step": step, "rank": rank} | recorded | beside | sizes)
    return pd.DataFrame(rows)


def measure_accuracy(op: sl.LinearOperator, truth: Truth, setting: Setting) -> pd.DataFrame:
    """Each method's true relative error of the first and the tenth eigenvalue, against the products it made."""
    rows = []
    for rank, seed, (method, run) in product((1, TRACKED), range(setting.starts), METHODS.items()):
        exact = truth.values[rank - 1]
        with jax.default_matmul_precision("highest"):
            for budget, products, value in run(op, rank, seed, setting.budgets):
                error = abs(value - exact) / abs(exact)
                rows.append((method, rank, seed, budget, products, float(value), float(error)))
    return pd.DataFrame(rows, columns=["method", "rank", "seed", "budget", "products", "value", "error"])


def products_needed(accuracy: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The fewest products, per method and rank, from which on the true error stays within `TARGET`.

    The median over starts, with the truth known; inf where no budget tried suffices for half of them.
    """
    found: dict[str, dict[str, float]] = {}
    for (method, rank), runs in accuracy.groupby(["method", "rank"], sort=False):
        needed = []
        for _, run in runs.groupby("seed"):
            late = run[run["error"] > TARGET]["products"].max()
            enough = run[~(run["products"] <= late)]["products"]
            needed.append(enough.min() if len(enough) else np.inf)
        found.setdefault(method, {})[f"rank_{rank}"] = float(np.median(needed))
    return found


def own_stops(accuracy: pd.DataFrame) -> dict[str, Any]:
    """Products and true error of the methods that stop themselves, at a tolerance of `TARGET`: median, largest."""
    at = accuracy[accuracy["method"].isin(SELF_STOPPING) & (accuracy["budget"] == TARGET)]
    return {
        f"{method}, rank_{rank}": {"products": runs["products"].median(), "largest_true_error": runs["error"].max()}
        for (method, rank), runs in at.groupby(["method", "rank"], sort=False)
    }


def moments(density: sl.SpectralDensity, truth: Truth) -> dict[str, Any]:
    """The moments tr(Aᵖ)/P by quadrature with their standard errors, beside the exact ones of a complete spectrum."""
    stated: dict[str, Any] = {}
    for p in (1, 2, 3):
        stated[f"p_{p}"] = {"value": float(density.moment(p)), "stderr": float(density.moment_stderr(p))}
        if truth.complete:
            stated[f"p_{p}"]["exact"] = float((truth.values**p).mean())
    return stated


def certainty(tracked: pd.DataFrame) -> dict[str, Any]:
    """Counts of one operator's recorded eigenvalues within their stated errors and residuals."""
    top = tracked[tracked["rank"] == 1]
    within = (top["value"] - top["exact"]).abs() <= top["stated_error"]
    all_within = (tracked["value"] - tracked["exact"]).abs() <= tracked["stated_error"]
    count, n = int(within.sum()), len(within)
    share = binomtest(count, n).proportion_ci()
    return {
        "eigenvalues": len(tracked),
        "beyond_residual": int((tracked["to_nearest_exact"] > tracked["residual"]).sum()),
        "records": n,
        "top_within_error": {"share": count / n, "interval": (share.low, share.high)},
        "all_ten_within_error": float(all_within.mean()),
        "largest_relative_error_of_top": ((top["value"] - top["exact"]) / top["exact"]).abs().max(),
        "products_per_record": top["products"].mean(),
    }


def judge(tracked: pd.DataFrame) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    stated = [certainty(part) for _, part in tracked.groupby("operator")]
    if any(one["beyond_residual"] or one["top_within_error"]["interval"][1] < SHARE for one in stated):
        return "fails"
    return "holds" if all(one["top_within_error"]["share"] >= SHARE for one in stated) else "inconclusive"


def crossings(tracked: pd.DataFrame) -> int:
    """The number of times that two tracked eigenvectors of one operator change places between successive records."""
    ranks = [dict(zip(part["identity"], part["rank"], strict=True)) for _, part in tracked.groupby("step")]
    return sum(
        (before[i] < before[j]) != (after[i] < after[j])
        for before, after in pairwise(ranks)
        for i, j in combinations(before.keys() & after.keys(), 2)
    )


def table(density: sl.SpectralDensity, truth: Truth, accuracy: pd.DataFrame, tracked: pd.DataFrame) -> pd.DataFrame:
    """The table behind the figure, in parts: density, exact eigenvalues at the ends, accuracy, tracked eigenvalues."""
    margin = 0.04 * (truth.values.max() - float(density.nodes.min()))
    grid = np.linspace(float(density.nodes.min()) - margin, truth.values.max() + margin, 400)
    smooth = pd.DataFrame(
        {"eigenvalue": grid, "density": density.density(grid), "stderr": density.density_stderr(grid)}
    )
    ends = len(truth.values) // 100 if truth.complete else 0
    exact = np.concatenate([truth.values[: max(ends, TRACKED)], truth.values[len(truth.values) - ends :]])
    parts = {
        "density": smooth,
        "exact": pd.DataFrame({"eigenvalue": exact}),
        "accuracy": accuracy.groupby(["method", "rank", "budget"], sort=False)
        .median()
        .reset_index()
        .drop(columns="seed"),
        "course": tracked.drop(columns=["parameters", "missed"]),
    }
    return pd.concat([rows.assign(part=name) for name, rows in parts.items()], ignore_index=True)


def draw(
    density: sl.SpectralDensity,
    truth: Truth,
    accuracy: pd.DataFrame,
    tracked: pd.DataFrame,
    missed: Mapping[str, Sequence[int]],
) -> Figure:
    """The figure: density and accuracy above, tracked eigenvalues below."""
    with house_style():
        figure, axes = plt.subplots(2, 3, figsize=(12.0, 7.4))
        draw_density(axes[0, 0], density, truth.values if truth.complete else None)
        axes[0, 0].set_xlabel("eigenvalue λ of $D^{1/2}HD^{1/2}$")
        axes[0, 0].set_title(f"density of the Hessian's {density.size:,} eigenvalues")
        axes[0, 0].legend(loc="upper right", bbox_to_anchor=(1.0, 0.44), ncols=2, columnspacing=1.0, fontsize=7)
        for ax, rank, name in zip(axes[0, 1:], (1, TRACKED), ("largest", "tenth largest"), strict=True):
            draw_accuracy(ax, accuracy[accuracy["rank"] == rank], marked=list(SELF_STOPPING))
            ax.set_title(f"{name} eigenvalue of the Hessian")
        axes[0, 1].legend(loc="upper right", fontsize=7)
        for ax, (name, shown) in zip(axes[1], OPERATORS.items(), strict=True):
            part = tracked[tracked["operator"] == name]
            draw_tracked(ax, part, missed[name])
            ax.set_title(f"{shown}: {crossings(part)} crossings")
        plt.close(figure)
    return figure
