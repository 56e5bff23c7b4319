"""Every reader of a file, given files that were altered: a sentence with the file's name, soon, in little memory."""

import gzip
import io
import json
import struct
import tarfile
import warnings
import zipfile
from datetime import timedelta

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharplab.commands.config_file import read_options
from sharplab.commands.sweep_options import SweepOptions
from sharplab.core.files import DamagedFile, read_arrays, write_arrays
from sharplab.data import archives, cifar, idx
from sharplab.data.archives import open_zip, read_member, read_tar
from sharplab.data.checksums import read_checksums
from sharplab.data.idx import read_idx_gz
from sharplab.data.tokenizers import bpe_tokenizer
from sharplab.training.checkpoints import CheckpointWarning, read_checkpoint, write_checkpoint

LIKE = {"w": jnp.zeros((2, 3)), "n": jnp.zeros((), jnp.int32)}


def an_idx(path):
    path.write_bytes(gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 2, 2) + bytes(8)))


def a_tar(path):
    with tarfile.open(path, "w:gz") as archive:
        for name in ("wanted", "other"):
            member = tarfile.TarInfo(name)
            member.size = 600
            archive.addfile(member, io.BytesIO(bytes(600)))


def a_zip(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("wanted", "other"):
            archive.writestr(name, bytes(600))


def read_zip(path):
    with open_zip(path) as archive:
        read_member(archive, "wanted")


def arrays(path):
    write_arrays(path, [np.arange(6.0), np.zeros((2, 2), np.int8)], {"rows": [{"loss": 0.5}]})


def read_any_arrays(path):
    try:
        read_arrays(path)
    except DamagedFile as damage:
        raise ValueError(f"{path} {damage}") from damage


def read_tree(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointWarning)
        read_checkpoint(path, LIKE)


READERS = {
    "idx": (an_idx, lambda path: read_idx_gz(path, 3)),
    "tar": (a_tar, lambda path: read_tar(path, ["wanted"])),
    "zip": (a_zip, read_zip),
    "arrays": (arrays, read_any_arrays),
    "checkpoint": (lambda path: write_checkpoint(path, LIKE), read_tree),
    "toml": (
        lambda path: path.write_text('widths = [8, 16]\nlearning-rates = "2^-2:2^2"\nalpha = 0.5\ngamma = 1\n'),
        lambda path: read_options(path, SweepOptions),
    ),
    "tokenizer": (
        lambda path: path.write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02"),
        lambda path: bpe_tokenizer(path.read_bytes(), str(path)),
    ),
}


@st.composite
def alterations(draw):
    """What is done to the bytes of a file: cut, or some of them replaced, inserted or repeated."""
    kind = draw(st.sampled_from(["cut", "replace", "insert", "repeat", "whole"]))
    place, other = draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=12))

    def alter(content):
        at = int(place * len(content))
        if kind == "cut":
            return content[:at]
        if kind == "replace":
            return content[:at] + other + content[at + len(other) :]
        if kind == "insert":
            return content[:at] + other + content[at:]
        return content[:at] + content[at:] * 2 if kind == "repeat" else other

    return alter


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=40, deadline=timedelta(seconds=5))
@given(alter=alterations())
def test_altered_files_are_read_or_named(tmp_path_factory, kind, alter):
    path = tmp_path_factory.mktemp("altered") / "file"
    make, read = READERS[kind]
    make(path)
    path.write_bytes(alter(path.read_bytes()))
    try:
        read(path)
    except ValueError as error:
        assert str(path) in str(error)


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
    for make, read in (READERS["tar"], READERS["zip"]):
        make(tmp_path / "file")
        with pytest.raises(ValueError, match="wanted of 600 bytes"):
            read(tmp_path / "file")
    monkeypatch.setattr(archives, "LARGEST_IN_ALL", 1000)
    READERS["tar"][0](tmp_path / "file")
    with pytest.raises(ValueError, match="inflates"):
        read_tar(tmp_path / "file", ["none"])
    monkeypatch.setattr(idx, "LARGEST", 20)
    an_idx(tmp_path / "file")
    with pytest.raises(ValueError, match="inflates"):
        read_idx_gz(tmp_path / "file", 3)


def test_an_encrypted_member_is_named(tmp_path):
    path = tmp_path / "x.zip"
    a_zip(path)
    content = bytearray(path.read_bytes())
    for start, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flags of the first member, in both of its headers
        content[content.index(start) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.zip .*whole"):
        read_zip(path)


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


@given(content=st.binary(max_size=4 * 3073).map(lambda b: b[: len(b) // 3073 * 3073] or b) | st.binary(max_size=64))
def test_any_bytes_are_records_of_cifar_or_named(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("altered") / "cifar.tar.gz"
    try:
        images, classes = cifar._read(content, path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert len(images) == len(classes) and (classes < 10).all()
