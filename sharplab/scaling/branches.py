"""The parameters that lie in residual branches: those of a list, or of a stack, that grows with depth."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from sharplab.scaling.abstract_shapes import AbstractShapes

_NUMBERED = re.compile(r"(.*?)(\d+)")  # "3" of a list, "block_3" of attributes that are set one by one


@dataclass(frozen=True)
class Branches:
    """The lists and stacks of a module that grow with depth.

    Attributes:
        lists: (path above, name without its number) of lists of blocks.
        stack_axes: by path, the axis of a parameter along which blocks are stacked.
        at_base: the parameters at the base depth.
    """

    lists: frozenset[tuple[str, str]] = frozenset()
    stack_axes: Mapping[str, int] = field(default_factory=dict)
    at_base: tuple[str, ...] = ()

    def place(self, path: str) -> tuple[tuple[str, str], str] | None:
        """The list that a parameter belongs to and its path within the block."""
        parts = path.split("/")
        for i, part in enumerate(parts):
            found = _list_of(parts, i) if _NUMBERED.fullmatch(part) else None
            if found in self.lists:
                return found, "/".join(parts[i + 1 :])
        return None

    def holds(self, path: str) -> bool:
        """Whether a parameter lies in a block."""
        return self.place(path) is not None or path in self.stack_axes

    def counterpart(self, path: str) -> str:
        """The corresponding parameter at the base depth: itself, or that of another block of the list."""
        if path in self.at_base:
            return path
        return next(other for other in self.at_base if self.place(other) == self.place(path))


NO_BRANCHES = Branches()


def find_branches(shallow: AbstractShapes, twice: AbstractShapes, deep: AbstractShapes) -> Branches:
    """The lists and stacks that grow from the base depth to twice that, checked against the depth that is asked for.

    Raises:
        ValueError: naming what grows otherwise than in proportion to depth.
    """
    lists = frozenset(_new_list(path, shallow) for path in twice.shapes if path not in shallow.shapes)
    stacks = {}
    for path, shape in shallow.shapes.items():
        if path not in twice.shapes:
            raise ValueError(f"parameter {path!r} is there at depth {shallow.size[1]} but not at {twice.size[1]}.")
        axes = [i for i, (a, b) in enumerate(zip(shape, twice.shapes[path], strict=True)) if a != b]
        if len(axes) > 1:
            raise ValueError(f"parameter {path!r} grows with depth along several axes: {shape}, {twice.shapes[path]}.")
        if axes:
            stacks[path] = axes[0]
    found = Branches(lists, stacks, tuple(shallow.shapes))
    if not lists and not stacks:
        raise ValueError("depth: nothing in the module grows with it; leave depth= and base_depth= out.")
    for name, counts in _counts(found, shallow, twice, deep).items():
        for size, count in zip((twice.size[1], deep.size[1]), counts[1:], strict=True):
            if Fraction(count, counts[0]) != Fraction(size, shallow.size[1]):
                raise ValueError(
                    f"depth: {name!r} has {counts[0]} blocks at depth {shallow.size[1]} and {count} at {size}: "
                    "their number must be in proportion to depth."
                )
    return found


def _list_of(parts: list[str], i: int) -> tuple[str, str]:
    numbered = _NUMBERED.fullmatch(parts[i])
    assert numbered is not None
    return "/".join(parts[:i]), numbered[1]


def _new_list(path: str, shallow: AbstractShapes) -> tuple[str, str]:
    """The list that is longer for holding a parameter that the shallow module lacks."""
    parts = path.split("/")
    known = {"/".join(other.split("/")[:i]) for other in shallow.shapes for i in range(1, other.count("/") + 2)}
    i = next(i for i in range(len(parts)) if "/".join(parts[: i + 1]) not in known)
    if not _NUMBERED.fullmatch(parts[i]):
        raise ValueError(f"parameter {path!r} appears with depth, but in no list: keep blocks in an nnx.List.")
    return _list_of(parts, i)


def _counts(found: Branches, *sizes: AbstractShapes) -> dict[str, list[int]]:
    """The number of blocks of each list and stack in each of the modules."""

    def blocks(of: tuple[str, str], s: AbstractShapes) -> int:
        depth = len(of[0].split("/")) if of[0] else 0
        return len({path.split("/")[depth] for path in s.shapes if (place := found.place(path)) and place[0] == of})

    counts = {"/".join(filter(None, of)): [blocks(of, s) for s in sizes] for of in found.lists}
    return counts | {path: [s.shapes[path][axis] for s in sizes] for path, axis in found.stack_axes.items()}
