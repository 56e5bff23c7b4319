"""The options of `sharplab sweep`, and where they come from; importing them loads nothing that training needs.

The same settings may stand in a file, as `sharplab sweep --config sweep.toml` with

    widths = "8:32"                       # octaves: 8, 16, 32
    learning-rates = ["2^-3:2^1", 0.3]
    parameterizations = ["mup", "ntk"]
    seeds = 3
    data = "fashion-mnist-10k"
    executor = "processes"

    [product]                             # an experiment for each combination
    gamma = [0.5, 2]

    [zip]                                 # an experiment for the first values together, one for the second …
    batch_size = [32, 64]
    steps = [400, 200]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sharplab.commands.config_file import assignments, config_path, read_options
from sharplab.commands.options import TRAINED, Options
from sharplab.commands.presets import PRESETS
from sharplab.commands.setting_options import setting_options
from sharplab.core.grid import whole
from sharplab.core.naming import lookup
from sharplab.sweep.experiment import SETTINGS, Experiment
from sharplab.sweep.several import product, zipped

Over = Literal["width", "depth"]


def _without_default(metavar: str, **more: Any) -> Any:
    """The look in --help of an option without a default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="", **more)


@dataclass(frozen=True)
class _Place(Options):
    """The options that come before those of the settings."""

    over: Over = "width"
    """the size that grows"""
    preset: Literal["smoke", "quick", "paper"] = "quick"
    """smoke: seconds; quick: minutes on two cores; paper: for an accelerator"""
    store: Path = Path("runs")
    """directory of the trained runs, made where there is none; sweeps may share it"""
    config: Annotated[Path | None, _without_default("FILE")] = None
    """a TOML file of options, named as here, with - or _; what is given on the command line counts for more"""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """show what would be trained, how long it takes and how much memory, and train nothing"""

    def remains(self) -> str:
        """The runs in the store."""
        return super().remains() if self.dry_run else TRAINED


_PlaceAndSettings: Any = setting_options(_Place, preset=PRESETS["width"]["smoke"])


@dataclass(frozen=True)
class SweepOptions(_PlaceAndSettings):
    """Train a network at several sizes and learning rates, and say whether the best learning rate moves.

    As in: --widths 8 16 32 --learning-rates 2^-1:2^5 --seeds 3 --store runs/mine --dry-run

    Options that are not given come from the file of --config, else from the preset. A sweep that is interrupted goes
    on where it stopped when the same command is given again, and a longer grid trains only what is new: --dry-run
    shows what that would be.

    Exit codes: 0 done; 1 some groups of runs failed (all others are stored, the same command tries these again); 2 bad
    input; 130 stopped by Ctrl-C, 143 by SIGTERM (what was trained is stored, the same command goes on).
    """

    metric: Literal["train_loss", "eval_loss", "late_train_loss", "late_eval_loss"] = "train_loss"
    """the loss whose optimum is sought: the final one, or the mean of the records in the last quarter of training"""
    product: Annotated[
        tuple[str, ...],
        _without_default(
            "SETTING=VALUE,... ...",
            help="an experiment for each combination of values of any settings, as gamma=0.5,1,2 batch_size=32:128; "
            "there is a verdict for each",
        ),
    ] = ()
    zip: Annotated[
        tuple[str, ...],
        _without_default(
            "SETTING=VALUE,... ...",
            help="an experiment for the first values together, one for the second ones, and so on: widths=8:32 "
            "depths=2,3,4 for sizes that grow together, batch_size=32,64 steps=400,200",
        ),
    ] = ()
    decide: Annotated[
        int | None,
        _without_default(
            "N",
            help="train in rounds, more seeds where they tell most per FLOP, until each verdict is sure or more seeds "
            "would hardly tell: N per size at most, --seeds at first. With --dry-run: what the next round would be",
        ),
    ] = None
    flops: Annotated[
        float | None,
        _without_default("X", help="of --decide: the most training FLOPs, as 1e15; no round is begun that costs more"),
    ] = None
    executor: Annotated[
        str,
        tyro.conf.arg(
            metavar="WHERE",
            help="where runs are trained: here (in this process); processes or processes:4 (worker processes, by "
            "default one per core or GPU); dask or dask:4 (a Dask cluster on this machine); dask:tcp://HOST:PORT (a "
            "scheduler's address); slurm:4 (jobs by dask-jobqueue, with the further options of Dask's own "
            "configuration)",
        ),
    ] = "here"
    shard: Annotated[
        str | None,
        _without_default(
            "I/N",
            help="train part I of N of the sweep alone, for job arrays whose jobs share the store; I counts from 1 (or "
            "from 0). Prints the sbatch line that runs all parts",
        ),
    ] = None
    track: Annotated[
        tuple[str, ...],
        _without_default(
            "TRACKER ...",
            help="send runs to live trackers as they train: jsonl (files in the store), wandb:PROJECT, trackio:PROJECT",
        ),
    ] = ()

    def experiment(self) -> Experiment:
        """The settings as an `Experiment`, --product and --zip apart."""
        given = {name: getattr(self, name) for name in SETTINGS}
        preset = PRESETS[self.over][self.preset]
        settings = {name: preset[name] if value is None else value for name, value in given.items()}
        if any("=" in rate for rate in settings["learning_rates"]):
            settings["learning_rates"] = assignments("learning-rates", settings["learning_rates"])
        if self.seeds is not None and len(self.seeds) == 1:
            settings["seeds"] = self.seeds[0]  # alone, a number says how many
        return Experiment(**settings)

    def experiments(self) -> tuple[Experiment, ...]:
        """The experiments of the sweep: each of --zip in every combination of --product."""
        together, each = assignments("zip", self.zip), assignments("product", self.product)
        return tuple(
            experiment for first in zipped(self.experiment(), **together) for experiment in product(first, **each)
        )

    def check(self) -> None:
        """Raise a ValueError for what is wrong with the settings."""
        self.experiments()
        if self.decide is not None:
            whole("decide", self.decide)
            if self.shard is not None or self.track:
                raise ValueError("decide: a round follows from all runs before: give neither --shard nor --track.")
        elif self.flops is not None:
            raise ValueError("flops: this limits --decide N, which is not given.")

    def growing_along(self) -> tuple[str, ...]:
        """The columns of records that --zip ties to the size that grows."""
        names = [lookup("setting", name, SETTINGS).column or name for name in assignments("zip", self.zip)]
        return tuple(name for name in names if name != self.over) if self.over in names else ()


def default_options(words: Sequence[str], over: Over = "width") -> SweepOptions:
    """The options where a command line does not say otherwise: the defaults, and the file that it names by --config.

    Raises:
        ValueError: if the file cannot be read, or has an unknown key or a value of a wrong type.
    """
    path = config_path(words)
    return SweepOptions(**{"over": over} | ({} if path is None else read_options(path, SweepOptions)))
