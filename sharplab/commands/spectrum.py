"""`sharplab spectrum`: the curvature of checkpoints made elsewhere, over the steps that they are of."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Column, Table

from sharplab.commands.options import SpectrumOptions
from sharplab.commands.user_module import named_examples, named_function, named_loss, named_optimizer
from sharplab.core.files import write_whole
from sharplab.core.foreign_arrays import find_checkpoints
from sharplab.core.provenance import versions
from sharplab.core.text import printable
from sharplab.gallery.finding import plain
from sharplab.optimizers import Optimizer
from sharplab.plotting import draw_density, house_style, save_figure
from sharplab.tracking.checkpoints import DENSITY, CheckpointSpectrum, checkpoint_spectra
from sharplab.tracking.observables import Spectral, find_observables
from sharplab.tracking.templates import reads_state

_PRINTED = 3  # eigenvalues of an operator; the files have all
_ACROSS = 4  # panels


def spectrum(options: SpectrumOptions) -> None:
    """Measure what was not measured before, print it, and write spectrum.csv, .json and .png.

    Raises:
        ValueError: for bad input, naming checkpoint or option.
    """
    console = Console(soft_wrap=True, highlight=False)
    paths = find_checkpoints(options.checkpoints)
    measuring = checkpoint_spectra(
        paths,
        _model(options),
        _data(options),
        options.observables,
        loss=named_loss(options.model, options.loss),
        optimizer=_optimizer(options),
        params=options.params,
        chunk=options.chunk,
        keep=options.out / "measured",
    )
    panels = _panels(options.observables)
    found: list[CheckpointSpectrum] = []
    for each in measuring:
        found.append(each)
        how = "measured before" if each.kept else "" if each.row or each.density else "parameters or metric not finite"
        said = ", ".join(filter(None, (*(f"{name} {_value(each.row, name)}" for name in _shown(panels, 1)), how)))
        console.print(printable(f"{len(found)} of {len(paths)}: step {each.step}: {said}"), markup=False)
    if len(found) > 1:
        _print(found, _shown(panels, _PRINTED))
    _write(found, options)
    with house_style():
        figure = _draw(found, panels)
        save_figure(figure, options.out / "spectrum.png")
        plt.close(figure)
    console.print(printable(f"drawn in {options.out / 'spectrum.png'}, numbers in .csv and .json there"), markup=False)


def _model(options: SpectrumOptions) -> Any:
    build = named_function("--model", options.model)
    try:
        inspect.signature(build).bind()
    except TypeError as error:
        raise ValueError(f"--model {options.model} must be called without arguments: {error}.") from error
    return build()


def _optimizer(options: SpectrumOptions) -> Optimizer:
    optimizer = named_optimizer(options.optimizer)
    if reads_state(optimizer) and not options.optimizer_state:
        raise ValueError(f"--optimizer {options.optimizer} has a metric made of its state: give --optimizer-state.")
    return optimizer


def _data(options: SpectrumOptions) -> Any:
    names = ("batch", "batches", "data")
    data = named_examples("--data", options.data, options.model, names, most=options.examples)
    if data is None:
        module = options.model.partition(":")[0]
        raise ValueError(f"{module} has no batch: give (inputs, targets), or what makes them, by --data module:name.")
    return data


def _panels(observables: Sequence[str]) -> dict[str, list[str]]:
    """The columns that each panel shows, by its title."""
    entries = find_observables(name for name in observables if name != DENSITY)
    return {entry.name: entry.columns() if isinstance(entry, Spectral) else [entry.name] for entry in entries}


def _shown(panels: Mapping[str, Sequence[str]], most: int) -> list[str]:
    return [name for columns in panels.values() for name in columns[:most]]


def _value(row: dict[str, float], name: str) -> str:
    """A value with its error, where it has one."""
    if name not in row:
        return "-"
    error = row.get(f"{name}_error")
    return f"{row[name]:.5g}" if error is None else f"{row[name]:.5g} ± {error:.1g}"


def _print(found: Sequence[CheckpointSpectrum], names: Sequence[str]) -> None:
    table = Table(*(Column(name, no_wrap=True) for name in ("step", *names)))
    for each in found:
        table.add_row(str(each.step), *(_value(each.row, name) for name in names))
    console = Console(highlight=False)
    console.width = max(console.width, 20 * (len(names) + 1))  # nothing is cut, be the terminal as narrow as it is
    console.print(table)


def _write(found: Sequence[CheckpointSpectrum], options: SpectrumOptions) -> None:
    rows = [{"step": each.step, "checkpoint": str(each.path)} | each.row for each in found]
    _write_csv(options.out / "spectrum.csv", pd.DataFrame(rows))
    densities = [_smoothed(each) for each in found if each.density is not None]
    if densities:
        _write_csv(options.out / "density.csv", pd.concat(densities))
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    settings["checkpoints"] = list(map(str, options.checkpoints))
    written = {"settings": settings, "checkpoints": rows, "versions": versions()}
    text = json.dumps(plain(written), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(options.out / "spectrum.json", text.encode())


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    write_whole(path, table.to_csv(index=False, float_format="%.8g").encode())


def _smoothed(found: CheckpointSpectrum) -> pd.DataFrame:
    """The density on a grid, with its standard error."""
    assert found.density is not None
    nodes = np.asarray(found.density.nodes)
    margin = 0.04 * np.ptp(nodes)
    grid = np.linspace(nodes.min() - margin, nodes.max() + margin, 512)
    values = {"density": found.density.density(grid), "density_stderr": found.density.density_stderr(grid)}
    return pd.DataFrame({"step": found.step, "eigenvalue": grid} | {n: np.asarray(v) for n, v in values.items()})


def _draw(found: Sequence[CheckpointSpectrum], panels: Mapping[str, Sequence[str]]) -> Figure:
    """A panel per observable over the steps, and below densities of checkpoints from the first to the last."""
    dense = [each for each in found if each.density is not None]
    chosen = [dense[round(i)] for i in np.linspace(0, len(dense) - 1, min(_ACROSS, len(dense)))]
    across = min(_ACROSS, max(len(panels), len(chosen), 1))
    lines = [-(-len(shown) // across) for shown in (panels, chosen)]
    size = (3.4 * across, 2.9 * sum(lines))
    figure, axes = plt.subplots(sum(lines), across, figsize=size, squeeze=False)
    above, below = axes[: lines[0]].ravel(), axes[lines[0] :].ravel()
    for ax in (*above[len(panels) :], *below[len(chosen) :]):
        ax.set_axis_off()
    for ax, (title, names) in zip(above, panels.items(), strict=False):
        _draw_over_steps(ax, found, names)
        ax.set_title(title)
    for ax, each in zip(below, chosen, strict=False):
        draw_density(ax, each.density)
        ax.set_title(f"step {each.step}")
    return figure


def _draw_over_steps(ax: Axes, found: Sequence[CheckpointSpectrum], names: Sequence[str]) -> None:
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(names)))
    steps = [each.step for each in found]
    for name, colour in zip(names, colours, strict=True):
        values = [each.row.get(name, np.nan) for each in found]
        errors = [each.row.get(f"{name}_error", 0.0) for each in found]
        ax.errorbar(steps, values, errors, color=colour, marker="o", markersize=3, elinewidth=0.9)
    ax.set_xlabel("step")
    ax.set_ylabel("eigenvalue λ" if len(names) > 1 else names[0].replace("_", " "))
