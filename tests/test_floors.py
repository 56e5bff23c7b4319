"""The house's floors: each module imports only from its own floor and those below it, and nothing in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sharplab as sl

PACKAGE = Path(sl.__file__).parent
# Packages and modules directly within sharplab, from the ground up.
FLOORS = (
    {"core", "losses", "optimizers", "schedules", "data"} | {"scaling", "curvature", "spectrum"},
    {"models", "plotting"},
    {"tracking", "records"},
    {"training"},
    {"sweep", "analysis", "checks"},
    {"studies", "theory"},
    {"gallery"},
    {"commands", "__main__"},
)
FLOOR_OF = {name: i for i, names in enumerate(FLOORS) for name in names}
PUBLIC_MODULES = {"losses", "optimizers", "plotting", "records", "schedules"}


def dotted(file):
    """The name by which a file is imported."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(file): file for file in PACKAGE.rglob("*.py")}


def units():
    """Each package or module directly within sharplab."""
    return sorted({name.split(".")[1] for name in MODULES if "." in name})


def imports(module):
    """The modules of sharplab that a module imports, what is for type checkers alone left out."""
    tree = ast.parse(MODULES[module].read_text())
    checked = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    found = set()
    for node in ast.walk(tree):
        if node in checked:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name, which this test does not follow"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found & MODULES.keys() - {module}


def imported_by(unit):
    """What a unit imports of the others."""
    inside = [name for name in MODULES if f"{name}.".startswith(f"sharplab.{unit}.")]
    return {name.split(".")[1] for module in inside for name in imports(module) if "." in name} - {unit}


def test_every_unit_has_its_floor():
    assert sorted(FLOOR_OF) == units()


@pytest.mark.parametrize("name", units())
def test_imports_come_from_the_same_floor_or_below(name):
    above = {other for other in imported_by(name) if FLOOR_OF[other] > FLOOR_OF[name]}
    assert not above, f"{name}, on floor {FLOOR_OF[name]}, imports {above} from above"


@pytest.mark.parametrize(("names", "imported"), [(units(), imported_by), (MODULES, imports)], ids=["units", "modules"])
def test_there_are_no_circles(names, imported):
    assert list(TopologicalSorter({name: imported(name) for name in names}).static_order())


def test_nothing_lies_loose_beside_the_packages_but_the_public_modules():
    assert {file.stem for file in PACKAGE.glob("*.py")} == PUBLIC_MODULES | {"__init__", "__main__"}


def test_no_module_bears_the_name_of_a_public_function_or_class():
    assert not [name for name in MODULES if name.rpartition(".")[2] in set(sl.__all__) - set(sl._MODULES)]
