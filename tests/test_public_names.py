"""The front door: names that load on first use, as type checkers see them too (see typed_use.py)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sharplab as sl
from sharplab import gallery, tracking

LAZY = (sl, gallery, sl.scaling, sl.sweep, tracking)
PACKAGE = Path(sl.__file__).parent


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
