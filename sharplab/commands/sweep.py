"""`sharplab sweep`: what it trains, and what is printed and drawn at the end."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import jax
import tyro
from rich.console import Console

from sharplab.commands.exit_codes import exit_code_of
from sharplab.commands.sweep_options import Over, SweepOptions, default_options
from sharplab.sweep import Experiment, live, run
from sharplab.sweep.executors.opening import open_executor
from sharplab.sweep.experiment import SETTINGS
from sharplab.sweep.plan import WHOLE, Shard
from sharplab.sweep.preview import PlannedTask, estimate_tasks, plan_tasks, print_plan
from sharplab.sweep.shards import parse_shard, sbatch_line, stored_parts
from sharplab.sweep.store.directory import read_rows

WIDTH_IN_FILES = 160  # characters, where no terminal says how many there are


def sweep(options: SweepOptions, command: Sequence[str] | None = None) -> None:
    """Train, print the optimum at each size and the verdict, and draw the sweep into the store's directory.

    With `dry_run` or a shard there is no verdict: the plan is shown, or the parts that are stored. With `decide` it is
    trained in rounds.

    `command` has the words of the command line, for the line that repeats it; by default those of this process.
    """
    options.check()
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH_IN_FILES)
    experiments = options.experiments()
    shard = WHOLE if options.shard is None else parse_shard(options.shard)
    if options.shard is not None:
        console.print("to run all parts as a job array:", highlight=False)
        console.print(sbatch_line(shard, sys.argv if command is None else command), highlight=False, soft_wrap=True)
    if options.decide is not None:
        _decide(options, experiments, console)
        return
    if options.dry_run:
        _print_plan(options, experiments, shard, console)
        return
    trackers = tuple(live.parse_tracker(text, options.store) for text in options.track)
    with open_executor(options.executor) as executor:
        records = run(experiments, options.store, executor=executor, trackers=trackers, shard=shard)
    if shard.count > 1:
        _print_parts(options, experiments, shard, console)
        return
    from sharplab.commands.verdicts import print_verdicts  # here, for a plan is shown without what draws and tests

    pictures = print_verdicts(
        records,
        over=options.over,
        metric=options.metric,
        along=options.growing_along(),
        folder=options.store,
        console=console,
    )
    console.print(f"runs in {options.store}, drawn in {', '.join(map(str, pictures))}", highlight=False, soft_wrap=True)


def _decide(options: SweepOptions, experiments: Sequence[Experiment], console: Console) -> None:
    """Train in rounds and print the decisions, or show the next round."""
    from sharplab.studies.decision import decide, design_of
    from sharplab.studies.rounds import follow
    from sharplab.training.flops import training_flops

    limits: dict[str, Any] = {"over": options.over, "metric": options.metric, "seeds": options.decide}
    limits |= {"flops": math.inf if options.flops is None else options.flops}
    designs = [design_of(each, **limits) for each in experiments]
    if options.dry_run:
        missing = [each for design in designs for each in follow(design, read_rows(options.store)).missing]
        console.print("The next round:" if missing else "No round is left.", highlight=False)
        if missing:
            planned = _print_plan(options, missing, WHOLE, console)
            flops = sum(len(each.missing) * training_flops(each.task) for each in planned)
            console.print(f"It costs {flops:.3g} training FLOPs.", highlight=False)
        return
    from sharplab.commands.verdicts import print_decision

    for experiment, heading in zip(experiments, _headings(experiments), strict=True):
        with open_executor(options.executor) as executor:
            found = decide(experiment, options.store, **limits, executor=executor)
        picture = print_decision(found, heading=heading, folder=options.store, console=console)
        console.print(f"runs in {options.store}, drawn in {picture}", highlight=False, soft_wrap=True)


def _headings(experiments: Sequence[Experiment]) -> list[str]:
    """What tells each experiment from the others; "" for one alone."""
    varying = [name for name in SETTINGS if len({getattr(each, name) for each in experiments}) > 1]
    return [", ".join(f"{name.replace('_', ' ')} {getattr(each, name)}" for name in varying) for each in experiments]


def _print_plan(
    options: SweepOptions, experiments: Sequence[Experiment], shard: Shard, console: Console
) -> tuple[PlannedTask, ...]:
    planned = plan_tasks(experiments, options.store, shard)
    print_plan(planned, estimate_tasks(planned, workers=_workers(options.executor)), console)
    return planned


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
