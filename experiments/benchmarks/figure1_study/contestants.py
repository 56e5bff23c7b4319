"""Who trains the study, in a process of its own each, timed from its start.

All answer alike: `seconds`; `seconds_of` the work of each cell; `courses`, cell → loss, sharpness and, where there is
one, its stated error at every snapshot; and `finals`, cell → a loss per learning rate, None where the run
diverged. Nothing is imported before it is needed: the plain port's process holds nothing of the lab.
"""

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np

from figure1_study.study import COURSE_RATE, Study

GIVEN, SNAPSHOTS = "given.npz", "snapshots.npz"


def plain(began: float, folder: Path, study: Study) -> dict[str, Any]:
    """The port of the authors' script. Leaves its weights at every snapshot in `folder`, after the clock is read."""
    from figure1_study.plain_port import Port

    with np.load(folder / GIVEN) as arrays:
        port = Port(dict(arrays), study.probe_size)
    answer: dict[str, Any] = {"courses": {}, "finals": {}, "seconds_of": {}}
    weights: dict[str, Any] = {}
    for cell in study.cells:
        started = perf_counter()
        curves, seen = port.course(cell.label, COURSE_RATE[cell.parameterization], study.snapshot_steps)
        answer["courses"][cell.label] = curves
        answer["seconds_of"][f"{cell.label} course"] = perf_counter() - started
        weights |= {f"{cell.label}/{i}/{name}": kernel for i, at in enumerate(seen) for name, kernel in at.items()}
    for cell in study.cells:
        started = perf_counter()
        rates = study.rates_of(cell)
        losses = (port.final_loss(cell.label, rate, study.sweep_steps) for rate in rates)
        answer["finals"][cell.label] = [_if_finite(loss) for loss in losses]
        answer["seconds_of"][f"{cell.label} sweep"] = perf_counter() - started
    answer["seconds"] = perf_counter() - began
    np.savez(folder / SNAPSHOTS, **weights)
    return answer


def lab(began: float, folder: Path, study: Study, *, processes: bool = False) -> dict[str, Any]:
    """`sl.run` into a new store: in this process with a device per core, or in a worker process per core."""
    import sharplab as sl
    from figure1_study.given import experiments
    from sharplab.sweep import Processes
    from sharplab.training.layout import use_all_cores

    imported = perf_counter()
    compiling = compile_seconds()
    asked = experiments(study)
    with tempfile.TemporaryDirectory(dir=folder) as store:
        if processes:
            with Processes() as executor:
                records = sl.run(asked, store, executor=executor)
        else:
            use_all_cores()
            records = sl.run(asked, store)
    about: dict[str, Any] = {"seconds": perf_counter() - began, "import_seconds": imported - began}
    if not processes:  # those of workers are not heard here
        about["compile_seconds"] = compiling
    return about | answer(records, study)


def compile_seconds() -> dict[str, float]:
    """Seconds by program that jax traces, lowers and compiles from now on, in a dict that grows."""
    import jax

    found: dict[str, float] = {}

    def listen(event: str, duration_secs: float, **about: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            name = str(about.get("fun_name", "others")).removeprefix("jit(").removesuffix(")")
            found[name] = found.get(name, 0.0) + duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    return found


def answer(records: Any, study: Study) -> dict[str, Any]:
    """The lab's records in the form that all answer in."""
    found: dict[str, Any] = {"courses": {}, "finals": {}, "seconds_of": {}}
    for cell in study.cells:
        own = records.select(parameterization=cell.parameterization, width=cell.width)
        course, sweep = own.select(steps=study.steps), own.select(steps=study.sweep_steps)
        curves = course.curves.sort_values("step")
        assert curves["step"].tolist() == list(study.snapshot_steps), "the lab's snapshots are at other steps"
        columns = {"loss": "eval_loss", "sharpness": "sharpness", "stated_error": "sharpness_error"}
        found["courses"][cell.label] = {name: curves[column].tolist() for name, column in columns.items()}
        finals = sweep.runs.set_index("learning_rate")["eval_loss"]
        found["finals"][cell.label] = [_if_finite(float(finals[rate])) for rate in study.rates_of(cell)]
        for part, runs in (("course", course.runs), ("sweep", sweep.runs)):
            found["seconds_of"][f"{cell.label} {part}"] = float(runs["seconds"].sum())
    return found


def _if_finite(loss: float) -> float | None:
    return loss if np.isfinite(loss) else None


CONTESTANTS: Mapping[str, Callable[[float, Path, Study], dict[str, Any]]] = MappingProxyType(
    {"plain": plain, "here": lab, "processes": partial(lab, processes=True)}
)
