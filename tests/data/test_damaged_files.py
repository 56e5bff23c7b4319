"""Every reader of a file, given files that were altered: a sentence with the file's name, soon, in little memory."""

import contextlib
import gzip
import json
import re
import tracemalloc
import warnings
import zipfile
from datetime import timedelta
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import PLACES, alterations, idx_of_any_header, npz_of_any_headers, rows_of_anything
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import LIKE, READERS, a_tar, a_zip, an_idx, an_orbax, damaged, pictures, read_or_named

from sharplab.analysis import table_files
from sharplab.analysis.tables import read_sweep
from sharplab.commands.config_file import read_options
from sharplab.commands.sweep_options import SweepOptions
from sharplab.core.files import DamagedFile, read_arrays, write_arrays
from sharplab.data import archives, cifar, idx
from sharplab.data.archives import read_tar
from sharplab.data.checksums import read_checksums
from sharplab.data.idx import read_idx_gz
from sharplab.training.checkpoints import CheckpointWarning, read_checkpoint, write_checkpoint


@pytest.mark.parametrize("kind", READERS)
def test_whole_files_are_read(tmp_path, kind):
    READERS[kind].make(tmp_path / READERS[kind].name)
    with contextlib.suppress(ValueError) if kind == "tokenizer" else contextlib.nullcontext():  # of two pieces
        READERS[kind].read(tmp_path / READERS[kind].name)


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=12, deadline=timedelta(seconds=5))
@given(alter=alterations(), which=PLACES)
def test_altered_files_are_read_or_named(tmp_path_factory, kind, alter, which):
    damaged(kind, tmp_path_factory.mktemp("altered"), alter, which)


@settings(max_examples=60)
@given(content=npz_of_any_headers())
def test_headers_of_arrays_are_right_or_named(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("forged") / "x.npz"
    for kind in ("npz", "tracker"):
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # numpy's, of headers that Python 2 would have written
            read_or_named(READERS[kind].read, path)


@given(content=idx_of_any_header())
def test_headers_of_idx_files_are_right_or_named(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("forged") / "x.gz"
    path.write_bytes(gzip.compress(content, 1))
    read_or_named(READERS["idx"].read, path)


@settings(max_examples=60)
@given(rows=rows_of_anything(), kind=st.sampled_from(["x.csv", "x.jsonl", "x.parquet"]))
def test_tables_of_anything_are_records_or_named(tmp_path_factory, rows, kind):
    path = tmp_path_factory.mktemp("forged") / kind
    try:
        if kind == "x.jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8", errors="replace")
        elif kind == "x.csv":
            pd.DataFrame(rows).to_csv(path, index=False, errors="replace")
        else:
            pd.DataFrame(rows).to_parquet(path)
    except (pa.ArrowException, UnicodeError, OverflowError, ValueError):
        return  # what cannot be written
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        read_or_named(read_sweep, path)


@given(wnids=st.text("n01 \n", max_size=9), rows=st.text("an.JPEG\t01 \n", max_size=30) | st.just("a.JPEG n01\n" * 99))
def test_lists_of_tiny_imagenet_are_right_or_named(tmp_path_factory, wnids, rows):
    path = tmp_path_factory.mktemp("forged") / "x.zip"
    a_zip(path, pictures(wnids, rows))
    read_or_named(READERS["tiny-imagenet"].read, path)


def npz_of(path, header, content=b"", promised=None):
    """An npz of one array, whose entry in the archive promises a size."""
    text = (repr(header) + "\n").encode()
    whole = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", whole)
    if promised is not None:
        made = bytearray(path.read_bytes())
        at = made.index(b"PK\1\2") + 24
        made[at : at + 4] = promised.to_bytes(4, "little")
        path.write_bytes(made)


def bombs():
    """Small files that promise, or unpack to, more than any memory holds, with their readers."""
    huge = {"descr": "<f8", "fortran_order": False, "shape": (2**40,)}
    large = {"descr": "<f8", "fortran_order": False, "shape": (2**29 - 16,)}
    yield "npz", partial(npz_of, header=huge)
    yield "npz", partial(npz_of, header=large, promised=2**32 - 1)
    yield "tracker", partial(npz_of, header=huge)
    yield "idx", lambda path: path.write_bytes(gzip.compress(bytes([0, 0, 8, 3]) + b"\xff" * 12))
    header = json.dumps({"w": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}).encode()
    yield "safetensors", lambda path: path.write_bytes(len(header).to_bytes(8, "little") + header)
    yield "safetensors", lambda path: path.write_bytes((2**62).to_bytes(8, "little"))
    yield "csv.gz", lambda path: path.write_bytes(gzip.compress(bytes(table_files.LARGEST + 1), 1))
    wide = "".join(json.dumps({f"{i}": i}) + "\n" for i in range(5000))  # 25 million cells
    yield "wandb", lambda path: path.write_text(wide)
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2**16, np.int32)), pa.array(["x" * 2**20]))
    said = pa.table({"learning_rate": np.ones(2**16), "note": text, "eval_loss": np.ones(2**16)})
    yield "parquet", lambda path: pq.write_table(said, path, store_schema=False)  # 64 GB, in 60 KB
    yield "tiny-imagenet", lambda path: a_zip(path, pictures(rows="a.JPEG n01\n" * 10**4))
    yield "tiny-imagenet", lambda path: a_zip(path, pictures(size=(2000, 2000)))
    yield "orbax", a_huge_orbax


def a_huge_orbax(path):
    an_orbax(path, use_ocdbt=False)
    said = path / "w" / ".zarray"
    said.write_text(json.dumps(json.loads(said.read_text()) | {"shape": [2, 2**40]}))


@pytest.mark.parametrize(("kind", "make"), [pytest.param(*bomb, id=f"{bomb[0]}-{i}") for i, bomb in enumerate(bombs())])
def test_what_would_fill_the_memory_is_refused_before(tmp_path, kind, make):
    path = tmp_path / READERS[kind].name
    make(path)
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match=re.escape(str(path))):
        READERS[kind].read(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**28 and pa.total_allocated_bytes() - before < 2**28


@given(text=st.text(max_size=40))
def test_any_text_is_options_or_named(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("altered") / "options.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read_options(path, SweepOptions)
    except ValueError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("text", ["alpha = " + "9" * 400, "alpha = " + "[" * 3000, "widths = " + "9" * 5000])
def test_numbers_and_lists_without_end_are_named(tmp_path, text):
    path = tmp_path / "options.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"options\.toml"):
        read_options(path, SweepOptions)


def test_nothing_is_inflated_beyond_the_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST", 500)
    for kind in ("tar", "zip"):
        READERS[kind].make(tmp_path / "file")
        with pytest.raises(ValueError, match="wanted of 600 bytes"):
            READERS[kind].read(tmp_path / "file")
    monkeypatch.setattr(archives, "LARGEST_IN_ALL", 1000)
    a_tar(tmp_path / "file")
    with pytest.raises(ValueError, match="inflates"):
        read_tar(tmp_path / "file", ["none"])
    monkeypatch.setattr(idx, "LARGEST", 7)
    an_idx(tmp_path / "file")
    with pytest.raises(ValueError, match="shape"):
        read_idx_gz(tmp_path / "file", 3)


def test_an_encrypted_member_is_named(tmp_path):
    path = tmp_path / "x.zip"
    a_zip(path)
    content = bytearray(path.read_bytes())
    for start, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flags of the first member, in both of its headers
        content[content.index(start) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.zip .*whole"):
        READERS["zip"].read(path)


@pytest.mark.parametrize("manifest", [None, 5, [], [[]], {"a": 1}, [["['n']", [], "int32", None]] * 2, [1, 2]])
def test_a_checkpoint_with_the_right_digest_and_another_manifest_is_ignored(tmp_path, manifest):
    write_arrays(tmp_path / "file", [np.zeros((2, 3), np.float32), np.int32(0)], manifest)
    with pytest.warns(CheckpointWarning, match="something else"):
        assert read_checkpoint(tmp_path / "file", LIKE) is None


def test_a_checkpoint_whose_arrays_are_not_those_of_its_manifest_is_ignored(tmp_path):
    write_checkpoint(tmp_path / "file", LIKE)
    found, manifest = read_arrays(tmp_path / "file")
    write_arrays(tmp_path / "file", [array.ravel() for array in found], manifest)
    with pytest.warns(CheckpointWarning, match="something else"):
        assert read_checkpoint(tmp_path / "file", LIKE) is None


def test_a_note_too_deep_for_json_is_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(json, "dumps", lambda note: "[" * 100_000)
    write_arrays(tmp_path / "file", [], None)
    with pytest.raises(DamagedFile):
        read_arrays(tmp_path / "file")


@pytest.mark.parametrize("text", ["one\n", "a b c\n", "\xff"])
def test_lines_that_are_no_checksums_are_named(tmp_path, text):
    (tmp_path / "SHA256SUMS").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="SHA256SUMS"):
        read_checksums(tmp_path)


@settings(max_examples=30)
@given(content=st.binary(max_size=4 * 3073).map(lambda b: b[: len(b) // 3073 * 3073] or b) | st.binary(max_size=64))
def test_any_bytes_are_records_of_cifar_or_named(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("altered") / "cifar.tar.gz"
    try:
        images, classes = cifar._read(content, path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert len(images) == len(classes) and (classes < 10).all()
