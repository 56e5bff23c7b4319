"""Arrays by name out of checkpoints made elsewhere: Orbax directories, .npz and .safetensors. Reading runs no code."""

import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sharplab.core.files import NO_ARCHIVE
from sharplab.core.npz import read_npz, require_plausible

FILES = (".npz", ".safetensors")
_TREE, _STEP = "_METADATA", "_CHECKPOINT_METADATA"  # what Orbax leaves in a saved tree, and beside several


def canonical(name: str) -> str:
    """A name as components between "/", however its writer told them apart; the "value" of a variable is none of them.

    >>> canonical("layers.0.kernel"), canonical("['layers'][0].kernel.value")
    ('layers/0/kernel', 'layers/0/kernel')
    """
    parts = [part for part in re.split(r"[][./'\"]+", name) if part]
    while len(parts) > 1 and parts[-1] == "value":
        parts.pop()
    return "/".join(parts)


def read_named_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint, by canonical name.

    Raises:
        ValueError: for a checkpoint that was cut or altered, or is of another format.
        OSError: if it cannot be read.
    """
    found = _of_orbax(path) if path.is_dir() else _of_npz(path) if path.suffix == ".npz" else _of_safetensors(path)
    named = {canonical(name): array for name, array in found.items()}
    if len(named) < len(found):
        raise ValueError(f"checkpoint {path} has two arrays of one name, as {_twice(found)}: name them apart.")
    if not named:
        raise ValueError(f"checkpoint {path} holds no arrays.")
    return named


def _twice(names: Iterable[str]) -> str:
    seen: dict[str, str] = {}
    return next(f"{seen[canonical(n)]} and {n}" for n in names if seen.setdefault(canonical(n), n) != n)


def _damaged(path: Path, how: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())[:100] or type(error).__name__
    return ValueError(f"checkpoint {path} cannot be read {how}: it was cut or altered ({reason}).")


def _of_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            return read_npz(file)
    except (*NO_ARCHIVE, MemoryError) as error:
        raise _damaged(path, "as npz without pickles", error) from error


def _of_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    path.open("rb").close()  # what the system refuses is an OSError, not one of the format
    try:
        with safe_open(path, "numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, MemoryError) as error:
        raise _damaged(path, "as safetensors", error) from error


def _of_orbax(path: Path) -> dict[str, np.ndarray]:
    trees = {"": path} if (path / _TREE).exists() else {each.name: each for each in path.iterdir() if _is_tree(each)}
    found: dict[str, np.ndarray] = {}
    for item, folder in trees.items():
        above = "" if item in ("", "default") else f"{item}/"
        try:
            found |= {f"{above}{name}": array for name, array in _of_tree(folder).items()}
        except Exception as error:  # its parts raise whatever they stumble over
            raise _damaged(path, "as Orbax wrote it", error) from error
    return found


def _of_tree(folder: Path) -> dict[str, np.ndarray]:
    import jax
    import orbax.checkpoint as ocp

    def on_host(leaf: Any) -> Any:
        return ocp.RestoreArgs(restore_type=np.ndarray) if hasattr(leaf, "shape") else ocp.RestoreArgs()

    with _quiet(), ocp.PyTreeCheckpointer() as checkpointer:
        item = checkpointer.metadata(folder.resolve()).item_metadata
        if item is None:
            raise ValueError("its metadata are missing")
        leaves = [leaf for leaf in jax.tree.leaves(item.tree) if hasattr(leaf, "shape") and hasattr(leaf, "dtype")]
        promised = sum(prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in leaves)
        require_plausible(promised, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))
        arguments = jax.tree.map(on_host, item.tree)
        restored = checkpointer.restore(folder.resolve(), restore_args=arguments)
    leaves = jax.tree_util.tree_leaves_with_path(restored)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    return {name: leaf for name, leaf in named.items() if isinstance(leaf, np.ndarray)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither what Orbax logs of older versions, nor what its other reads say to an event loop that one has ended."""
    logger, hook = logging.getLogger("absl"), sys.unraisablehook
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    try:
        yield
    except Exception:
        time.sleep(0.2)  # for these to come
        raise
    finally:
        logger.setLevel(level)
        sys.unraisablehook = hook


def _is_tree(path: Path) -> bool:
    return (path / _TREE).is_file()


def _is_checkpoint(path: Path) -> bool:
    if "orbax-checkpoint-tmp" in path.name:  # not finished
        return False
    return path.suffix in FILES if path.is_file() else _is_tree(path) or (path / _STEP).is_file()


def find_checkpoints(paths: Sequence[str | Path]) -> list[Path]:
    """The checkpoints that paths lead to: themselves, or those that lie in a directory.

    Raises:
        ValueError: for a path that is no checkpoint and holds none.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"there is no checkpoint {path}: give a directory of Orbax, a .npz or a .safetensors.")
        inside = [path] if _is_checkpoint(path) else sorted(path.iterdir()) if path.is_dir() else []
        inside = [each for each in inside if _is_checkpoint(each)]
        if not inside:
            raise ValueError(f"{path} is no checkpoint: give a directory of Orbax, a .npz or a .safetensors.")
        found += inside
    if len(set(found)) < len(found):
        raise ValueError("checkpoints are given twice: give each once.")
    return found


def in_order(paths: Sequence[Path]) -> list[tuple[int, Path]]:
    """Checkpoints with their steps, ascending: the last number in their names or, where these tell none apart, above.

    Where no such numbers tell them apart, they are numbered from 0 as they are given.

    >>> [step for step, _ in in_order([Path("run2/step_20.npz"), Path("run2/step_5.npz")])]
    [5, 20]
    >>> [step for step, _ in in_order([Path("runs/300/params"), Path("runs/200/params")])]
    [200, 300]
    >>> [(step, path.name) for step, path in in_order([Path("b.npz"), Path("a.npz")])]
    [(0, 'b.npz'), (1, 'a.npz')]
    """
    names = [(path.stem if path.suffix in FILES else path.name, *reversed(path.parts[:-1])) for path in paths]
    for level in zip(*names, strict=False):  # as deep as the shortest
        numbers = [re.findall(r"\d+", name) for name in level]
        steps = [int(found[-1]) for found in numbers if found]
        if len(set(steps)) == len(paths):
            return sorted(zip(steps, paths, strict=True))
    return list(enumerate(paths))
