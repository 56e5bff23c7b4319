"""Lookup by name, with the nearest known names in the error for an unknown one."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


def lookup(kind: str, name: str, table: Mapping[str, T], *, also: str = "") -> T:
    """The entry `table[name]`.

    Raises:
        ValueError: for an unknown name, with its `kind`, the names that are near, and `also`.

    >>> lookup("optimizer", "sdg", {"sgd": 1, "adam": 2})
    Traceback (most recent call last):
    ...
    ValueError: unknown optimizer 'sdg': did you mean 'sgd'? Known: adam, sgd.
    """
    if name in table:
        return table[name]
    near = get_close_matches(str(name), table, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ValueError(f"unknown {kind} {name!r}: {hint}Known: {', '.join(sorted(table))}{also}.")
