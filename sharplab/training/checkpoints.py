"""Pytrees in files that survive whatever ends the process: whole or not at all, and verified when read."""

import hashlib
import io
import json
import os
import uuid
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core.tree import PyTree

DIGEST_BYTES = hashlib.sha256().digest_size
MANIFEST = "manifest"


class CheckpointWarning(UserWarning):
    """A checkpoint was not what it should be, and has been ignored."""


def write_checkpoint(path: Path, tree: PyTree) -> None:
    """Put the leaves of a pytree (arrays, numbers, PRNG keys) under a name; what was there remains until all is safe.

    The file is an npz with the SHA-256 of its bytes behind it.

    Raises:
        ValueError: where the file cannot be written.
    """
    arrays, manifest = {}, []
    for number, (where, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(tree)):
        manifest.append([*_description(where, leaf), _key_implementation(leaf)])
        arrays[str(number)] = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    arrays[MANIFEST] = np.array(json.dumps(manifest))
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w+b") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.seek(0)
            file.write(hashlib.file_digest(file, "sha256").digest())
            file.flush()
            os.fsync(file.fileno())
        # Another process may have gone further than this one, and cleared everything away.
        with suppress(FileNotFoundError):
            temporary.replace(path)
    except OSError as error:
        raise ValueError(
            f"checkpoint {path} cannot be written: {error.strerror}; make room for it, or change the permissions."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def read_checkpoint(path: Path, like: PyTree) -> PyTree | None:
    """The pytree that was written under a name, on the host, or None where there is none that is whole and fits.

    `like` has its structure, with leaves that have a shape and a dtype (arrays, or `jax.ShapeDtypeStruct`). A file that
    was cut or altered, or holds something else, is a `CheckpointWarning`.
    """
    try:
        return _verified(path.read_bytes(), like)
    except FileNotFoundError:
        return None
    except (OSError, _Unfit) as error:
        reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
    message = f"checkpoint {path} {reason}: it is ignored, and the work done anew."
    warnings.warn(message, CheckpointWarning, stacklevel=2)
    return None


class _Unfit(Exception):
    """What is wrong with a file, as the end of a sentence."""


def _verified(content: bytes, like: PyTree) -> PyTree:
    content, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise _Unfit("is not as it was written (cut or altered)")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
        manifest = json.loads(str(arrays.pop(MANIFEST)))
    except (BadZipFile, EOFError, KeyError, ValueError) as error:
        raise _Unfit("is no checkpoint") from error
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
    if [entry[:-1] for entry in manifest] != [_description(where, leaf) for where, leaf in leaves]:
        raise _Unfit("holds something else than is looked for")
    found = [_restored(arrays[str(i)], leaf, manifest[i][-1]) for i, (_, leaf) in enumerate(leaves)]
    return jax.tree.unflatten(treedef, found)


def remove_checkpoint(path: Path) -> None:
    """Take a checkpoint away, with what processes that were killed while they wrote it have left."""
    for file in (path, *path.parent.glob(f".{path.name}.*.tmp")):
        file.unlink(missing_ok=True)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(getattr(leaf, "dtype", np.float64), jax.dtypes.prng_key)


def _key_implementation(leaf: Any) -> str | None:
    return str(jax.random.key_impl(leaf)) if _is_key(leaf) else None


def _description(where: tuple, leaf: Any) -> list:
    """Path, shape and dtype, as JSON gives them back."""
    if not hasattr(leaf, "dtype"):
        leaf = np.asarray(leaf)
    return [jax.tree_util.keystr(where), list(leaf.shape), str(leaf.dtype)]


def _restored(array: np.ndarray, like: Any, key_implementation: str | None) -> Any:
    if key_implementation is not None:
        return jax.random.wrap_key_data(jnp.asarray(array), impl=key_implementation)
    # Types that numpy has not of its own, such as bfloat16, come back as bytes without a name.
    dtype = getattr(like, "dtype", array.dtype)
    return array if array.dtype == dtype else array.view(dtype)
