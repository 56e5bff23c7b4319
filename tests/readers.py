"""Every reader of a file, with a small whole one to be damaged: see `damaged`."""

import gzip
import io
import json
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pandas as pd
from PIL import Image
from stored_results import TASK, result

from sharplab.analysis.tables import read_sweep
from sharplab.commands.config_file import read_options
from sharplab.commands.sweep_options import SweepOptions
from sharplab.core.files import DamagedFile, StoreError, StoreWarning, read_arrays, write_arrays
from sharplab.core.foreign_arrays import read_named_arrays
from sharplab.data import cifar, tiny_imagenet
from sharplab.data.archives import open_zip, read_member, read_tar
from sharplab.data.checksums import read_checksums
from sharplab.data.idx import read_idx_gz
from sharplab.data.tokenizers import bpe_tokenizer
from sharplab.gallery import keeping
from sharplab.gallery.entries import read_made
from sharplab.sweep.store import group_file
from sharplab.sweep.store.directory import MARKER, add_group, open_store, read_rows
from sharplab.tracking import tracker
from sharplab.training.checkpoints import CheckpointWarning, read_checkpoint, write_checkpoint
from sharplab.training.task import Run

LIKE = {"w": jnp.zeros((2, 3)), "n": jnp.zeros((), jnp.int32)}
ARRAYS = {"layers.0.kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3), "step": np.int32(7)}
SWEEP = pd.DataFrame(
    {"learning_rate": [0.1, 0.2, 0.4], "width": [8, 8, 16], "optimizer": "sgd", "eval_loss": [2.5, np.nan, 1.0]}
)
WANDB = [{"config": {"lr": 0.1 * n, "width": 8}, "State": "finished", "summary": {"loss": 1.0 / n}} for n in (1, 2, 3)]


@dataclass(frozen=True)
class Reader:
    """A file's name, what writes a whole one at a path, and what reads it: damage is a ValueError naming the path."""

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]


def an_idx(path):
    path.write_bytes(gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 2, 2) + bytes(8)))


def a_tar(path, names=("wanted", "other"), content=bytes(600)):
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def a_zip(path, contents=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (contents or {"wanted": bytes(600), "other": bytes(600)}).items():
            archive.writestr(name, content)


def pictures(wnids="n01\n", rows="a.JPEG\tn01\t0\t0\t1\t1\n", size=(64, 64)):
    """The members of a Tiny-ImageNet of two pictures."""
    picture = io.BytesIO()
    Image.new("RGB", size).save(picture, "JPEG")
    return {
        f"{tiny_imagenet.ROOT}/wnids.txt": wnids,
        f"{tiny_imagenet.ROOT}/val/val_annotations.txt": rows,
        f"{tiny_imagenet.ROOT}/train/n01/images/n01_0.JPEG": picture.getvalue(),
        f"{tiny_imagenet.ROOT}/val/images/a.JPEG": picture.getvalue(),
    }


def read_zip(path):
    with open_zip(path) as archive:
        read_member(archive, "wanted")


def read_of_the_web(module, read):
    """Reads a file as if it had been downloaded and found to be the right one."""

    def as_downloaded(path):
        with mock.patch.object(module, "fetch", lambda source: path):
            return read()

    return as_downloaded


def in_a_sentence(read, kinds=(DamagedFile,)):
    """A reader whose damage is told by those who call it, after the file's name."""

    def told(path):
        try:
            return read(path)
        except kinds as damage:
            raise ValueError(f"{path} {damage}") from damage

    return told


def read_quietly(read, kind):
    """A reader that warns of what it leaves out."""

    def quiet(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", kind)
            return read(path)

    return quiet


_GROUP = group_file.encode(TASK, [result(Run(1.0, 0)), result(Run(2.0, 0))])[1]


def read_group(path):
    """A group file that says the digest of whatever it holds."""
    forged = path.with_name(f"any-{group_file.digest(path.read_bytes())}.parquet")
    path.replace(forged)
    try:
        group_file.read_table(group_file.key_of(forged))
    except (group_file.Unusable, group_file.OtherSchema) as damage:
        raise ValueError(f"{path} {damage}") from damage


def a_store(path):
    """The marker of a store of one group."""
    open_store(path.parent)
    add_group(path.parent, TASK, [result(Run(1.0, 0))])


def read_store(path):
    try:
        open_store(path.parent)
    except StoreError as refused:
        raise ValueError(f"{path}: {refused}") from refused
    assert len(read_rows(path.parent)) == 1


def a_figure(path):
    for beside in (".png", ".csv"):
        path.with_suffix(beside).write_bytes(b"")
    made = {"claim": "a", "verdict": "holds", "numbers": {"n": 1}, "preset": "quick", "seconds": 1.0, "versions": {}}
    path.write_text(json.dumps(made))


def an_orbax(path, **options):
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer(**options) as checkpointer:
        checkpointer.save(path, {"w": np.arange(6.0).reshape(2, 3), "n": np.int32(3)})


def a_safetensors(path):
    from safetensors.numpy import save_file

    save_file({name: np.asarray(array) for name, array in ARRAYS.items()}, path)


WANDB_NAMES = {"learning_rate": "lr", "eval_loss": "loss"}
TOML = 'widths = [8, 16]\nlearning-rates = "2^-2:2^2"\nalpha = 0.5\ngamma = 1\n'

READERS = {
    "idx": Reader("x.gz", an_idx, lambda path: read_idx_gz(path, 3)),
    "tar": Reader("x.tar.gz", a_tar, lambda path: read_tar(path, ["wanted"])),
    "zip": Reader("x.zip", a_zip, read_zip),
    "cifar": Reader(
        "x.tar.gz",
        lambda path: a_tar(path, (*cifar.TRAIN, cifar.TEST), bytes(3073)),
        read_of_the_web(cifar, cifar.cifar_10),
    ),
    "tiny-imagenet": Reader(
        "x.zip", lambda path: a_zip(path, pictures()), read_of_the_web(tiny_imagenet, tiny_imagenet.tiny_imagenet)
    ),
    "tokenizer": Reader(
        "x.model",
        lambda path: path.write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02"),
        lambda path: bpe_tokenizer(path.read_bytes(), str(path)),
    ),
    "checksums": Reader(
        "SHA256SUMS", lambda path: path.write_text("00ff  a.gz\n"), lambda path: read_checksums(path.parent)
    ),
    "arrays": Reader(
        "x.npz",
        lambda path: write_arrays(path, [np.arange(6.0), np.zeros((2, 2), np.int8)], {"rows": [{"loss": 0.5}]}),
        in_a_sentence(read_arrays),
    ),
    "checkpoint": Reader(
        "x.npz",
        lambda path: write_checkpoint(path, LIKE),
        read_quietly(lambda path: read_checkpoint(path, LIKE), CheckpointWarning),
    ),
    "tracker": Reader(
        "x.npz", lambda path: np.savez(path, rows=np.array('[{"step": 0}]'), leaf_0=np.zeros(3)), tracker._saved
    ),
    "npz": Reader("x.npz", lambda path: np.savez_compressed(path, **ARRAYS), read_named_arrays),
    "safetensors": Reader("x.safetensors", a_safetensors, read_named_arrays),
    "toml": Reader("x.toml", lambda path: path.write_text(TOML), lambda path: read_options(path, SweepOptions)),
    "csv": Reader("x.csv", lambda path: SWEEP.to_csv(path, index=False), read_sweep),
    "csv.gz": Reader("x.csv.gz", lambda path: SWEEP.to_csv(path, index=False), read_sweep),
    "parquet": Reader("x.parquet", SWEEP.to_parquet, read_sweep),
    "wandb": Reader(
        "x.jsonl",
        lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in WANDB)),
        lambda path: read_sweep(path, **WANDB_NAMES),
    ),
    "group": Reader("x.parquet", lambda path: path.write_bytes(_GROUP), read_group),
    "store": Reader(MARKER, a_store, read_quietly(read_store, StoreWarning)),
    "figure": Reader("x.json", a_figure, lambda path: read_made(path.parent, "x")),
    "evidence": Reader("x.parquet", SWEEP.to_parquet, keeping.read_table),
    "orbax": Reader("x", an_orbax, read_named_arrays),
}


def damaged(kind, folder, alter, which=0.0):
    """Read a file of a kind once it was altered, of a folder one file: it is read, or named in a ValueError."""
    reader = READERS[kind]
    path = folder / reader.name
    reader.make(path)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    file = files[int(which * len(files))]
    file.write_bytes(alter(file.read_bytes()))
    read_or_named(reader.read, path)


def read_or_named(read, path):
    """What a reader makes of a file, None where it refuses it by its name."""
    try:
        return read(path)
    except ValueError as error:
        assert str(path) in str(error), error
        return None
