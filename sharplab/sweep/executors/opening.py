"""Executors by name, as `--executor` gives them."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from sharplab.sweep.executors.cluster import dask_executor
from sharplab.sweep.executors.processes import Here, Processes


@contextmanager
def open_executor(text: str) -> Iterator[Executor]:
    """The executor that a text names: "here", "processes", "processes:4", "dask…" or "slurm…".

    Raises:
        ValueError: for another text.
    """
    kind, _, rest = text.partition(":")
    if kind == "here" and not rest:
        yield Here()
    elif kind == "processes" and (not rest or rest.isdecimal()):
        with Processes(int(rest) if rest else None) as executor:
            yield executor
    elif kind in ("dask", "slurm"):
        with dask_executor(text) as executor:
            yield executor
    else:
        raise ValueError(
            f"executor {text!r} is not known: give here, processes, processes:4, dask:4 (a cluster on this machine), "
            "dask:tcp://HOST:PORT (a scheduler's address) or slurm:4."
        )
