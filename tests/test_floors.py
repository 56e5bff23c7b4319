"""The house's floors: each module imports only from its own floor and those below it, and packages in no circle."""

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


def units():
    """Each package or module directly within sharplab."""
    return sorted(
        path.stem
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    )


def imported_by(name):
    """What a unit imports of the others, what is for type checkers alone left out."""
    files = [PACKAGE / f"{name}.py"] if (PACKAGE / f"{name}.py").exists() else (PACKAGE / name).rglob("*.py")
    found = set()
    for file in files:
        tree = ast.parse(file.read_text())
        checked = {
            node
            for branch in ast.walk(tree)
            if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
            for node in ast.walk(branch)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node not in checked:
                parts = node.module.split(".")
                if parts[0] == "sharplab":
                    found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found & set(units()) - {name}


def test_every_unit_has_its_floor():
    assert sorted(FLOOR_OF) == units()


@pytest.mark.parametrize("name", units())
def test_imports_come_from_the_same_floor_or_below(name):
    above = {other for other in imported_by(name) if FLOOR_OF[other] > FLOOR_OF[name]}
    assert not above, f"{name}, on floor {FLOOR_OF[name]}, imports {above} from above"


def test_there_are_no_circles():
    assert list(TopologicalSorter({name: imported_by(name) for name in units()}).static_order())
