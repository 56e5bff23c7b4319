"""Sweeps from a command line: options, presets, what is printed and drawn at the end."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import matplotlib.pyplot as plt
import tyro
from rich.console import Console

from sharplab.analysis import Transfer, transfer
from sharplab.plotting import NAMES, draw_sweep, house_style, leave_room_below, size_legend
from sharplab.records import Records
from sharplab.sweep import Experiment, parse_learning_rates, run

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "smoke": {
            "model": "residual_mlp",
            "data": "gaussian-clusters",
            "widths": (8, 16),
            "learning_rates": ("2^-2:2^1",),
            "seeds": 2,
            "steps": 20,
            "batch_size": 64,
            "probe_size": 256,
        },
        "quick": {
            "model": "figure1_convnet",
            "data": "fashion-mnist-10k",
            "widths": (8, 16, 32),
            "learning_rates": ("2^-1:2^5",),
            "seeds": 3,
            "steps": 256,
            "batch_size": 128,
            "probe_size": 2048,
        },
        "paper": {
            "model": "figure1_convnet",
            "data": "fashion-mnist-10k",
            "widths": (64, 256, 1024),
            "learning_rates": ("2^-4:2^8",),
            "seeds": 3,
            "steps": 2560,
            "batch_size": 128,
            "probe_size": 2048,
        },
    }
)


@dataclass(frozen=True)
class SweepOptions:
    """Train a network at several widths and learning rates, and say whether the best learning rate moves.

    Options that are not given come from the preset. A sweep that is interrupted goes on where it stopped when
    the same command is given again, and a longer grid trains only what is new.
    """

    preset: Literal["smoke", "quick", "paper"] = "quick"
    """smoke: seconds; quick: minutes on two cores; paper: for an accelerator"""
    store: Path = Path("runs")
    """directory of the trained runs"""
    model: str | None = None
    """residual_mlp, figure1_convnet, or module:build of your own"""
    data: str | None = None
    """fashion-mnist-10k or gaussian-clusters"""
    widths: tuple[int, ...] | None = None
    """the sizes to compare"""
    depth: int = 2
    """residual blocks of residual_mlp; figure1_convnet has 2 layers"""
    parameterizations: tuple[str, ...] = ("mup", "ntk")
    """out of standard, ntk, mup, mean_field"""
    base_width: int = 1
    """the width at which learning rates are quoted"""
    learning_rates: tuple[str, ...] | None = None
    """numbers and ranges: 0.1, 2^-3, 2^-6:2^2 (octaves), 1e-3:1:log7 (seven, evenly in the logarithm)"""
    refine: bool = True
    """extend the grid where the optimum lies at an edge, then take steps of sqrt(2) around it"""
    seeds: int | None = None
    """how many seeds"""
    steps: int | None = None
    """updates per run"""
    batch_size: int | None = None
    """examples per update"""
    observables: tuple[str, ...] = ("train_loss", "eval_loss", "eval_accuracy")
    """what is recorded; sharpness and sharpness_raw too, for time"""
    probe_size: int | None = None
    """training examples on which losses and curvature are recorded"""
    records: int = 2
    """how many records along a run, first and last step included"""
    metric: Literal["train_loss", "eval_loss"] = "train_loss"
    """the loss whose optimum is sought"""

    def experiment(self) -> Experiment:
        """The settings as an `Experiment`."""

        def given(name: str) -> Any:
            value = getattr(self, name)
            return PRESETS[self.preset][name] if value is None else value

        names = ("model", "data", "widths", "seeds", "steps", "batch_size", "probe_size")
        return Experiment(
            **{name: given(name) for name in names},
            learning_rates=parse_learning_rates(given("learning_rates")),
            depths=(self.depth,),
            base_width=self.base_width,
            parameterizations=self.parameterizations,
            observables=self.observables,
            records=self.records,
            refine=self.refine,
        )


def width_sweep(options: SweepOptions) -> None:
    """Train, print the optimum at each width and the verdict, and draw the sweep into the store's directory."""
    records = run(options.experiment(), options.store)
    found = transfer(records, over="width", metric=options.metric)
    console = Console()
    for result in found.values():
        console.print(str(result), highlight=False)
    picture = options.store / "width_sweep.png"
    draw_transfer(records, found, options.metric, picture)
    console.print(f"runs in {options.store}, drawn in {picture}", highlight=False)


def draw_transfer(records: Records, found: Mapping[str, Transfer], metric: str, picture: Path) -> None:
    """Final loss against learning rate, a panel per parameterization."""
    with house_style():
        figure, axes = plt.subplots(1, len(found), figsize=(3.6 * len(found), 3.2), squeeze=False, sharey=True)
        for ax, (name, result) in zip(axes[0], found.items(), strict=True):
            runs = records.runs[records.runs["parameterization"] == name]
            optima = dict(zip(result.sizes, zip(result.optimum, result.optimum_interval, strict=True), strict=True))
            draw_sweep(ax, runs, metric, optima)
            ax.set_title(f"{NAMES.get(name, name)}: {result.verdict}")
        leave_room_below(axes[0, 0], 0.25)
        axes[0, 0].set_ylabel(f"final {metric.replace('_', ' ')} (nats)")
        axes[0, -1].legend(handles=size_legend(records.runs["width"].unique()), loc="upper left")
        figure.savefig(picture)
        plt.close(figure)


def main() -> None:
    """The sweep as a script of its own."""
    from sharplab.drivers import use_all_cores

    options = tyro.cli(SweepOptions)
    use_all_cores()
    try:
        width_sweep(options)
    except ValueError as error:
        Console(stderr=True).print(f"[red bold]error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)
