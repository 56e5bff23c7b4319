"""What `make package` built, in dist/: its contents, and the wheel in an empty environment, as a user has it.

make package
"""

import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.package

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMED = f"sharplab-{PROJECT['version']}"

USE = """
import importlib, importlib.util, pkgutil, sys, tempfile
from importlib.metadata import version
from importlib.resources import files

import jax.numpy as jnp
import numpy as np

import sharplab as sl

assert sl.__file__.startswith(sys.prefix), sl.__file__
assert sl.__version__ == version("sharplab")
assert files("sharplab").joinpath("py.typed").is_file()
for other in ("pytest", "hypothesis", "torch", "distributed", "xarray", "experiments", "tests"):
    assert importlib.util.find_spec(other) is None, f"{other} is there too: this environment is not empty"
for module in pkgutil.walk_packages(sl.__path__, "sharplab."):
    if module.name != "sharplab.__main__":
        importlib.import_module(module.name)

diagonal = jnp.arange(1.0, 9.0)
found = sl.eigsh(sl.operator(lambda v: diagonal * v, diagonal), k=2)
assert np.allclose(found.values, [8, 7], rtol=1e-5), found
assert len(sl.data.load_dataset("king-james-bpe").train_inputs)
with tempfile.TemporaryDirectory() as store:
    sweep = sl.Experiment(
        model="mlp", data="fashion-mnist-10k", parameterizations=("mup",), widths=(4,), base_width=4, depths=(1,),
        learning_rates=(0.1,), seeds=1, steps=2, records=2, batch_size=8, probe_size=16, observables=("train_loss",),
    )
    assert np.isfinite(sl.run(sweep, store=store).runs["train_loss"]).all()
"""


@pytest.fixture(scope="module")
def wheel():
    """The only wheel in dist/."""
    (found,) = (ROOT / "dist").glob("*.whl")
    assert found.name.startswith(f"{NAMED}-py3-none-any")
    return found


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment in which the wheel was installed, and what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    # By pip, since that is what users have, with the index that they have told it.
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    subprocess.run([*install, wheel], check=True)
    return folder


def run(environment, cwd, program, *words):
    """What a program of the environment answers, in a folder that is not the checkout, and without its path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(environment / "bin" / program), *words]
    return subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True)


def test_the_wheel_is_the_package_to_the_byte_with_its_licences(wheel):
    package = [path for path in (ROOT / "sharplab").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    with ZipFile(wheel) as archive:
        about = [name for name in archive.namelist() if name.startswith(f"{NAMED}.dist-info/")]
        assert set(archive.namelist()) - set(about) == {path.relative_to(ROOT).as_posix() for path in package}
        for path in package:
            assert archive.read(path.relative_to(ROOT).as_posix()) == path.read_bytes(), path
        licences = [ROOT / "LICENSE", *ROOT.glob("sharplab/data/*/LICENSE")]
        for path in licences:
            held = archive.read(f"{NAMED}.dist-info/licenses/{path.relative_to(ROOT).as_posix()}")
            assert held == path.read_bytes()
        metadata = archive.read(f"{NAMED}.dist-info/METADATA").decode()
    assert len(licences) == 3 == metadata.count("License-File: ")
    assert "License-Expression: Apache-2.0" in metadata


def test_the_source_distribution_holds_what_the_wheel_is_made_of_and_no_more(wheel):
    (source,) = (ROOT / "dist").glob("*.tar.gz")
    with tarfile.open(source) as archive, ZipFile(wheel) as built:
        files = {member.name.removeprefix(f"{NAMED}/") for member in archive if member.isfile()}
        package = {name for name in built.namelist() if name.startswith("sharplab/")}
    assert package <= files
    beside = {name.partition("/")[0] for name in files - package}
    assert beside == {
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
        "MANIFEST.in",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
        "setup.cfg",
        "sharplab.egg-info",
    }


def test_the_wheel_alone_is_enough(environment, tmp_path):
    done = run(environment, tmp_path, "python", "-W", "error", "-c", USE)
    assert done.returncode == 0, done.stderr


def test_the_command_starts(environment, tmp_path):
    done = run(environment, tmp_path, "sharplab", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "suggest-lr" in done.stdout
