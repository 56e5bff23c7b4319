"""Options of a command from a TOML file, and the texts in which one option holds named values."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sharplab.core.files import DamagedFile, read_regular
from sharplab.core.naming import lookup

LARGEST = 2**20  # bytes of a file of options

WANTED: Mapping[Any, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: (int | float, "a number"),
}


def config_path(words: Sequence[str]) -> Path | None:
    """The file that a command line names by --config, if it does."""
    path = None
    for i, word in enumerate(words):
        if word == "--config" and i + 1 < len(words):
            path = words[i + 1]
        elif word.startswith("--config="):
            path = word.removeprefix("--config=")
    return None if path is None else Path(path)


def read_options(path: Path, kind: type) -> dict[str, Any]:
    """The fields of the dataclass `kind` that a TOML file gives, whose keys are their names with - or _.

    Where the field is several texts, the file may give one or a list, numbers too, and a table, each of whose
    entries becomes a text "key=value,value".

    Raises:
        ValueError: naming the file, and the key that is unknown or the type that it wants.
    """
    try:
        read = tomllib.loads(read_regular(path, LARGEST).decode())
    except OSError as error:
        raise ValueError(f"config {path} cannot be read: {error.strerror}.") from error
    except DamagedFile as error:
        raise ValueError(f"config {path} {error}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"config {path} is no TOML: {str(error).rstrip('.')}.") from error
    hints = get_type_hints(kind)
    known = {name.replace("_", "-"): hint for name, hint in hints.items() if name != "config"}
    found = {}
    for key, value in read.items():
        name = key.replace("_", "-")
        try:
            hint = lookup("key", name, known)
            found[name.replace("-", "_")] = _conform(name, hint, value)
        except ValueError as error:
            raise ValueError(f"config {path}: {error}") from error
    return found


def assignments(option: str, texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values by name that texts such as "gamma=0.5,1,2" give.

    Raises:
        ValueError: for a text of another form, or a name that comes twice.

    >>> assignments("product", ["gamma=0.5,1", "batch-size=32:128"])
    {'gamma': ('0.5', '1'), 'batch_size': ('32:128',)}
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.replace("-", "_")
        if not (name and equals and all(values.split(","))):
            raise ValueError(f"{option}: {text!r} is not understood: give name=value,value, as gamma=0.5,1,2.")
        if name in found:
            raise ValueError(f"{option} names {name} twice: give all its values at once, as {name}={values},….")
        found[name] = tuple(values.split(","))
    return found


def _conform(name: str, hint: Any, value: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is tuple:
        return _texts(name, value)
    if get_origin(hint) is Literal and isinstance(value, str):
        return lookup(name, value, {choice: choice for choice in get_args(hint)})
    accepted, wanted = WANTED.get(hint, (str, "a text"))
    if not isinstance(value, accepted) or isinstance(value, bool) != (hint is bool):
        raise ValueError(f"{name} wants {wanted}, not {value!r}.")
    try:
        return hint(value)
    except OverflowError as error:
        raise ValueError(f"{name} wants {wanted}, not one of {len(str(value))} digits.") from error


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return tuple(f"{key}={','.join(_texts(f'{name}.{key}', entry))}" for key, entry in value.items())
    several = value if isinstance(value, list) else [value]
    for each in several:
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            raise ValueError(f"{name} wants a text, a number, or a list of these, not {value!r}.")
    return tuple(map(str, several))
