"""The command `spectrum`: numbers as of dense Hessians, nothing measured twice, bad input said in a sentence."""

import json
import shutil
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pandas as pd
import pytest
import tyro
from flax import nnx
from jax.flatten_util import ravel_pytree
from safetensors.numpy import save_file

from sharplab.commands.exit_codes import BAD_INPUT, STOPPED, exit_code_of
from sharplab.commands.spectrum import SpectrumOptions, spectrum
from sharplab.core.tree import named_leaves
from sharplab.losses import cross_entropy
from sharplab.tracking.checkpoints import checkpoint_spectra
from sharplab.tracking.tracker import Tracker

MODULE = """
import numpy as np
from flax import nnx

def build():
    rngs = nnx.Rngs(7)
    return nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.tanh, nnx.Linear(4, 2, rngs=rngs))

def batches():
    inputs = np.random.default_rng(0).standard_normal((24, 3)).astype(np.float32)
    yield inputs[:16], (inputs[:16, 0] > 0).astype(np.int32)
    yield inputs[16:], (inputs[16:, 0] > 0).astype(np.int32)
"""
STEPS = (0, 10, 100)
WORDS = ("--model", "measured_by_command:build", "--observables", "hessian_top3", "train_loss", "density")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a training run's checkpoints in four formats, and the dense spectrum of each step."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "measured_by_command.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        module = import_module("measured_by_command")
    batch = tuple(map(np.concatenate, zip(*module.batches(), strict=True)))
    graphdef, params = nnx.split(module.build(), nnx.Param)

    def loss(params):
        return cross_entropy(nnx.merge(graphdef, params)(batch[0]), batch[1])

    descend = jax.jit(lambda params: jax.tree.map(lambda w, g: w - g, params, jax.grad(loss)(params)))
    unravel = ravel_pytree(params)[1]
    dense = jax.jit(jax.hessian(lambda flat: loss(unravel(flat))))
    exact = {}
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            _save(folder, step, params)
            eigenvalues = np.linalg.eigvalsh(np.asarray(dense(ravel_pytree(params)[0]), np.float64))[::-1]
            exact[step] = (float(loss(params)), eigenvalues)
        params = descend(params)
    return folder, exact


def _save(folder, step, params):
    arrays = {name: np.asarray(leaf) for name, leaf in named_leaves(params).items()}
    (folder / "npz").mkdir(exist_ok=True)
    np.savez(folder / "npz" / f"step_{step}.npz", **arrays, step=step)
    (folder / "dotted").mkdir(exist_ok=True)
    dotted = {f"model.{name.replace('/', '.')}": array for name, array in arrays.items()}
    save_file(dotted, folder / "dotted" / f"{step}.safetensors")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "orbax" / str(step), params)
    state = {"params": nnx.to_pure_dict(params), "opt_state": {"trace": nnx.to_pure_dict(params)}}
    with ocp.CheckpointManager(folder / "managed") as manager:
        manager.save(step, args=ocp.args.StandardSave(state))


@pytest.fixture
def here(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(run[0])
    return tmp_path


def command(*words):
    options = tyro.cli(SpectrumOptions, args=[*map(str, words[:-1]), *WORDS, *words[-1]])
    options.check()
    return exit_code_of(lambda: spectrum(options))


@pytest.fixture
def measured(monkeypatch):
    """The steps that are measured."""
    steps, record = [], Tracker.record

    def counted(self, step, *args, **named):
        steps.append(step)
        return record(self, step, *args, **named)

    monkeypatch.setattr(Tracker, "record", counted)
    return steps


@pytest.mark.long
def test_numbers_are_those_of_dense_hessians_and_nothing_is_measured_twice(run, here, measured, monkeypatch, capsys):
    folder, exact = run

    with monkeypatch.context() as patch:
        patch.setattr("sharplab.tracking.checkpoints._write", _stop_at_the_second())
        assert command(folder / "npz", ()) == STOPPED
    assert measured == [0, 10]
    assert command(folder / "npz", ()) == 0
    assert measured == [0, 10, 10, 100]
    said = capsys.readouterr().out
    assert "step 0: hessian_1" in said and "measured before" in said and "±" in said

    table = pd.read_csv("spectrum/spectrum.csv").set_index("step")
    assert list(table.index) == list(STEPS)
    for step, (loss, eigenvalues) in exact.items():
        row = table.loc[step]
        assert row["train_loss"] == pytest.approx(loss, rel=1e-5)
        for i in range(3):
            assert abs(row[f"hessian_{i + 1}"] - eigenvalues[i]) <= row[f"hessian_{i + 1}_error"] + 1e-5
            assert np.abs(row[f"hessian_{i + 1}"] - eigenvalues).min() <= row[f"hessian_{i + 1}_residual"] + 1e-5
    density = pd.read_csv("spectrum/density.csv")
    for step, part in density.groupby("step"):
        mean = np.trapezoid(part["eigenvalue"] * part["density"], part["eigenvalue"])
        assert mean == pytest.approx(exact[step][1].mean(), abs=0.2 * abs(exact[step][1]).max())
        assert np.trapezoid(part["density"], part["eigenvalue"]) == pytest.approx(1, abs=0.1)
    written = json.loads((here / "spectrum/spectrum.json").read_text())
    assert [row["step"] for row in written["checkpoints"]] == list(STEPS) and "jax" in written["versions"]
    assert (here / "spectrum/spectrum.png").stat().st_size > 10_000

    # The same arrays in other formats are known by their content, wherever they lie in a checkpoint.
    module = import_module("measured_by_command")
    for other in ("dotted", "orbax", "managed"):
        batch = tuple(map(np.concatenate, zip(*module.batches(), strict=True)))
        same = checkpoint_spectra([folder / other], module.build(), batch, WORDS[3:], keep="spectrum/measured")
        for found in same:
            assert found.kept
            assert found.row["hessian_1"] == pytest.approx(table.loc[found.step, "hessian_1"], rel=1e-6)
    assert len(measured) == 4
    # Other data are something else.
    words = ("--examples", "16", "--observables", "train_loss")
    assert command(folder / "npz" / "step_100.npz", folder / "npz" / "step_0.npz", words) == 0
    assert measured[4:] == [0, 100]


def _stop_at_the_second():
    from sharplab.tracking.checkpoints import _write

    written = []

    def write(*args):
        if written:
            raise KeyboardInterrupt
        written.append(args)
        _write(*args)

    return write


def cut(path, share=0.6):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


@pytest.fixture
def damaged(run, tmp_path):
    folder = tmp_path / "damaged"
    for name in ("npz", "dotted", "orbax"):
        shutil.copytree(run[0] / name, folder / name)
    cut(folder / "npz/step_10.npz")
    cut(folder / "dotted/10.safetensors")
    for file in (folder / "orbax/10").rglob("d/*"):
        cut(file)
    (folder / "orbax/0/_METADATA").write_text("{")
    np.savez(folder / "pickled.npz", w=np.array([{}], dtype=object))
    arrays = dict(np.load(folder / "npz/step_0.npz"))
    np.savez(folder / "shape.npz", **arrays | {"layers/0/kernel": np.ones((3, 5), np.float32)})
    np.savez(folder / "whole.npz", **arrays | {"layers/0/kernel": np.ones((3, 4), np.int32)})
    np.savez(folder / "extra.npz", **arrays | {"layers/3/kernel": np.ones((2, 2), np.float32)})
    np.savez(folder / "lacking.npz", **{name: array for name, array in arrays.items() if name != "layers/2/bias"})
    np.savez(folder / "twice.npz", **{f"{place}/{n}": array for place in ("ema", "raw") for n, array in arrays.items()})
    np.savez(folder / "names.npz", **arrays, **{"layers.0.kernel": arrays["layers/0/kernel"]})
    (folder / "notes.txt").write_text("")
    return folder


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("npz/step_10.npz", "step_10.npz .*cut or altered"),
        ("dotted/10.safetensors", "10.safetensors .*cut or altered"),
        ("orbax/10", "orbax/10 .*cut or altered"),
        ("orbax/0", "orbax/0 .*cut or altered"),
        ("pickled.npz", "without pickles"),
        ("shape.npz", r"layers/0/kernel .*\(3, 5\).*\(3, 4\)"),
        ("whole.npz", "layers/0/kernel .*int32"),
        ("extra.npz", "layers/3/kernel, which the model has not"),
        ("lacking.npz", "lacks layers/2/bias"),
        ("twice.npz", "lie in ema, raw"),
        ("names.npz", "two arrays of one name"),
        ("notes.txt", "is no checkpoint"),
        ("nosuch.npz", "there is no checkpoint"),
    ],
    ids=lambda text: text.replace(" ", "_")[:20],
)
def test_a_checkpoint_that_does_not_fit_is_a_sentence(damaged, here, name, says, capsys):
    def refused():
        options = tyro.cli(SpectrumOptions, args=[str(damaged / name), *WORDS])
        options.check()
        spectrum(options)

    with pytest.raises(ValueError, match=says) as error:
        refused()
    assert "\n" not in str(error.value)
    assert exit_code_of(refused) == BAD_INPUT
    assert "Traceback" not in capsys.readouterr().err


def test_where_the_parameters_lie_can_be_told(damaged, here):
    words = ("--params", "ema", "--observables", "train_loss")
    assert command(damaged / "twice.npz", words) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--optimizer", "adam"), "--optimizer-state"),
        (("--optimizer-state",), "--optimizer"),
        (("--optimizer", "lion"), "optimizer has no metric"),
        (("--optimizer", "adam(b3=1)", "--optimizer-state"), "--optimizer .*b3"),
        (("--optimizer", "adam", "--optimizer-state"), "optimizer's state .*lacks count"),
        (("--model", "measured_by_command:batch"), "--model"),
        (("--data", "measured_by_command:np"), "--data"),
        (("--observables", "sharpnes"), "sharpness"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_bad_input_names_the_option(run, here, words, says):
    options = tyro.cli(SpectrumOptions, args=[str(run[0] / "npz"), *WORDS, *words])
    with pytest.raises(ValueError, match=says):
        options.check()
        spectrum(options)


def test_a_diverged_checkpoint_is_said_and_does_not_stop_the_others(run, here, capsys):
    arrays = dict(np.load(run[0] / "npz/step_10.npz"))
    np.savez("step_10.npz", **arrays)
    np.savez("step_5.npz", **arrays | {"layers/0/kernel": np.full((3, 4), jnp.nan, np.float32)})
    assert command("step_5.npz", "step_10.npz", ("--observables", "train_loss")) == 0
    assert "step 5: train_loss -, parameters or metric not finite" in capsys.readouterr().out
    assert pd.read_csv("spectrum/spectrum.csv")["train_loss"].notna().tolist() == [False, True]
