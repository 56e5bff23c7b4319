"""The package as pip installs it: all that it needs is in it, and commands that need a checkout say so."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sharplab

ROOT = Path(__file__).parents[1]


def files_below(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with what setuptools puts into the wheel, by pyproject.toml: packages and their data."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packages = [path.parent for path in (ROOT / "sharplab").rglob("__init__.py")]
    found = [module for package in packages for module in package.glob("*.py")]
    for package, patterns in data.items():
        found += [path for pattern in patterns for path in ROOT.joinpath(*package.split(".")).glob(pattern)]
    folder = tmp_path_factory.mktemp("site")
    for path in found:
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return folder


def run(site, cwd, *words):
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)


def test_every_file_of_the_package_is_installed(site):
    assert files_below(ROOT / "sharplab") == files_below(site / "sharplab")
    assert (site / "sharplab" / "py.typed").exists()


def test_what_is_bundled_is_found(site, tmp_path):
    code = (
        "import sharplab as sl; print(sl.__file__)\n"
        "for name in ('fashion-mnist-10k', 'king-james-bpe'): print(len(sl.data.load_dataset(name).train_inputs) > 0)"
    )
    done = run(site, tmp_path, "-c", code)
    assert done.stdout.split() == [str(site / "sharplab" / "__init__.py"), "True", "True"], done.stderr


def test_commands_that_need_no_checkout_run(site, tmp_path):
    helped = run(site, tmp_path, "-m", "sharplab", "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "suggest-lr" in helped.stdout
    status = run(site, tmp_path, "-m", "sharplab", "status", "runs")
    assert status.returncode == 2
    assert "runs" in status.stderr and "Traceback" not in status.stderr


@pytest.mark.long
@pytest.mark.parametrize("words", [("figure", "transfer"), ("figures",), ("figures", "--all"), ("report",)])
def test_commands_that_need_a_checkout_say_so(site, tmp_path, words):
    done = run(site, tmp_path, "-m", "sharplab", *words)
    assert done.returncode == 2
    assert "checkout" in done.stderr and "`make figures`" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_version_stands_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert sharplab.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
