"""Checkpoints: every bit comes back, or nothing does and the file is named."""

import os
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from damage import PLACES, cut, flipped
from hypothesis import given, settings
from hypothesis import strategies as st

from sharplab.training.checkpoints import CheckpointWarning, read_checkpoint, remove_checkpoint, write_checkpoint

TREE = {
    "floats": np.array([[0.1, -0.0, np.inf], [-np.inf, np.nan, 1e-45]], np.float32),
    "odd": (jnp.array([1.5, jnp.nan], jnp.bfloat16), jnp.array(7, jnp.int8), [jnp.array([True, False])]),
    "key": jax.random.key(3),
    "keys": jax.random.split(jax.random.key(4, impl="rbg"), 2),
    "empty": np.zeros((0, 3)),
    "step": np.int64(2**40),
}


def bits(tree) -> list[tuple]:
    """Of each leaf its type, shape and bytes."""
    leaves = jax.tree.leaves(tree)
    data = [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in leaves]
    return [(x.dtype, x.shape, np.asarray(d).tobytes()) for x, d in zip(leaves, data, strict=True)]


def abstract(tree):
    """Shapes and dtypes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


@pytest.fixture
def path(tmp_path):
    """Of a checkpoint of TREE."""
    path = tmp_path / "folder" / "state.npz"
    write_checkpoint(path, TREE)
    return path


@pytest.mark.parametrize("like", [TREE, abstract(TREE)], ids=["arrays", "abstract"])
def test_every_leaf_comes_back_to_the_bit(path, like):
    found = read_checkpoint(path, like)
    assert jax.tree.structure(found) == jax.tree.structure(TREE)
    assert bits(found) == bits(TREE)
    assert jax.random.uniform(found["keys"][1]) == jax.random.uniform(TREE["keys"][1])


def test_the_file_is_an_npz_for_anyone(path):
    with np.load(path) as arrays:
        assert "bfloat16" in str(arrays["manifest"])
        assert len(arrays.files) == len(jax.tree.leaves(TREE)) + 1


def test_where_nothing_is_nothing_is_found_without_a_word(tmp_path):
    assert read_checkpoint(tmp_path / "absent.npz", TREE) is None


def refused(path: Path, like=TREE) -> str:
    """The warning with which a file is refused."""
    with pytest.warns(CheckpointWarning) as caught:
        assert read_checkpoint(path, like) is None
    (warning,) = caught
    assert str(path) in str(warning.message)
    assert warning.filename == __file__
    return str(warning.message)


@settings(max_examples=50)
@given(place=PLACES, bit=st.none() | st.integers(0, 7))
def test_a_file_with_any_bit_flipped_or_cut_anywhere_is_refused(tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("damaged") / "state.npz"
    write_checkpoint(path, TREE)
    content = path.read_bytes()
    path.write_bytes(cut(content, place) if bit is None else flipped(content, place, bit))
    assert "is not as it was written (cut or altered)" in refused(path)


@pytest.mark.parametrize("content", [b"", b"a text", b"\x00" * 1000])
def test_a_foreign_file_is_refused(path, content):
    path.write_bytes(content)
    assert "cut or altered" in refused(path)


def test_a_folder_in_its_place_is_refused(path):
    path.unlink()
    path.mkdir()
    assert "cannot be read" in refused(path)


@pytest.mark.parametrize(
    "change",
    [
        {"more": np.zeros(1)},
        {"floats": np.zeros((2, 4), np.float32)},
        {"floats": np.zeros((2, 3), np.float64)},
        {"key": jax.random.key(3, impl="rbg")},
        {"odd": (TREE["odd"][0], TREE["odd"][1], TREE["odd"][2][0])},
    ],
    ids=["leaf", "shape", "dtype", "key", "structure"],
)
def test_another_structure_shape_or_dtype_is_refused(path, change):
    assert "holds something else" in refused(path, {**TREE, **change})


def test_what_was_there_remains_until_the_new_is_safe(path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"state\.npz.*No space left on device"):
        write_checkpoint(path, {"other": np.zeros(5)})
    assert bits(read_checkpoint(path, TREE)) == bits(TREE)
    assert list(path.parent.iterdir()) == [path]


def test_a_place_where_nothing_can_be_written_is_named(path):
    with pytest.raises(ValueError, match=r"within\.npz.*(File exists|Not a directory)"):
        write_checkpoint(path / "within.npz", TREE)


def test_a_later_checkpoint_takes_the_place_of_the_earlier(path):
    write_checkpoint(path, {"other": np.arange(5)})
    assert read_checkpoint(path, {"other": np.arange(5)})["other"].tolist() == [0, 1, 2, 3, 4]


def test_removing_leaves_neither_the_file_nor_what_a_killed_writer_left_of_it(path):
    (path.parent / f".{path.name}.0123.tmp").write_bytes(b"half of it")
    other = path.with_name("other.npz")
    write_checkpoint(other, TREE)
    remove_checkpoint(path)
    remove_checkpoint(path)
    assert list(path.parent.iterdir()) == [other]


def test_writing_what_another_process_has_cleared_away_is_no_error(path, monkeypatch):
    replace = Path.replace

    def too_late(temporary, target):
        remove_checkpoint(path)
        return replace(temporary, target)

    monkeypatch.setattr(Path, "replace", too_late)
    with warnings.catch_warnings(action="error"):
        write_checkpoint(path, TREE)
        assert read_checkpoint(path, TREE) is None
