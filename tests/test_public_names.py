"""The front door: names that load on first use, and what a type checker says of them to a user."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sharplab as sl
from sharplab import gallery, tracking

LAZY = (sl, gallery, sl.scaling, sl.sweep, tracking)
PACKAGE = Path(sl.__file__).parent
USER = """
from typing import assert_type

import jax.numpy as jnp
import sharplab as sl


def loss(params: dict[str, jnp.ndarray], batch: jnp.ndarray) -> jnp.ndarray:
    return jnp.mean(batch @ params["w"])


operator = sl.hessian(loss, {"w": jnp.ones(3)}, jnp.eye(3))
assert_type(operator, sl.LinearOperator)
assert_type(sl.eigsh(operator, k=2), sl.Eigenpairs)
assert_type(sl.spectral_density(operator), sl.SpectralDensity)
assert_type(sl.trace(operator), sl.Estimate)
assert_type(sl.parameterization("mup"), sl.Parameterization)
experiment = sl.Experiment(widths=(8, 16), learning_rates=(0.5, 1.0), seeds=2)
assert_type(experiment, sl.Experiment)
records = sl.run(experiment, "runs")
assert_type(records, sl.Records)
assert_type(sl.load("runs"), sl.Records)
assert_type(sl.transfer(records, over="width"), dict[str, sl.Transfer])
assert_type(sl.sweep.product(experiment, gamma=(0.5, 1.0)), tuple[sl.Experiment, ...])
"""
WRONG = """
import sharplab as sl

sl.eigsch
sl.Experiment(learning_rates=(0.5,), width=8)
sl.losses.cross_entropie
reveal_type(sl.eigsh)
"""


def test_no_library_loads_before_a_name_is_used():
    code = "import sys, sharplab; print({'jax', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_each_name_leads_somewhere():
    for package in LAZY:
        assert all(getattr(package, name) is not None for name in package.__all__)
        assert dir(package) == sorted(package.__all__)


def test_a_name_that_is_none_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'eigsch'"):
        sl.eigsch  # noqa: B018


@pytest.mark.parametrize("package", LAZY, ids=lambda package: package.__name__)
def test_type_checkers_see_the_names_that_load_on_first_use(package):
    tree = ast.parse(Path(package.__file__).read_text())
    (checked,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    imports = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    assert all(alias.asname == alias.name for node in imports for alias in node.names)  # public in a typed package
    seen = {alias.name: node.module for node in imports for alias in node.names if node.module != "sharplab"}
    modules = {alias.name for node in imports for alias in node.names if node.module == "sharplab"}
    assert seen == {name: home for home, names in package._NAMES.items() for name in names}
    assert modules == set(getattr(package, "_MODULES", ()))


def test_a_type_checker_knows_what_a_user_gets(tmp_path, monkeypatch):
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(WRONG)
    monkeypatch.setenv("MYPYPATH", str(PACKAGE.parent))
    checker = [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent", "--no-error-summary"]
    done = subprocess.run([*checker, "user.py", "wrong.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    found = done.stdout.splitlines()
    assert not [line for line in found if line.startswith("user.py")]
    attribute, argument, of_a_module, revealed = (line for line in found if line.startswith("wrong.py"))
    assert '"eigsch"' in attribute and "[attr-defined]" in attribute
    assert '"width"' in argument and "[call-arg]" in argument
    assert '"cross_entropie"' in of_a_module and "[attr-defined]" in of_a_module
    assert revealed.endswith('Eigenpairs"')
