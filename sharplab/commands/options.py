"""The options of the commands, those of sweeps apart; importing them loads nothing that a command needs to work.

The docstring of a class is the help of its command, and the first sentence its line in the list of all.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sharplab.commands.user_module import named_function
from sharplab.core.naming import lookup
from sharplab.gallery import figure_scripts

TRAINED = "what was trained is stored, the same command goes on"
Preset = Literal["smoke", "quick", "full", "paper"]


@dataclass(frozen=True)
class Options:
    """The options of a command, by default none."""

    def remains(self) -> str:
        """What is left of the command's work where it is stopped before its end."""
        return "the same command begins anew"

    def check(self) -> None:
        """Raise a ValueError for what can be seen to be wrong before libraries that train or draw are imported."""


@dataclass(frozen=True)
class FigureOptions(Options):
    """Make one figure: NAME.png, NAME.csv (the numbers it shows) and NAME.json (claim, verdict, numbers, preset).

    The runs that it shows are kept in evidence/NAME, each with its settings: sharplab.load reads them.
    """

    name: tyro.conf.Positional[str]
    """a script of experiments/ that draws a figure, as "transfer" """
    preset: Preset = "quick"
    """smoke: seconds; quick: minutes; full: up to an hour and a half, on two cores; paper: the sizes of the paper"""
    store: Path = Path("runs")
    """where the trained runs are kept; figures share them, and none is trained twice"""
    folder: Path = Path("figures")
    """where the figure goes"""

    def remains(self) -> str:
        """The runs in the store."""
        return TRAINED

    def check(self) -> None:
        """Raise a ValueError for an unknown figure."""
        lookup("figure", self.name, figure_scripts())


@dataclass(frozen=True)
class FiguresOptions(Options):
    """Make the headline figures, or all there are, and the README beside them.

    A figure that fails does not stop the others; the exit code is then 1.
    """

    all: bool = False
    """every figure of experiments/, not the headline ones alone"""
    preset: Preset = "quick"
    """smoke: seconds; quick: minutes; full: up to an hour and a half, on two cores; paper: the sizes of the paper"""
    store: Path = Path("runs")
    """where the trained runs are kept; figures share them, and none is trained twice"""
    folder: Path = Path("figures")
    """where the figures go"""

    def remains(self) -> str:
        """The runs in the store."""
        return TRAINED


@dataclass(frozen=True)
class RedrawOptions(Options):
    """Draw every figure of a folder again, and judge it, from the runs that are kept with it; nothing is trained.

    A figure whose runs are not kept stays as it is. One that cannot be drawn from them does so too, with exit code 1.
    """

    folder: Path = Path("figures")
    """where the figures are, each with its runs in evidence/NAME"""

    def remains(self) -> str:
        """The figures that were reached."""
        return "figures drawn until then are written, the others are as they were"


@dataclass(frozen=True)
class ReportOptions(Options):
    """Write README.md and report.html of a folder of figures: claims, verdicts, numbers; in the page curves to zoom."""

    folder: Path = Path("figures")
    """where the figures are"""


@dataclass(frozen=True)
class StatusOptions(Options):
    """Say what a store holds, how far the latest sweeps are, who trains what now, and which groups failed."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """directory of the trained runs, as it was given to a sweep"""


@dataclass(frozen=True)
class ExportOptions(Options):
    """Write the runs of a store for other programs: runs.parquet, curves.parquet, and a data card, README.md.

    The card says what each column means, its unit, the settings and counts, and how to read the tables in Python or R.
    """

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """directory of the trained runs, as it was given to a sweep"""
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """where the three files go: a new or empty directory, or an earlier export, which is replaced"""


@dataclass(frozen=True)
class TransferOptions(Options):
    """Judge the table of a sweep made anywhere: where is the best learning rate at each size, and does it move?

    The table is CSV, Parquet, JSON lines or an export of Weights & Biases, with a row per run, and is read as by
    sharplab.read_sweep. With one size --over it prints the verdict of sharplab.transfer, with several, or something
    --tuned along, the law of sharplab.learning_rate_law. It leaves NAME.json (results and settings), NAME.csv (the
    numbers) and pictures.
    """

    table: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
    """the file: .csv, .tsv, .parquet, .jsonl, or one of these with .gz behind"""
    map: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=COLUMN ...")] = ()
    """what is called otherwise there, as learning_rate=lr width=d_model eval_loss="final loss" """
    over: tuple[str, ...] = ("width",)
    """the size that grows, or several, as width tokens"""
    tuned: tuple[str, ...] = ()
    """what was tuned along with the learning rate, as batch_size: the best is sought over both"""
    along: tuple[str, ...] = ()
    """settings that grow with the sizes, as depth may with width: they have one value at each"""
    metric: str = "eval_loss"
    """the column of final losses, empty or NaN where a run diverged"""
    group: tuple[str, ...] = ()
    """columns that tell sweeps apart: each combination of their values is judged by itself"""
    tolerance: float = 0.25
    """octaves per doubling of the size within which the best learning rate counts as staying"""
    confidence: float = 0.95
    """of all intervals"""
    out: Path = Path("transfer")
    """the folder where the files go"""

    def check(self) -> None:
        """Raise a ValueError where there is no such table, or --map gives no pairs."""
        self.columns()
        if not self.table.is_file():
            raise ValueError(f"there is no file {self.table}: give the path of a table.")

    def columns(self) -> dict[str, str]:
        """The columns by the names that they are to have."""
        pairs = {}
        for text in self.map:
            name, equals, column = text.partition("=")
            if not (name and equals and column) or name in pairs or name == "path":
                raise ValueError(f"--map must have one NAME=COLUMN for each name, as learning_rate=lr, not {text!r}.")
            pairs[name] = column
        return pairs


@dataclass(frozen=True)
class MergeOptions(Options):
    """Copy the runs of several stores into one.

    Nothing is written if they differ in what a run is: in its settings, or in its loss before the first step, which
    tells that the model or the data behind a name has changed. What is there already is not copied twice.
    """

    sources: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="STORE...", help_behavior_hint="")]
    """directories of trained runs"""
    into: Annotated[Path, tyro.conf.arg(metavar="STORE")]
    """a new or empty directory, or the store that takes the others in"""

    def remains(self) -> str:
        """The copies."""
        return "what was copied stays, the same command goes on"


@dataclass(frozen=True)
class MupCheckOptions(Options):
    """Check that a network keeps its learning rate as it widens, and say what is likely wrong if it does not.

    The network is scaled from --base by sharplab.mup; with --own-optimizer, it and that optimizer are taken as they
    are. Ends with exit code 1 if a check fails, 2 for bad input, else 0.
    """

    build: Annotated[str, tyro.conf.Positional]
    """module:function with build(width, rngs), a Flax NNX module, importable from here"""
    base: int = 64
    """the width at which learning rates are quoted"""
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """the widths to compare"""
    optimizer: str = "adam"
    """out of sgd, momentum, nesterov, adam, adamw, lion, muon, lars, lamb; beside --own-optimizer, which of these it is
    like"""
    learning_rate: str = "2^-8"
    """at the base width, as 0.01 or 2^-8"""
    own_optimizer: str | None = None
    """module:function with width -> your optax optimizer, of a network that you have scaled yourself"""
    batch: str | None = None
    """module:name of (inputs, targets), a loader of such batches (its first is taken), or a function without arguments
    of either; by default `batch` of the module of build"""
    loss: str | None = None
    """cross_entropy, squared_error, or module:function of (outputs, targets); by default `loss` of the module of
    build, else cross_entropy"""
    steps: int = 4
    """updates of the coordinate check"""
    wider_steps: int = 32
    """updates of the check that wider is better"""
    seeds: int = 5
    """how many; more make intervals narrower"""
    output: Path | None = None
    """where to draw the coordinate check, as a PNG"""

    def check(self) -> None:
        """Raise a ValueError where there is no function `build`."""
        named_function("build", self.build)


@dataclass(frozen=True)
class SuggestOptions(Options):
    """Suggest the base learning rate for a width, from sweeps of smaller ones under muP, or from a sharpness.

    Prints it with its interval, the regret to expect and the sharpness at it. Ends with exit code 1 if no interval can
    be given, or a sharpness does not tell, with what to do about it, 2 for bad input, else 0.
    """

    build: Annotated[str, tyro.conf.Positional]
    """module:function with build(width, rngs), a Flax NNX module, importable from here"""
    base: int
    """the width at which learning rates are quoted"""
    width: int
    """the width to be trained"""
    widths: tuple[int, ...] | None = None
    """the widths to train now; by default half the base to 4 times the base, those less than --width"""
    from_sharpness: bool = False
    """train --width itself for a tenth of the steps, a few times, and tell from its sharpness: sooner, less surely"""
    minutes: float | None = None
    """the time there is: wide widths and steps that do not fit are left out, and said"""
    optimizer: str = "adam"
    """out of sgd, momentum, nesterov, adam, adamw, lion, muon, lars, lamb"""
    learning_rates: tuple[str, ...] = ()
    """the grid to begin with, as 0.01 0.02 0.04 or 2^-12:2^-4; by default octaves about the optimizer's usual one"""
    seeds: int = 3
    """how many, 2 at least; more make intervals narrower"""
    steps: int = 200
    """updates of each run: choose what resembles the training to come"""
    batch_size: int = 64
    """examples of an update; likewise"""
    data: str | None = None
    """module:name of (inputs, targets), a loader of such batches (of as many as a run takes), or a function without
    arguments of either; by default `data` or `batch` of the module of build"""
    held_out: str | None = None
    """the same, of examples on which final losses are measured; by default `held_out` of the module of build, else
    training data"""
    loss: str | None = None
    """cross_entropy, squared_error, or module:function of (outputs, targets); by default `loss` of the module of
    build, else cross_entropy"""
    store: Path | None = None
    """a directory where runs are kept: the same command goes on from there"""
    output: Path | None = None
    """where to draw it, as a PNG"""
    table: Path | None = None
    """where to write the runs, as CSV: width, learning_rate, seed and final loss"""

    def remains(self) -> str:
        """The runs, where there is a store."""
        return "what was trained is gone, for it had no --store" if self.store is None else TRAINED

    def check(self) -> None:
        """Raise a ValueError where there is no function `build`."""
        named_function("build", self.build)


@dataclass(frozen=True)
class SpectrumOptions(Options):
    """Measure the curvature of checkpoints made elsewhere: eigenvalues with their errors over the steps, and densities.

    Checkpoints are directories that Orbax wrote, of NNX or Linen, and .npz or .safetensors files of arrays, or
    directories of these; the steps are the numbers in their names. Prints a table, and leaves spectrum.csv, .json and
    .png. What was measured once is not measured again: the same command goes on where it was stopped.
    """

    checkpoints: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT...", help_behavior_hint="")
    ]
    """the checkpoints of one run"""
    model: str
    """module:build, whose build() returns the NNX or Linen module that they are of; dropout is off, and all else, as
    whether batch statistics are the running ones, is as build leaves it"""
    data: str | None = None
    """module:name of the probe (inputs, targets), a loader of such batches, or a function without arguments of either;
    by default `batch`, `batches` or `data` of the module of build"""
    observables: tuple[str, ...] = ("sharpness", "hessian_top10")
    """what to measure: sharpness, hessian_top10 (or any number), gauss_newton_top10, ntk_top10, density,
    hessian_trace, train_loss, gradient_norm, or others of sharplab.Tracker"""
    loss: str | None = None
    """cross_entropy, squared_error, or module:function of (outputs, targets); by default `loss` of the module of
    build, else cross_entropy"""
    optimizer: str = "sgd"
    """in whose metric curvature is measured, as "adam(b2=0.95)"; that of Adam needs --optimizer-state"""
    optimizer_state: bool = False
    """read what the optimizer's metric needs (of Adam nu and count) from the checkpoints"""
    params: str | None = None
    """where in the checkpoints the parameters lie, as ema/params; found by their names unless there are several"""
    chunk: int | None = None
    """examples whose activations are in memory at a time"""
    examples: int = 1024
    """how many to take of a loader"""
    out: Path = Path("spectrum")
    """the folder where the files go, and where what was measured is kept"""

    def remains(self) -> str:
        """The values of checkpoints."""
        return f"what was measured is kept in {self.out / 'measured'}, the same command goes on"

    def check(self) -> None:
        """Raise a ValueError where there is no such checkpoint or function."""
        for path in self.checkpoints:
            if not path.exists():
                raise ValueError(f"there is no checkpoint {path}: give a directory of Orbax, a .npz or a .safetensors.")
        if not self.checkpoints:
            raise ValueError("CHECKPOINT is missing: give one at least.")
        if self.optimizer_state and self.optimizer == "sgd":
            raise ValueError("--optimizer-state belongs to an optimizer: give it by --optimizer, as adam.")
        named_function("--model", self.model)
