"""`sharplab sweep`: its options, where they come from, and what is printed and drawn at the end.

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

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro
from rich.console import Console

from sharplab.commands.config_file import assignments, config_path, read_options
from sharplab.commands.exit_codes import exit_code_of
from sharplab.commands.presets import PRESETS
from sharplab.commands.setting_options import setting_options
from sharplab.commands.verdicts import print_verdicts
from sharplab.core.naming import lookup
from sharplab.sweep import Experiment, live, run
from sharplab.sweep.executors.opening import open_executor
from sharplab.sweep.experiment import SETTINGS
from sharplab.sweep.plan import WHOLE, Shard
from sharplab.sweep.preview import estimate_tasks, plan_tasks, print_plan
from sharplab.sweep.several import product, zipped
from sharplab.sweep.shards import parse_shard, sbatch_line, stored_parts

Over = Literal["width", "depth"]
WIDTH_IN_FILES = 160  # characters, where no terminal says how many there are


def _without_default(metavar: str, **more: Any) -> Any:
    """The look in --help of an option without a default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="", **more)


@dataclass(frozen=True)
class _Place:
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


_PlaceAndSettings: Any = setting_options(_Place, preset=PRESETS["width"]["smoke"])


@dataclass(frozen=True)
class SweepOptions(_PlaceAndSettings):
    """Train a network at several sizes and learning rates, and say whether the best learning rate moves.

    As in: --widths 8 16 32 --learning-rates 2^-1:2^5 --seeds 3 --store runs/mine --dry-run

    Options that are not given come from the file of --config, else from the preset. A sweep that is interrupted goes
    on where it stopped when the same command is given again, and a longer grid trains only what is new: --dry-run
    shows what that would be.

    Exit codes: 0 done; 1 some groups of runs failed (all others are stored, the same command tries these again); 2 bad
    input; 130 stopped by Ctrl-C (what was trained is stored, the same command goes on).
    """

    metric: Literal["train_loss", "eval_loss"] = "train_loss"
    """the loss whose optimum is sought"""
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


def sweep(options: SweepOptions, command: Sequence[str] | None = None) -> None:
    """Train, print the optimum at each size and the verdict, and draw the sweep into the store's directory.

    With `dry_run` or a shard there is no verdict: the plan is shown, or the parts that are stored.

    `command` has the words of the command line, for the line that repeats it; by default those of this process.
    """
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH_IN_FILES)
    experiments = options.experiments()
    shard = WHOLE if options.shard is None else parse_shard(options.shard)
    if options.shard is not None:
        console.print("to run all parts as a job array:", highlight=False)
        console.print(sbatch_line(shard, sys.argv if command is None else command), highlight=False, soft_wrap=True)
    if options.dry_run:
        planned = plan_tasks(experiments, options.store, shard)
        print_plan(planned, estimate_tasks(planned, workers=_workers(options.executor)), console)
        return
    trackers = tuple(live.parse_tracker(text, options.store) for text in options.track)
    with open_executor(options.executor) as executor:
        records = run(experiments, options.store, executor=executor, trackers=trackers, shard=shard)
    if shard.count > 1:
        _print_parts(options, experiments, shard, console)
        return
    pictures = print_verdicts(
        records,
        over=options.over,
        metric=options.metric,
        along=options.growing_along(),
        folder=options.store,
        console=console,
    )
    console.print(f"runs in {options.store}, drawn in {', '.join(map(str, pictures))}", highlight=False, soft_wrap=True)


def _print_parts(options: SweepOptions, experiments: Sequence[Experiment], shard: Shard, console: Console) -> None:
    stored = stored_parts(experiments, options.store, shard.count)
    listed = ", ".join(map(str, stored))
    console.print(f"part {shard} is through; stored in {options.store} are the parts {listed}.", highlight=False)
    when = "Once all parts are stored" if len(stored) < shard.count else "All are: now"
    console.print(f"{when}, the same command without --shard gives the verdict and the figure.", highlight=False)


def _workers(executor: str) -> int | None:
    """The number of devices that an executor's text asks for; None where it does not say, or works here."""
    kind, _, count = executor.partition(":")
    if kind == "here" or not count.isdecimal():
        return None
    return int(count) if kind == "slurm" else min(int(count), jax.local_device_count())


def main(over: Over, words: Sequence[str] | None = None) -> None:
    """Run the sweep as a script of its own, and end the process with its exit code."""
    from sharplab.core.caches import keep_compiled_programs
    from sharplab.training.layout import use_all_cores

    given = list(sys.argv[1:] if words is None else words)

    def command() -> None:
        options = tyro.cli(SweepOptions, args=given, default=default_options(given, over))
        keep_compiled_programs()
        use_all_cores()
        sweep(options)

    sys.exit(exit_code_of(command))
