"""The curvature of checkpoints made elsewhere, one after the other, each started from the vectors of the last."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from sharplab import curvature
from sharplab.core import tree
from sharplab.core.arguments import checked, given, path, several, text
from sharplab.core.files import DamagedFile, read_arrays, write_arrays
from sharplab.core.foreign_arrays import find_checkpoints, in_order, read_named_arrays
from sharplab.core.tree import PyTree
from sharplab.losses import cross_entropy
from sharplab.optimizers import Optimizer, find_optimizer, metric_of_state
from sharplab.spectrum.density import SpectralDensity, spectral_density
from sharplab.spectrum.tridiagonal import Rule
from sharplab.tracking.observables import Recorded
from sharplab.tracking.templates import Template, state_of, template_of
from sharplab.tracking.tracker import Tracker

DENSITY = "density"
_VERSION = 1  # of what is kept: another wherever a number would be


@dataclass(frozen=True)
class CheckpointSpectrum:
    """What was measured of one checkpoint.

    Attributes:
        step: the number in its path.
        path: where it lies.
        row: values by column, as of `sharplab.Tracker.record`; empty where parameters or metric are not finite.
        density: of the eigenvalues of D^½ H D^½, where it was asked for.
        kept: whether it was measured before.
    """

    step: int
    path: Path
    row: dict[str, float]
    density: SpectralDensity | None
    kept: bool


@checked(checkpoints=several, model=given, observables=several, params=text, keep=path)
def checkpoint_spectra(
    checkpoints: Sequence[str | Path],
    model: Any,
    batch: tuple[PyTree, PyTree],
    observables: Sequence[str | Recorded | Callable[..., jax.Array]] = ("sharpness",),
    *,
    loss: Callable[..., jax.Array] = cross_entropy,
    optimizer: str | Optimizer = "sgd",
    params: str | None = None,
    chunk: int | None = None,
    keep: str | Path | None = None,
) -> Iterator[CheckpointSpectrum]:
    """The curvature spectra of checkpoints by ascending step, each measured when it is asked for.

    One checkpoint is in memory at a time. Eigenvalues are those of a `sharplab.Tracker` that goes from one to the next.

    Args:
        checkpoints: directories that Orbax wrote, .npz and .safetensors files, or directories of these. The steps are
            the numbers in their names; without such they are 0, 1, … as given.
        model: an NNX or Linen module, whose parameters are found in the checkpoints by their names.
        batch: the probe, a pair (inputs, targets).
        observables: as of `sharplab.Tracker`, and "density".
        loss: `loss(outputs, targets)` → mean over examples.
        optimizer: whose metric D curvature is measured in; of Adam, it is made of the state in the checkpoints.
        params: where in the checkpoints the parameters lie, as "ema/params"; found by their names unless told.
        chunk: examples that curvature takes at a time.
        keep: a directory where results are kept by the content of checkpoint, batch, program and settings: what is
            there is not measured again. Observables of your own are known by their names alone.

    Raises:
        ValueError: for a checkpoint that does not fit the model, naming what is missing, extra or of another shape;
            for one that was cut or altered; for a state of the optimizer that lacks what its metric needs.

    >>> from tempfile import TemporaryDirectory
    >>> from flax import nnx
    >>> model, batch = nnx.Linear(2, 3, rngs=nnx.Rngs(0)), (np.ones((4, 2)), np.zeros(4, int))
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/step_10.npz", kernel=np.zeros((2, 3)), bias=np.zeros(3))
    ...     spectra = checkpoint_spectra([folder], model, batch, ["train_loss"])
    ...     [(found.step, round(found.row["train_loss"], 4)) for found in spectra]
    [(10, 1.0986)]
    """
    steps = in_order(find_checkpoints(checkpoints))
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise ValueError("batch must be a pair (inputs, targets).")
    optimizer = find_optimizer(optimizer) if isinstance(optimizer, str) else optimizer
    if optimizer.preconditioner is None:
        raise ValueError("optimizer has no metric: no diagonal turns gradients into its steps.")
    batch = jax.tree.map(jnp.asarray, tuple(batch))
    template = template_of(model, batch[0])
    named = [name for name in observables if name != DENSITY]
    tracker = Tracker(loss, batch, named, model=template.apply, metric=optimizer, chunk=chunk)
    measure = _Measuring(template, tracker, optimizer, params, DENSITY in observables)
    folder = None if keep is None else Path(keep) / measure.settings(named)
    return (measure(step, path, folder) for step, path in steps)


@dataclass
class _Measuring:
    """One checkpoint after the other; `tracker` holds what passes between them."""

    template: Template
    tracker: Tracker
    optimizer: Optimizer
    place: str | None
    density: bool
    begun: bool = False

    def __call__(self, step: int, path: Path, folder: Path | None) -> CheckpointSpectrum:
        arrays = read_named_arrays(path)
        try:
            point = self.template.point(arrays, self.place)
            opt_state = state_of(self.optimizer, point.params, arrays)
        except ValueError as error:
            raise ValueError(f"checkpoint {path}: {error}") from error
        del arrays
        file = None if folder is None else folder / f"{_content((point.params, point.state, opt_state))}.npz"
        if file is not None and (known := _read(file)) is not None:
            return CheckpointSpectrum(step, path, *known, kept=True)
        if folder is not None and not self.begun:
            with suppress(ValueError, OSError):  # without its vectors, the next solve is a cold one
                self.tracker.restore(folder / "vectors")
        self.begun = True
        row, density = self._measured(step, point.params, point.state, opt_state)
        if file is not None and folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self.tracker.save(folder / "vectors")
            _write(file, row, density)
        return CheckpointSpectrum(step, path, row, density, kept=False)

    def _measured(
        self, step: int, params: PyTree, state: PyTree, opt_state: PyTree
    ) -> tuple[dict[str, float], SpectralDensity | None]:
        metric = metric_of_state(self.optimizer, params, opt_state)
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((params, metric))):
            return {}, None
        row: dict[str, float] = {}
        if self.tracker.measurement.observables:
            row = self.tracker.record(step, params, opt_state, state)
        # An identity means nothing beside records that were kept from elsewhere.
        row = {name: value for name, value in row.items() if name != "step" and not name.endswith("_identity")}
        if not self.density:
            return row, None
        own = self.tracker.measurement
        model = Partial(self.template.apply, state=state)
        op = curvature.hessian(own.loss, params, self.tracker.batch, model=model, chunk=own.chunk)
        root = jax.tree.map(lambda d: jnp.sqrt(jnp.asarray(d, tree.dtype(d))), metric)
        return row, spectral_density(curvature.precondition(op, root))

    def settings(self, observables: Sequence[Any]) -> str:
        """A digest of all that a number depends on beside the checkpoint: programs, batch, and settings."""
        own, (inputs, targets), template = self.tracker.measurement, self.tracker.batch, self.template

        def program(params: PyTree, inputs: PyTree, targets: PyTree, state: PyTree) -> jax.Array:
            return own.loss(template.apply(params, inputs, state), targets)

        texts = [str(_VERSION), str(own.chunk), str(self.density)]
        texts += [each if isinstance(each, str) else getattr(each, "__name__", repr(each)) for each in observables]
        texts.append(jax.jit(program).lower(template.params, inputs, targets, template.state).as_text())
        (direction,) = self.optimizer.directions.values()
        metric = partial(_metric, self.optimizer)
        texts.append(jax.jit(metric).lower(template.params, jax.eval_shape(direction.init, template.params)).as_text())
        return _content(self.tracker.batch, *texts)


def _metric(optimizer: Optimizer, params: PyTree, opt_state: PyTree) -> PyTree:
    return metric_of_state(optimizer, params, opt_state)  # by a name that is part of the digest of what was kept


def _content(arrays: PyTree, *texts: str) -> str:
    """A digest of arrays with their names, shapes and types, and of texts."""
    digest = hashlib.sha256("\0".join(texts).encode())
    for name, leaf in tree.named_leaves(arrays).items():
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            host = np.asarray(leaf)
            digest.update(f"{name} {host.shape} {host.dtype}\0".encode())
            digest.update(np.ascontiguousarray(host).view(np.uint8).data if host.size else b"")
    return digest.hexdigest()[:32]


def _write(file: Path, row: dict[str, float], density: SpectralDensity | None) -> None:
    parts = [] if density is None else [density.nodes, density.weights, *density.coarser, density.matvecs]
    size, rounding = (None, 0.0) if density is None else (density.size, density.rounding)
    write_arrays(file, list(map(np.asarray, parts)), {"row": row, "size": size, "rounding": rounding})


def _read(file: Path) -> tuple[dict[str, float], SpectralDensity | None] | None:
    """What was kept; None where there is nothing, or not as it was written."""
    try:
        arrays, note = read_arrays(file)
        row, size, rounding = note["row"], note["size"], float(note.get("rounding", 0.0))
        if size is None:
            return row, None
        nodes, weights, coarse_nodes, coarse_weights, matvecs = map(jnp.asarray, arrays)
    except (FileNotFoundError, DamagedFile, KeyError, TypeError, ValueError):
        return None
    return row, SpectralDensity(nodes, weights, Rule(coarse_nodes, coarse_weights), matvecs, size, rounding)
