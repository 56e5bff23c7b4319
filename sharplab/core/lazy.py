"""Public names of a package that load on first use, so that to import the package takes no time."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def attach(
    package: str, names: Mapping[str, Sequence[str]], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The `__getattr__`, `__dir__` and `__all__` of a package whose names load on first use.

    Type checkers do not run them: the package imports the same names under `TYPE_CHECKING`, as `name as name`.

    Args:
        package: its dotted name.
        names: by the dotted name of a module, what the package takes from it.
        modules: modules within the package that are public as such.

    >>> get, names, _ = attach("concurrent", {"concurrent.futures": ("Future",)})
    >>> get("Future").__name__, names()
    ('Future', ['Future'])
    """
    homes = {name: home for home, given in names.items() for name in given}
    public = [*homes, *modules]

    def find(name: str) -> Any:
        if name in homes:
            return getattr(import_module(homes[name]), name)
        if name in modules:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find, lambda: sorted(public), public
