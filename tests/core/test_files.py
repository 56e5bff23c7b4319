"""Files that are written whole or not at all, and arrays in them."""

import os

import numpy as np
import pytest

from sharplab.core import files
from sharplab.core.files import DamagedFile, read_arrays, write_arrays, write_whole


@pytest.mark.parametrize("content", [b"new", lambda file: file.write(b"new")], ids=["bytes", "function"])
def test_what_is_written_takes_the_place_of_what_was_there(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_whole(path, content)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("durable", "waits"), [(True, 2), (False, 0)])
def test_disks_are_waited_for_where_the_file_must_outlast_a_power_cut(tmp_path, monkeypatch, durable, waits):
    calls = []
    monkeypatch.setattr(files.os, "fsync", calls.append)
    write_whole(tmp_path / "file", b"content", durable=durable)
    assert len(calls) == waits  # of the file, and of the folder that names it


def test_arrays_and_their_note_come_back_as_they_were(tmp_path):
    arrays = [np.arange(12.0).reshape(3, 4), np.array(7), np.zeros((0, 2), np.int8), *map(np.array, range(12))]
    write_arrays(tmp_path / "file", arrays, {"rows": [{"loss": 0.5}], "step": 3})
    found, note = read_arrays(tmp_path / "file")
    assert note == {"rows": [{"loss": 0.5}], "step": 3}
    assert [(a.shape, a.dtype) for a in found] == [(a.shape, a.dtype) for a in arrays]
    assert all(np.array_equal(a, b) for a, b in zip(found, arrays, strict=True))


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:50] + b"x" + b[51:], lambda b: b"", lambda b: b + b])
def test_a_file_that_was_cut_or_altered_is_known_as_such(tmp_path, damage):
    path = tmp_path / "file"
    write_arrays(path, [np.arange(9)], [])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedFile):
        read_arrays(path)


def test_a_file_that_is_not_there_is_the_file_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        write_arrays(tmp_path / "no folder" / "file", [], None)
    assert os.listdir(tmp_path) == []
