"""Checkpoints: pytrees in files that are written whole or not at all, and verified when read."""

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core.files import DamagedFile, read_arrays, write_arrays
from sharplab.core.tree import PyTree


class CheckpointWarning(UserWarning):
    """A checkpoint was not what it should be, and has been ignored."""


def write_checkpoint(path: Path, tree: PyTree) -> None:
    """Write the leaves of a pytree (arrays, numbers, PRNG keys) to a file; what was there remains until all is safe.

    Raises:
        ValueError: where the file cannot be written.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    manifest = [[*_description(where, leaf), _key_implementation(leaf)] for where, leaf in leaves]
    arrays = [np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for _, leaf in leaves]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may have gone further than this one, and cleared everything away.
        with suppress(FileNotFoundError):
            write_arrays(path, arrays, manifest)
    except OSError as error:
        raise ValueError(
            f"checkpoint {path} cannot be written: {error.strerror}; make room for it, or change the permissions."
        ) from error


def read_checkpoint(path: Path, like: PyTree) -> PyTree | None:
    """The pytree of a checkpoint, on the host, or None where there is none that is whole and fits.

    `like` has its structure, with leaves that have a shape and a dtype (arrays, or `jax.ShapeDtypeStruct`). A file that
    was cut or altered, or holds something else, is a `CheckpointWarning`.
    """
    try:
        return _fitted(*read_arrays(path), like)
    except FileNotFoundError:
        return None
    except (OSError, DamagedFile) as error:
        reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
    message = f"checkpoint {path} {reason}: it is ignored, and the work done anew."
    warnings.warn(message, CheckpointWarning, stacklevel=2)
    return None


def _fitted(arrays: list[np.ndarray], manifest: Any, like: PyTree) -> PyTree:
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
    try:
        if [entry[:-1] for entry in manifest] != [_description(where, leaf) for where, leaf in leaves]:
            raise ValueError("other leaves")
        found = [
            _restored(array, leaf, entry[-1]) for array, (_, leaf), entry in zip(arrays, leaves, manifest, strict=True)
        ]
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise DamagedFile("holds something else than is looked for") from error
    return jax.tree.unflatten(treedef, found)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, and what processes that were killed while they wrote it have left."""
    for file in (path, *path.parent.glob(f".{path.name}.*.tmp")):
        file.unlink(missing_ok=True)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(getattr(leaf, "dtype", np.float64), jax.dtypes.prng_key)


def _key_implementation(leaf: Any) -> str | None:
    return str(jax.random.key_impl(leaf)) if _is_key(leaf) else None


def _description(where: tuple, leaf: Any) -> list:
    """The path, shape and dtype of a leaf, as JSON gives them back."""
    if not hasattr(leaf, "dtype"):
        leaf = np.asarray(leaf)
    return [jax.tree_util.keystr(where), list(leaf.shape), str(leaf.dtype)]


def _restored(array: np.ndarray, like: Any, key_implementation: str | None) -> Any:
    if key_implementation is not None:
        return jax.random.wrap_key_data(jnp.asarray(array), impl=key_implementation)
    if array.shape != jnp.shape(like):
        raise ValueError("an array of another shape than the manifest says")
    # Types that numpy has not of its own, such as bfloat16, come back as bytes without a name.
    dtype = getattr(like, "dtype", array.dtype)
    return array if array.dtype == dtype else array.view(dtype)
