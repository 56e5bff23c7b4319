"""Sweeps from a command line: options, presets, what is printed and drawn at the end."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
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

_SMOKE: Mapping[str, Any] = MappingProxyType(
    {
        "model": "residual_mlp",
        "data": "gaussian-clusters",
        "widths": (8, 16),
        "depths": (2,),
        "learning_rates": ("2^-2:2^1",),
        "seeds": 2,
        "steps": 20,
        "batch_size": 64,
        "probe_size": 256,
    }
)
_QUICK: Mapping[str, Any] = MappingProxyType(
    {
        "model": "figure1_convnet",
        "data": "fashion-mnist-10k",
        "widths": (8, 16, 32),
        "depths": (2,),
        "learning_rates": ("2^-1:2^5",),
        "seeds": 3,
        "steps": 256,
        "batch_size": 128,
        "probe_size": 2048,
    }
)
_PAPER: Mapping[str, Any] = MappingProxyType(
    dict(_QUICK) | {"widths": (64, 256, 1024), "learning_rates": ("2^-4:2^8",), "steps": 2560}
)
_DEEP: Mapping[str, Any] = MappingProxyType({"model": "residual_mlp", "learning_rates": ("2^-3:2^1",)})
# What is swept over → preset → settings.
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "width": {"smoke": _SMOKE, "quick": _QUICK, "paper": _PAPER},
        "depth": {
            "smoke": dict(_SMOKE) | {"widths": (8,), "depths": (1, 2)},
            "quick": dict(_QUICK) | dict(_DEEP) | {"widths": (64,), "depths": (2, 4, 8)},
            "paper": dict(_PAPER) | dict(_DEEP) | {"widths": (256,), "depths": (3, 6, 12, 24, 48)},
        },
    }
)


@dataclass(frozen=True)
class SweepOptions:
    """Train a network at several sizes and learning rates, and say whether the best learning rate moves.

    Options that are not given come from the preset. A sweep that is interrupted goes on where it stopped when
    the same command is given again, and a longer grid trains only what is new.
    """

    over: Literal["width", "depth"] = "width"
    """the size that grows"""
    preset: Literal["smoke", "quick", "paper"] = "quick"
    """smoke: seconds; quick: minutes on two cores; paper: for an accelerator"""
    store: Path = Path("runs")
    """directory of the trained runs"""
    model: str | None = None
    """a name of sharplab.models.MODELS, as residual_mlp, or module:build of your own"""
    data: str | None = None
    """a name of sharplab.data.DATASETS, as fashion-mnist-10k"""
    widths: tuple[int, ...] | None = None
    """the widths to compare, or one"""
    depths: tuple[int, ...] | None = None
    """the numbers of residual blocks to compare, or one"""
    parameterizations: tuple[str, ...] = ("mup", "ntk")
    """out of standard, ntk, mup, mean_field"""
    base_width: int = 1
    """the width at which learning rates are quoted"""
    base_depth: int = 1
    """the depth at which learning rates are quoted"""
    alpha: float = 0.5
    """residual branches go as depth^-alpha, and their learning rates to match: 0.5 Depth-muP, 1 CompleteP, 0 neither"""
    optimizer: str = "sgd"
    """sgd, momentum, nesterov, adam, adamw, lion or muon"""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """of the learning rate along a run; linear and cosine end at 0"""
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
    trainable: Literal["all", "readout"] = "all"
    """readout: all else stays as it was drawn (random features)"""
    augment: Literal["none", "crop_and_flip"] = "none"
    """what is done to each training batch of images"""
    records: int = 2
    """how many records along a run, first and last step included"""
    metric: Literal["train_loss", "eval_loss"] = "train_loss"
    """the loss whose optimum is sought"""

    def experiment(self) -> Experiment:
        """The settings as an `Experiment`."""
        preset = PRESETS[self.over][self.preset]
        given = {name: getattr(self, name) for name in preset}
        settings = {name: preset[name] if value is None else value for name, value in given.items()}
        settings["learning_rates"] = parse_learning_rates(settings["learning_rates"])
        same = {field.name for field in fields(Experiment)} & {field.name for field in fields(self)}
        return Experiment(**{name: getattr(self, name) for name in same} | settings)


def sweep(options: SweepOptions) -> None:
    """Train, print the optimum at each size and the verdict, and draw the sweep into the store's directory."""
    records = run(options.experiment(), options.store)
    found = transfer(records, over=options.over, metric=options.metric)
    console = Console()
    for result in found.values():
        console.print(str(result), highlight=False)
    picture = options.store / f"{options.over}_sweep.png"
    draw_transfer(records, found, options.metric, picture)
    console.print(f"runs in {options.store}, drawn in {picture}", highlight=False)


def draw_transfer(records: Records, found: Mapping[str, Transfer], metric: str, picture: Path) -> None:
    """Final loss against learning rate, a panel per parameterization."""
    with house_style():
        figure, axes = plt.subplots(1, len(found), figsize=(3.6 * len(found), 3.2), squeeze=False, sharey=True)
        for ax, (name, result) in zip(axes[0], found.items(), strict=True):
            runs = records.runs[records.runs["parameterization"] == name]
            optima = dict(zip(result.sizes, zip(result.optimum, result.optimum_interval, strict=True), strict=True))
            draw_sweep(ax, runs, metric, optima, size=result.over)
            ax.set_title(f"{NAMES.get(name, name)}: {result.verdict}")
        leave_room_below(axes[0, 0], 0.25)
        axes[0, 0].set_ylabel(f"final {metric.replace('_', ' ')} (nats)")
        axes[0, -1].legend(handles=size_legend(result.sizes, size=result.over), loc="upper left")
        figure.savefig(picture)
        plt.close(figure)


def main(over: Literal["width", "depth"]) -> None:
    """The sweep as a script of its own."""
    from sharplab.drivers import use_all_cores

    options = tyro.cli(SweepOptions, default=SweepOptions(over=over))
    use_all_cores()
    try:
        sweep(options)
    except ValueError as error:
        Console(stderr=True).print(f"[red bold]error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)
