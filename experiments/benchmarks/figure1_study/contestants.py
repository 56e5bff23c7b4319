"""The contestants of the study, each timed from the start of its process.

All answer alike: `seconds`; `seconds_of` each network's work; `trajectories`, network → loss, sharpness and, where
there is one, its stated error at every snapshot; and `finals`, network → a loss per learning rate, None where the run
diverged. Nothing is imported before it is needed: the plain port's process holds nothing of the lab.
"""

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from figure1_study.study import TRAJECTORY_RATE, Study

GIVEN = "given.npz"


def plain(began: float, folder: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The port of the authors' script."""
    from figure1_study.plain_port import Port

    study = Study.of(settings)
    with np.load(Path(folder) / GIVEN) as arrays:
        port = Port(dict(arrays), study.probe_size)
    answer: dict[str, Any] = {"trajectories": {}, "finals": {}, "seconds_of": {}}
    for network in study.networks:
        started = perf_counter()
        curves, _ = port.trajectory(network.label, TRAJECTORY_RATE[network.parameterization], study.snapshot_steps)
        answer["trajectories"][network.label] = curves
        answer["seconds_of"][f"{network.label} trajectory"] = perf_counter() - started
    for network in study.networks:
        started = perf_counter()
        rates = study.rates_of(network)
        losses = (port.final_loss(network.label, rate, study.sweep_steps) for rate in rates)
        answer["finals"][network.label] = [_if_finite(loss) for loss in losses]
        answer["seconds_of"][f"{network.label} sweep"] = perf_counter() - started
    return answer | {"seconds": perf_counter() - began}


def here(began: float, folder: str, settings: dict[str, Any]) -> dict[str, Any]:
    """`sl.run` into a new store, in this process with a device per core."""
    return _lab(began, folder, Study.of(settings))


def processes(began: float, folder: str, settings: dict[str, Any]) -> dict[str, Any]:
    """`sl.run` into a new store, in a worker process per core."""
    return _lab(began, folder, Study.of(settings), processes=True)


def _lab(began: float, folder: str, study: Study, *, processes: bool = False) -> dict[str, Any]:
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
    """Seconds that jax traces, lowers and compiles from now on, by program, in a dict that grows."""
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
    found: dict[str, Any] = {"trajectories": {}, "finals": {}, "seconds_of": {}}
    for network in study.networks:
        own = records.select(parameterization=network.parameterization, width=network.width)
        trajectory, sweep = own.select(steps=study.steps), own.select(steps=study.sweep_steps)
        curves = trajectory.curves.sort_values("step")
        assert curves["step"].tolist() == list(study.snapshot_steps), "the lab's snapshots are at other steps"
        columns = {"loss": "eval_loss", "sharpness": "sharpness", "stated_error": "sharpness_error"}
        found["trajectories"][network.label] = {name: curves[column].tolist() for name, column in columns.items()}
        finals = sweep.runs.set_index("learning_rate")["eval_loss"]
        found["finals"][network.label] = [_if_finite(float(finals[rate])) for rate in study.rates_of(network)]
        for part, runs in (("trajectory", trajectory.runs), ("sweep", sweep.runs)):
            found["seconds_of"][f"{network.label} {part}"] = float(runs["seconds"].sum())
    return found


def _if_finite(loss: float) -> float | None:
    return loss if np.isfinite(loss) else None
