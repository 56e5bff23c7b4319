"""A figure's numbers as text and tables: each with its interval, alike ones side by side."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from sharplab.plotting import NAMES

Path = tuple[str, ...]


@dataclass(frozen=True)
class Number:
    """One leaf of the nested numbers, with its interval or standard error where one stands beside it."""

    path: Path
    value: Any
    interval: tuple[Any, Any] | None = None
    stderr: Any = None

    def __str__(self) -> str:
        text = written(self.value)
        if self.interval is not None and (text != "–" or any(map(_finite, self.interval))):
            text += f" {_bracket(self.interval)}"
        return text if self.stderr is None else f"{text} ± {written(self.stderr)}"

    @property
    def determined(self) -> bool:
        """Whether the value is a finite number, with an interval of finite ends."""
        return self.interval is not None and all(map(_finite, (self.value, *self.interval)))


def flatten(numbers: Mapping[str, Any]) -> Iterator[Number]:
    """The leaves of nested numbers in their order, each with its interval or standard error.

    `X_interval` belongs to X, else to the number before it whose name begins with X; the pair `X_low`, `X_high` and
    `X_stderr` belong to X; plain `low` and `high` to `value`, `interval` and `stderr` to the number before them. A
    part that has but a `value` is that value.
    """
    intervals: dict[str, tuple[Any, Any]] = {}
    errors: dict[str, Any] = {}
    taken: set[str] = set()
    for key, item in numbers.items():
        stem, _, ending = key.rpartition("_")
        owner = _owner(stem, key, numbers)
        of, high = stem or "value", f"{key.removesuffix('low')}high"
        if ending == "interval" and _is_pair(item) and owner is not None and owner not in intervals:
            intervals[owner] = (item[0], item[1])
            taken.add(key)
        elif ending == "low" and of in numbers and high in numbers:
            intervals[of] = (item, numbers[high])
            taken |= {key, high}
        elif ending == "stderr" and owner is not None and owner not in errors:
            errors[owner] = item
            taken.add(key)
    for key, item in numbers.items():
        if isinstance(item, Mapping):
            rows = list(flatten(item))
            if item and all(isinstance(row, Mapping) and next(iter(row), None) == key for row in item.values()):
                # A table by size, named after its first column: column by column, with the sizes under each.
                columns = list(dict.fromkeys(number.path[1:] for number in rows))
                rows.sort(key=lambda number: columns.index(number.path[1:]))
                yield from (replace(number, path=(*number.path[1:], number.path[0])) for number in rows)
            else:
                lone = [number.path for number in rows] == [("value",)]
                yield from (replace(number, path=(key, *number.path)[: 1 if lone else None]) for number in rows)
        elif key not in taken:
            yield Number((key,), item, intervals.get(key), errors.get(key))


def _owner(stem: str, key: str, numbers: Mapping[str, Any]) -> str | None:
    if stem in numbers:
        return stem
    keys = list(numbers)
    before = [name for name in keys[: keys.index(key)] if _is_number(numbers[name])]
    return next((name for name in reversed(before) if name.startswith(stem)), None)


def headline(numbers: Mapping[str, Any], most: int = 4) -> list[str]:
    """The first numbers with an interval, with their names: those at the top or one below, else the least deep."""
    found = [number for number in flatten(numbers) if number.determined]
    depth = max(2, min((len(number.path) for number in found), default=0))
    texts = [f"{' '.join(map(label, number.path))} {number}" for number in found if len(number.path) <= depth]
    return texts[:most] + ["…"] * (len(texts) > most)


def tables(numbers: Mapping[str, Any]) -> list[tuple[str, pd.DataFrame]]:
    """All numbers as text, in tables with titles.

    Parts that state alike things become columns of one table, whose index names the rows; what stands alone makes
    the last table, of a single column.

    >>> for title, table in tables({"mup": {"shift": 0.1, "seeds": 3}, "ntk": {"shift": 0.8, "seeds": 3}, "runs": 12}):
    ...     print(repr(title), table.to_dict("index"))
    '' {'shift': {'muP': '0.1', 'NTK': '0.8'}, 'seeds': {'muP': '3', 'NTK': '3'}}
    '' {'runs': {'value': '12'}}
    """
    found, alone = _side_by_side(list(flatten(numbers)), ())
    if alone:
        column = {_labels(number.path): str(number) for number in alone}
        found.append(("", pd.DataFrame({"value": column}).fillna("")))
    return found


def _side_by_side(numbers: Sequence[Number], title: Path) -> tuple[list[tuple[str, pd.DataFrame]], list[Number]]:
    alone = [number for number in numbers if len(number.path) == len(title) + 1]
    parts: dict[str, dict[Path, Number]] = {}
    for number in numbers:
        if len(number.path) > len(title) + 1:
            head, *rest = number.path[len(title) :]
            parts.setdefault(head, {})[tuple(rest)] = number
    clusters: list[dict[str, dict[Path, Number]]] = []
    for name, part in parts.items():
        alike = (cluster for cluster in clusters if _alike(part, next(iter(cluster.values()))))
        cluster = next(alike, None)
        if cluster is None:
            clusters.append({name: part})
        else:
            cluster[name] = part
    found = []
    for cluster in clusters:
        if len(cluster) > 1:
            paths = dict.fromkeys(path for part in cluster.values() for path in part)
            columns = {
                label(name): [str(part[path]) if path in part else "" for path in paths]
                for name, part in cluster.items()
            }
            found.append((_labels(title), pd.DataFrame(columns, index=list(map(_labels, paths)))))
        else:
            ((name, part),) = cluster.items()
            below, left = _side_by_side(list(part.values()), (*title, name))
            found += below
            alone += left
    return found, alone


def _alike(one: Mapping[Path, Number], other: Mapping[Path, Number]) -> bool:
    return 2 * len(one.keys() & other.keys()) >= min(len(one), len(other))


def label(key: str) -> str:
    """A key as a reader would write it.

    >>> label("shift_per_doubling"), label("mup")
    ('shift per doubling', 'muP')
    """
    return NAMES.get(key) or " ".join(NAMES.get(word, word) for word in key.split("_"))


def _labels(path: Path) -> str:
    return ", ".join(map(label, path))


def written(value: Any) -> str:
    """A value as text, numbers with three or four digits.

    >>> [written(value) for value in (0.0123456, 1629.62, 12345678, "inf", "nan", True, [1, 2.5], "transfers")]
    ['0.0123', '1,630', '12,345,678', '∞', '–', 'yes', '1; 2.5', 'transfers']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "; ".join(_bracket(item) if _is_pair(item) else written(item) for item in value)
    if value is None:
        return "–"
    if not _is_number(value):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    number = float(value)
    if math.isnan(number):
        return "–"
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    if 1000 <= abs(number) < 1e7:
        return f"{number:,.0f}"
    return f"{number:.3g}".replace("-", "−")


def _bracket(ends: Sequence[Any]) -> str:
    low, high = ends
    opening = "[" if _finite(low) else "("
    return f"{opening}{written(low)}, {written(high)}{']' if _finite(high) else ')'}"


def _is_number(value: Any) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)) or value in ("nan", "inf", "-inf")


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))


def _finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(float(value))
