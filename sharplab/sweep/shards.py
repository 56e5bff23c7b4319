"""Parts of a sweep, for job arrays whose jobs share nothing but the store."""

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from sharplab.sweep.experiment import Experiment
from sharplab.sweep.plan import Shard
from sharplab.sweep.preview import plan_tasks


def parse_shard(text: str) -> Shard:
    """The part i of n that "i/n" names, counted from 0 or from 1: the last part, n/n, is also 0/n.

    Raises:
        ValueError: for a text of another form, or an i beyond n.

    >>> parse_shard("3/3") == parse_shard("0/3"), parse_shard("1/3")
    (True, Shard(index=1, count=3))
    """
    match = re.fullmatch(r"(\d+)/([1-9]\d*)", text)
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError(f"shard must be i/n, part i of n with i from 1 to n (or from 0 to n - 1), not {text!r}.")
    return Shard(int(match[1]) % int(match[2]), int(match[2]))


def sbatch_line(shard: Shard, words: Sequence[str]) -> str:
    """A shell line that runs all parts of a sweep as a Slurm job array, from the command line of one of them."""
    program = [sys.executable, "-m", "sharplab"] if words[0].endswith("__main__.py") else [words[0]]
    if program[0].endswith(".py"):
        program.insert(0, sys.executable)
    kept, rest = [], list(words[1:])
    while rest:
        word = rest.pop(0)
        if word == "--shard":
            rest = rest[1:]
        elif word != "--dry-run" and not word.startswith("--shard="):
            kept.append(word)
    command = f"{shlex.join([*program, *kept])} --shard $SLURM_ARRAY_TASK_ID/{shard.count}"
    return f"sbatch --array=1-{shard.count} --wrap {shlex.quote(command)}"


def stored_parts(experiments: Sequence[Experiment], store: Path, count: int) -> tuple[Shard, ...]:
    """The parts, out of `count`, of which the store lacks nothing."""
    parts = (Shard(index, count) for index in (*range(1, count), 0))
    return tuple(part for part in parts if not any(each.missing for each in plan_tasks(experiments, store, part)))
